"""One emulated machine: QEMU, its serial console, its disks, and the real kubectl over a forwarded port."""

import base64
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from cluster import Failure, find_kubectl, until  # noqa: E402, F401
from disk import Disk, ReadOnly  # noqa: E402
from initramfs import directory, tools  # noqa: E402

# Everything that waits is bounded by a time that this stretches, for machines slower than the one it was written on.
SLOW = float(os.environ.get("K3RS_QEMU_SLOW", "1"))

# devices: mmio ones need no PCI, which a 32-bit virt machine has only with highmem=off.
ARCHES = {
    "armv7": {"qemu": "qemu-system-arm", "machine": "virt", "cpu": "cortex-a15", "console": "ttyAMA0", "suffix": "device"},
    "arm64": {"qemu": "qemu-system-aarch64", "machine": "virt", "cpu": "cortex-a53", "console": "ttyAMA0", "suffix": "device"},
    "amd64": {"qemu": "qemu-system-x86_64", "machine": "q35", "cpu": "max", "console": "ttyS0", "suffix": "pci"},
}
NODE_PORT = 30080
# On less QEMU lays the initramfs where the kernel unpacks itself: there the kernel is told to leave the rest of this alone.
LOADABLE_MIB = 64


class Machine:
    """Started and stopped as often as a scenario likes; its disks and its directory outlive a power cut."""

    def __init__(self, arch, initramfs, memory_mib, words=(), arguments=(), disks=(), rtc=None, cpus=1, root=None):
        self.arch, self.initramfs, self.memory_mib, self.cpus = arch, initramfs, memory_mib, cpus
        self.words, self.arguments, self.rtc = list(words), list(arguments), rtc
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-qemu-"))
        self.disks = [Disk(self.dir / f"disk{idx}", **disk) for idx, disk in enumerate(disks)]
        # A root comes first: /dev/vda.
        self.drives = ([ReadOnly(self.dir / "root", root)] if root else []) + self.disks
        self.ports = {6443: free_port(), NODE_PORT: free_port()}
        self.kubectl_path = find_kubectl()
        self.kubeconfig = self.dir / "kubeconfig"
        self.env = dict(os.environ, KUBECONFIG=str(self.kubeconfig), HOME=str(self.dir))
        self.process = self.console = self.started = None
        self.tools = tools()

    def command_line(self):
        kind = ARCHES[self.arch]
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{guest}" for guest, host in self.ports.items())
        limit = [f"mem={self.memory_mib}M"] if self.memory_mib < LOADABLE_MIB else []
        words = [f"console={kind['console']}", "panic=-1", "quiet", *limit, *self.words, *(["--", *self.arguments] if self.arguments else [])]
        line = [
            kind["qemu"], "-M", kind["machine"], "-cpu", kind["cpu"], "-m", f"{max(self.memory_mib, LOADABLE_MIB)}M", "-smp", str(self.cpus),
            "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *self.tools["DATA"].split(),
            "-kernel", str(directory() / self.arch / "kernel"), "-initrd", str(self.initramfs), "-append", " ".join(words),
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
            "-netdev", f"user,id=n0,{forwards}", "-device", f"virtio-net-{kind['suffix']},netdev=n0,mac=52:54:00:12:34:56" + (",romfile=" if kind["suffix"] == "pci" else ""),
        ]
        # Their order is the order of their names: on mmio the last one named is found first.
        numbered = list(enumerate(self.drives))
        for idx, disk in numbered if kind["suffix"] == "pci" else reversed(numbered):
            line += disk.arguments(f"disk{idx}", f"virtio-blk-{kind['suffix']}")
        if self.rtc:
            line += ["-rtc", f"base={self.rtc}"]
        return line

    def start(self):
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command_line(), env=self.tools, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            preexec_fn=die_with_parent, start_new_session=True,
        )
        self.console = Console(self.process, self.dir / "console.log")

    def elapsed(self):
        return time.monotonic() - self.started

    def kill(self):
        """The machine stops between two instructions."""
        self.process.send_signal(signal.SIGKILL)

    def cut_after(self, seconds):
        """The machine is killed at a moment to come."""
        timer = threading.Timer(seconds, self.kill)
        timer.daemon = True
        timer.start()

    def host_cpu_s(self):
        """What the emulation has cost the host: unlike the machine's own ticks, it does not grow when the host is busy."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def gone(self, within):
        try:
            self.process.wait(within)
            return True
        except subprocess.TimeoutExpired:
            return False

    def power_cut(self, source):
        """Once the machine was killed, its disks lose what was not flushed."""
        self.wait_off(300)
        return [disk.cut(source) for disk in self.disks]

    def wait_off(self, timeout):
        try:
            self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure(f"the machine is still on after {timeout * SLOW:.0f} s:\n{self.console.tail()}") from None
        self.console.join()

    def power_button(self):
        self.order({"execute": "system_powerdown"})

    def plug(self, is_in):
        """The network cable."""
        self.order({"execute": "set_link", "arguments": {"name": "n0", "up": is_in}})

    def order(self, what):
        """Tells QEMU something."""
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(10)
            qmp.connect(f"{self.dir}/qmp")
            lines = qmp.makefile("rw")
            lines.readline()
            for order in ({"execute": "qmp_capabilities"}, what):
                lines.write(json.dumps(order) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline() or '{"return": 0}')):
                    if "error" in answer:
                        raise Failure(f"QEMU: {order}: {answer['error']}")

    def close(self, keep_in=None):
        """Ends QEMU and takes everything away, the console's log excepted if somebody wants it."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.console:
            self.console.join()
        for disk in self.disks:
            disk.close()
        if keep_in and (self.dir / "console.log").exists():
            keep_in.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.dir / "console.log", keep_in)
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- kubectl ---

    def wait_ready(self, timeout=240, checks_certificate=True):
        """Until the node says that it is ready, on its console; then kubectl must say so too. Returns the seconds since power-on."""
        line = self.console.wait_for(r"node \S+: ready|k3rs \S+ ended .* again in 8 s|This machine cannot start", timeout)
        if ": ready" not in line:
            raise Failure(line)
        took, self.cpu_when_ready_s = self.elapsed(), self.host_cpu_s()
        if not self.kubeconfig.exists():
            self.fetch_kubeconfig(checks_certificate)
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={int(60 * SLOW)}s", timeout=70)
        return took

    def fetch_kubeconfig(self, checks_certificate=True):
        # The directory below the data directory is used where /etc cannot be written.
        encoded = self.shell("base64 /etc/rancher/k3s/k3s.yaml || base64 /var/lib/rancher/k3s/etc/k3s/k3s.yaml")
        text = base64.b64decode("".join(line for line in encoded.splitlines() if re.fullmatch("[A-Za-z0-9+/=]+", line))).decode()
        text = re.sub(r"server: https://\S+", f"server: https://127.0.0.1:{self.ports[6443]}", text)
        if not checks_certificate:
            # Nobody can check a certificate whose times are decades away from the host's.
            text = re.sub(r"( *)certificate-authority-data: \S+\n", r"\1insecure-skip-tls-verify: true\n", text)
        self.kubeconfig.write_text(text)

    def kubectl(self, *args, check=True, input=None, timeout=60):
        try:
            done = subprocess.run([self.kubectl_path, *args], env=self.env, input=input, capture_output=True, text=True, timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure(f"{shown(args)}: no end after {timeout * SLOW:.0f} s") from None
        if check and done.returncode != 0:
            raise Failure(f"{shown(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    # --- the shell on the console ---

    def shell(self, command, timeout=30, check=True):
        return self.console.run(command, timeout, check)


class Console:
    """The serial console: a log on disk, lines to wait for, and a shell to type at."""

    def __init__(self, process, log_path):
        self.process = process
        self.lines, self.partial = [], b""
        self.seen = 0  # lines that wait_for has consumed
        self.changed = threading.Condition()
        self.ended = False
        self.n_commands = 0
        self.shell_ready = False
        self.log = open(log_path, "ab")
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        started = time.monotonic()
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                *whole, self.partial = (self.partial + data).split(b"\n")
                for line in whole:
                    text = line.decode(errors="replace").replace("\r", "")
                    self.lines.append(text)
                    self.log.write(f"{time.monotonic() - started:8.2f} {text}\n".encode())
                self.log.flush()
                self.changed.notify_all()
        with self.changed:
            if self.partial:
                self.lines.append(self.partial.decode(errors="replace"))
                self.log.write(self.partial + b"\n")
            self.ended = True
            self.log.close()
            self.changed.notify_all()

    def join(self):
        self.thread.join()

    def tail(self, lines=40):
        with self.changed:
            return "\n".join(self.lines[-lines:] + [self.partial.decode(errors="replace")])

    def find(self, pattern, timeout, start):
        """The index of the first line from `start` on that matches, waiting for it."""
        end = time.monotonic() + timeout * SLOW
        expression = re.compile(pattern)
        with self.changed:
            while True:
                for idx in range(start, len(self.lines)):
                    if expression.search(self.lines[idx]):
                        return idx
                start = len(self.lines)
                if self.ended:
                    raise Failure(f"the machine ended while waiting for /{pattern}/ on the console:\n{self.tail_locked()}")
                left = end - time.monotonic()
                if left <= 0:
                    raise Failure(f"after {timeout * SLOW:.0f} s no /{pattern}/ on the console:\n{self.tail_locked()}")
                self.changed.wait(left)

    def tail_locked(self, lines=40):
        return "\n".join(self.lines[-lines:] + [self.partial.decode(errors="replace")])

    def wait_for(self, pattern, timeout=60):
        """The first line that matches since the last call."""
        idx = self.find(pattern, timeout, self.seen)
        self.seen = idx + 1
        return self.lines[idx]

    def type(self, text):
        self.process.stdin.write(text.encode())

    def run(self, command, timeout=30, check=True):
        """A command's output. Every line of it carries a mark, because the console also shows what k3rs and the kernel say."""
        if not self.shell_ready:
            self.find(r"built-in shell \(ash\)", 240, 0)
            self.shell_ready = True
        with self.changed:
            start = len(self.lines)
        self.n_commands += 1
        mark = f"@{self.n_commands}"
        # Typed with quotes inside, so that the echo of the command does not carry the mark.
        self.type(f"{{ {command}\nstatus=$?; echo; echo \"=$status\"; }} 2>&1 | sed 's/^/{mark[0]}''{mark[1:]} /'\n")
        # A mark may stand behind the first half of a line of somebody else, never inside one of ours: sed writes whole lines.
        end = self.find(rf"{mark} =\d+$", timeout, start)
        with self.changed:
            lines = [line.partition(mark + " ")[2] for line in self.lines[start : end + 1] if mark + " " in line]
        status, text = int(lines[-1][1:]), "\n".join(lines[:-1]).strip("\n")
        if check and status != 0:
            raise Failure(f"on the console: {command}: exit {status}\n{text}")
        return text


def shown(args):
    return "kubectl " + " ".join(arg if len(arg) <= 80 else arg[:77] + "..." for arg in args)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent():
    # PR_SET_PDEATHSIG: no QEMU outlives the tests, however they end.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
