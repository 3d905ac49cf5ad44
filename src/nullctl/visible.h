// Text from a box, an agent or a file, on its way to a terminal. Whatever could move a cursor, set a colour
// or turn writing around is shown instead of obeyed: C0 and C1 controls, DEL, what is not UTF-8, and
// Unicode's bidirectional and invisible controls appear as \x1b or \u202e. Pure.
#pragma once

#include <string>
#include <string_view>

namespace nullbox::nullctl {

enum class Lines { One, Several }; // Several: line feeds and tabs stay
std::string visible(std::string_view text, Lines lines = Lines::One);
// JSON that is already serialised: the same characters as \u001b, so that it still means the same.
std::string visible_json(std::string_view json);
// How many columns it takes; a character of East Asian scripts takes two.
size_t width_of(std::string_view text);
// At most that many columns, with "…" at the end if something is left out.
std::string cut_to(std::string_view text, size_t columns);

} // namespace nullbox::nullctl
