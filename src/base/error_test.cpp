#include "base/error.h"

#include <cerrno>
#include <gtest/gtest.h>

namespace nullbox {

static Result<int> half(int value) {
    if (value % 2) return error("odd");
    return value / 2;
}
static Result<int> quarter(int value) {
    int once = TRY(half(value).context("first half"));
    return TRY(half(once));
}
static Result<> nothing(bool fail) {
    if (fail) return errno_error(ENOENT, "open /x");
    return {};
}
static Result<> through(bool fail) {
    TRY(nothing(fail));
    return {};
}

TEST(Error, TryPassesValuesAndErrors) {
    EXPECT_EQ(*quarter(8), 2);
    EXPECT_EQ(quarter(3).error().message, "first half: odd");
    EXPECT_EQ(quarter(2).error().message, "odd");
}

TEST(Error, ErrnoKeepsCodeAndText) {
    EXPECT_TRUE(through(false).has_value());
    auto failed = through(true);
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().code, ENOENT);
    EXPECT_EQ(failed.error().message, "open /x: No such file or directory");
}

} // namespace nullbox
