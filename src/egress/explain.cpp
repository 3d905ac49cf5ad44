#include "egress/explain.h"

#include <algorithm>
#include <boost/json/array.hpp>

#include "base/text.h"
#include "varlink/answer.h"

namespace nullbox::egress {

namespace json = boost::json;
using varlink::text_or_null;

Result<Question> Question::parse(std::string_view text) {
    bool clear = text.starts_with("http://");
    if (clear || text.starts_with("https://")) text.remove_prefix(clear ? 7 : 8);
    size_t end = std::min(text.find('/'), text.size());
    std::string authority(text.substr(0, end));
    if (clear && !authority.contains(':')) authority += ":80";
    Question question{.destination = TRY(Destination::parse(authority))};
    if (end < text.size()) question.target = text.substr(end);
    return question;
}

json::object explain(const Policy& policy, const Question& question, const std::string& method) {
    auto decision = policy.decide(question.destination);
    json::array requests;
    const auto* host = std::get_if<HostName>(&question.destination.host);
    bool looked_into = decision.allowed && host && decision.mode != Mode::Tls && decision.mode != Mode::Relay;
    if (looked_into) {
        auto port = question.destination.port;
        const auto& rules = policy.request_rules();
        for (const auto& text : rules.texts(*host, port)) requests.emplace_back(json::string(text));
        if (question.target) {
            auto request = rules.decide(*host, port, {.method = method, .target = *question.target});
            decision.allowed = request.allowed;
            if (!request.rule.empty()) decision.rule = request.rule;
            decision.reason = request.reason;
            decision.add = request.add;
        }
    }
    return {{"allowed", decision.allowed},
            {"rule", decision.allowed ? text_or_null(decision.rule) : json::value()},
            {"mode", decision.allowed ? json::value(mode_name(decision.mode)) : json::value()},
            {"requests", std::move(requests)},
            {"reason", text_or_null(decision.reason)},
            {"add", text_or_null(decision.add)}};
}

} // namespace nullbox::egress
