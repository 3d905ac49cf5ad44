// One connection to a box: HTTPS/JSON as docs/api.md has it. Blocking, answers in the order of requests;
// opened when first needed and again after a pause. The box must show the fingerprint we know; what it
// answers is bounded and not trusted: texts in it go through visible() before a terminal sees them.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nullctl/settings.h"

namespace nullbox::nullctl {

struct Answer {
    boost::json::object parameters;
    std::string text; // the same, as it came
};

class BoxStream; // box_stream.h

class Box {
public:
    Box(KnownBox box, net::Identity key);
    ~Box();
    Box(Box&&) noexcept;

    // interface: "cage", short for io.nullbox.cage.
    Result<Answer> call(std::string_view service, std::string_view method,
                        boost::json::object parameters = {},
                        std::chrono::seconds limit = std::chrono::seconds(180));
    struct Question {
        std::string_view service, method;
        boost::json::object parameters = {};
    };
    // Several at once, sent before the first answer is there: one way there and back for all. An answer each,
    // in their order.
    std::vector<Result<Answer>> call_all(const std::vector<Question>& questions);
    // Each answer as it comes, until `each` returns false or the box ends it.
    Result<> follow(std::string_view service, std::string_view method, boost::json::object parameters,
                    const std::function<Result<bool>(Answer)>& each);
    // The bytes of an open file. moved is told how many have gone.
    Result<> upload(std::string_view kind, std::string_view name, int fd,
                    const std::function<void(uint64_t done, uint64_t total)>& moved);
    // A stream into an agent: "/v1/exec/NAME". It must end before the box does, and before anything else is
    // asked of it.
    Result<std::unique_ptr<BoxStream>> stream(const std::string& target,
                                              const boost::json::object& parameters);
    const KnownBox& known() const { return box_; }
    // The fingerprint that whoever listens there shows, with nothing said about whether it is right.
    static Result<std::string> fingerprint_at(const KnownBox& box, const net::Identity& key);

private:
    struct Impl;
    KnownBox box_;
    net::Identity key_;
    std::unique_ptr<Impl> impl_;
};

// An error the box answered, in words: what it says, and what can be done.
Error refusal_of(unsigned status, const boost::json::object& body);

} // namespace nullbox::nullctl
