// Which services can run, and in which order: dependencies first, else as they stand in the document. A
// service that is wrong, depends on one that is not there or left out, or is part of a cycle is left out with
// a diagnostic. Internal to src/manifest.
#pragma once

#include "manifest/document.h"
#include "manifest/services.h"

namespace nullbox::manifest {

struct ParsedService {
    ServiceConfig config;
    Position at;
    Position after_at; // of the value of "after"
    bool right = false;
};

std::vector<ServiceConfig> in_start_order(std::vector<ParsedService> parsed, Report& report);

} // namespace nullbox::manifest
