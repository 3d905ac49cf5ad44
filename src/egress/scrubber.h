// Takes secrets out of what a server answers, in whatever pieces it comes. Pure but for wiping.
//
// Looked for are a secret itself, its base64 at each of the three alignments (both alphabets), and its
// percent- and JSON-escaped forms. A body that is compressed cannot be looked into: the proxy asks for none
// and refuses one.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "egress/secret_text.h"

namespace nullbox::egress {

// What is looked for, and what stands in its place. Made once, shared by the streams of a connection.
class SecretForms {
public:
    void add(std::string_view secret, std::string_view placeholder);

private:
    friend class Scrubber;
    struct Form {
        SecretText text;
        std::string placeholder;
    };
    void add_form(std::string form, std::string_view placeholder);

    std::vector<Form> forms_;        // longest first
    std::array<bool, 256> begins_{}; // some form begins with it
};

class Scrubber {
public:
    enum class Length : uint8_t {
        Free, // a secret becomes the placeholder
        Kept, // cut or filled up to the secret's length, for streams that count their bytes (WebSocket)
    };
    explicit Scrubber(std::shared_ptr<const SecretForms> forms, Length length = Length::Free)
        : forms_(std::move(forms)), length_(length) {}
    Scrubber(Scrubber&&) = default;
    Scrubber(const Scrubber&) = delete;
    Scrubber& operator=(const Scrubber&) = delete;
    ~Scrubber() { wipe(held_); }

    // What may go on now. What may be the beginning of a secret is held back until more comes.
    std::string feed(std::string_view bytes);
    // The rest, at the stream's end.
    std::string finish();
    // A whole text, with no memory of others.
    std::string whole(std::string_view text) const;
    size_t found() const { return found_; }

private:
    struct Match {
        const SecretForms::Form* form = nullptr; // the text begins with all of it
        bool maybe = false;                      // it may be the beginning of a longer one
    };
    Match match(std::string_view text, bool at_end) const;
    size_t scan(std::string_view text, bool at_end, std::string& out, size_t& found) const;

    std::shared_ptr<const SecretForms> forms_;
    Length length_;
    std::string held_;
    size_t found_ = 0;
};

std::string base64(std::string_view bytes);
// Nothing that is not exactly base64 with padding.
bool decode_base64(std::string_view text, std::string& bytes);

} // namespace nullbox::egress
