#include "nullctl/tool.h"

#include <boost/json/object.hpp>

namespace nullbox::nullctl {

Result<Box*> Tool::box() {
    if (box_) return box_.get();
    auto settings = TRY(Settings::load(config_folder));
    auto known = TRY(settings.box(box_name));
    auto key = TRY(settings.key());
    box_ = std::make_unique<Box>(std::move(known), std::move(key));
    return box_.get();
}

Result<Answer> Tool::ask(std::string_view service, std::string_view method, boost::json::object parameters) {
    auto* asked = TRY(box());
    auto answer = TRY(asked->call(service, method, std::move(parameters)));
    if (json) terminal.json(answer.text);
    return answer;
}

Result<> Tool::tell(std::string_view service, std::string_view method, boost::json::object parameters,
                    std::string_view done) {
    TRY(ask(service, method, std::move(parameters)));
    if (!json) terminal.line(done);
    return {};
}

} // namespace nullbox::nullctl
