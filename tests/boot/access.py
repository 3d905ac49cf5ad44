"""Who may ask whom, tried out: every method of every service, as every caller there is. The table is written down here a
second time on purpose (docs/architecture.md has it for people); a method that is not in it is a failure.
"""
import re

from box import Refused
from tap import expect

CALLERS = {"root": 0, "egress": 101, "warden": 102, "cage": 103, "ctxgraph": 104, "gate": 105, "a stranger": 110,
           "a VM process": 200_001}
OPERATORS = {"root", "gate"}  # root is nulld itself, and the tests' own probe

MAY = {
    "nulld": {method: OPERATORS for method in (
        "Status", "StartService", "StopService", "RestartService", "Logs", "Reboot", "PowerOff", "Halt")},
    "cage": {method: OPERATORS for method in ("List", "Status", "Inspect", "ListImages", "Logs", "Start", "Stop", "Pause",
                                              "Resume")} |
            {method: {"gate"} for method in ("Restart", "Reload", "Remove", "RemoveImage", "BeginUpload", "CommitUpload",
                                             "AbortUpload", "Exec", "Copy")},
    "egress": {"Attach": {"cage"}, "Update": {"cage"}, "Detach": {"cage"}, "Status": {"cage", "gate"}, "Denials": {"gate"},
               "Records": {"gate"}, "Explain": {"gate"}},
    "warden": {"State": {"cage", "gate"}, "Watch": {"cage", "gate"}, "Injection": {"egress"}, "Exposed": {"cage"}} |
              {method: {"gate"} for method in ("Init", "Unlock", "Lock", "ChangePassphrase", "Set", "List", "Delete", "Grant",
                                               "Revoke", "Grants", "Uses")},
    "ctxgraph": {"Serve": {"cage"}} | {method: {"gate"} for method in ("Put", "Get", "Query", "History", "Search", "Watch",
                                                                       "Namespaces", "Status")},
    "gate": {"Status": {"gate"}, "WhoAmI": {"gate"}},
}
# Not tried by those who may: the machine would go.
FINAL = {("nulld", "Reboot"), ("nulld", "PowerOff"), ("nulld", "Halt")}


def may(root, uid: int, service: str, method: str) -> bool:
    """Without parameters, so that whoever may gets no further than to be told what is missing."""
    try:
        root.call_as(uid, f"io.nullbox.{service}.{method}")
    except Refused as refused:
        return "ermission" not in str(refused) and "NotAllowed" not in str(refused)
    return True


def methods(root, service: str) -> list[str]:
    name = f"io.nullbox.{service}"
    text = root.call("org.varlink.service.GetInterfaceDescription", {"interface": name}, f"/run/{service}/{service}.sock")
    return re.findall(r"^method (\w+)", text["description"], re.M)


def as_the_table_says(root, service: str) -> str:
    known = methods(root, service)
    expect(set(known) == set(MAY[service]), f"methods and table differ: {set(known) ^ set(MAY[service])}")
    wrong, tried = [], 0
    for method in known:
        for caller, uid in CALLERS.items():
            allowed = caller in MAY[service][method]
            if allowed and (service, method) in FINAL:
                continue
            tried += 1
            if may(root, uid, service, method) != allowed:
                wrong.append(f"{caller} {'may not' if allowed else 'may'} call {method}")
    expect(not wrong, "; ".join(wrong))
    return f"{tried} tries"
