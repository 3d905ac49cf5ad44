#include "egress/net/netlink.h"

#include <algorithm>
#include <linux/netlink.h>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::egress {

static size_t aligned(size_t size) { return (size + 3) & ~size_t{3}; }

static_assert(AttributeWriter::kNested == NLA_F_NESTED);

// --- writing

AttributeWriter& AttributeWriter::raw(std::span<const std::byte> value) {
    out_.insert(out_.end(), value.begin(), value.end());
    out_.resize(aligned(out_.size()));
    return *this;
}

AttributeWriter& AttributeWriter::bytes(uint16_t type, std::span<const std::byte> value) {
    size_t start = begin(type);
    out_.insert(out_.end(), value.begin(), value.end());
    end(start);
    return *this;
}

AttributeWriter& AttributeWriter::text(uint16_t type, std::string_view value) {
    std::string terminated(value);
    return bytes(type, std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)));
}

size_t AttributeWriter::begin(uint16_t type) {
    nlattr header{.nla_len = 0, .nla_type = type};
    size_t start = out_.size();
    raw(std::as_bytes(std::span(&header, 1)));
    return start;
}

void AttributeWriter::end(size_t start) {
    size_t length = out_.size() - start;
    CHECK(length <= UINT16_MAX);
    auto length16 = static_cast<uint16_t>(length);
    std::memcpy(out_.data() + start + offsetof(nlattr, nla_len), &length16, sizeof length16);
    out_.resize(aligned(out_.size()));
}

void NetlinkMessage::append_to(std::vector<std::byte>& out, uint32_t sequence, uint16_t more_flags) const {
    nlmsghdr header{.nlmsg_len = static_cast<uint32_t>(sizeof(nlmsghdr) + body.view().size()),
                    .nlmsg_type = type,
                    .nlmsg_flags = static_cast<uint16_t>(flags | more_flags | NLM_F_REQUEST),
                    .nlmsg_seq = sequence,
                    .nlmsg_pid = 0};
    auto bytes = std::as_bytes(std::span(&header, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
    out.insert(out.end(), body.view().begin(), body.view().end()); // always a multiple of 4
}

// --- reading

std::span<const std::byte> NetlinkView::after(size_t header_bytes) const {
    return payload.subspan(std::min(aligned(header_bytes), payload.size()));
}

Result<std::vector<NetlinkView>> split_datagram(std::span<const std::byte> datagram) {
    std::vector<NetlinkView> views;
    while (!datagram.empty()) {
        nlmsghdr header{};
        if (datagram.size() < sizeof header) return error("netlink datagram ends inside a header");
        std::memcpy(&header, datagram.data(), sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size())
            return error(cat("netlink message of ", header.nlmsg_len, " bytes in ", datagram.size()));
        views.push_back({.type = header.nlmsg_type,
                         .flags = header.nlmsg_flags,
                         .sequence = header.nlmsg_seq,
                         .port = header.nlmsg_pid,
                         .payload = datagram.first(header.nlmsg_len).subspan(sizeof header)});
        datagram = datagram.subspan(std::min(aligned(header.nlmsg_len), datagram.size()));
    }
    return views;
}

Result<Attributes> Attributes::parse(std::span<const std::byte> bytes) {
    Attributes out;
    while (!bytes.empty()) {
        nlattr header{};
        if (bytes.size() < sizeof header) return error("netlink attributes end inside a header");
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.nla_len < sizeof header || header.nla_len > bytes.size())
            return error(cat("netlink attribute of ", header.nla_len, " bytes in ", bytes.size()));
        if (out.all_.size() == kMaxAttributes)
            return error(cat("more than ", kMaxAttributes, " netlink attributes"));
        out.all_.push_back({.type = static_cast<uint16_t>(header.nla_type & NLA_TYPE_MASK),
                            .value = bytes.first(header.nla_len).subspan(sizeof header)});
        bytes = bytes.subspan(std::min(aligned(header.nla_len), bytes.size()));
    }
    return out;
}

std::optional<std::span<const std::byte>> Attributes::find(uint16_t type) const {
    auto found = std::ranges::find(all_, type, &Attribute::type);
    if (found == all_.end()) return std::nullopt;
    return found->value;
}

std::string Attributes::text(uint16_t type) const {
    auto value = find(type);
    if (!value) return {};
    std::string_view text(reinterpret_cast<const char*>(value->data()), value->size());
    return std::string(text.substr(0, text.find('\0')));
}

Result<Attributes> Attributes::nested(uint16_t type) const {
    auto value = find(type);
    if (!value) return Attributes();
    return parse(*value);
}

Result<NetlinkAck> parse_ack(const NetlinkView& view) {
    auto header = view.header<nlmsgerr>();
    if (view.type != NLMSG_ERROR || !header) return error("netlink acknowledgement is cut short");
    if (header->error > 0 || header->error < -4095)
        return error(cat("netlink acknowledgement with error ", header->error));
    NetlinkAck ack{.error = -header->error, .sequence = header->msg.nlmsg_seq};
    if (!(view.flags & NLM_F_ACK_TLVS)) return ack;
    // Without NLM_F_CAPPED the whole request stands between the header and the attributes.
    size_t skip = sizeof(nlmsgerr);
    if (!(view.flags & NLM_F_CAPPED)) {
        if (header->msg.nlmsg_len < sizeof(nlmsghdr)) return error("netlink acknowledgement of nothing");
        skip += size_t{header->msg.nlmsg_len} - sizeof(nlmsghdr);
    }
    if (auto attributes = Attributes::parse(view.after(skip)))
        ack.text = printable(attributes->text(NLMSGERR_ATTR_MSG), 256);
    return ack;
}

} // namespace nullbox::egress
