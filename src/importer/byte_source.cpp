#include "importer/byte_source.h"

#include <algorithm>
#include <archive.h>
#include <cerrno>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::importer {

Result<size_t> FileRange::read(std::span<std::byte> into) {
    auto wanted = static_cast<size_t>(std::min<uint64_t>(into.size(), left_));
    if (wanted == 0) return size_t{0};
    ssize_t count = 0;
    while ((count = ::pread(fd_, into.data(), wanted, static_cast<off_t>(at_))) < 0 && errno == EINTR) {
    }
    if (count < 0) return errno_error("read");
    if (count == 0) return error(cat("cut off: ", left_, " bytes are missing at its end"));
    at_ += static_cast<uint64_t>(count);
    left_ -= static_cast<uint64_t>(count);
    return static_cast<size_t>(count);
}

void Sha256Sum::Free::operator()(void* context) const {
    ::EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context));
}

Sha256Sum::Sha256Sum() : context_(::EVP_MD_CTX_new()) {
    CHECK(context_);
    CHECK(::EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), ::EVP_sha256(), nullptr) == 1);
}

void Sha256Sum::update(std::span<const std::byte> bytes) {
    CHECK(::EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()) == 1);
}

std::string Sha256Sum::finish_hex() {
    unsigned char digest[32];
    CHECK(::EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), digest, nullptr) == 1);
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : digest) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

std::string sha256_hex(std::string_view text) {
    Sha256Sum sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.finish_hex();
}

Result<size_t> HashedSource::read(std::span<std::byte> into) {
    auto count = TRY(below_.read(into));
    sum_.update(into.first(count));
    count_ += count;
    return count;
}

Result<> HashedSource::drain() {
    std::string piece(size_t{256} << 10, '\0');
    while (TRY(read(std::as_writable_bytes(std::span(piece)))) > 0) {
    }
    return {};
}

static la_ssize_t feed_archive(archive* reader, void* data, const void** out) {
    auto& feed = *static_cast<ArchiveFeed*>(data);
    auto count = feed.source.read(std::as_writable_bytes(std::span(feed.buffer)));
    if (!count) {
        feed.failed = count.error();
        ::archive_set_error(reader, EIO, "read");
        return -1;
    }
    feed.count += *count;
    *out = feed.buffer.data();
    return static_cast<la_ssize_t>(*count);
}

Result<> open_archive(archive* reader, ArchiveFeed& feed) {
    if (::archive_read_open(reader, &feed, nullptr, feed_archive, nullptr) != ARCHIVE_OK)
        return archive_failure(reader, feed);
    return {};
}

Error archive_failure(archive* reader, const ArchiveFeed& feed) {
    if (feed.failed) return *feed.failed;
    const char* text = ::archive_error_string(reader);
    return error(printable(text ? text : "not readable", 512));
}

UnpackedSource::~UnpackedSource() { ::archive_read_free(archive_); }

Result<std::unique_ptr<UnpackedSource>> UnpackedSource::open(ByteSource& packed, Packing packing,
                                                             const Limits& limits, uint64_t unpacked_before) {
    std::unique_ptr<UnpackedSource> source(new UnpackedSource(limits, unpacked_before));
    source->feed_ = std::make_unique<ArchiveFeed>(ArchiveFeed{.source = packed});
    auto* reader = source->archive_ = ::archive_read_new();
    CHECK(reader);
    ::archive_read_support_format_raw(reader);
    ::archive_read_support_format_empty(reader);
    ::archive_read_support_filter_gzip(reader);
    ::archive_read_support_filter_zstd(reader);
    if (packing == Packing::Any) ::archive_read_support_filter_xz(reader);
    TRY(open_archive(reader, *source->feed_));
    archive_entry* entry = nullptr;
    int status = ::archive_read_next_header(reader, &entry);
    if (status == ARCHIVE_EOF)
        source->ended_ = true;
    else if (status != ARCHIVE_OK)
        return archive_failure(reader, *source->feed_);
    source->was_packed_ = ::archive_filter_count(reader) > 1;
    return source;
}

Result<> UnpackedSource::check() const {
    if (before_ + unpacked_ > limits_.total_bytes)
        return error(cat("unpacks to more than ", limits_.total_bytes >> 20,
                         " MB in all, the limit: if it is meant to, raise it with --max-total-mb"));
    if (unpacked_ > Limits::kRatioFrom && unpacked_ / limits_.ratio > feed_->count)
        return error(cat("unpacks to more than ", limits_.ratio,
                         " times its size, as a decompression bomb does: if it is none, raise the limit with "
                         "--max-ratio"));
    return {};
}

Result<size_t> UnpackedSource::read(std::span<std::byte> into) {
    if (ended_) return size_t{0};
    auto count = ::archive_read_data(archive_, into.data(), into.size());
    if (count < 0) return archive_failure(archive_, *feed_);
    if (count == 0) ended_ = true;
    unpacked_ += static_cast<uint64_t>(count);
    TRY(check());
    return static_cast<size_t>(count);
}

} // namespace nullbox::importer
