#include "varlink/message.h"

#include <algorithm>
#include <boost/json/parser.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <exception>

#include "base/text.h"

namespace nullbox::varlink {

namespace json = boost::json;

std::optional<size_t> MessageReader::find_end() {
    size_t end = buffer_.find('\0', scanned_);
    scanned_ = end == std::string::npos ? buffer_.size() : end;
    if (end == std::string::npos) return std::nullopt;
    return end;
}

bool MessageReader::has_message() { return find_end().has_value() || buffered() > most_bytes_; }

Result<std::optional<std::string_view>> MessageReader::next() {
    // Moving the rest to the front once half of the buffer is used keeps the whole linear.
    if (start_ > 0 && start_ >= buffer_.size() / 2) {
        buffer_.erase(0, start_);
        scanned_ -= start_;
        start_ = 0;
    }
    auto end = find_end();
    if (end.value_or(buffer_.size()) - start_ > most_bytes_)
        return error(cat("message is longer than ", most_bytes_, " bytes"));
    if (!end) return std::optional<std::string_view>();
    auto message = std::string_view(buffer_).substr(start_, *end - start_);
    start_ = scanned_ = *end + 1;
    return std::optional(message);
}

// 1e400 becomes infinity, which JSON cannot say: what we read must be what we can write. The nesting is
// bounded by the parser.
static bool all_finite(const json::value& value) {
    if (const auto* number = value.if_double()) return std::isfinite(*number);
    if (const auto* list = value.if_array()) return std::ranges::all_of(*list, all_finite);
    if (const auto* object = value.if_object())
        return std::ranges::all_of(*object, [](const auto& entry) { return all_finite(entry.value()); });
    return true;
}

static Result<json::value> parse_value(std::string_view text) {
    json::parse_options options; // RFC 8259: no comments, no trailing commas, valid UTF-8
    options.max_depth = kMaxNesting;
    try {
        json::parser parser({}, options);
        json::error_code failure;
        parser.write(text.data(), text.size(), failure);
        if (failure) return error(cat("not valid JSON: ", failure.message()));
        json::value value = parser.release();
        if (!all_finite(value)) return error("not valid JSON here: a number is too large");
        return value;
    } catch (const std::exception& failure) { // out of memory; an incomplete document
        return error(cat("not valid JSON: ", failure.what()));
    }
}

Result<json::object> parse_object(std::string_view text) {
    auto value = TRY(parse_value(text));
    if (auto* object = value.if_object()) return std::move(*object);
    return error("message is not a JSON object");
}

// Absent and null are false.
static Result<bool> take_flag(const json::object& message, std::string_view name) {
    const auto* value = message.if_contains(name);
    if (!value || value->is_null()) return false;
    if (value->is_bool()) return value->get_bool();
    return error(cat("\"", name, "\" is not true or false"));
}

static Result<json::object> take_parameters(json::object& message) {
    auto* value = message.if_contains("parameters");
    if (!value || value->is_null()) return json::object();
    if (auto* object = value->if_object()) return std::move(*object);
    return error("\"parameters\" is not an object");
}

Result<Request> parse_request(std::string_view text) {
    auto message = TRY(parse_object(text));
    Request request;
    const auto* method = message.if_contains("method");
    if (!method || !method->is_string()) return error("\"method\" is missing or not a text");
    request.method = method->get_string();
    request.parameters = TRY(take_parameters(message));
    request.more = TRY(take_flag(message, "more"));
    request.oneway = TRY(take_flag(message, "oneway"));
    request.upgrade = TRY(take_flag(message, "upgrade"));
    return request;
}

Result<Reply> parse_reply(std::string_view text) {
    auto message = TRY(parse_object(text));
    Reply reply;
    if (const auto* name = message.if_contains("error"); name && !name->is_null()) {
        if (!name->is_string()) return error("\"error\" is not a text");
        reply.error = std::string(name->get_string());
    }
    reply.parameters = TRY(take_parameters(message));
    reply.continues = TRY(take_flag(message, "continues"));
    return reply;
}

static std::string encode_object(const json::object& message) {
    // A NUL inside a text is written as \u0000, so the only NUL is the end.
    std::string out = json::serialize(message);
    out += '\0';
    return out;
}

std::string encode(const Request& request) {
    json::object message{{"method", request.method}, {"parameters", request.parameters}};
    if (request.more) message["more"] = true;
    if (request.oneway) message["oneway"] = true;
    if (request.upgrade) message["upgrade"] = true;
    return encode_object(message);
}

std::string encode(const Reply& reply) {
    json::object message;
    if (reply.error) message["error"] = *reply.error;
    message["parameters"] = reply.parameters;
    if (reply.continues) message["continues"] = true;
    return encode_object(message);
}

} // namespace nullbox::varlink
