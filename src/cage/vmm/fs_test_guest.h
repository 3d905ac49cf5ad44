// A guest's FUSE client in front of a shared folder's device, for tests and the fuzz target: real requests
// over a fake queue, a real folder behind it.
#pragma once

#include <fcntl.h>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "cage/vmm/fs.h"
#include "cage/vmm/test_driver.h"

namespace nullbox::cage {

struct FsTestFolder { // gone when this is
    std::string path;
    FsTestFolder() {
        char name[] = "/tmp/nullbox-share-XXXXXX";
        CHECK(::mkdtemp(name) != nullptr);
        path = name;
        std::filesystem::create_directory(path + "/share");
        ::chmod(share().c_str(), 0777);
    }
    FsTestFolder(const FsTestFolder&) = delete;
    ~FsTestFolder() { std::filesystem::remove_all(path); }
    std::string share() const { return path + "/share"; }
    std::string at(const std::string& name) const { return share() + "/" + name; }
    Fd open() const { return Fd(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }
};

class FsTestGuest {
public:
    static constexpr uint64_t kRequest = 0x10000, kAnswer = 0x50000, kRoom = 0x40000;

    FsTestGuest(Fd folder, bool writable, FsQuota::Limits limits = {}) {
        auto made = FsDevice::make(
            std::move(folder),
            {.tag = "work", .view = {.uid = 1000, .gid = 1001, .writable = writable}, .limits = limits});
        CHECK(made);
        device = *std::move(made);
        queues.reserve(2);
        for (int i = 0; i < 2; ++i) queues.emplace_back(memory.memory);
        driver.emplace(memory, queues[1], 0x1000, 64);
        queues[1].start();
    }

    struct Answer {
        int error = 0;
        std::string payload;
        template <typename T>
        T as(size_t offset = 0) const {
            T value{};
            CHECK(payload.size() >= offset + sizeof value);
            std::memcpy(&value, payload.data() + offset, sizeof value);
            return value;
        }
    };
    // The request in one buffer, the answer in two.
    Answer ask(uint32_t opcode, uint64_t node, std::string_view arguments, uint32_t room = 4096,
               uint32_t length_error = 0) {
        fuse_in_header header{};
        header.len = static_cast<uint32_t>(sizeof header + arguments.size()) + length_error;
        header.opcode = opcode;
        header.unique = ++unique;
        header.nodeid = node;
        std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
        bytes += arguments;
        auto place = memory.memory.range(kRequest, bytes.size());
        CHECK(place && room <= kRoom);
        std::memcpy(place->data(), bytes.data(), bytes.size());
        driver->add({{kRequest, static_cast<uint32_t>(bytes.size())},
                     {kAnswer, sizeof(fuse_out_header), true},
                     {kAnswer + sizeof(fuse_out_header), room, true}});
        device->process(queues);
        CHECK(queues[1].fault() == nullptr && driver->has_used());
        auto used = driver->take_used();
        auto out = driver->get<fuse_out_header>(kAnswer);
        CHECK(out.unique == unique && out.len == used.written);
        auto payload = memory.memory.range(kAnswer + sizeof out, used.written - sizeof out);
        return {.error = -out.error, .payload = std::string(as_text(*payload))};
    }
    template <typename T>
    static std::string raw(const T& value, std::string_view more = {}) {
        std::string bytes(reinterpret_cast<const char*>(&value), sizeof value);
        return bytes.append(more);
    }
    static std::string named(std::string_view name) { return std::string(name) + '\0'; }

    Answer init(uint32_t minor = 38, uint32_t major = 7) {
        return ask(FUSE_INIT, 0, raw(fuse_init_in{.major = major, .minor = minor, .flags = UINT32_MAX}));
    }
    Answer lookup(uint64_t parent, std::string_view name) { return ask(FUSE_LOOKUP, parent, named(name)); }
    // 0 if there is none.
    uint64_t node(std::string_view path) {
        uint64_t at = kRootNode;
        for (auto part : split(path, '/')) {
            auto found = lookup(at, part);
            if (found.error) return 0;
            at = found.as<fuse_entry_out>().nodeid;
        }
        return at;
    }
    Answer open(uint64_t node, uint32_t flags) {
        return ask(FUSE_OPEN, node, raw(fuse_open_in{.flags = flags}));
    }
    Answer open_folder(uint64_t node) { return ask(FUSE_OPENDIR, node, raw(fuse_open_in{})); }
    Answer create(uint64_t parent, std::string_view name, uint32_t flags = O_RDWR, uint32_t mode = 0600) {
        return ask(FUSE_CREATE, parent, raw(fuse_create_in{.flags = flags, .mode = mode}, named(name)));
    }
    static uint64_t created_handle(const Answer& answer) {
        return answer.as<fuse_open_out>(sizeof(fuse_entry_out)).fh;
    }
    Answer mkdir(uint64_t parent, std::string_view name) {
        return ask(FUSE_MKDIR, parent, raw(fuse_mkdir_in{.mode = 0700}, named(name)));
    }
    Answer unlink(uint64_t parent, std::string_view name) { return ask(FUSE_UNLINK, parent, named(name)); }
    Answer rename(uint64_t from, std::string_view old_name, uint64_t to, std::string_view new_name,
                  uint32_t flags = 0) {
        return ask(FUSE_RENAME2, from,
                   raw(fuse_rename2_in{.newdir = to, .flags = flags}, named(old_name) + named(new_name)));
    }
    Answer write(uint64_t handle, uint64_t offset, std::string_view bytes) {
        fuse_write_in what{};
        what.fh = handle, what.offset = offset, what.size = static_cast<uint32_t>(bytes.size());
        return ask(FUSE_WRITE, 0, raw(what, bytes));
    }
    Answer read(uint64_t handle, uint64_t offset, uint32_t size, uint32_t opcode = FUSE_READ,
                uint32_t room = 0x10000) {
        fuse_read_in what{};
        what.fh = handle, what.offset = offset, what.size = size;
        return ask(opcode, 0, raw(what), room);
    }
    Answer release(uint64_t handle, bool folder = false) {
        return ask(folder ? FUSE_RELEASEDIR : FUSE_RELEASE, 0, raw(fuse_release_in{.fh = handle}));
    }
    Answer attributes(uint64_t node) { return ask(FUSE_GETATTR, node, raw(fuse_getattr_in{})); }
    Answer set(uint64_t node, const fuse_setattr_in& what) { return ask(FUSE_SETATTR, node, raw(what)); }

    TestMemory memory;
    std::vector<Virtqueue> queues;
    std::optional<TestDriver> driver;
    std::unique_ptr<FsDevice> device;
    uint64_t unique = 0;
};

} // namespace nullbox::cage
