#include "gate/openapi.h"

#include <algorithm>
#include <boost/json/array.hpp>

#include "base/text.h"
#include "gate/roles.h"

namespace nullbox::gate {

namespace json = boost::json;
using varlink::Description;
using varlink::Field;
using varlink::Type;

static json::object reference(std::string_view interface, std::string_view type) {
    return {{"$ref", cat("#/components/schemas/", interface, ".", type)}};
}

static json::object schema_of(const Type& type, std::string_view interface);

static json::object schema_of(const std::vector<Field>& fields, std::string_view interface,
                              std::string_view left_out = {}) {
    json::object properties;
    json::array required;
    for (const auto& field : fields) {
        if (field.name == left_out) continue;
        properties[field.name] = schema_of(field.type, interface);
        if (field.type.kind != Type::Kind::Optional) required.emplace_back(field.name);
    }
    json::object out{{"type", "object"}, {"properties", std::move(properties)}};
    if (!required.empty()) out["required"] = std::move(required);
    return out;
}

static json::object optional(json::object schema) {
    return {{"anyOf", json::array{std::move(schema), json::object{{"type", "null"}}}}};
}

// JSON Schema 2020-12, as OpenAPI 3.1 has it.
static json::object schema_of(const Type& type, std::string_view interface) {
    switch (type.kind) {
    case Type::Kind::Bool:
        return {{"type", "boolean"}};
    case Type::Kind::Int:
        return {{"type", "integer"}, {"format", "int64"}};
    case Type::Kind::Float:
        return {{"type", "number"}};
    case Type::Kind::String:
        return {{"type", "string"}};
    case Type::Kind::Object:
        return {}; // any value
    case Type::Kind::Named:
        return reference(interface, type.name);
    case Type::Kind::Struct:
        return schema_of(type.fields, interface);
    case Type::Kind::Enumeration:
        return {{"type", "string"}, {"enum", json::array(type.values.begin(), type.values.end())}};
    case Type::Kind::Optional:
        return optional(schema_of(type.inner[0], interface));
    case Type::Kind::List:
        return {{"type", "array"}, {"items", schema_of(type.inner[0], interface)}};
    case Type::Kind::Map:
        return {{"type", "object"}, {"additionalProperties", schema_of(type.inner[0], interface)}};
    }
    return {};
}

static json::object content(std::string_view media, json::object schema) {
    return {{media, json::object{{"schema", std::move(schema)}}}};
}

static json::object with_comment(json::object schema, const std::string& comment) {
    if (!comment.empty()) schema["description"] = comment;
    return schema;
}

static json::object answers(json::object good) {
    return {{"200", std::move(good)},
            {"default", json::object{{"description", "The box or the service refuses"},
                                     {"content", content("application/json",
                                                         {{"$ref", "#/components/schemas/Error"}})}}}};
}

static json::object operation(const Rule& rule, const varlink::MethodForm& method,
                              std::string_view interface) {
    json::object out{{"operationId", cat(interface, ".", method.name)}};
    auto about = method.comment;
    out["description"] = cat(about, about.empty() ? "" : "\n", "Least role: ", role_name(rule.least), ".");
    out["x-nullbox-role"] = role_name(rule.least);
    out["tags"] = json::array{interface};
    if (rule.stream)
        out["parameters"] =
            json::array{json::object{{"name", "more"},
                                     {"in", "query"},
                                     {"description", "1: every answer as it comes, one a line"},
                                     {"schema", json::object{{"enum", json::array{"0", "1"}}}}}};
    auto in = schema_of(method.in, interface, rule.names_operator ? "operator" : "");
    in["additionalProperties"] = false;
    bool needed = in.contains("required");
    out["requestBody"] =
        json::object{{"required", needed}, {"content", content("application/json", std::move(in))}};
    auto answer = schema_of(method.out, interface);
    auto media = content("application/json", answer);
    if (rule.stream) media["application/x-ndjson"] = json::object{{"schema", answer}};
    out["responses"] = answers({{"description", "The service's answer"}, {"content", std::move(media)}});
    return out;
}

static json::object path_parameter(std::string_view name, json::object schema) {
    return {{"name", name}, {"in", "path"}, {"required", true}, {"schema", std::move(schema)}};
}

static json::object upload() {
    json::object digest{{"name", "Repr-Digest"},
                        {"in", "header"},
                        {"required", true},
                        {"description", "sha-256=:BASE64: of the body (RFC 9530)"},
                        {"schema", json::object{{"type", "string"}}}};
    json::object kinds{{"type", "string"},
                       {"enum", json::array(std::begin(kUploadKinds), std::end(kUploadKinds))}};
    json::object out{{"operationId", "upload"}};
    out["description"] =
        cat("Puts a runtime image, an agent's files or a manifest on the box, whole or not at "
            "all.\nLeast role: ",
            role_name(kUploadRole), ".");
    out["x-nullbox-role"] = role_name(kUploadRole);
    out["parameters"] = json::array{path_parameter("kind", std::move(kinds)),
                                    path_parameter("name", {{"type", "string"}}), std::move(digest)};
    out["requestBody"] =
        json::object{{"required", true}, {"content", content("application/octet-stream", {})}};
    out["responses"] = answers(
        {{"description", "It is there"}, {"content", content("application/json", {{"type", "object"}})}});
    return {{"put", std::move(out)}};
}

// A stream into an agent. name: also of the method of cage that it is.
static json::object exec(std::string_view about, const varlink::MethodForm& method,
                         std::string_view interface) {
    auto in = schema_of(method.in, interface, "operator");
    in.at("properties").as_object().erase("name"); // it is in the path
    json::array required;
    if (const auto* fields = in.if_contains("required"))
        for (const auto& field : fields->as_array())
            if (field != "name") required.push_back(field);
    in["required"] = std::move(required);
    in["additionalProperties"] = false;
    json::object out{{"operationId", about}};
    out["description"] =
        cat(method.comment,
            "\nThe answer is 101, and from there the connection carries frames "
            "(src/guest_link/exec_frames.h) both ways; an HTTP answer refuses.\nLeast role: ",
            role_name(kExecRole), ".");
    out["x-nullbox-role"] = role_name(kExecRole);
    json::object upgrade{{"name", "Upgrade"},
                         {"in", "header"},
                         {"required", true},
                         {"schema", json::object{{"const", kExecProtocol}}}};
    out["parameters"] = json::array{path_parameter("name", {{"type", "string"}}), std::move(upgrade)};
    out["requestBody"] =
        json::object{{"required", true}, {"content", content("application/json", std::move(in))}};
    auto responses = answers({});
    responses.erase("200");
    responses["101"] = json::object{{"description", "The frames follow"}};
    out["responses"] = std::move(responses);
    return {{"post", std::move(out)}};
}

static json::object self() {
    json::object get{{"operationId", "openapi"}, {"x-nullbox-role", role_name(Role::Reader)}};
    get["description"] = "This description.\nLeast role: reader.";
    get["responses"] = answers(
        {{"description", "OpenAPI 3.1"}, {"content", content("application/json", {{"type", "object"}})}});
    return {{"get", std::move(get)}};
}

static json::object schemas(const std::vector<Description>& services) {
    json::object out;
    out["Error"] =
        json::object{{"type", "object"},
                     {"description", "error: the Varlink error's name. parameters.message is for people."},
                     {"properties", json::object{{"error", json::object{{"type", "string"}}},
                                                 {"parameters", json::object{{"type", "object"}}}}},
                     {"required", json::array{"error", "parameters"}}};
    for (const auto& service : services) {
        for (const auto& type : service.types)
            out[cat(service.interface, ".", type.name)] =
                with_comment(schema_of(type.type, service.interface), type.comment);
        for (const auto& refusal : service.errors)
            out[cat(service.interface, ".", refusal.name)] =
                with_comment(schema_of(refusal.type, service.interface), refusal.comment);
    }
    return out;
}

json::object openapi(const std::vector<Description>& services) {
    json::object paths;
    paths["/v1/openapi.json"] = self();
    paths["/v1/upload/{kind}/{name}"] = upload();
    json::array tags;
    for (const auto& service : services) {
        json::object tag{{"name", service.interface}};
        tags.push_back(with_comment(std::move(tag), service.comment));
        for (const auto& method : service.methods)
            if (service.interface == "io.nullbox.cage" && method.name == "Exec")
                paths["/v1/exec/{name}"] = exec("exec", method, service.interface);
            else if (service.interface == "io.nullbox.cage" && method.name == "Copy")
                paths["/v1/copy/{name}"] = exec("copy", method, service.interface);
            else if (const auto* rule = find_rule(service.interface, method.name))
                paths[cat("/v1/", service.interface, "/", method.name)] =
                    json::object{{"post", operation(*rule, method, service.interface)}};
    }
    json::object out{{"openapi", "3.1.0"}};
    out["info"] =
        json::object{{"title", "NullBox"},
                     {"version", "1"},
                     {"description", "The door of a NullBox: TLS 1.3 with a client certificate, which "
                                     "names the operator. See docs/api.md."}};
    out["servers"] = json::array{json::object{{"url", "https://box:8443"}}};
    out["security"] = json::array{json::object{{"operator", json::array{}}}};
    out["tags"] = std::move(tags);
    out["paths"] = std::move(paths);
    out["components"] =
        json::object{{"securitySchemes", json::object{{"operator", json::object{{"type", "mutualTLS"}}}}},
                     {"schemas", schemas(services)}};
    return out;
}

} // namespace nullbox::gate
