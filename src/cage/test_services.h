// Stand-ins for egress, warden and ctxgraph in unit tests: real Varlink servers on the test's loop that say
// what the test told them to, and write down what they were asked.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "cage/needs.h"
#include "varlink/server.h"

namespace nullbox::cage {

struct TestServices {
    explicit TestServices(Loop& its_loop) : loop(its_loop) {
        char made[] = "/tmp/nullbox-cage-XXXXXX"; // short: a socket's path is at most 107 bytes
        if (::mkdtemp(made) == nullptr) ::abort();
        folder = made;
        sockets = {
            .egress = folder + "/egress", .warden = folder + "/warden", .ctxgraph = folder + "/ctxgraph"};
    }
    ~TestServices() {
        egress.reset(), warden.reset(), ctxgraph.reset();
        watchers.clear();
        std::filesystem::remove_all(folder);
    }

    void start_egress() {
        egress =
            listen(sockets.egress, "io.nullbox.egress",
                   {{.name = "Attach", .handle = [this](varlink::Call call) { attach(std::move(call)); }},
                    {.name = "Update",
                     .handle =
                         [this](varlink::Call call) {
                             asked.push_back(cat("Update ", boost::json::serialize(call.parameters())));
                             if (!refusal.empty())
                                 return call.error("io.nullbox.egress.CannotAttach", refusal);
                             call.reply({{"ended", 2}});
                         }},
                    {.name = "Detach", .handle = [this](varlink::Call call) {
                         asked.push_back("Detach");
                         call.reply({});
                     }}});
    }
    void start_warden() {
        warden = listen(sockets.warden, "io.nullbox.warden",
                        {{.name = "Watch",
                          .handle =
                              [this](varlink::Call call) {
                                  call.reply_continues({{"state", vault}});
                                  watchers.push_back(std::move(call));
                              }},
                         {.name = "Exposed", .handle = [this](varlink::Call call) {
                              asked.push_back(cat("Exposed ", boost::json::serialize(call.parameters())));
                              if (exposed_base64.empty())
                                  return call.error("io.nullbox.warden.NotGranted", "not granted to t");
                              call.reply({{"value_base64", exposed_base64}});
                          }}});
    }
    void start_ctxgraph() {
        ctxgraph = listen(sockets.ctxgraph, "io.nullbox.ctxgraph",
                          {{.name = "Serve", .handle = [this](varlink::Call call) {
                                asked.push_back(cat("Serve ", boost::json::serialize(call.parameters())));
                                auto fds = call.take_fds();
                                if (fds.size() == 1) (void)write_all(fds[0].get(), "answer");
                                served = std::move(fds);
                                call.reply({});
                            }}});
    }
    void set_vault(std::string state) {
        vault = std::move(state);
        for (auto& watcher : watchers) watcher.reply_continues({{"state", vault}});
    }

    Loop& loop;
    std::string folder;
    ServiceSockets sockets;
    std::unique_ptr<varlink::Server> egress, warden, ctxgraph;
    std::vector<std::string> asked;
    std::string vault = "unlocked", exposed_base64, refusal;
    std::vector<Fd> served;

private:
    std::unique_ptr<varlink::Server> listen(const std::string& path, const char* name,
                                            std::vector<varlink::Method> methods) {
        varlink::InterfaceTable table{.name = name};
        for (auto& method : methods) table.methods.push_back(std::move(method));
        return *varlink::Server::listen(loop, path, {}, std::move(table));
    }
    // The tap is a pipe that says so.
    void attach(varlink::Call call) {
        asked.push_back(cat("Attach ", boost::json::serialize(call.parameters())));
        if (!refusal.empty()) return call.error("io.nullbox.egress.CannotAttach", refusal);
        auto pipe = *make_pipe();
        (void)write_all(pipe.write.get(), "of egress");
        std::vector<Fd> fds;
        fds.push_back(std::move(pipe.read));
        call.reply({{"address", "10.88.1.2"},
                    {"prefix", 30},
                    {"gateway", "10.88.1.1"},
                    {"dns", "10.88.1.1"},
                    {"mac", "02:4e:42:00:00:07"},
                    {"mtu", 1400},
                    {"ca_pem", "-----BEGIN CERTIFICATE-----\n"}},
                   std::move(fds));
    }
    std::vector<varlink::Call> watchers;
};

} // namespace nullbox::cage
