// The heap of a program that secrets pass through: every block is overwritten when it is freed. JSON, strings
// and the buffers of connections come from C++'s allocator, and may have held a secret; none of them has to
// be trusted to clean up. Linked into the program itself (nullbox_wiping_heap), whose operator delete then is
// this one everywhere. What stays on the stack or in registers is out of reach here; a later call overwrites
// it.
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>

static void* take(std::size_t size, std::size_t alignment) {
    void* block = alignment > alignof(std::max_align_t)
                      ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                      : std::malloc(size ? size : 1);
    if (!block) std::abort(); // no memory: nulld starts a new one, and the vault's file is whole
    return block;
}

static void give_back(void* block) noexcept {
    if (!block) return;
    // The compiler knows what was asked for, malloc what there is: without this, _FORTIFY_SOURCE takes the
    // difference for an overflow.
    asm volatile("" : "+r"(block));
    ::explicit_bzero(block, ::malloc_usable_size(block));
    std::free(block);
}

void* operator new(std::size_t size) { return take(size, 0); }
void* operator new[](std::size_t size) { return take(size, 0); }
void* operator new(std::size_t size, std::align_val_t at) { return take(size, static_cast<std::size_t>(at)); }
void* operator new[](std::size_t size, std::align_val_t at) {
    return take(size, static_cast<std::size_t>(at));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size, 0); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return take(size, 0); }
void operator delete(void* block) noexcept { give_back(block); }
void operator delete[](void* block) noexcept { give_back(block); }
void operator delete(void* block, std::size_t) noexcept { give_back(block); }
void operator delete[](void* block, std::size_t) noexcept { give_back(block); }
void operator delete(void* block, std::align_val_t) noexcept { give_back(block); }
void operator delete[](void* block, std::align_val_t) noexcept { give_back(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { give_back(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { give_back(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { give_back(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { give_back(block); }
