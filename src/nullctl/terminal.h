// Where people are: tables, colours, questions, progress. Colours only on a terminal and without NO_COLOR
// (no-color.org); questions only if somebody is there to answer. Text of others goes through visible() in
// here, so that no command has to think of it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::nullctl {

enum class Tone { Plain, Good, Caution, Danger, Faint, Strong };

struct Cell {
    std::string text;
    Tone tone = Tone::Plain;
    Cell(std::string_view content, Tone how = Tone::Plain) : text(content), tone(how) {}
    Cell(const std::string& content, Tone how = Tone::Plain) : text(content), tone(how) {}
    Cell(const char* content, Tone how = Tone::Plain) : text(content), tone(how) {}
};

class Terminal {
public:
    // Of standard input, output and error.
    static Terminal of_process();
    // For tests: no terminal, output into a string.
    Terminal() = default;

    void line(std::string_view text, Tone tone = Tone::Plain); // one line; controls in it are shown
    void block(std::string_view text);                         // several lines
    void raw(std::string_view text);                           // our own text, as it is
    // Machine-readable, verbatim; on a terminal with its controls escaped.
    void json(std::string_view text);
    void note(std::string_view text, Tone tone = Tone::Faint); // on standard error
    // rows: cells by column; the last column that does not fit is cut on a terminal.
    void table(const std::vector<std::string_view>& titles, const std::vector<std::vector<Cell>>& rows);

    bool can_ask() const { return can_ask_; }
    // y or n at the terminal; false if nobody can be asked.
    bool confirm(std::string_view question);
    // Without echo, from the terminal itself, twice if it is a new one; or the next line of standard input.
    Result<std::string> passphrase(std::string_view prompt, bool twice);
    // A value of any bytes: without echo, or all of standard input without one line feed at its end.
    Result<std::string> secret_value(std::string_view prompt);
    // A bar on standard error, at most ten times a second; nothing if that is no terminal.
    void progress(std::string_view what, uint64_t done, uint64_t total);

    // The same where nobody knows how much there will be: files and bytes so far.
    void moved(std::string_view what, uint64_t files, uint64_t bytes, bool over);

    bool colours() const { return colours_; }
    const std::string& captured() const { return captured_; }

private:
    std::string painted(std::string_view text, Tone tone) const;
    void put(std::string_view text);
    Result<std::string> next_line();
    Result<std::string> ask_hidden(std::string_view prompt);

    std::FILE* out_ = nullptr; // nullptr: captured_
    bool is_terminal_ = false, colours_ = false, can_ask_ = false, stdin_is_terminal_ = false;
    bool progress_ = false;
    size_t columns_ = 0; // 0: as wide as it takes
    int64_t last_progress_ms_ = 0;
    std::optional<std::string> input_; // what is left of standard input, once it was read
    std::string captured_;
};

} // namespace nullbox::nullctl
