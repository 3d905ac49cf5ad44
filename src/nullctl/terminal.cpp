#include "nullctl/terminal.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h" // Clock
#include "base/text.h"
#include "nullctl/visible.h"

namespace nullbox::nullctl {

constexpr size_t kMostSecretBytes = size_t{64} << 10;

Terminal Terminal::of_process() {
    Terminal terminal;
    terminal.out_ = stdout;
    terminal.is_terminal_ = ::isatty(STDOUT_FILENO) == 1;
    terminal.stdin_is_terminal_ = ::isatty(STDIN_FILENO) == 1;
    terminal.can_ask_ = terminal.stdin_is_terminal_ && ::isatty(STDERR_FILENO) == 1;
    const char* no_color = std::getenv("NO_COLOR");
    const char* kind = std::getenv("TERM");
    terminal.colours_ =
        terminal.is_terminal_ && !(no_color && *no_color) && kind && std::string_view(kind) != "dumb";
    terminal.progress_ = ::isatty(STDERR_FILENO) == 1;
    winsize size{};
    if (terminal.is_terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        terminal.columns_ = size.ws_col;
    return terminal;
}

std::string Terminal::painted(std::string_view text, Tone tone) const {
    if (!colours_ || tone == Tone::Plain) return std::string(text);
    std::string_view code;
    switch (tone) {
    case Tone::Plain:
        break;
    case Tone::Good:
        code = "32";
        break;
    case Tone::Caution:
        code = "33";
        break;
    case Tone::Danger:
        code = "1;31";
        break;
    case Tone::Faint:
        code = "2";
        break;
    case Tone::Strong:
        code = "1";
        break;
    }
    return cat("\033[", code, "m", text, "\033[0m");
}

void Terminal::put(std::string_view text) {
    if (!out_) {
        captured_ += text;
        return;
    }
    std::fwrite(text.data(), 1, text.size(), out_);
    std::fflush(out_);
}

void Terminal::line(std::string_view text, Tone tone) { put(cat(painted(visible(text), tone), "\n")); }
void Terminal::raw(std::string_view text) { put(text); }

void Terminal::block(std::string_view text) {
    auto shown = visible(text, Lines::Several);
    put(shown.ends_with('\n') ? shown : shown + "\n");
}

void Terminal::json(std::string_view text) {
    put(cat(is_terminal_ ? visible_json(text) : std::string(text), "\n"));
}

void Terminal::note(std::string_view text, Tone tone) {
    auto shown = cat(painted(visible(text), tone), "\n");
    if (out_)
        std::fwrite(shown.data(), 1, shown.size(), stderr);
    else
        captured_ += shown;
}

void Terminal::table(const std::vector<std::string_view>& titles,
                     const std::vector<std::vector<Cell>>& rows) {
    std::vector<std::vector<Cell>> all(1);
    for (auto title : titles) all[0].emplace_back(title, Tone::Strong);
    all.insert(all.end(), rows.begin(), rows.end());
    std::vector<size_t> widths(titles.size());
    for (auto& row : all)
        for (size_t i = 0; i < row.size() && i < widths.size(); i++) {
            row[i].text = visible(row[i].text);
            widths[i] = std::max(widths[i], width_of(row[i].text));
        }
    for (const auto& row : all) {
        std::string out;
        size_t used = 0;
        for (size_t i = 0; i < row.size() && i < widths.size(); i++) {
            bool last = i + 1 == row.size() || i + 1 == widths.size();
            auto text = row[i].text;
            if (columns_ > 0) text = cut_to(text, columns_ > used ? columns_ - used : 0);
            if (text.empty() && columns_ > 0 && used >= columns_) break;
            out += painted(text, row[i].tone);
            used += widths[i] + 2;
            if (!last) out.append(widths[i] + 2 - std::min(widths[i], width_of(text)), ' ');
        }
        while (out.ends_with(' ')) out.pop_back();
        put(out + "\n");
    }
}

bool Terminal::confirm(std::string_view question) {
    if (!can_ask_) return false;
    std::fputs(cat(question, " [y/N] ").c_str(), stderr);
    std::fflush(stderr);
    char answer[16] = "";
    ssize_t count = ::read(STDIN_FILENO, answer, sizeof answer);
    auto text = trim(std::string_view(answer, count > 0 ? static_cast<size_t>(count) : 0));
    return text == "y" || text == "Y" || text == "yes";
}

namespace {
// No echo while it lives; what it was comes back however we leave.
class Hidden {
public:
    explicit Hidden(int fd) : fd_(fd) {
        known_ = ::tcgetattr(fd, &before_) == 0;
        termios now = before_;
        now.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        now.c_lflag |= ECHONL;
        hidden_ = known_ && ::tcsetattr(fd, TCSAFLUSH, &now) == 0;
    }
    ~Hidden() {
        if (known_) ::tcsetattr(fd_, TCSAFLUSH, &before_);
    }
    Hidden(const Hidden&) = delete;
    Hidden& operator=(const Hidden&) = delete;
    bool works() const { return hidden_; }

private:
    int fd_;
    termios before_{};
    bool known_ = false, hidden_ = false;
};
} // namespace

Result<std::string> Terminal::ask_hidden(std::string_view prompt) {
    Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    if (!terminal) return errno_error("open the terminal");
    Hidden hidden(terminal.get());
    if (!hidden.works()) return error("the terminal cannot hide what is typed");
    TRY(write_all(terminal.get(), cat(prompt, ": ")));
    std::string text;
    for (char c = 0; text.size() <= kMostSecretBytes;) {
        ssize_t count = ::read(terminal.get(), &c, 1);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0 || c == '\n') break;
        text += c;
    }
    if (text.empty()) return error("nothing was typed");
    return text;
}

Result<std::string> Terminal::next_line() {
    if (!input_) input_ = TRY(read_fd(STDIN_FILENO, kMostSecretBytes).context("standard input"));
    auto end = std::min(input_->find('\n'), input_->size());
    auto line = input_->substr(0, end);
    auto rest = input_->substr(std::min(end + 1, input_->size()));
    ::explicit_bzero(input_->data(), input_->size());
    input_ = std::move(rest);
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) return error("standard input has no line with a passphrase");
    return line;
}

Result<std::string> Terminal::passphrase(std::string_view prompt, bool twice) {
    if (!stdin_is_terminal_) return next_line();
    auto first = TRY(ask_hidden(prompt));
    if (!twice) return first;
    auto second = TRY(ask_hidden("the same again"));
    bool same = first == second;
    ::explicit_bzero(second.data(), second.size());
    if (!same) return error("the two are not the same; nothing was done");
    return first;
}

Result<std::string> Terminal::secret_value(std::string_view prompt) {
    if (stdin_is_terminal_) return passphrase(prompt, true);
    auto all = TRY(read_fd(STDIN_FILENO, kMostSecretBytes).context("standard input"));
    if (all.ends_with('\n')) all.pop_back();
    if (all.empty()) return error("standard input is empty; a secret needs a value");
    return all;
}

void Terminal::progress(std::string_view what, uint64_t done, uint64_t total) {
    if (!progress_) return;
    auto now = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
    if (done < total && now - last_progress_ms_ < 100) return;
    last_progress_ms_ = now;
    constexpr uint64_t kWidth = 30;
    uint64_t filled = total ? done * kWidth / total : kWidth;
    std::string bar(filled, '#');
    bar.append(kWidth - filled, '.');
    auto text = cat("\r", visible(what), " [", bar, "] ", total ? done * 100 / total : 100, "%",
                    done >= total ? "\n" : "");
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

void Terminal::moved(std::string_view what, uint64_t files, uint64_t bytes, bool over) {
    if (!progress_) return;
    auto now = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
    if (!over && now - last_progress_ms_ < 100) return;
    last_progress_ms_ = now;
    auto tenths = bytes / 100'000;
    auto text = cat("\r\033[K", visible(what), ": ", files, files == 1 ? " file, " : " files, ", tenths / 10,
                    ".", tenths % 10, " MB", over ? "\n" : "");
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

} // namespace nullbox::nullctl
