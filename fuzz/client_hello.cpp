// The first bytes of a TLS connection, from an agent; and a server's first record. The reader keeps its
// promise in pieces: what it says of the whole it says of no shorter beginning.
#include <algorithm>

#include "base/check.h"
#include "egress/client_hello.h"

using namespace nullbox::egress;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    auto whole = parse_client_hello(bytes);
    if (whole && *whole) {
        CHECK((*whole)->bytes <= size);
        auto exact = parse_client_hello(bytes.first((*whole)->bytes));
        CHECK(exact && *exact && (*exact)->server_name == (*whole)->server_name);
        auto shorter = parse_client_hello(bytes.first((*whole)->bytes - 1));
        CHECK(shorter && !*shorter);
    }
    if (auto retry = is_retry_request(bytes)) CHECK(size > 0);
    return 0;
}
