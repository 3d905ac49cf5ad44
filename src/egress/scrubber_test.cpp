#include "egress/scrubber.h"

#include <gtest/gtest.h>

namespace nullbox::egress {

constexpr std::string_view kSecret = "sk-live/4eC39Hq+LyjWDarj\"tT1zdp7dc";
constexpr std::string_view kPlaceholder = "nullbox-KEY-x";

static std::shared_ptr<const SecretForms> forms() {
    auto forms = std::make_shared<SecretForms>();
    forms->add(kSecret, kPlaceholder);
    return forms;
}

static std::string scrub(std::string_view text, size_t piece,
                         Scrubber::Length length = Scrubber::Length::Free) {
    Scrubber scrubber(forms(), length);
    std::string out;
    for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
        out += scrubber.feed(text.substr(0, piece));
    return out + scrubber.finish();
}

// Control: Scrubber, in pieces of every size.
TEST(Scrubber, TheSecretNeverComesBackInWhateverPieces) {
    auto text = "before " + std::string(kSecret) + " between sk-live " + std::string(kSecret) +
                std::string(kSecret) + " sk-liv";
    auto clean = "before nullbox-KEY-x between sk-live nullbox-KEY-xnullbox-KEY-x sk-liv";
    for (size_t piece = 1; piece <= text.size(); piece++) EXPECT_EQ(scrub(text, piece), clean) << piece;
}

TEST(Scrubber, EncodedFormsAreFoundToo) {
    std::string secret(kSecret);
    for (auto around : {"", "a", "ab", "Bearer ", "user:"}) {
        auto encoded = base64(around + secret + "-tail");
        auto out = scrub("x " + encoded + " y", 5);
        EXPECT_TRUE(out.contains(kPlaceholder)) << around << ": " << out;
        EXPECT_LT(out.size(), encoded.size()) << around;
        for (auto& c : encoded) c = c == '+' ? '-' : c == '/' ? '_' : c;
        EXPECT_TRUE(scrub(encoded, 7).contains(kPlaceholder)) << around;
    }
    EXPECT_EQ(scrub("?k=sk-live%2F4eC39Hq%2BLyjWDarj%22tT1zdp7dc&", 3), "?k=nullbox-KEY-x&");
    EXPECT_EQ(scrub("{\"k\":\"sk-live/4eC39Hq+LyjWDarj\\\"tT1zdp7dc\"}", 3), "{\"k\":\"nullbox-KEY-x\"}");
    EXPECT_EQ(scrub("{\"k\":\"sk-live\\/4eC39Hq+LyjWDarj\\\"tT1zdp7dc\"}", 3), "{\"k\":\"nullbox-KEY-x\"}");
}

TEST(Scrubber, NothingElseIsTouchedOrKeptWaiting) {
    Scrubber scrubber(forms());
    EXPECT_EQ(scrubber.feed("data: event\n\n"), "data: event\n\n") << "a stream's event goes out at once";
    EXPECT_EQ(scrubber.feed("x sk-li"), "x ");
    EXPECT_EQ(scrubber.feed("ke"), "sk-like");
    EXPECT_EQ(scrubber.finish(), "");
    EXPECT_EQ(scrubber.found(), 0);
}

TEST(Scrubber, TheLongestFormGoesFirst) {
    auto nested = std::make_shared<SecretForms>();
    nested->add("abc", "1");
    nested->add("abcdefgh", "2");
    for (size_t piece = 1; piece < 12; piece++) {
        Scrubber scrubber(nested);
        std::string out;
        for (std::string_view text = "xabcdefgh abcdef abc"; !text.empty();
             text.remove_prefix(std::min(piece, text.size())))
            out += scrubber.feed(text.substr(0, piece));
        EXPECT_EQ(out + scrubber.finish(), "x2 1def 1") << piece;
    }
}

TEST(Scrubber, ACountedStreamKeepsItsLength) {
    auto out = scrub("a" + std::string(kSecret) + "b", 4, Scrubber::Length::Kept);
    EXPECT_EQ(out.size(), kSecret.size() + 2);
    EXPECT_EQ(out, "anullbox-KEY-x" + std::string(kSecret.size() - kPlaceholder.size(), '*') + "b");
}

TEST(Base64, ThereAndBackAndNothingElse) {
    for (auto text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
        std::string out;
        EXPECT_TRUE(decode_base64(base64(text), out));
        EXPECT_EQ(out, text);
    }
    EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
    EXPECT_EQ(base64("fooba"), "Zm9vYmE=");
    for (auto text : {"Zm9", "Zm9vYmF=", "Zm=v", "Zm9v====", "Zm9v\n", "Z!9v"}) {
        std::string out;
        EXPECT_FALSE(decode_base64(text, out)) << text;
    }
}

} // namespace nullbox::egress
