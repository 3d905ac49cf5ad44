"""Who is where in the lab, as the lab builds it and as a hijacked agent would know it."""

# What the manifest of the hijacked agent names.
API, KEYED, OLD = "api.lab.test", "keyed.lab.test", "old.lab.test"
CONTROL, TCP = "control.lab.test", "tcp.lab.test"
CONTROL_PORT, TCP_PORT = 7000, 9000
RULED = "ruled.lab.test"          # of it the manifest allows a few requests
RULES = [{"host": RULED, "methods": ["GET", "HEAD"], "paths": ["/asked", "/open/*"]}]
WILD = "wild.lab.test"            # only names below it
NAS = "nas.lab.test"              # on the LAN, and allowed to be
LITERAL, LITERAL_PORT = "11.22.33.99", 5432
REBIND, MANY, SHORT = "rebind.lab.test", "many.lab.test", "short.lab.test"
# Names that the manifest lists, and whose DNS is in the wrong hands: what they resolve to, by kind of address.
CLASSES = {"private": "10.0.0.7", "private-172": "172.16.3.4", "private-192": "192.168.7.7", "link-local": "169.254.1.1",
           "metadata": "169.254.169.254", "metadata-container": "169.254.170.2", "metadata-azure": "168.63.129.16",
           "metadata-alibaba": "100.100.100.200", "loopback": "127.0.0.1", "loopback-other": "127.99.0.1",
           "own": "9.8.7.2", "multicast": "224.0.0.5", "carrier": "100.64.0.1", "zero": "0.0.0.0",
           "agents": "198.18.4.2", "broadcast": "255.255.255.255", "reserved": "240.0.0.9",
           "v6-metadata": "fd00:ec2::254", "v6-loopback": "::1", "v6-mapped": "::ffff:10.0.0.7",
           "v6-nat64": "64:ff9b::a00:7", "v6-unique-local": "fd12:3456::7", "v6-link-local": "fe80::1",
           "v6-6to4": "2002:a00:7::1"}

ALLOW = [API, KEYED, OLD, RULED, f"{CONTROL}:{CONTROL_PORT}", f"{TCP}:{TCP_PORT}", f"*.{WILD}", NAS, f"{LITERAL}:{LITERAL_PORT}",
         f"{API}:22", REBIND, MANY, SHORT, *(f"class-{kind}.lab.test" for kind in CLASSES)]
ALLOW_PRIVATE = [NAS]

# The outside.
ORIGIN, OLD_ORIGIN, CONTROL_ADDRESS = "11.22.33.44", "11.22.33.45", "11.22.33.46"
NAS_ADDRESS = "10.0.0.9"
NEIGHBOUR = "neighbour.lab.test"  # same address, same certificate as API; no manifest names it
EVIL, EVIL_ADDRESS = "evil.test", "66.66.66.66"
LAN_HOST, METADATA, PUBLIC_DNS = "10.0.0.7", "169.254.169.254", "8.8.8.8"
METADATA6, EVIL6 = "fd00:ec2::254", "2606:4700::6666"
BOX, GATEWAY, DNS = "9.8.7.2", "9.8.7.1", "9.9.9.53"
GATE_PORT, PROXY_PORT = 8443, 15001
