#include "manifest/start_order.h"

#include <algorithm>
#include <map>

#include "base/text.h"

namespace nullbox::manifest {

namespace {

class Orderer {
public:
    Orderer(std::vector<ParsedService>& parsed, Report& report) : parsed_(parsed), report_(report) {
        for (size_t i = 0; i < parsed_.size(); i++) {
            names_.push_back(parsed_[i].config.name);
            index_.emplace(parsed_[i].config.name, i);
        }
    }

    std::vector<ServiceConfig> order() {
        for (auto& service : parsed_) check_names(service);
        for (size_t i = 0; i < parsed_.size(); i++) find_cycle(i);
        drop_dependants();
        return sort();
    }

private:
    void leave_out(ParsedService& service, std::string_view why) {
        service.right = false;
        report_.add(service.after_at, cat("service.", service.config.name, ".after"), why);
    }

    void check_names(ParsedService& service) {
        for (const auto& name : service.config.after) {
            if (index_.contains(name)) continue;
            auto near = closest(name, names_);
            auto hint = near.empty() ? cat("add [service.", name, "] or remove the name")
                                     : cat("did you mean \"", near, "\"?");
            leave_out(service, cat("there is no service \"", name, "\"; ", hint));
        }
    }

    // Follows "after" from one service; a way back to it is a cycle, reported once, at its first service in
    // the document. At most 64 services (services.cpp), so the recursion is bounded.
    void find_cycle(size_t start) {
        if (in_cycle_.contains(start)) return;
        std::vector<size_t> path;
        std::vector<bool> seen(parsed_.size());
        if (!reaches(start, start, seen, path)) return;
        std::string text;
        for (size_t index : path) text += cat(parsed_[index].config.name, " -> ");
        text += parsed_[start].config.name;
        for (size_t index : path) {
            in_cycle_.emplace(index, true);
            if (index != start) parsed_[index].right = false;
        }
        leave_out(parsed_[start],
                  cat("waits for itself: ", text, "; these services are left out; remove one of the names"));
    }

    bool reaches(size_t from, size_t goal, std::vector<bool>& seen, std::vector<size_t>& path) {
        seen[from] = true;
        path.push_back(from);
        for (const auto& name : parsed_[from].config.after) {
            auto next = index_.find(name);
            if (next == index_.end()) continue;
            if (next->second == goal) return true;
            if (!seen[next->second] && reaches(next->second, goal, seen, path)) return true;
        }
        path.pop_back();
        return false;
    }

    // Until nothing changes: a service left out takes those that wait for it with it.
    void drop_dependants() {
        for (bool changed = true; changed;) {
            changed = false;
            for (auto& service : parsed_) {
                auto missing = std::ranges::find_if(service.config.after, [&](const std::string& name) {
                    auto found = index_.find(name);
                    return found != index_.end() && !parsed_[found->second].right;
                });
                if (!service.right || missing == service.config.after.end()) continue;
                leave_out(service,
                          cat("waits for \"", *missing, "\", which is left out; correct that first"));
                changed = true;
            }
        }
    }

    std::vector<ServiceConfig> sort() {
        std::vector<ServiceConfig> out;
        std::vector<bool> done(parsed_.size());
        for (bool moved = true; moved;) {
            moved = false;
            for (size_t i = 0; i < parsed_.size(); i++) {
                if (done[i] || !parsed_[i].right) continue;
                bool waits = std::ranges::any_of(
                    parsed_[i].config.after, [&](const std::string& name) { return !done[index_.at(name)]; });
                if (waits) continue;
                done[i] = moved = true;
                out.push_back(std::move(parsed_[i].config));
                break; // from the start again: the earliest in the document that can start
            }
        }
        return out;
    }

    std::vector<ParsedService>& parsed_;
    Report& report_;
    std::vector<std::string_view> names_;
    std::map<std::string, size_t, std::less<>> index_;
    std::map<size_t, bool> in_cycle_;
};

} // namespace

std::vector<ServiceConfig> in_start_order(std::vector<ParsedService> parsed, Report& report) {
    return Orderer(parsed, report).order();
}

} // namespace nullbox::manifest
