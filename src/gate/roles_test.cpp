#include "gate/roles.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <gtest/gtest.h>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "gate/openapi.h"

namespace nullbox::gate {
namespace {

namespace json = boost::json;

constexpr const char* kServices[] = {"gate", "nulld", "cage", "egress", "warden", "ctxgraph"};

std::vector<varlink::Description> descriptions() {
    std::vector<varlink::Description> all;
    for (std::string service : kServices) {
        auto path = cat(NULLBOX_SOURCE_DIR "/src/", service, "/io.nullbox.", service, ".varlink");
        auto text = read_file(path);
        EXPECT_TRUE(text.has_value()) << path;
        if (!text.has_value()) continue;
        auto description = varlink::parse_description(*text);
        EXPECT_TRUE(description.has_value()) << path << ": " << description.error().message;
        if (description.has_value()) all.push_back(std::move(*description));
    }
    return all;
}

bool is_internal(std::string_view interface, std::string_view method) {
    return std::ranges::any_of(internal_methods(), [&](const Internal& one) {
        return one.interface == interface && one.method == method;
    });
}

TEST(Roles, EveryMethodOfEveryServiceIsDecidedOnce) {
    std::set<std::string> described;
    for (const auto& service : descriptions())
        for (const auto& method : service.methods) {
            auto name = cat(service.interface, ".", method.name);
            described.insert(name);
            EXPECT_NE(find_rule(service.interface, method.name) != nullptr,
                      is_internal(service.interface, method.name))
                << name << " must be in one of roles.cpp's two tables";
        }
    std::set<std::string> decided;
    for (const auto& rule : rules()) {
        auto name = cat(rule.interface, ".", rule.method);
        EXPECT_TRUE(decided.insert(name).second) << name << " is in the table twice";
        EXPECT_TRUE(described.contains(name)) << name << " is in the table, and no service has it";
    }
    for (const auto& one : internal_methods())
        EXPECT_TRUE(described.contains(cat(one.interface, ".", one.method)))
            << one.interface << "." << one.method;
}

TEST(Roles, WhatChangesThingsIsNotForReaders) {
    for (std::string_view method : {"Start",
                                    "Stop",
                                    "Restart",
                                    "Reload",
                                    "Remove",
                                    "Pause",
                                    "Resume",
                                    "Set",
                                    "Delete",
                                    "Grant",
                                    "Revoke",
                                    "Init",
                                    "Unlock",
                                    "Lock",
                                    "Put",
                                    "Reboot",
                                    "PowerOff",
                                    "Halt",
                                    "StartService",
                                    "StopService",
                                    "RestartService",
                                    "ChangePassphrase",
                                    "RemoveImage"})
        for (const auto& rule : rules())
            if (rule.method == method) EXPECT_NE(rule.least, Role::Reader) << rule.interface << "." << method;
    for (auto role : {Role::Reader, Role::Operator, Role::Admin}) EXPECT_EQ(role_of(role_name(role)), role);
    EXPECT_FALSE(role_of("root").has_value());
}

TEST(Roles, GateFillsInOnlyWhatTheServiceTakes) {
    for (const auto& service : descriptions())
        for (const auto& method : service.methods) {
            const auto* rule = find_rule(service.interface, method.name);
            if (!rule) continue;
            bool takes = std::ranges::contains(method.in, "operator", &varlink::Field::name);
            EXPECT_EQ(takes, rule->names_operator) << service.interface << "." << method.name;
        }
}

// Every $ref leads somewhere.
void check_references(const json::value& value, const json::object& schemas) {
    if (const auto* list = value.if_array())
        for (const auto& item : *list) check_references(item, schemas);
    if (const auto* object = value.if_object())
        for (const auto& field : *object) {
            if (field.key() == "$ref") {
                std::string_view target = field.value().as_string();
                constexpr std::string_view kPrefix = "#/components/schemas/";
                ASSERT_TRUE(target.starts_with(kPrefix)) << target;
                EXPECT_TRUE(schemas.contains(target.substr(kPrefix.size()))) << target;
            } else {
                check_references(field.value(), schemas);
            }
        }
}

TEST(OpenApi, HasEveryMethodOfTheTableAndNoOther) {
    auto services = descriptions();
    auto document = openapi(services);
    std::set<std::string> paths,
        wanted{"/v1/openapi.json", "/v1/upload/{kind}/{name}", "/v1/exec/{name}", "/v1/copy/{name}"};
    for (const auto& path : document.at("paths").as_object()) paths.insert(std::string(path.key()));
    for (const auto& rule : rules()) wanted.insert(cat("/v1/", rule.interface, "/", rule.method));
    EXPECT_EQ(paths, wanted);
    check_references(document, document.at("components").at("schemas").as_object());
}

TEST(OpenApi, SchemasAreTheTypes) {
    auto service = varlink::parse_description(R"(interface io.nullbox.cage
# What it is.
type State (up, down)
type Agent (name: string, state: State, memory: ?int, labels: [string]string, past: []Agent, raw: object, load: float)
# Starts it,
# and waits.
method Start(name: string, wait: ?bool) -> (agent: Agent)
method Logs() -> ()
method BeginUpload() -> ()
)");
    ASSERT_TRUE(service.has_value()) << service.error().message;
    auto document = openapi({*service});
    const auto& schemas = document.at("components").at("schemas").as_object();
    EXPECT_EQ(schemas.at("io.nullbox.cage.State"),
              (json::value{{"type", "string"}, {"enum", {"up", "down"}}, {"description", "What it is."}}));
    const auto& agent = schemas.at("io.nullbox.cage.Agent").at("properties");
    EXPECT_EQ(agent.at("name"), (json::value{{"type", "string"}}));
    EXPECT_EQ(agent.at("memory").at("anyOf").at(0), (json::value{{"type", "integer"}, {"format", "int64"}}));
    EXPECT_EQ(agent.at("memory").at("anyOf").at(1), (json::value{{"type", "null"}}));
    EXPECT_EQ(agent.at("labels").at("additionalProperties"), (json::value{{"type", "string"}}));
    EXPECT_EQ(agent.at("past").at("items").at("$ref"), "#/components/schemas/io.nullbox.cage.Agent");
    EXPECT_EQ(agent.at("raw"), json::value(json::object()));
    EXPECT_EQ(agent.at("load").at("type"), "number");
    EXPECT_EQ(schemas.at("io.nullbox.cage.Agent").at("required"),
              (json::array{"name", "state", "labels", "past", "raw", "load"}));
    const auto& start = document.at("paths").at("/v1/io.nullbox.cage/Start").at("post");
    EXPECT_EQ(start.at("description"), "Starts it,\nand waits.\nLeast role: operator.");
    EXPECT_EQ(start.at("x-nullbox-role"), "operator");
    const auto& body = start.at("requestBody");
    EXPECT_EQ(body.at("required"), true);
    EXPECT_EQ(body.at("content").at("application/json").at("schema").at("required"), (json::array{"name"}));
    const auto& logs = document.at("paths").at("/v1/io.nullbox.cage/Logs").at("post");
    EXPECT_TRUE(logs.at("responses").at("200").at("content").as_object().contains("application/x-ndjson"));
    EXPECT_EQ(logs.at("requestBody").at("required"), false);
    EXPECT_FALSE(document.at("paths").as_object().contains("/v1/io.nullbox.cage/BeginUpload"));
}

} // namespace
} // namespace nullbox::gate
