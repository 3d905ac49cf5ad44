# Compiler and linker flags for every target, in one place.
add_compile_options(-Wall -Wextra -Wconversion -Wshadow -Werror -Wno-gnu-statement-expression
                    -Wno-missing-field-initializers -fno-strict-aliasing -fstack-protector-strong
                    -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-stdlib=libc++>)
add_link_options(-stdlib=libc++ -fuse-ld=lld-19)
include_directories(${CMAKE_SOURCE_DIR}/src)

if(NULLBOX_SANITIZE)
  add_compile_options(-fsanitize=${NULLBOX_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${NULLBOX_SANITIZE})
  set(CMAKE_CXX_FLAGS_DEBUG -gline-tables-only) # what a report names
endif()

if(NULLBOX_HARDEN)
  # CFI needs LTO and hidden visibility; -z now with RELRO leaves no writable GOT; static-pie needs no loader.
  # Packed relocations are half a megabyte less of each program that holds OpenSSL, which a boot need not unpack.
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g0 -DNDEBUG")
  set(CMAKE_C_FLAGS_RELEASE "-O2 -g0 -DNDEBUG")
  add_compile_options(-flto=thin -fvisibility=hidden -fsanitize=cfi -D_FORTIFY_SOURCE=3
                      -ftrivial-auto-var-init=zero -fstack-clash-protection -fcf-protection=full
                      -ffunction-sections -fdata-sections)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_FAST>)
  add_link_options(-flto=thin -fsanitize=cfi -static-pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections
                   -Wl,--build-id=none -s -Wl,--thinlto-jobs=2 -Wl,-z,pack-relative-relocs)
else()
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_EXTENSIVE>)
endif()
