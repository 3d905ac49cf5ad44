"""Imported images in guests: an OCI archive that says how it is run, under a manifest that does not; a tar of one program and
nothing else. Their only program is Debian's static busybox, which no boot file of ours has.
"""
import hashlib
import io
import json
import subprocess
import tarfile
import time
from pathlib import Path

import nullctl
import variants
from box import Box
from tap import Suite, equal, expect

CAGE = "io.nullbox.cage"
START_LIMIT_S = 90
BUSYBOX = Path("/bin/busybox")
# What a program of an ordinary image takes for granted, each answered in a line.
SCRIPT = """
echo "who $(id -u):$(id -g) in $PWD says $GREETING and $ANSWER"
echo "capable $(cat /removed 2>/dev/null || echo gone) $(stat -c %a /bin/special)"
for place in /dev/null /dev/zero /dev/urandom /dev/pts/ptmx /dev/shm /proc/self/status /sys/kernel /tmp /run /etc/hosts; do
    [ -e $place ] || echo "missing $place"
done
echo x > /tmp/x && echo x > /dev/null && echo x > /srv/work/x && echo "writes $(hostname)"
echo "rests $(cat /proc/sys/vm/compaction_proactiveness)"
"""
MANIFEST = '[agent]\nname = "{0}"\nversion = "1"\nimage = "{0}"\nstart = "manual"\n{1}[capabilities]\nmax_memory_mb = 64\n'
SILENT = "[agent.environment]\nGREETING = \"the manifest\"\n"


def layer(*entries: tuple) -> bytes:
    """(name, content, mode, owner), a folder if content is None."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, mode, owner in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, 1_650_000_000
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def oci_archive(layers: list[bytes], config: dict) -> bytes:
    blobs = {}

    def blob(content: bytes, media_type: str) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(content)}

    document = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers]}}
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(document).encode(), "config.v1+json"),
                "layers": [blob(one, "layer.v1.tar") for one in layers]}
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    files = blobs | {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    return layer(*((name, content, 0o644, 0) for name, content in files.items()))


def imported(folder: Path, name: str, source: bytes) -> bytes:
    archive, target = folder / f"{name}.tar", folder / f"{name}.img"
    archive.write_bytes(source)
    done = subprocess.run([nullctl.PROGRAM, "image", "import", archive, "--output", target], capture_output=True, text=True)
    if done.returncode != 0:
        raise variants.image.ImageError(f"nullctl image import: {done.stderr.strip()}")
    return target.read_bytes()


def agents(folder: Path) -> dict:
    program = BUSYBOX.read_bytes()
    upper = layer((".wh.removed", b"", 0o644, 0), ("run.sh", SCRIPT.encode(), 0o644, 0), ("srv/work", None, 0o755, 77))
    config = {"Entrypoint": ["/bin/busybox", "sh"], "Cmd": ["/run.sh"], "User": "worker", "WorkingDir": "/srv/work",
              "Env": ["GREETING=the image", "ANSWER=42", "PATH=/bin"]}
    # busybox runs its applets by itself only when it is built so; links are sure.
    links = {name: program for name in ("id", "stat", "cat", "hostname")}
    base = layer(("bin/busybox", program, 0o755, 0), *((f"bin/{name}", content, 0o755, 0) for name, content in links.items()),
                 ("etc/passwd", b"worker:x:77:78:w:/srv/work:/bin/sh\n", 0o644, 0), ("removed", b"still here", 0o644, 0),
                 ("bin/special", b"", 0o4711, 0))
    bare = layer(("busybox", program, 0o755, 0))
    return {
        "agent/images/silent.img": imported(folder, "silent", oci_archive([base, upper], config)),
        "agent/images/bare.img": imported(folder, "bare", bare),
        "agent/images/wordless.img": imported(folder, "wordless", bare),
        "agent/images/nobody.img": imported(folder, "nobody", oci_archive([bare], {"Cmd": ["/busybox"], "User": "ghost"})),
        "agent/silent.toml": MANIFEST.format("silent", SILENT).encode(),
        "agent/bare.toml": MANIFEST.format("bare", 'command = ["/busybox", "sh", "-c", "echo one program; echo > /tmp/x; '
                                                   'test -c /dev/null && test -e /etc/hosts && echo enough"]\n').encode(),
        "agent/wordless.toml": MANIFEST.format("wordless", "").encode(),
        "agent/nobody.toml": MANIFEST.format("nobody", "").encode(),
    }


class Images:
    def __init__(self, machine: Box):
        self.box, self.root = machine, machine.root

    def status(self, name: str) -> dict:
        return self.root.call(f"{CAGE}.Status", {"name": name})["agent"]

    def lines(self, name: str) -> list[str]:
        answer = self.root.call(f"{CAGE}.Logs", {"name": name})
        return [line["text"] for line in answer["lines"] if line["stream"] in ("stdout", "stderr")]

    def run(self, name: str) -> dict:
        """Until it has ended."""
        try:
            self.root.call(f"{CAGE}.Start", {"name": name}, limit_s=START_LIMIT_S)
        except Exception as refused:  # noqa: BLE001 (its status says it again)
            print(f"# {name}: {refused}", flush=True)
        deadline = time.monotonic() + START_LIMIT_S
        while (status := self.status(name))["state"] not in ("exited", "failed"):
            expect(time.monotonic() < deadline, f"{name} does not end: {status['describe']}")
            time.sleep(0.5)
        return status

    def says_how_it_is_run(self):
        status = self.run("silent")
        equal(self.lines("silent"), ["who 77:78 in /srv/work says the manifest and 42", "capable gone 4711",
                                     "writes silent", "rests 0"], status["describe"])
        equal(status["exit_code"], 0)

    def one_program(self):
        status = self.run("bare")
        equal(self.lines("bare"), ["one program", "enough"], status["describe"])
        equal(status["exit_code"], 0)

    def no_command(self):
        equal(self.run("wordless")["describe"], "failed: the manifest has no command, and the image names none")

    def unknown_user(self):
        equal(self.run("nobody")["describe"], "failed: the image's user \"ghost\" is not in its /etc/passwd: set user in the "
                                              "manifest")

    def listed(self):
        images = {image["name"]: image for image in self.root.call(f"{CAGE}.ListImages")["images"]}
        equal((images["silent"]["used_by"], images["silent"]["fixed"]), (["silent"], True))
        expect(images["silent"]["bytes"] > 100_000, f"its size is {images['silent']['bytes']}")


def play(suite: Suite, machine: Box) -> None:
    test = Images(machine)
    suite.check("an imported image runs as it says, under a manifest without a command", test.says_how_it_is_run)
    suite.check("an image of one program has all that a guest needs", test.one_program)
    suite.check("no command anywhere is a line in the status", test.no_command)
    suite.check("a user that the image does not know is a line in the status", test.unknown_user)
    suite.check("images are listed with their users", test.listed)
