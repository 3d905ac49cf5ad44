// A secret's bytes, wiped when they go. Move-only, so that copies are made on purpose; what libraries copied
// before (JSON, the socket's buffers) is out of its reach.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace nullbox::egress {

// Overwrites the text and empties it; the compiler may not leave that out.
void wipe(std::string& text);

class SecretText {
public:
    SecretText() = default;
    explicit SecretText(std::string text) : text_(std::move(text)) {}
    SecretText(SecretText&& other) noexcept : text_(other.text_) { wipe(other.text_); }
    SecretText& operator=(SecretText&& other) noexcept {
        if (this != &other) {
            wipe(text_);
            text_ = other.text_;
            wipe(other.text_);
        }
        return *this;
    }
    ~SecretText() { wipe(text_); }
    std::string_view view() const { return text_; }
    bool operator==(const SecretText&) const = default;

private:
    std::string text_;
};

} // namespace nullbox::egress
