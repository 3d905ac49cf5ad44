// HTTP/1.1 through the proxy, request by request: each one is checked, gets its secrets if the connection is
// terminated TLS, and goes to the one server that the connection was made to; what comes back is scrubbed.
// Internal to the proxy.
#pragma once

#include <memory>
#include <optional>

#include "egress/http_body.h"
#include "egress/injector.h"
#include "egress/request_check.h"
#include "egress/session.h"

namespace nullbox::egress {

class HttpRelay {
public:
    // received: what was read of the client's stream already.
    HttpRelay(Session& session, ByteStream& client, bool tls, std::string received);
    Task<void> run();

private:
    using Outcome = std::expected<void, Refusal>;
    struct Exchange {
        http::RequestHead request;
        http::Framing framing; // of the request's body
        int client_minor = 1;
        bool keep_alive = false, websocket = false, expects_continue = false;
        bool sent_whole = true;
    };
    Task<std::expected<std::optional<Exchange>, Refusal>> read_request();
    std::optional<Refusal> check_rules(http::RequestHead& request);
    Task<bool> serve_one();
    Task<Outcome> exchange(Exchange& exchange);
    Task<Outcome> inject(Exchange& exchange);
    Task<Outcome> ensure_server(bool repeatable);
    Task<Outcome> begin_tls();
    Task<Outcome> send_request(Exchange& exchange);
    Task<std::expected<http::ResponseHead, Refusal>> request_answer(Exchange& exchange);
    Task<std::expected<http::ResponseHead, Refusal>> read_answer();
    Task<Outcome> pass_answer(Exchange& exchange, http::ResponseHead answer);
    Task<Outcome> pass_body(const http::Framing& framing, bool chunked);
    Task<Result<>> flush_to_client();
    Task<Outcome> upgrade(Exchange& exchange, http::ResponseHead answer);
    Task<void> refuse(Refusal refusal, bool head_only);
    ServerConnection& server() { return *session_.server_connection(); }

    Session& session_;
    ByteStream& client_;
    ServerPool::Key key_;
    std::optional<Turn> turn_; // of the request that is being served
    BufferedReader from_client_;
    bool injects() const { return injection_ != nullptr; }
    std::shared_ptr<const SecretForms> forms() const;

    std::shared_ptr<const Injection> injection_; // none: nothing is put in
    std::string to_client_;                      // of an answer, until there is a wait for more of it
    Clock::time_point injected_at_{};
    bool answer_begun_ = false; // the client has bytes of the answer: no other can be sent
    bool keep_alive_ = false;
};

} // namespace nullbox::egress
