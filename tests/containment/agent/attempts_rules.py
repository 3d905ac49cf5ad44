"""Ways around what a manifest says of requests and of amounts: paths that two readers understand differently, methods in
disguise, more than the budget. RULED gets GET and HEAD of /asked and of what is below /open, and nothing else; the mark is
where it must not come.
"""
import places
from guest import MARK, vector


def refused(name: str, what: str, text: str, then: str = "", recorded: bool = True) -> None:
    for where in ("clear", "tls"):
        data, more = (part.replace("@", places.RULED).encode("latin-1") for part in (text, then))

        @vector(f"rule-{name}-{where}", f"a rule's host, {'in clear' if where == 'clear' else 'in TLS'}: {what}",
                {"kind": "request", "name": places.RULED} if recorded else None)
        def attempt(guest, where=where, data=data, more=more):
            if where == "clear":
                guest.exchange(places.RULED, 80, data, then=more, limit_s=2)
            else:
                guest.https(places.RULED, data, then=more, limit_s=3)


def path(name: str, what: str, target: str, method: str = "GET") -> None:
    refused(name, what, f"{method} {target} HTTP/1.1\r\nHost: @\r\n\r\n")


path("path", "another path", f"/{MARK}")
path("case", "a path in other letters", f"/OPEN/{MARK}")
path("prefix", "a path that begins like one that is allowed", f"/openly/{MARK}")
path("deeper", "what is below a path that is allowed alone", f"/asked/{MARK}")
path("dots", "dot segments", f"/open/../{MARK}")
path("dots-encoded", "encoded dot segments", f"/open/%2e%2e/{MARK}")
path("dots-half", "a dot segment, half of it encoded", f"/open/.%2E/{MARK}")
path("dots-twice", "dot segments encoded twice", f"/open/%252e%252e/{MARK}")
path("dots-overlong", "dot segments in overlong UTF-8", f"/open/%c0%ae%c0%ae/{MARK}")
path("dots-parameter", "a dot segment with a parameter", f"/open/..;/{MARK}")
path("dots-blank", "a dot segment with a blank behind it", f"/open/..%20/{MARK}")
path("slash-encoded", "encoded slashes", f"/open/..%2f{MARK}")
path("slashes", "two slashes", f"//{MARK}")
path("slashes-inside", "an empty segment", f"/open//../{MARK}")
path("backslash", "backslashes", f"/open\\..\\{MARK}")
path("backslash-encoded", "encoded backslashes", f"/open/..%5c{MARK}")
path("nul", "NUL at the end of the path that is allowed", f"/asked%00/{MARK}")
path("line", "encoded line ends", f"/open/x%0d%0aX:%20{MARK}")
path("fragment", "a fragment", f"/asked#/{MARK}")
path("question", "an encoded question mark", f"/asked%3f{MARK}")
path("absolute", "an absolute URI", f"http://@/{MARK}")
path("star", "a target of one star", "*", f"OPTIONS")
path("method", "another method", f"/open/{MARK}", "POST")
path("method-case", "a method in small letters", f"/open/{MARK}", "get")
path("method-unknown", "a method that nobody knows", f"/open/{MARK}", "PROPFIND")
for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override"):
    refused(f"override-{header.lower()}", f"another method in {header}", f"GET /asked HTTP/1.1\r\nHost: @\r\n{header}: {MARK}\r\n\r\n")
for header in ("X-Original-URL", "X-Rewrite-URL"):
    refused(f"rewrite-{header.lower()}", f"another path in {header}", f"GET /asked HTTP/1.1\r\nHost: @\r\n{header}: /{MARK}\r\n\r\n")
refused("kept", "another path in the second request of a connection", "GET /asked HTTP/1.1\r\nHost: @\r\n\r\n",
        then=f"GET /{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("pipelined", "another path in a request that does not wait",
        f"GET /asked HTTP/1.1\r\nHost: @\r\n\r\nGET /{MARK} HTTP/1.1\r\nHost: @\r\n\r\n")
refused("upgrade", "a WebSocket at another path", f"GET /{MARK} HTTP/1.1\r\nHost: @\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
refused("http2", "HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


# --- more than the budget. Of bytes nothing is here: their end would end the lab's own connection to the agent as well
# (src/egress/proxy_test.cpp has it).

@vector("budget-connections", "many connections, for a budget of 5 an hour", {"kind": "budget"}, budget={"connections": 5})
def many_connections(guest):
    served = sum(b" 200 " in guest.exchange(places.API, 80, f"GET /asked HTTP/1.1\r\nHost: {places.API}\r\n\r\n".encode(), limit_s=2)[:40]
                 for _ in range(9))
    return f"{served} connections were served" if served > 5 else ""


@vector("budget-requests", "many requests on kept connections, for a budget of 5 an hour", {"kind": "budget"}, budget={"requests": 5})
def many_requests(guest):
    request = f"GET /asked HTTP/1.1\r\nHost: {places.API}\r\n\r\n".encode()
    served = 0
    for _ in range(2):
        with guest.connect(places.API, 80, 2) as stream:
            for _ in range(5):
                served += b" 200 " in guest.talk(stream, request, 2)[:40]
    return f"{served} requests were served" if served > 5 else ""
