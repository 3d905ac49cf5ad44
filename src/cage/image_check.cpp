#include "cage/image_check.h"

#include "base/bytes.h"
#include "base/text.h"

namespace nullbox::cage {

constexpr uint32_t kSquashfsMagic = 0x73717368;
constexpr uint32_t kErofsMagic = 0xe0f5e1e2;
constexpr size_t kErofsOffset = 1024;

constexpr uint16_t kZstd = 6;

static std::string_view compression_name(uint16_t number) {
    static constexpr std::string_view kNames[] = {"nothing known", "gzip", "lzma", "lzo", "xz", "lz4"};
    return kNames[number < std::size(kNames) ? number : 0];
}

template <typename T>
static T field(std::span<const std::byte> block, size_t offset) {
    return offset < block.size() ? ByteReader(block.subspan(offset)).number<T>() : T{};
}

static Result<> check_length(uint64_t wanted, uint64_t file_bytes) {
    if (wanted <= file_bytes) return {};
    return error(cat("truncated: it says that it has ", wanted, " bytes, the file has ", file_bytes,
                     ": copy it again"));
}

Result<std::string_view> check_image(std::span<const std::byte> head, uint64_t file_bytes) {
    if (file_bytes == 0) return error("the file is empty");
    if (field<uint32_t>(head, 0) == kSquashfsMagic) {
        if (auto version = field<uint16_t>(head, 28); version != 4)
            return error(cat("SquashFS version ", version, ", must be 4"));
        if (auto compression = field<uint16_t>(head, 20); compression != kZstd)
            return error(cat("SquashFS compressed with ", compression_name(compression),
                             ", the guest's kernel reads zstd: make it with mksquashfs -comp zstd"));
        TRY(check_length(field<uint64_t>(head, 40), file_bytes));
        return std::string_view("squashfs");
    }
    if (field<uint32_t>(head, kErofsOffset) == kErofsMagic) {
        auto block_bits = field<uint8_t>(head, kErofsOffset + 12);
        if (block_bits < 9 || block_bits > 12)
            return error(cat("EROFS with blocks of 2^", block_bits, " bytes"));
        TRY(check_length(uint64_t{field<uint32_t>(head, kErofsOffset + 36)} << block_bits, file_bytes));
        return std::string_view("erofs");
    }
    return error("neither SquashFS nor EROFS: make it with mksquashfs or mkfs.erofs");
}

} // namespace nullbox::cage
