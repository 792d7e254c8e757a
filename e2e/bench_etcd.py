"""The etcd front beside Debian's etcd and kine, on the same disk in one run: bench_etcd.py BINARY [PEERS].

PEERS is a directory with the programs `benchmark` (etcd's own tool) and `kine`; without it, they are built there from the Go module proxy
(.run/etcd-bench). KUBE_APISERVER names a stock kube-apiserver, which is then run on each of them. Each round asks every server the same, in
another order; the table has the medians. ROUNDS (3), TOTAL (5000, requests of a row) and CHECK=1 (`etcdctl check perf`, a minute for each
server) are in the environment. What a server keeps lies in a directory of its own below TMPDIR.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from bench import MIB, cpu_secs, status_bytes
from bench_api import Server, config_map, create_many
from cluster import Failure, until

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS = int(os.environ.get("ROUNDS", "3"))
TOTAL = int(os.environ.get("TOTAL", "5000"))
KINE, ETCD = "v0.17.5", "v3.5.21"
TOKEN = "bench"


def peers(directory):
    """The programs to compare with, and to ask with."""
    directory = pathlib.Path(directory)
    if not (directory / "kine").exists():
        build(directory, "kine", f"github.com/k3s-io/kine@{KINE}")
    if not (directory / "benchmark").exists():
        build(directory, "benchmark", f"go.etcd.io/etcd/v3/tools/benchmark@{ETCD}")
    return directory


def build(directory, name, package):
    """In a module of its own, for what it replaces counts in its own repository only."""
    print(f"building {package}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        path = package.split("@")[0]
        pathlib.Path(place, "go.mod").write_text("module peer\ngo 1.23\n")
        directory.mkdir(parents=True, exist_ok=True)
        env = dict(os.environ, GOFLAGS="-mod=mod -buildvcs=false")
        for command in (["go", "get", package], ["go", "build", "-o", str(directory / name), path]):
            subprocess.run(command, cwd=place, env=env, check=True)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Front:
    """A server of the etcd API."""

    def __init__(self, name, command):
        self.name = name
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"k3rs-bench-{name}-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen(command(self), stdout=self.log, stderr=self.log, cwd=self.dir, start_new_session=True)
        until(self.answers, f"{name} answers", 60, interval=0.1)

    def answers(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended:\n" + (self.dir / "log").read_text(errors="replace")[-2000:])
        return etcdctl(self.url, "get", "x", check=False).returncode == 0

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def etcdctl(url, *args, check=True, timeout=120):
    env = dict(os.environ, ETCDCTL_API="3")
    return subprocess.run(["etcdctl", "--endpoints", url, *args], env=env, capture_output=True, text=True, check=check, timeout=timeout)


def fronts(binary, directory):
    """How each is started, with what it does by default."""

    def etcd(front):
        peer = f"http://127.0.0.1:{free_port()}"
        return ["etcd", "--data-dir", f"{front.dir}/data", "--listen-client-urls", front.url, "--advertise-client-urls", front.url,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]  # fmt: skip

    def kine(front):
        return [str(directory / "kine"), "--listen-address", f"127.0.0.1:{front.port}", "--metrics-bind-address", "0",
                "--endpoint", f"sqlite://{front.dir}/state.db?_journal=WAL&cache=shared&_busy_timeout=30000"]  # fmt: skip

    def ours(front):
        return [binary, "kine", "--listen-address", f"tcp://127.0.0.1:{front.port}", "--endpoint", f"sqlite://{front.dir}/state.db"]

    return {"k3rs": ours, "etcd": etcd, "kine": kine}


# What etcd's tool is asked: a name, its arguments.
LOADS = {
    "put, 1 client": ["put", "--conns", "1", "--clients", "1", "--key-size", "32", "--val-size", "512", "--sequential-keys", "--key-space-size", "100000", "--total", str(TOTAL // 5)],
    "put, 100 clients": ["put", "--conns", "10", "--clients", "100", "--key-size", "32", "--val-size", "512", "--sequential-keys", "--key-space-size", "100000", "--total", str(TOTAL)],
    "range of a key, 1 client": ["range", "a", "--conns", "1", "--clients", "1", "--total", str(TOTAL)],
    "range of a key, 100 clients": ["range", "a", "--conns", "10", "--clients", "100", "--total", str(TOTAL * 4)],
    "range of 1,000 keys": ["range", "k", "l", "--conns", "1", "--clients", "1", "--total", "50"],
}


def rate(text):
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not found:
        raise Failure(f"benchmark says no rate:\n{text[-1500:]}")
    return float(found[1])


def fill(front, n=1000):
    """A thousand keys below `k`, by transactions of a hundred at most."""
    for start in range(0, n, 100):
        puts = "".join(f"put k{idx:05d} {'v' * 512}\n" for idx in range(start, start + 100))
        env = dict(os.environ, ETCDCTL_API="3")
        done = subprocess.run(["etcdctl", "--endpoints", front.url, "txn"], input=f"\n{puts}\n\n", env=env, capture_output=True, text=True, timeout=60)
        if "SUCCESS" not in done.stdout:
            # kine knows the transactions of kube-apiserver only.
            for idx in range(start, start + 100):
                create = f'mod("k{idx:05d}") = "0"\n\nput k{idx:05d} {"v" * 512}\n\nget k{idx:05d}\n\n'
                subprocess.run(["etcdctl", "--endpoints", front.url, "txn"], input=create, env=env, capture_output=True, text=True, timeout=60)


def ask(directory, front, rows):
    fill(front)
    etcdctl_create(front, "a")
    for what, args in LOADS.items():
        cpu = cpu_secs(front.process.pid)
        done = subprocess.run([str(directory / "benchmark"), "--endpoints", front.url, *args], capture_output=True, text=True, timeout=300)
        refused = re.search(r"Error distribution:\n\s*\[(\d+)\]\s*(.*)", done.stdout)
        if refused:
            rows.setdefault(f"{what}, a second", {}).setdefault(front.name, []).append(refused[2].strip()[:40])
            continue
        rows.setdefault(f"{what}, a second", {}).setdefault(front.name, []).append(rate(done.stdout))
        n = int(args[args.index("--total") + 1])
        rows.setdefault(f"{what}, CPU us each", {}).setdefault(front.name, []).append((cpu_secs(front.process.pid) - cpu) / n * 1e6)
    rows.setdefault("resident, MB", {}).setdefault(front.name, []).append(status_bytes(front.process.pid, "VmRSS") / MIB)


def etcdctl_create(front, key):
    """As kube-apiserver creates, for kine knows no other way."""
    env = dict(os.environ, ETCDCTL_API="3")
    text = f'mod("{key}") = "0"\n\nput {key} {"v" * 512}\n\nget {key}\n\n'
    subprocess.run(["etcdctl", "--endpoints", front.url, "txn"], input=text, env=env, capture_output=True, text=True, timeout=60, check=True)


def check_perf(front):
    """What `etcdctl check perf` thinks of it."""
    done = etcdctl(front.url, "check", "perf", check=False, timeout=300)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("PASS", "FAIL"))]
    return "; ".join(lines) or (done.stdout + done.stderr).strip()[-200:]


class Apiserver(Server):
    """A stock kube-apiserver over a front."""

    def __init__(self, program, front):
        super().__init__()
        self.token, self.address = TOKEN, ("127.0.0.1", free_port())
        where = front.dir / "apiserver"
        where.mkdir()
        subprocess.run(["openssl", "genrsa", "-out", str(where / "sa.key"), "2048"], check=True, capture_output=True)
        (where / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self.log = open(where / "log", "wb")
        command = [program, f"--etcd-servers={front.url}", f"--secure-port={self.address[1]}", "--bind-address=127.0.0.1", f"--cert-dir={where}/certs",
                   f"--token-auth-file={where}/tokens.csv", "--authorization-mode=RBAC", f"--service-account-key-file={where}/sa.key",
                   f"--service-account-signing-key-file={where}/sa.key", "--service-account-issuer=https://bench", "--service-cluster-ip-range=10.99.0.0/24",
                   "--disable-admission-plugins=ServiceAccount"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)

        def up():
            if self.process.poll() is not None:
                raise Failure("kube-apiserver ended:\n" + (where / "log").read_text(errors="replace")[-1500:])
            with contextlib.suppress(OSError):
                return self.ask(self.client(), "GET", "/readyz")

        until(up, "kube-apiserver is ready", 120)

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def stock(program, front, rows):
    """Creates, reads and lists of a stock kube-apiserver over it."""
    server = Apiserver(program, front)
    try:
        path = "/api/v1/namespaces/default/configmaps"
        until(lambda: server.ask(server.client(), "GET", "/api/v1/namespaces/default"), "the namespace is there", 60)
        for n_clients, n in ((1, TOTAL // 10), (50, TOTAL // 2)):
            took = create_many(server, [(path, config_map(f"c{n_clients}-{idx}")) for idx in range(n)], n_clients)
            rows.setdefault(f"kube-apiserver: create, {n_clients} clients, a second", {}).setdefault(front.name, []).append(n / took)
        client, began = server.client(), time.monotonic()
        for _ in range(20):
            server.ask(client, "GET", f"{path}?resourceVersion=&limit=500")
        rows.setdefault("kube-apiserver: list of 500, current, ms", {}).setdefault(front.name, []).append((time.monotonic() - began) / 20 * 1000)
    finally:
        server.close()


def main():
    binary = os.path.realpath(sys.argv[1])
    directory = peers(sys.argv[2] if len(sys.argv) > 2 else HERE.parent / ".run" / "etcd-bench")
    program = os.environ.get("KUBE_APISERVER", "")
    commands, rows, failed = fronts(binary, directory), {}, 0
    names = list(commands)
    for number in range(ROUNDS):
        for name in names[number % 3 :] + names[: number % 3]:
            front = Front(name, commands[name])
            try:
                ask(directory, front, rows)
                if program:
                    stock(program, front, rows)
                if os.environ.get("CHECK") and number == 0:
                    print(f"{name}: etcdctl check perf: {check_perf(front)}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL {name}: {error!r}", flush=True)
            finally:
                front.close()
    print(f"\nload at the end {os.getloadavg()[0]:.1f}; {ROUNDS} rounds, medians\n{'':54}" + "".join(f"{name:>14}" for name in names))
    for what, found in rows.items():
        print(f"{what:54}" + "".join(f"{shown(found.get(name)):>14}" for name in names))
    return 1 if failed else 0


def shown(values):
    if not values:
        return "-"
    numbers = [value for value in values if isinstance(value, float)]
    return f"{statistics.median(numbers):.1f}" if numbers else "refused"


if __name__ == "__main__":
    sys.exit(main())
