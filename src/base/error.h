// Errors as values. A function that can fail because of the world returns Result<T>; TRY passes a failure up,
// context() adds what we were doing to what. A failure of ours (a bug) is CHECK (check.h), not a Result.
//
// Error::code is an errno value, or 0 for failures that have none (a parse error). Error::message is for a
// person: what failed, on what, why, and what to do about it. No exception crosses a function of NullBox.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace nullbox {

struct Error {
    int code = 0;
    std::string message;
};

// "open /x: No such file or directory", from an errno value.
Error errno_error(int code, std::string_view what);
// The same, from the calling thread's errno.
Error errno_error(std::string_view what);
// "outer: inner".
Error with_context(Error inner, std::string_view outer);

template <typename T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
public:
    using std::expected<T, Error>::expected;
    Result(Error error) : std::expected<T, Error>(std::unexpect, std::move(error)) {}

    // Adds what the caller was doing: the message becomes "what: message".
    Result context(std::string_view what) && {
        if (!this->has_value()) this->error() = with_context(std::move(this->error()), what);
        return std::move(*this);
    }
};

// Failure with no errno: a wrong value, a broken format.
inline Error error(std::string message) { return Error{.code = 0, .message = std::move(message)}; }

} // namespace nullbox

// The value of a Result, or return its error from the enclosing function. Never use it between fork and exec.
#define TRY(expression)                                                                                      \
    ({                                                                                                       \
        auto try_result_ = (expression);                                                                     \
        if (!try_result_.has_value()) [[unlikely]]                                                           \
            return ::nullbox::Error(std::move(try_result_.error()));                                         \
        *std::move(try_result_);                                                                             \
    })
