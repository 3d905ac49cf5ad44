#include "nulld/check_config.h"

#include <cstdio>

#include "base/file.h"
#include "base/text.h"
#include "manifest/machine.h"
#include "nulld/service_plan.h"

namespace nullbox::nulld {

std::vector<std::string> plan_problems(const std::vector<manifest::ServiceConfig>& services,
                                       const std::string& file) {
    std::vector<std::string> problems;
    for (const auto& service : services)
        if (auto plan = ServicePlan::make(service); !plan)
            problems.push_back(cat(file, ":", service.line, ": ", plan.error().message));
    return problems;
}

int check_config(const std::vector<std::string>& files) {
    std::string report;
    for (size_t i = 0; i < files.size(); i++) {
        auto text = read_file(files[i]);
        if (!text) {
            report += cat(text.error().message, "\n");
        } else if (i == 0) {
            auto config = manifest::parse_services(*text, files[i]);
            report += manifest::to_text(config.diagnostics);
            for (const auto& problem : plan_problems(config.services, files[i])) report += problem + "\n";
        } else {
            manifest::MachineConfig config;
            manifest::apply_machine_document(config, *text, files[i]);
            report += manifest::to_text(config.diagnostics);
        }
    }
    std::fputs(report.c_str(), stderr);
    return report.empty() ? 0 : 1;
}

} // namespace nullbox::nulld
