#include "egress/name.h"

#include <algorithm>

#include "base/text.h"
#include "manifest/forms.h"

namespace nullbox::egress {

constexpr size_t kMostBytes = 254; // with the dot at the end

Result<HostName> HostName::parse(std::string_view text) {
    if (text.size() > kMostBytes)
        return error(cat("a host name has at most 253 bytes, this has ", text.size()));
    std::string name(text);
    std::ranges::transform(name, name.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    if (name.size() > 1 && name.ends_with('.')) name.pop_back();
    // The manifest's rule, so that a name which no manifest can hold is no name anywhere.
    if (auto wrong = manifest::wrong_host_name(name); !wrong.empty())
        return error(cat("the host name ", wrong));
    return HostName(std::move(name));
}

bool HostName::below(const HostName& suffix) const {
    const auto& end = suffix.text_;
    return text_.size() > end.size() + 1 && text_.ends_with(end) &&
           text_[text_.size() - end.size() - 1] == '.';
}

} // namespace nullbox::egress
