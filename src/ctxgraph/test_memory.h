// A memory on a database of a test's own, whose writes are committed when the test says so.
#pragma once

#include <gtest/gtest.h>

#include "ctxgraph/guest_api.h"
#include "ctxgraph/test_folder.h"

namespace nullbox::ctxgraph {

class TestMemory : public testing::Test {
protected:
    void SetUp() override {
        auto opened = Store::open(folder_ / "graph.db");
        ASSERT_TRUE(opened.has_value()) << opened.error().message;
        store_ = *std::move(opened);
        writes_ = std::make_unique<Writes>(
            *store_, [this](std::function<void()> soon) { later_.push_back(std::move(soon)); });
        memory_ = std::make_unique<Memory>(*store_, *writes_);
    }
    void commit() {
        while (!later_.empty()) std::exchange(later_, {}).front()();
    }

    static Request request(std::string method, std::string target, std::string body = "") {
        return {.method = std::move(method),
                .target = std::move(target),
                .body = std::move(body),
                .headers = {{"Host", "127.0.0.1:9100"}}};
    }
    Response ask(const Access& access, const Request& request) {
        std::optional<Response> response;
        answer(*memory_, access, request, [&](Response given) {
            EXPECT_FALSE(response.has_value()) << "answered twice";
            response = std::move(given);
        });
        commit();
        EXPECT_TRUE(response.has_value()) << "not answered";
        return response ? *std::move(response) : Response{};
    }
    Response ask(const Access& access, std::string method, std::string target, std::string body = "") {
        return ask(access, request(std::move(method), std::move(target), std::move(body)));
    }
    // The text of a member somewhere in an answer: the first of its name.
    static std::string member(const Response& response, std::string_view name) {
        auto parsed = parse_json(response.body, {.nesting = 32});
        EXPECT_TRUE(parsed.has_value()) << response.body;
        return parsed.has_value() ? find(*parsed, name) : "";
    }
    static std::string find(const Json& value, std::string_view name) {
        if (const auto* found = value.find(name))
            return found->is(Json::Kind::Text) ? found->text : canonical(*found);
        for (const auto& each : value.members)
            if (auto text = find(each.value, name); !text.empty()) return text;
        for (const auto& each : value.items)
            if (auto text = find(each, name); !text.empty()) return text;
        return "";
    }

    TestFolder folder_;
    std::unique_ptr<Store> store_;
    std::vector<std::function<void()>> later_;
    std::unique_ptr<Writes> writes_;
    std::unique_ptr<Memory> memory_;
    Access ana_{.author = "agent:ana", .read = {"shared", "ana"}, .write = {"shared", "ana"}};
    Access ben_{.author = "agent:ben", .read = {"shared"}, .write = {"drop"}};
    Access operator_{.author = "operator:olga", .everything = true};
};

} // namespace nullbox::ctxgraph
