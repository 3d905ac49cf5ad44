// Takes secrets out of what a server answers, in whatever pieces it comes. Pure but for wiping.
//
// Looked for are a secret itself, its base64 at each of the three alignments (both alphabets), and its
// percent- and JSON-escaped forms. A body that is compressed cannot be looked into: the proxy asks for none
// and refuses one.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "egress/secret_text.h"

namespace nullbox::egress {

class Scrubber {
public:
    enum class Length : uint8_t {
        Free, // a secret becomes the placeholder
        Kept, // cut or filled up to the secret's length, for streams that count their bytes (WebSocket)
    };
    explicit Scrubber(Length length = Length::Free) : length_(length) {}
    Scrubber(Scrubber&&) = default;
    Scrubber(const Scrubber&) = delete;
    Scrubber& operator=(const Scrubber&) = delete;
    ~Scrubber() { wipe(held_); }
    void add(std::string_view secret, std::string_view placeholder);

    // What may go on now. What may be the beginning of a secret is held back until more comes.
    std::string feed(std::string_view bytes);
    // The rest, at the stream's end.
    std::string finish();
    // A whole text, with no memory of others.
    std::string whole(std::string_view text) const;
    size_t found() const { return found_; }

private:
    struct Needle {
        SecretText text;
        std::string replacement;
    };
    void add_form(std::string form, std::string_view placeholder);
    size_t scan(std::string_view text, bool at_end, std::string& out, size_t& found) const;

    Length length_;
    std::vector<Needle> needles_;
    std::array<bool, 256> begins_{}; // some needle begins with it
    std::string held_;
    size_t found_ = 0;
};

std::string base64(std::string_view bytes);
// Nothing that is not exactly base64 with padding.
bool decode_base64(std::string_view text, std::string& bytes);

} // namespace nullbox::egress
