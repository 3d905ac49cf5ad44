#include "nulld/process_facts.h"

#include <arpa/inet.h>
#include <charconv>
#include <dirent.h>
#include <functional>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "sandbox/capabilities.h"

namespace nullbox::nulld {

static std::string_view first_word(std::string_view text) {
    text = trim(text);
    return text.substr(0, text.find_first_of(" \t"));
}

SandboxFacts parse_process_status(std::string_view text) {
    SandboxFacts facts;
    auto number = [](std::string_view value) {
        return parse_number(first_word(value), 0, UINT32_MAX).value_or(0);
    };
    for (auto line : split(text, '\n')) {
        size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        auto key = line.substr(0, colon), value = trim(line.substr(colon + 1));
        if (key == "Uid") facts.uid = static_cast<uid_t>(number(value));
        if (key == "Gid") facts.gid = static_cast<gid_t>(number(value));
        if (key == "NoNewPrivs") facts.no_new_privs = value == "1";
        if (key == "Seccomp") facts.seccomp = value == "2";
        if (key == "CapEff") {
            uint64_t bits = 0;
            std::from_chars(value.data(), value.data() + value.size(), bits, 16);
            facts.capabilities = sandbox::CapabilitySet(bits).names();
        }
    }
    return facts;
}

static std::string namespace_of(const std::string& process, const char* name) {
    char target[64];
    ssize_t length = ::readlink(cat("/proc/", process, "/ns/", name).c_str(), target, sizeof target);
    return length > 0 ? std::string(target, static_cast<size_t>(length)) : std::string();
}

std::optional<SandboxFacts> sandbox_facts(pid_t pid) {
    auto text = read_file(cat("/proc/", pid, "/status"), 16384);
    if (!text) return std::nullopt;
    auto facts = parse_process_status(*text);
    for (const char* name : {"mnt", "net", "ipc", "uts", "pid", "user", "cgroup", "time"}) {
        auto theirs = namespace_of(cat(pid), name);
        if (!theirs.empty() && theirs != namespace_of("self", name)) facts.own_namespaces.emplace_back(name);
    }
    return facts;
}

// Calls each for every name in a folder.
static void for_names(const char* path, const std::function<void(std::string_view)>& each) {
    DIR* folder = ::opendir(path);
    if (!folder) return;
    while (dirent* entry = ::readdir(folder))
        if (entry->d_name[0] != '.') each(entry->d_name);
    ::closedir(folder);
}

SelfFacts self_facts() {
    SelfFacts facts;
    for_names("/proc/self/fd", [&](std::string_view) { facts.open_files++; });
    facts.open_files -= facts.open_files > 0; // the folder itself while it was read
    auto pages = read_file("/proc/self/statm", 256).value_or("");
    if (auto fields = split(pages, ' '); fields.size() > 1)
        facts.memory_bytes =
            static_cast<uint64_t>(parse_number(fields[1], 0, INT64_MAX >> 12).value_or(0)) * 4096;
    for_names("/proc", [&](std::string_view name) {
        if (name[0] < '0' || name[0] > '9') return;
        auto stat = read_file(cat("/proc/", name, "/stat"), 4096).value_or("");
        size_t end = stat.rfind(')'); // the name before it may hold anything
        if (end != std::string::npos && stat.substr(end).starts_with(") Z")) facts.zombies++;
    });
    return facts;
}

std::vector<std::string> host_addresses() {
    std::vector<std::string> out;
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) < 0) return out;
    for (ifaddrs* each = first; each; each = each->ifa_next) {
        if (!each->ifa_addr || (each->ifa_flags & IFF_LOOPBACK)) continue;
        char text[INET6_ADDRSTRLEN] = "";
        if (each->ifa_addr->sa_family == AF_INET) {
            ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(each->ifa_addr)->sin_addr, text,
                        sizeof text);
        } else if (each->ifa_addr->sa_family == AF_INET6) {
            auto* address = &reinterpret_cast<sockaddr_in6*>(each->ifa_addr)->sin6_addr;
            if (!IN6_IS_ADDR_LINKLOCAL(address)) ::inet_ntop(AF_INET6, address, text, sizeof text);
        }
        if (text[0]) out.push_back(cat(static_cast<const char*>(text), " (", each->ifa_name, ")"));
    }
    ::freeifaddrs(first);
    return out;
}

} // namespace nullbox::nulld
