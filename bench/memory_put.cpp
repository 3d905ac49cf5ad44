// Writes to the agents' memory in a second, beside bare SQLite: bench_memory_put FOLDER [RUNS [PUTS]]
//
// Ours is what an agent gets: PUT over HTTP on a stream as cage passes it, the answer awaited, through
// access, quota, history and full-text index to the disk. The peer is an INSERT of the same row and a COMMIT
// in this process, with the same settings, into a table with the same id index and nothing else. In turns,
// each into a fresh database in FOLDER, which must be on the disk that is meant. One JSON object a line:
// name, unit, runs, peer_runs.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <filesystem>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h" // Clock
#include "base/text.h"
#include "ctxgraph/database.h"
#include "ctxgraph/guest_server.h"
#include "ctxgraph/store_impl.h" // id_bytes

namespace nullbox::bench {
namespace {

using namespace nullbox::ctxgraph;

// About what an agent notes down.
std::string value_of(int number) {
    return cat(R"({"finding":"The )", number,
               R"(th page says that red boats are seen more often than blue ones.","page":)", number,
               R"(,"source":"https://example.org/pages/)", number, "\"}");
}

double per_second(int count, Clock::time_point begin) {
    return count / std::chrono::duration<double>(Clock::now() - begin).count();
}

Result<double> bare(const std::string& folder, int puts) {
    auto database = TRY(Database::open(folder + "/bare.db"));
    TRY(database->run(
        "CREATE TABLE entries(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, key TEXT NOT NULL, "
        "author TEXT NOT NULL, time_ms INTEGER NOT NULL, value TEXT NOT NULL) STRICT"));
    auto begin = Clock::now();
    for (int i = 0; i < puts; i++) {
        Entry entry{.space = "bench", .key = cat("k", i), .value = TRY(canonical_value(value_of(i)))};
        entry.author = "agent:bench";
        auto id = id_bytes(entry_id(entry));
        TRY(database->run("BEGIN IMMEDIATE"));
        Query query(*database, "INSERT INTO entries(id, key, author, time_ms, value) VALUES(?,?,?,?,?)");
        TRY(query.blob(id).text(entry.key).text(entry.author).number(i).text(entry.value).finish());
        TRY(database->run("COMMIT"));
    }
    return per_second(puts, begin);
}

Result<> put(int peer, int number) {
    auto body = value_of(number);
    TRY(write_all(peer, cat("PUT /v1/memory/bench/k", number,
                            " HTTP/1.1\r\nHost: 127.0.0.1:9100\r\nContent-Length: ", body.size(), "\r\n\r\n",
                            body)));
    std::string answer;
    char bytes[2048];
    while (!answer.ends_with('}')) {
        ssize_t count = ::read(peer, bytes, sizeof bytes);
        if (count <= 0) return error("the server hung up");
        answer.append(bytes, static_cast<size_t>(count));
    }
    if (!answer.starts_with("HTTP/1.1 201")) return error(cat("put: ", printable(answer, 300)));
    return {};
}

// So many agents write at a time, each waiting for its answers.
Result<double> ours(const std::string& folder, int puts, int agents) {
    boost::asio::io_context context(1);
    auto store = TRY(Store::open(folder + "/graph.db"));
    Writes writes(*store, [&](std::function<void()> soon) { boost::asio::post(context, std::move(soon)); });
    Memory memory(*store, writes);
    GuestServer guests(context, memory);
    std::vector<Fd> peers;
    for (int i = 0; i < agents; i++) {
        auto pair = TRY(make_socket_pair(SOCK_STREAM));
        TRY(guests.serve(std::move(pair.first), {.author = cat("agent:a", i), .write = {"bench"}}));
        peers.push_back(std::move(pair.second));
    }
    auto work = boost::asio::make_work_guard(context);
    std::thread server([&] { context.run(); });
    std::vector<Result<>> ends(static_cast<size_t>(agents));
    std::vector<std::thread> clients;
    auto begin = Clock::now();
    for (int i = 0; i < agents; i++)
        clients.emplace_back([&, i] {
            auto& end = ends[static_cast<size_t>(i)];
            for (int number = i; number < puts && end.has_value(); number += agents)
                end = put(peers[static_cast<size_t>(i)].get(), number);
        });
    for (auto& client : clients) client.join();
    auto rate = per_second(puts, begin);
    boost::asio::post(context, [&] { context.stop(); });
    server.join();
    for (const auto& end : ends)
        if (!end.has_value()) return end.error();
    return rate;
}

Result<> measure(const std::string& parent, int runs, int puts) {
    boost::json::array alone, together, peer;
    for (int i = 0; i < runs; i++) {
        auto folder = cat(parent, "/memory-put-", ::getpid(), "-", i);
        TRY(make_directories(folder + "/2"));
        peer.emplace_back(TRY(bare(folder, puts)));
        alone.emplace_back(TRY(ours(folder, puts, 1)));
        together.emplace_back(TRY(ours(folder + "/2", puts, 16)));
        std::filesystem::remove_all(folder);
    }
    for (auto [name, values] :
         {std::pair("memory_put", &alone), std::pair("memory_put_16_agents", &together)})
        std::puts(
            boost::json::serialize(
                boost::json::object{{"name", name}, {"unit", "1/s"}, {"runs", *values}, {"peer_runs", peer}})
                .c_str());
    return {};
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    auto number = [&](int at, int absent) {
        return count > at ? static_cast<int>(parse_number(arguments[at], 1, 1'000'000).value_or(0)) : absent;
    };
    int runs = number(2, 3), puts = number(3, 500);
    if (count < 2 || count > 4 || runs == 0 || puts == 0) {
        log_error("usage: bench_memory_put FOLDER [RUNS [PUTS]]");
        return 2;
    }
    auto done = bench::measure(arguments[1], runs, puts);
    if (!done.has_value()) log_error(done.error().message);
    return done.has_value() ? 0 : 1;
}
