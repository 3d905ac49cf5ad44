// For tests: is a text anywhere in a process's writable memory? The text is kept inverted, so that the search
// does not find itself.
#pragma once

#include <cstring>
#include <fcntl.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::warden {

class Needle {
public:
    explicit Needle(std::string_view text) {
        for (char c : text) inverted_.push_back(static_cast<char>(~c));
    }
    bool is_in(std::span<const char> memory) const {
        const char first = static_cast<char>(~inverted_[0]);
        while (memory.size() >= inverted_.size()) {
            size_t places = memory.size() - inverted_.size() + 1;
            const auto* place = static_cast<const char*>(std::memchr(memory.data(), first, places));
            if (!place) return false;
            memory = memory.subspan(static_cast<size_t>(place - memory.data()));
            if (is_at(memory)) return true;
            memory = memory.subspan(1);
        }
        return false;
    }

private:
    bool is_at(std::span<const char> memory) const {
        for (size_t i = 0; i < inverted_.size(); i++)
            if (memory[i] != static_cast<char>(~inverted_[i])) return false;
        return true;
    }
    std::string inverted_;
};

// Where, as a line of /proc/PID/maps; empty: nowhere. Nothing if the memory cannot be read.
inline std::optional<std::string> find_in_memory(const std::string& process, const Needle& needle) {
    auto maps = read_file(cat("/proc/", process, "/maps"));
    Fd memory(::open(cat("/proc/", process, "/mem").c_str(), O_RDONLY | O_CLOEXEC));
    if (!maps || !memory) return std::nullopt;
    std::vector<char> chunk;
    size_t read = 0;
    for (auto line : split(*maps, '\n')) {
        unsigned long from = 0, to = 0;
        char mode[5] = "";
        if (std::sscanf(std::string(line).c_str(), "%lx-%lx %4s", &from, &to, mode) != 3) continue;
        if (mode[1] != 'w' || to - from > size_t{256} << 20) continue;
        chunk.assign(to - from, '\0');
        ssize_t count = ::pread(memory.get(), chunk.data(), chunk.size(), static_cast<off_t>(from));
        if (count <= 0) continue;
        read += static_cast<size_t>(count);
        bool found = needle.is_in(std::span<const char>(chunk).first(static_cast<size_t>(count)));
        std::fill(chunk.begin(), chunk.end(), '\0');
        if (found) return std::string(line);
    }
    if (read == 0) return std::nullopt;
    return "";
}

} // namespace nullbox::warden
