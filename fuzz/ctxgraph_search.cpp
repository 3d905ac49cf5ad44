// What an agent searches for: whatever it is, FTS5 must take the expression made of it without an error.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "ctxgraph/search_query.h"
#include "ctxgraph/store.h"

using namespace nullbox::ctxgraph;

static Store& store() {
    static auto one = [] {
        auto opened = *Store::open(":memory:");
        Write write{
            .space = "n", .key = "red boat", .value = R"({"text":"a red boat at sea"})", .author = "agent:a"};
        CHECK(opened->apply({&write, 1}).front().has_value());
        return opened;
    }();
    return *one;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view query(reinterpret_cast<const char*>(data), size);
    auto expression = fts_expression(query);
    if (!expression.has_value()) {
        CHECK(expression.error().code == EINVAL);
        return 0;
    }
    std::vector<std::string> here{"n"}, elsewhere{"other"};
    auto page = store().search(&here, *expression, "", 10);
    CHECK(page.has_value() || page.error().code == ETIME);
    CHECK(store().search(&elsewhere, *expression, "", 10)->entries.empty());
    CHECK(store().search(nullptr, *expression, "", 10).has_value());
    return 0;
}
