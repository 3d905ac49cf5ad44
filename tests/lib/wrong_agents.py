"""AGENT.toml documents that are right but for one line, and what the diagnostic of that line must say."""

RIGHT_AGENT = {"[agent]": {"name": None, "version": '"1"', "image": '"hello"', "command": '["/hello"]',
                           "start": '"manual"'},
               "[capabilities]": {"max_cpu_percent": "100", "max_memory_mb": "64"}}
# (table, key, its wrong value or None for missing, what the diagnostic must say)
WRONG_AGENT_KEYS = [
    ("[agent]", "name", None, "name"), ("[agent]", "name", "7", "text"), ("[agent]", "name", '"Two Words"', "name"),
    ("[agent]", "version", None, "version"), ("[agent]", "version", "1.0", "text"),
    ("[agent]", "image", None, "image"), ("[agent]", "image", "[]", "text"), ("[agent]", "image", '"../x"', "image"),
    ("[agent]", "command", '"/hello"', "list"),
    ("[agent]", "command", "[]", "command"),
    ("[agent]", "user", '"root"', "number"), ("[agent]", "user", "-1", "0"),
    ("[agent]", "group", "1.5", "number"),
    ("[agent]", "working_directory", '"x"', "absolute"),
    ("[agent]", "environment", '"A=B"', "table"),
    ("[agent]", "start", '"later"', "boot"),
    ("[agent]", "restart", "true", "always"),
    ("[agent]", "colour", '"red"', "colour"),
    ("[capabilities]", "max_cpu_percent", "0", "1"), ("[capabilities]", "max_cpu_percent", '"all"', "number"),
    ("[capabilities]", "max_memory_mb", "63", "64"), ("[capabilities]", "max_memory_mb", "65537", "65536"),
    ("[capabilities]", "max_memory_mb", '"1G"', "number"),
    ("[capabilities.network]", "allow", '["not a host"]', "allow"),
    ("[capabilities.filesystem]", "read", '["/../../vault"]', "read"),
    ("[capabilities.filesystem]", "write", '"x"', "list"),
    ("[health_check]", "port", '"http"', "number"),
]


def agent_with(name: str, table: str, key: str, value: str | None) -> bytes:
    tables = {title: dict(keys) for title, keys in RIGHT_AGENT.items()}
    tables["[agent]"]["name"] = f'"{name}"'
    if table == "[health_check]":
        tables[table] = {"kind": '"tcp"'}
    keys = tables.setdefault(table, {})
    if value is None:
        del keys[key]
    else:
        keys[key] = value
    lines = []
    for title, keys in tables.items():
        lines += [title, *(f"{name} = {text}" for name, text in keys.items())]
    return "\n".join(lines).encode() + b"\n"
