#include "egress/net/nftables.h"

#include <array>
#include <net/if.h>
#include <netinet/in.h>
#include <utility>

#include <linux/netfilter.h> // after netinet/in.h, which it would contradict
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::egress {

constexpr std::string_view kTable = "nullbox";
constexpr uint32_t kReg = NFT_REG32_00, kReg2 = NFT_REG32_01;

// What nft(8) keeps beside objects to show them again; the kernel stores it unread.
constexpr uint8_t kUserdataComment = 0;
constexpr uint32_t kTypeIfname = 41, kTypeEndpoint = 7 << 6 | 13; // ipv4_addr . inet_service

static NetlinkMessage nft_message(uint16_t type, uint16_t flags, std::string label) {
    nfgenmsg header{.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0, .res_id = 0};
    return NetlinkMessage::make(static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type), flags,
                                std::move(label), header);
}

static std::array<char, IFNAMSIZ> link_key(std::string_view link) {
    CHECK(link.size() < IFNAMSIZ);
    std::array<char, IFNAMSIZ> key{}; // compared whole: the rest is zeros
    link.copy(key.data(), key.size() - 1);
    return key;
}

static void put_verdict(AttributeWriter& out, uint16_t attribute, int32_t code, std::string_view chain) {
    out.nest(attribute, [&](auto& data) {
        data.nest(NFTA_DATA_VERDICT, [&](auto& verdict) {
            verdict.network_number(NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
            if (!chain.empty()) verdict.text(NFTA_VERDICT_CHAIN, chain);
        });
    });
}

// --- a rule's expressions

template <typename Body>
Rule& Rule::expression(std::string_view name, Body&& body) {
    expressions_.nest(NFTA_LIST_ELEM, [&](auto& element) {
        element.text(NFTA_EXPR_NAME, name);
        element.nest(NFTA_EXPR_DATA, body);
    });
    return *this;
}

Rule& Rule::load_meta(uint32_t key) {
    return expression("meta", [&](auto& data) {
        data.network_number(NFTA_META_DREG, kReg).network_number(NFTA_META_KEY, key);
    });
}

Rule& Rule::load_payload(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t reg) {
    return expression("payload", [&](auto& data) {
        data.network_number(NFTA_PAYLOAD_DREG, reg)
            .network_number(NFTA_PAYLOAD_BASE, base)
            .network_number(NFTA_PAYLOAD_OFFSET, offset)
            .network_number(NFTA_PAYLOAD_LEN, bytes);
    });
}

// value: as it stands in the register, that is in the packet's or the kernel's own byte order.
template <typename T>
Rule& Rule::compare(uint32_t operation, T value) {
    return expression("cmp", [&](auto& data) {
        data.network_number(NFTA_CMP_SREG, kReg).network_number(NFTA_CMP_OP, operation);
        data.nest(NFTA_CMP_DATA,
                  [&](auto& inner) { inner.bytes(NFTA_DATA_VALUE, std::as_bytes(std::span(&value, 1))); });
    });
}

Rule& Rule::mask(uint32_t bits, uint32_t bytes) {
    return mask(std::as_bytes(std::span(&bits, 1)).first(bytes));
}

Rule& Rule::mask(std::span<const std::byte> bits) {
    std::vector<std::byte> zeros(bits.size());
    return expression("bitwise", [&](auto& data) {
        auto part = [&](uint16_t type, std::span<const std::byte> value) {
            data.nest(type, [&](auto& inner) { inner.bytes(NFTA_DATA_VALUE, value); });
        };
        data.network_number(NFTA_BITWISE_SREG, kReg)
            .network_number(NFTA_BITWISE_DREG, kReg)
            .network_number(NFTA_BITWISE_LEN, static_cast<uint32_t>(bits.size()));
        part(NFTA_BITWISE_MASK, bits);
        part(NFTA_BITWISE_XOR, zeros);
    });
}

Rule& Rule::immediate(uint32_t reg, uint32_t value, uint32_t bytes) {
    return expression("immediate", [&](auto& data) {
        data.network_number(NFTA_IMMEDIATE_DREG, reg);
        data.nest(NFTA_IMMEDIATE_DATA, [&](auto& inner) {
            inner.bytes(NFTA_DATA_VALUE, std::as_bytes(std::span(&value, 1)).first(bytes));
        });
    });
}

Rule& Rule::look_up(std::string_view set, uint32_t flags, bool verdict) {
    return expression("lookup", [&](auto& data) {
        data.text(NFTA_LOOKUP_SET, set).network_number(NFTA_LOOKUP_SREG, kReg);
        if (verdict) data.network_number(NFTA_LOOKUP_DREG, uint32_t{NFT_REG_VERDICT});
        if (flags) data.network_number(NFTA_LOOKUP_FLAGS, flags);
    });
}

// --- matches

Rule& Rule::in_set(bool input, std::string_view set, bool negated) {
    return load_meta(input ? NFT_META_IIFNAME : NFT_META_OIFNAME)
        .look_up(set, negated ? NFT_LOOKUP_F_INV : 0, false);
}

Rule& Rule::ipv4() {
    CHECK(!ipv6_);
    if (std::exchange(ipv4_, true)) return *this;
    return load_meta(NFT_META_NFPROTO).compare(NFT_CMP_EQ, uint8_t{NFPROTO_IPV4});
}

Rule& Rule::ipv6() {
    CHECK(!ipv4_);
    if (std::exchange(ipv6_, true)) return *this;
    return load_meta(NFT_META_NFPROTO).compare(NFT_CMP_EQ, uint8_t{NFPROTO_IPV6});
}

Rule& Rule::protocol(uint8_t number) {
    CHECK(protocol_ == 0);
    protocol_ = number;
    return load_meta(NFT_META_L4PROTO).compare(NFT_CMP_EQ, number);
}

Rule& Rule::protocol_once(uint8_t number) { return protocol_ == number ? *this : protocol(number); }

constexpr uint32_t kIp4Source = 12, kIp4Destination = 16, kIp6HopLimit = 7, kIp6Source = 8;

Rule& Rule::ip_source(Ip4 address) { return ip_source(Prefix4{address, 32}); }
Rule& Rule::ip_destination(Ip4 address) { return ip_destination(Prefix4{address, 32}); }

Rule& Rule::ip_source(Prefix4 network) {
    ipv4().load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp4Source, 4, kReg);
    if (network.length < 32) mask(network_order(network.mask()), 4);
    return compare(NFT_CMP_EQ, network_order(network.address.value));
}

Rule& Rule::ip_destination(Prefix4 network) {
    ipv4().load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp4Destination, 4, kReg);
    if (network.length < 32) mask(network_order(network.mask()), 4);
    return compare(NFT_CMP_EQ, network_order(network.address.value));
}

Rule& Rule::ip_destination_between(Ip4 first, Ip4 last) {
    ipv4().load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp4Destination, 4, kReg);
    return compare(NFT_CMP_GTE, network_order(first.value)).compare(NFT_CMP_LTE, network_order(last.value));
}

Rule& Rule::udp_destination_port(uint16_t port) {
    protocol_once(IPPROTO_UDP).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, kReg);
    return compare(NFT_CMP_EQ, network_order(port));
}

Rule& Rule::tcp_destination_port(uint16_t port) {
    protocol_once(IPPROTO_TCP).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, kReg);
    return compare(NFT_CMP_EQ, network_order(port));
}

Rule& Rule::udp_source_port(uint16_t port) {
    protocol_once(IPPROTO_UDP).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, kReg);
    return compare(NFT_CMP_EQ, network_order(port));
}

Rule& Rule::tcp_destination_in(std::string_view set) {
    ipv4().protocol_once(IPPROTO_TCP);
    load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp4Destination, 4, kReg);
    load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, kReg2);
    return look_up(set, 0, false);
}

Rule& Rule::tcp_syn() {
    constexpr uint8_t kFlagsOffset = 13, kSyn = 0x02, kFinSynRstAck = 0x17;
    protocol_once(IPPROTO_TCP).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, kFlagsOffset, 1, kReg);
    return mask(kFinSynRstAck, 1).compare(NFT_CMP_EQ, kSyn);
}

Rule& Rule::icmp_type(uint8_t type) {
    ipv4().protocol_once(IPPROTO_ICMP).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, kReg);
    return compare(NFT_CMP_EQ, type);
}

Rule& Rule::icmpv6_types(uint8_t first, uint8_t last) {
    ipv6().protocol_once(IPPROTO_ICMPV6).load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, kReg);
    if (first == last) return compare(NFT_CMP_EQ, first);
    return compare(NFT_CMP_GTE, first).compare(NFT_CMP_LTE, last);
}

Rule& Rule::ip6_source(const Prefix6& network) {
    std::array<uint8_t, 16> ones{}, masked = network.address.bytes;
    for (size_t bit = 0; bit < network.length; bit++)
        ones[bit / 8] = static_cast<uint8_t>(ones[bit / 8] | 0x80 >> bit % 8);
    for (size_t i = 0; i < ones.size(); i++) masked[i] &= ones[i];
    return ipv6()
        .load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp6Source, 16, kReg)
        .mask(std::as_bytes(std::span(ones)))
        .compare(NFT_CMP_EQ, masked);
}

Rule& Rule::hop_limit(uint8_t value) {
    return ipv6().load_payload(NFT_PAYLOAD_NETWORK_HEADER, kIp6HopLimit, 1, kReg).compare(NFT_CMP_EQ, value);
}

Rule& Rule::ct_state(uint32_t any_of) {
    expression("ct", [&](auto& data) {
        data.network_number(NFTA_CT_DREG, kReg).network_number(NFTA_CT_KEY, uint32_t{NFT_CT_STATE});
    });
    return mask(any_of, 4).compare(NFT_CMP_NEQ, uint32_t{0});
}

Rule& Rule::mark(uint32_t value) { return load_meta(NFT_META_MARK).compare(NFT_CMP_EQ, value); }
Rule& Rule::socket_uid(uint32_t uid) { return load_meta(NFT_META_SKUID).compare(NFT_CMP_EQ, uid); }

Rule& Rule::rate(uint64_t per_second, uint32_t burst, bool over) {
    return expression("limit", [&](auto& data) {
        data.network_number(NFTA_LIMIT_RATE, per_second)
            .network_number(NFTA_LIMIT_UNIT, uint64_t{1})
            .network_number(NFTA_LIMIT_BURST, burst)
            .network_number(NFTA_LIMIT_TYPE, uint32_t{NFT_LIMIT_PKTS})
            .network_number(NFTA_LIMIT_FLAGS, over ? uint32_t{NFT_LIMIT_F_INV} : 0);
    });
}

Rule& Rule::connections_over(uint32_t count) {
    return expression("connlimit", [&](auto& data) {
        data.network_number(NFTA_CONNLIMIT_COUNT, count)
            .network_number(NFTA_CONNLIMIT_FLAGS, uint32_t{NFT_CONNLIMIT_F_INV});
    });
}

// --- what is done

Rule& Rule::count() {
    return expression("counter", [](auto&) {});
}

Rule& Rule::count(std::string_view counter) {
    return expression("objref", [&](auto& data) {
        data.network_number(NFTA_OBJREF_IMM_TYPE, uint32_t{NFT_OBJECT_COUNTER})
            .text(NFTA_OBJREF_IMM_NAME, counter);
    });
}

Rule& Rule::log(uint16_t group, std::string_view prefix, uint32_t bytes) {
    return expression("log", [&](auto& data) {
        data.network_number(NFTA_LOG_GROUP, group)
            .text(NFTA_LOG_PREFIX, prefix)
            .network_number(NFTA_LOG_SNAPLEN, bytes);
    });
}

Rule& Rule::set_mark(uint32_t value) {
    return immediate(kReg, value, 4).expression("meta", [](auto& data) {
        data.network_number(NFTA_META_SREG, kReg).network_number(NFTA_META_KEY, uint32_t{NFT_META_MARK});
    });
}

Rule& Rule::no_tracking() {
    return expression("notrack", [](auto&) {});
}

Rule& Rule::to_proxy(Ip4 listener, uint16_t port) {
    CHECK(ipv4_ && protocol_ == IPPROTO_TCP);
    immediate(kReg, network_order(listener.value), 4).immediate(kReg2, network_order(port), 2);
    return expression("tproxy", [](auto& data) {
        data.network_number(NFTA_TPROXY_FAMILY, uint32_t{NFPROTO_IPV4})
            .network_number(NFTA_TPROXY_REG_ADDR, kReg)
            .network_number(NFTA_TPROXY_REG_PORT, kReg2);
    });
}

Rule& Rule::by_link(bool input, std::string_view map) {
    return load_meta(input ? NFT_META_IIFNAME : NFT_META_OIFNAME).look_up(map, 0, true);
}

static int32_t verdict_code(Verdict verdict) {
    switch (verdict) {
    case Verdict::Accept:
        return NF_ACCEPT;
    case Verdict::Drop:
        return NF_DROP;
    case Verdict::Return:
        return NFT_RETURN;
    case Verdict::Jump:
        return NFT_JUMP;
    case Verdict::Goto:
        return NFT_GOTO;
    }
    return NF_DROP;
}

Rule& Rule::verdict(Verdict verdict, std::string_view chain) {
    CHECK(chain.empty() == (verdict != Verdict::Jump && verdict != Verdict::Goto));
    return expression("immediate", [&](auto& data) {
        data.network_number(NFTA_IMMEDIATE_DREG, uint32_t{NFT_REG_VERDICT});
        put_verdict(data, NFTA_IMMEDIATE_DATA, verdict_code(verdict), chain);
    });
}

NetlinkMessage Rule::message() const {
    auto message =
        nft_message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, cat("rule in ", chain_, ": ", comment_));
    message.body.text(NFTA_RULE_TABLE, kTable).text(NFTA_RULE_CHAIN, chain_);
    message.body.nest(NFTA_RULE_EXPRESSIONS, [&](auto& list) { list.raw(expressions_.view()); });
    std::vector<std::byte> userdata{std::byte{kUserdataComment}, static_cast<std::byte>(comment_.size() + 1)};
    CHECK(comment_.size() < 128);
    auto text = std::as_bytes(std::span(comment_.c_str(), comment_.size() + 1));
    userdata.insert(userdata.end(), text.begin(), text.end());
    message.body.bytes(NFTA_RULE_USERDATA, userdata);
    return message;
}

// --- objects

namespace nft {

NetlinkMessage add_table() {
    auto message = nft_message(NFT_MSG_NEWTABLE, NLM_F_CREATE, "add the table");
    message.body.text(NFTA_TABLE_NAME, kTable).network_number(NFTA_TABLE_FLAGS, uint32_t{0});
    return message;
}

NetlinkMessage delete_table() {
    auto message = nft_message(NFT_MSG_DELTABLE, 0, "remove the old table");
    message.body.text(NFTA_TABLE_NAME, kTable);
    return message;
}

NetlinkMessage add_chain(std::string_view name) {
    auto message = nft_message(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, cat("add chain ", name));
    message.body.text(NFTA_CHAIN_TABLE, kTable).text(NFTA_CHAIN_NAME, name);
    return message;
}

NetlinkMessage add_base_chain(std::string_view name, const Hook& hook) {
    auto message = add_chain(name);
    message.body
        .nest(NFTA_CHAIN_HOOK,
              [&](auto& body) {
                  body.network_number(NFTA_HOOK_HOOKNUM, hook.number)
                      .network_number(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(hook.priority));
              })
        .network_number(NFTA_CHAIN_POLICY, hook.drop ? uint32_t{NF_DROP} : uint32_t{NF_ACCEPT})
        .text(NFTA_CHAIN_TYPE, "filter");
    return message;
}

NetlinkMessage delete_rules(std::string_view chain) {
    auto message = nft_message(NFT_MSG_DELRULE, 0, cat("remove the rules of ", chain));
    message.body.text(NFTA_RULE_TABLE, kTable).text(NFTA_RULE_CHAIN, chain);
    return message;
}

NetlinkMessage delete_chain(std::string_view name) {
    auto message = nft_message(NFT_MSG_DELCHAIN, 0, cat("remove chain ", name));
    message.body.text(NFTA_CHAIN_TABLE, kTable).text(NFTA_CHAIN_NAME, name);
    return message;
}

static NetlinkMessage counter(uint16_t type, uint16_t flags, std::string_view verb, std::string_view name) {
    auto message = nft_message(type, flags, cat(verb, " counter ", name));
    message.body.text(NFTA_OBJ_TABLE, kTable)
        .text(NFTA_OBJ_NAME, name)
        .network_number(NFTA_OBJ_TYPE, uint32_t{NFT_OBJECT_COUNTER});
    return message;
}

NetlinkMessage add_counter(std::string_view name) {
    auto message = counter(NFT_MSG_NEWOBJ, NLM_F_CREATE | NLM_F_EXCL, "add", name);
    message.body.nest(NFTA_OBJ_DATA, [](auto&) {});
    return message;
}

NetlinkMessage delete_counter(std::string_view name) { return counter(NFT_MSG_DELOBJ, 0, "remove", name); }
NetlinkMessage read_counter(std::string_view name) { return counter(NFT_MSG_GETOBJ, 0, "read", name); }

struct Key {
    uint32_t type = 0, bytes = 0;
};

static NetlinkMessage add_set(std::string_view name, uint32_t id, Key key, uint32_t flags) {
    auto message = nft_message(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, cat("add set ", name));
    message.body.text(NFTA_SET_TABLE, kTable)
        .text(NFTA_SET_NAME, name)
        .network_number(NFTA_SET_FLAGS, flags)
        .network_number(NFTA_SET_KEY_TYPE, key.type)
        .network_number(NFTA_SET_KEY_LEN, key.bytes)
        .network_number(NFTA_SET_ID, id);
    return message;
}

// Without it nft(8) takes a link's name for a number and shows an empty one.
static void note_key_order(NetlinkMessage& message) {
    constexpr std::array<uint8_t, 2> kKeyOrder{0, 4}; // type and length
    constexpr uint32_t kHostOrder = 1;
    std::vector<std::byte> userdata(6);
    std::memcpy(userdata.data(), kKeyOrder.data(), kKeyOrder.size());
    std::memcpy(userdata.data() + kKeyOrder.size(), &kHostOrder, sizeof kHostOrder);
    message.body.bytes(NFTA_SET_USERDATA, userdata);
}

NetlinkMessage add_link_set(std::string_view name, uint32_t id) {
    auto message = add_set(name, id, {kTypeIfname, IFNAMSIZ}, 0);
    note_key_order(message);
    return message;
}

NetlinkMessage add_link_map(std::string_view name, uint32_t id) {
    auto message = add_set(name, id, {kTypeIfname, IFNAMSIZ}, NFT_SET_MAP);
    message.body.network_number(NFTA_SET_DATA_TYPE, uint32_t{NFT_DATA_VERDICT})
        .network_number(NFTA_SET_DATA_LEN, uint32_t{0});
    note_key_order(message);
    return message;
}

NetlinkMessage add_endpoint_set(std::string_view name, uint32_t id, size_t size) {
    auto message = add_set(name, id, {kTypeEndpoint, 8}, NFT_SET_CONCAT);
    message.body.nest(NFTA_SET_DESC, [&](auto& description) {
        description.network_number(NFTA_SET_DESC_SIZE, static_cast<uint32_t>(size));
        description.nest(NFTA_SET_DESC_CONCAT, [](auto& fields) {
            for (uint32_t bytes : {4u, 2u}) {
                fields.nest(NFTA_LIST_ELEM,
                            [&](auto& field) { field.network_number(NFTA_SET_FIELD_LEN, bytes); });
            }
        });
    });
    return message;
}

NetlinkMessage delete_set(std::string_view name) {
    auto message = nft_message(NFT_MSG_DELSET, 0, cat("remove set ", name));
    message.body.text(NFTA_SET_TABLE, kTable).text(NFTA_SET_NAME, name);
    return message;
}

template <typename Elements>
static NetlinkMessage elements(bool add, std::string label, std::string_view set, Elements&& body) {
    auto message =
        nft_message(add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0, std::move(label));
    message.body.text(NFTA_SET_ELEM_LIST_TABLE, kTable).text(NFTA_SET_ELEM_LIST_SET, set);
    message.body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, body);
    return message;
}

static NetlinkMessage link_element(bool add, std::string_view set, std::string_view link,
                                   std::string_view chain) {
    auto label = cat(add ? "add " : "remove ", link, add ? " to " : " from ", set);
    return elements(add, std::move(label), set, [&](auto& list) {
        list.nest(NFTA_LIST_ELEM, [&](auto& element) {
            element.nest(NFTA_SET_ELEM_KEY, [&](auto& key) {
                auto name = link_key(link);
                key.bytes(NFTA_DATA_VALUE, std::as_bytes(std::span(name)));
            });
            if (!chain.empty()) put_verdict(element, NFTA_SET_ELEM_DATA, NFT_GOTO, chain);
        });
    });
}

NetlinkMessage add_link(std::string_view set, std::string_view link) {
    return link_element(true, set, link, {});
}
NetlinkMessage delete_link(std::string_view set, std::string_view link) {
    return link_element(false, set, link, {});
}
NetlinkMessage map_link(std::string_view map, std::string_view link, std::string_view go_to_chain) {
    return link_element(true, map, link, go_to_chain);
}
NetlinkMessage unmap_link(std::string_view map, std::string_view link, std::string_view go_to_chain) {
    return link_element(false, map, link, go_to_chain);
}

NetlinkMessage delete_elements(std::string_view set) {
    auto message = nft_message(NFT_MSG_DELSETELEM, 0, cat("empty ", set));
    message.body.text(NFTA_SET_ELEM_LIST_TABLE, kTable).text(NFTA_SET_ELEM_LIST_SET, set);
    return message;
}

NetlinkMessage add_endpoints(std::string_view set, std::span<const Endpoint4> endpoints) {
    return elements(true, cat("fill ", set), set, [&](auto& list) {
        for (const auto& endpoint : endpoints) {
            struct { // one field a register, each padded to four bytes
                uint32_t address;
                uint16_t port, padding;
            } key{network_order(endpoint.address.value), network_order(endpoint.port), 0};
            list.nest(NFTA_LIST_ELEM, [&](auto& element) {
                element.nest(NFTA_SET_ELEM_KEY, [&](auto& data) {
                    data.bytes(NFTA_DATA_VALUE, std::as_bytes(std::span(&key, 1)));
                });
            });
        }
    });
}

Result<Count> parse_counter(const NetlinkView& view) {
    auto attributes = TRY(Attributes::parse(view.after(sizeof(nfgenmsg))));
    auto data = TRY(attributes.nested(NFTA_OBJ_DATA));
    auto packets = data.network_number<uint64_t>(NFTA_COUNTER_PACKETS);
    auto bytes = data.network_number<uint64_t>(NFTA_COUNTER_BYTES);
    if (!packets || !bytes) return error("the kernel's answer has no counter");
    return Count{*packets, *bytes};
}

} // namespace nft
} // namespace nullbox::egress
