#include "warden/kdf.h"

#include <argon2.h>
#include <openssl/evp.h>
#include <sys/mman.h>

#include "base/text.h"

namespace nullbox::warden {

Result<KdfParameters> make_kdf(KdfParameters::Kind kind) {
    KdfParameters made{.kind = kind};
    if (kind == KdfParameters::Kind::Argon2id) {
        made.memory_kib = 64 << 10;
        made.passes = 3;
        made.lanes = 1;
    } else {
        made.passes = kPbkdf2Bounds.least_passes;
    }
    TRY(fill_random(made.salt));
    return made;
}

std::string_view kdf_name(KdfParameters::Kind kind) {
    switch (kind) {
    case KdfParameters::Kind::Argon2id:
        return "argon2id";
    case KdfParameters::Kind::Pbkdf2:
        return "pbkdf2";
    }
    return "?";
}

static Result<> within(std::string_view what, uint32_t value, uint32_t least, uint32_t most) {
    if (value >= least && value <= most) return {};
    return error(cat("its key derivation has ", what, " ", value, ", allowed are ", least, " to ", most,
                     "; this file was not written by NullBox"));
}

Result<> check_kdf(const KdfParameters& parameters) {
    switch (parameters.kind) {
    case KdfParameters::Kind::Argon2id: {
        const auto& bounds = kArgon2Bounds;
        TRY(within("memory (KiB)", parameters.memory_kib, bounds.least_memory_kib, bounds.most_memory_kib));
        TRY(within("passes", parameters.passes, bounds.least_passes, bounds.most_passes));
        return within("lanes", parameters.lanes, 1, bounds.most_lanes);
    }
    case KdfParameters::Kind::Pbkdf2: {
        const auto& bounds = kPbkdf2Bounds;
        TRY(within("memory (KiB)", parameters.memory_kib, 0, 0));
        TRY(within("iterations", parameters.passes, bounds.least_passes, bounds.most_passes));
        return within("lanes", parameters.lanes, 0, 0);
    }
    }
    return error(cat("its key derivation is of the unknown kind ", static_cast<uint32_t>(parameters.kind)));
}

// Argon2's working memory is too much to lock, and holds nothing that says the passphrase; it stays out of
// dumps, and libargon2 overwrites it.
static int take_memory(uint8_t** memory, size_t bytes) {
    void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return ARGON2_MEMORY_ALLOCATION_ERROR;
    (void)::madvise(pages, bytes, MADV_DONTDUMP);
    *memory = static_cast<uint8_t*>(pages);
    return ARGON2_OK;
}
static void give_memory(uint8_t* memory, size_t bytes) { ::munmap(memory, bytes); }

static Result<> argon2id(const KdfParameters& parameters, const SecretBytes& passphrase, SecretBytes& key) {
    auto octets = [](std::span<const std::byte> bytes) {
        return const_cast<uint8_t*>(
            reinterpret_cast<const uint8_t*>(bytes.data())); // only read: no flag is set
    };
    argon2_context context{.out = octets(key.bytes()),
                           .outlen = kKeyBytes,
                           .pwd = octets(passphrase.bytes()),
                           .pwdlen = static_cast<uint32_t>(passphrase.size()),
                           .salt = octets(parameters.salt),
                           .saltlen = kSaltBytes,
                           .t_cost = parameters.passes,
                           .m_cost = parameters.memory_kib,
                           .lanes = parameters.lanes,
                           .threads = 1, // the lanes one after the other, in this thread
                           .version = ARGON2_VERSION_13,
                           .allocate_cbk = take_memory,
                           .free_cbk = give_memory,
                           .flags = ARGON2_DEFAULT_FLAGS};
    int failed = ::argon2_ctx(&context, Argon2_id);
    if (failed != ARGON2_OK)
        return error(cat("derive a key (Argon2id, ", parameters.memory_kib,
                         " KiB): ", ::argon2_error_message(failed)));
    return {};
}

Result<SecretBytes> derive_key(const KdfParameters& parameters, const SecretBytes& passphrase) {
    TRY(check_kdf(parameters));
    auto key = TRY(SecretBytes::make(kKeyBytes));
    if (parameters.kind == KdfParameters::Kind::Argon2id) {
        TRY(argon2id(parameters, passphrase, key));
        return key;
    }
    auto text = passphrase.text();
    if (::PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()),
                            reinterpret_cast<const unsigned char*>(parameters.salt.data()), kSaltBytes,
                            static_cast<int>(parameters.passes), ::EVP_sha256(), kKeyBytes,
                            reinterpret_cast<unsigned char*>(key.bytes().data())) != 1)
        return error("derive a key (PBKDF2): OpenSSL refuses");
    return key;
}

} // namespace nullbox::warden
