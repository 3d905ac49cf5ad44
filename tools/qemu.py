"""How NullBox is run in QEMU: the acceleration, the one command line, and a running machine. Used by tools/run, the
tests and the benches, so that all of them run the same machine.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nullbox"
QEMU = "qemu-system-x86_64"
PROBE_LIMIT_S = 10

# The console is virtio: one exit a line, where a serial port takes one for each character. Stage 1 attaches, mounts and
# moves, each of which waits for grace periods; nulld expedites them only from stage 2 on.
KERNEL_COMMAND_LINE = "console=hvc0 quiet kvm.report_ignored_msrs=0 rcupdate.rcu_expedited=1"
# Before its driver is there, a serial port says what goes wrong: a machine with too little memory ends that early. Not by
# default, because the kernel also has things to say there that are no trouble.
EARLY_COMMAND_LINE = "earlyprintk=ttyS0"
# Emulated, the second CPU would spend 100 ms on timing a loop; any figure near MHz * 4000 will do.
# And QEMU may lose an interrupt of a CPU that is about to enter a VM: helper_vmrun() adds to the CPU's requests without a
# lock. Whoever waits for it waits for the next one, and an idle CPU without a tick has none: so there is a tick.
EMULATED_COMMAND_LINE = "lpj=10000000 nohz=off"
# QEMU (7.2, and newer sources) writes to the first CPU's flags whenever another CPU restores its FPU (cpu_clear_ignne() from
# cpu_set_fpus(), not atomic). Between two steps of a VMRUN or #VMEXIT there, that brings back a flag that had just been
# cleared: about one VM in 160 then resets, hangs, or takes the machine with it. So no VM runs on the first CPU: programs
# keep to the others, and there is one more.
SPARE_CPUS = 1


class MachineError(Exception):
    pass


# --- Acceleration

@dataclass
class Acceleration:
    name: str    # "kvm" or "tcg"
    reason: str  # for a person: why this one

    def arguments(self) -> list[str]:
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        # max has SVM, so that the kernel inside has a real /dev/kvm. One thread a vCPU. TCG copies and clears byte by
        # byte where a kernel believes in ERMS and FSRM; without them it takes eight at a time.
        return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-erms,-fsrm"]

    def __str__(self) -> str:
        what = "KVM" if self.name == "kvm" else "TCG (QEMU emulates an AMD processor with SVM)"
        return f"acceleration: {what}: {self.reason}"


def _probe_kvm() -> str:
    """Empty if an ordinary 64-bit guest runs on /dev/kvm and may run guests itself; else why not."""
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user (join the group kvm to use it)"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/kvm_probe"
        compiler = shutil.which("clang++-19") or shutil.which("g++") or "c++"
        built = subprocess.run([compiler, "-O1", "-o", program, str(ROOT / "tools/kvm_probe.cpp")],
                               capture_output=True, text=True)
        if built.returncode != 0:
            return f"the probe did not compile: {built.stderr.strip().splitlines()[0]}"
        try:
            answer = subprocess.run([program], capture_output=True, text=True, timeout=PROBE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"/dev/kvm opens, but a small 64-bit guest did not end within {PROBE_LIMIT_S} s"
    if answer.returncode != 0:
        return f"/dev/kvm opens, but {answer.stdout.strip() or f'the probe ended with {answer.returncode}'}"
    for module in ("kvm_amd", "kvm_intel"):
        nested = Path(f"/sys/module/{module}/parameters/nested")
        if nested.exists() and nested.read_text().strip() in ("0", "N"):
            return (f"/dev/kvm runs guests, but not guests in guests, which agents are here ({nested} is off: "
                    f"load {module} with nested=1)")
    return ""


def acceleration() -> Acceleration:
    """Probes once a boot: the answer changes only with the machine. NULLBOX_ACCEL=kvm|tcg decides instead."""
    forced = os.environ.get("NULLBOX_ACCEL")
    if forced:
        if forced not in ("kvm", "tcg"):
            raise MachineError(f"NULLBOX_ACCEL is {forced}: must be kvm or tcg")
        return Acceleration(forced, "NULLBOX_ACCEL says so")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    probe = ROOT / "tools/kvm_probe.cpp"
    key = f"{boot} {os.getuid()} {os.path.exists('/dev/kvm')} {probe.stat().st_mtime_ns}"
    cached = CACHE / "acceleration.json"
    try:
        known = json.loads(cached.read_text())
        if known["key"] == key:
            return Acceleration(known["name"], known["reason"])
    except (OSError, ValueError, KeyError):
        pass
    trouble = _probe_kvm()
    found = Acceleration("tcg", trouble) if trouble else Acceleration("kvm", "a 64-bit guest ran on /dev/kvm")
    CACHE.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps({"key": key, "name": found.name, "reason": found.reason}))
    return found


# --- The command line

@dataclass
class Options:
    kernel: Path = OUT / "vmlinuz"
    initramfs: Path | None = OUT / "initramfs.cpio.zst"
    append: str = ""                  # added to KERNEL_COMMAND_LINE
    memory_mb: int = 2048
    cpus: int = 2                     # that programs run on; emulated, there is a spare one
    data_disk: Path | None = None
    keep_data: bool = True            # False: what the guest writes is thrown away
    watchdog: bool = True
    early_console: bool = False       # the console is a serial port too, until the virtio driver is there
    reboots: bool = True              # False: a reset (a panic's too) ends QEMU
    accel: Acceleration | None = None
    cpu: str = ""                     # instead of the acceleration's own, e.g. "max,svm=off"
    ports: list[str] = field(default_factory=list)  # names of virtio-serial ports after the console, as sockets
    extra: list[str] = field(default_factory=list)


def command(options: Options, folder: Path, console: str) -> list[str]:
    """console: a QEMU chardev without its id, e.g. "stdio,signal=off" or "file,path=..."."""
    chosen = options.accel or acceleration()
    accel = chosen.arguments()
    spare = SPARE_CPUS if chosen.name == "tcg" else 0
    words = [KERNEL_COMMAND_LINE, EMULATED_COMMAND_LINE if chosen.name == "tcg" else "",
             f"nulld.cpus={spare}-{spare + options.cpus - 1}" if spare else "",
             EARLY_COMMAND_LINE if options.early_console else "", options.append]
    if options.cpu:
        accel[accel.index("-cpu") + 1] = options.cpu
    line = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", *accel,
            "-m", str(options.memory_mb), "-smp", str(options.cpus + spare),
            "-kernel", str(options.kernel), "-append", " ".join(filter(None, words)),
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-device", "virtio-serial-pci,id=serial0,max_ports=8",
            "-chardev", f"{console},id=console,mux={'on' if options.early_console else 'off'}",
            "-device", "virtconsole,chardev=console,bus=serial0.0,nr=0",
            "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"]
    if options.early_console:
        line += ["-serial", "chardev:console"]
    if options.initramfs:
        line += ["-initrd", str(options.initramfs)]
    for number, name in enumerate(options.ports, start=1):
        line += ["-chardev", f"socket,id={name},path={folder}/{name},server=on,wait=off",
                 "-device", f"virtserialport,chardev={name},name={name},bus=serial0.0,nr={number}"]
    if not options.reboots:
        line += ["-no-reboot"]
    if options.watchdog:
        line += ["-device", "i6300esb", "-action", "watchdog=reset"]
    if options.data_disk:
        snapshot = "off" if options.keep_data else "on"
        line += ["-drive", f"if=none,id=data,format=raw,file={options.data_disk},snapshot={snapshot}",
                 "-device", "virtio-blk-pci,drive=data"]
    return line + options.extra


def _die_with_parent() -> None:
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --- A running machine

class Qmp:
    def __init__(self, path: Path, limit_s: float = 10):
        deadline = time.monotonic() + limit_s
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise MachineError("QEMU's control socket did not appear") from None
                time.sleep(0.02)
        self._socket.settimeout(limit_s)
        self._stream = self._socket.makefile("rb")
        self._read()
        self.events: list[dict] = []
        self.execute("qmp_capabilities")

    def _read(self) -> dict:
        line = self._stream.readline()
        if not line:
            raise MachineError("QEMU closed its control socket")
        return json.loads(line)

    def execute(self, name: str, **arguments):
        request = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise MachineError(f"QEMU: {name}: {answer['error']['desc']}")
            self.events.append(answer)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


class Machine:
    """QEMU with its console read line by line. A context manager: leaving it ends QEMU, whatever happened."""

    def __init__(self, options: Options, name: str = "machine", on_console=None):
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix=f"nullbox-{name}-"))
        self.console = bytearray()  # everything since power on
        self.started = 0.0          # monotonic; when QEMU was started
        self._on_console = on_console
        self._changed = threading.Condition()
        self._process = None
        self._qmp = None

    def __enter__(self) -> "Machine":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        line = command(self.options, self.folder, "stdio,signal=off")
        self.started = time.monotonic()
        # Its own session: a Ctrl-C on the terminal reaches us, and we ask the guest to power off.
        self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_die_with_parent)
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()
        self._errors = b""
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._error_reader.start()

    def _read_console(self) -> None:
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            with self._changed:
                self.console += chunk
                self._changed.notify_all()
            if self._on_console:
                self._on_console(chunk)
        with self._changed:
            self._changed.notify_all()

    def _read_errors(self) -> None:
        self._errors = self._process.stderr.read()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pid(self) -> int:
        return self._process.pid

    def errors(self) -> str:
        return self._errors.decode(errors="replace")

    def text(self) -> str:
        """The console so far, without colours and cursor movements."""
        text = self.console.decode(errors="replace").replace("\r", "")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    def wait_console(self, pattern: str, limit_s: float, start: int = 0):
        """The first match of pattern in the console text from start; None when time is over or QEMU has ended."""
        deadline = time.monotonic() + limit_s
        expression = re.compile(pattern, re.MULTILINE)
        while True:
            if match := expression.search(self.text(), start):
                return match
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    return expression.search(self.text(), start)
                self._changed.wait(min(left, 0.5))

    def qmp(self, name: str, **arguments):
        if self._qmp is None:
            self._qmp = Qmp(self.folder / "qmp")
        return self._qmp.execute(name, **arguments)

    def power_button(self) -> None:
        self.qmp("system_powerdown")

    def wait_exit(self, limit_s: float) -> bool:
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(2)
        self._error_reader.join(2)
        return True

    def port(self, name: str) -> socket.socket:
        """Our end of the virtio-serial port of that name."""
        connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 10
        while True:
            try:
                connection.connect(str(self.folder / name))
                return connection
            except OSError:
                if time.monotonic() > deadline or not self.running:
                    raise MachineError(f"QEMU has no port {name}: {self.errors().strip()}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        if self._qmp:
            self._qmp.close()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            if not self.wait_exit(5):
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
