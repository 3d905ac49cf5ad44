#include "egress/scrubber.h"

#include <algorithm>
#include <openssl/crypto.h>

#include "base/text.h"

namespace nullbox::egress {

// A shorter secret's base64 would be found everywhere, and is guessed faster than read.
constexpr size_t kLeastEncodedBytes = 6;
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void wipe(std::string& text) {
    OPENSSL_cleanse(text.data(), text.size());
    text.clear();
}

std::string base64(std::string_view bytes) {
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        size_t count = std::min<size_t>(3, bytes.size() - i);
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
        for (size_t k = 0; k < 4; k++) out += k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

bool decode_base64(std::string_view text, std::string& bytes) {
    if (text.size() % 4 != 0) return false;
    size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    auto digits = text.substr(0, text.size() - padding);
    uint32_t group = 0;
    for (size_t i = 0; i < digits.size(); i++) {
        auto value = kAlphabet.find(digits[i]);
        if (value == std::string_view::npos) return false;
        group = group << 6 | static_cast<uint32_t>(value);
        if (i % 4 != 0) bytes += static_cast<char>(group >> (6 - 2 * (i % 4)) & 0xff);
    }
    return base64(bytes) == text; // no stray bits at the end
}

void SecretForms::add_form(std::string form, std::string_view placeholder) {
    if (form.empty() || std::ranges::any_of(forms_, [&](const Form& f) { return f.text.view() == form; }))
        return wipe(form);
    begins_[static_cast<unsigned char>(form[0])] = true;
    forms_.push_back({SecretText(std::move(form)), std::string(placeholder)});
    // Longest first: where one form begins with another, the whole of it goes.
    std::ranges::stable_sort(forms_, std::greater(), [](const Form& f) { return f.text.view().size(); });
}

// Base64 of the secret somewhere inside other bytes: what its digits are whatever stands around it.
static std::string inner_base64(std::string_view secret, size_t shift) {
    auto padded = std::string(shift, 'x') + std::string(secret);
    size_t first = (shift * 8 + 5) / 6;    // digits that hold bits of what is before
    size_t last = (padded.size() * 8) / 6; // digits that hold the secret's bits only
    auto encoded = base64(padded);
    wipe(padded);
    auto inner = encoded.substr(first, last - first);
    wipe(encoded);
    return inner;
}

static std::string escaped(std::string_view secret, bool (*plain)(char), std::string_view before,
                           bool hex_digits) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string out;
    for (char c : secret) {
        if (plain(c)) {
            out += c;
            continue;
        }
        out += before;
        auto byte = static_cast<unsigned char>(c);
        if (hex_digits)
            out.append(1, kHex[byte >> 4]).append(1, kHex[byte & 15]);
        else
            out += c;
    }
    return out;
}

void SecretForms::add(std::string_view secret, std::string_view placeholder) {
    add_form(std::string(secret), placeholder);
    auto unreserved = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("-._~").contains(c);
    };
    add_form(escaped(secret, unreserved, "%", true), placeholder);
    add_form(
        escaped(secret, [](char c) { return c != '"' && c != '\\' && c != '/'; }, "\\", false), placeholder);
    add_form(escaped(secret, [](char c) { return c != '"' && c != '\\'; }, "\\", false), placeholder);
    if (secret.size() < kLeastEncodedBytes) return;
    for (size_t shift = 0; shift < 3; shift++) {
        auto inner = inner_base64(secret, shift);
        auto url_safe = inner;
        std::ranges::replace(url_safe, '+', '-');
        std::ranges::replace(url_safe, '/', '_');
        add_form(std::move(inner), placeholder);
        add_form(std::move(url_safe), placeholder);
    }
}

Scrubber::Match Scrubber::match(std::string_view text, bool at_end) const {
    for (const auto& form : forms_->forms_) {
        if (text.starts_with(form.text.view())) return {.form = &form};
        if (!at_end && form.text.view().starts_with(text)) return {.maybe = true};
    }
    return {};
}

// Writes to out what is done; returns how much of the text that was. The rest may be a secret's beginning.
size_t Scrubber::scan(std::string_view text, bool at_end, std::string& out, size_t& found) const {
    size_t written = 0, at = 0; // what lies between is no secret's
    for (; at < text.size(); at++) {
        if (!forms_->begins_[static_cast<unsigned char>(text[at])]) continue;
        auto [form, maybe] = match(text.substr(at), at_end);
        if (maybe) break;
        if (!form) continue;
        out += text.substr(written, at - written);
        std::string replacement = form->placeholder;
        if (length_ == Length::Kept) replacement.resize(form->text.view().size(), '*');
        out += replacement;
        written = at + form->text.view().size();
        at = written - 1;
        found++;
    }
    out += text.substr(written, at - written);
    return at;
}

std::string Scrubber::feed(std::string_view bytes) {
    std::string out;
    if (held_.empty()) {
        size_t done = scan(bytes, false, out, found_);
        held_ = bytes.substr(done);
        return out;
    }
    held_ += bytes;
    size_t done = scan(held_, false, out, found_);
    std::string rest = held_.substr(done);
    wipe(held_);
    held_ = std::move(rest);
    return out;
}

std::string Scrubber::finish() {
    std::string out;
    scan(held_, true, out, found_);
    wipe(held_);
    return out;
}

std::string Scrubber::whole(std::string_view text) const {
    std::string out;
    size_t found = 0;
    scan(text, true, out, found);
    return out;
}

} // namespace nullbox::egress
