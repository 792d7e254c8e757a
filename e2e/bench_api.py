"""What the API costs as clients and objects grow: bench_api.py BINARY [URL,TOKEN].

URL,TOKEN is another API server to list beside ours (a stock kube-apiserver), reachable from here; its CPU and
memory are not measured. N_OBJECTS, N_CHANGES and WATCHERS in the environment make the run smaller.
"""

import contextlib
import ctypes
import http.client
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

from bench import MIB, cpu_secs, status_bytes
from cluster import Cluster, Failure, until
from faults.floods import context as certificate, network_of

N_OBJECTS = int(os.environ.get("N_OBJECTS", "22000"))
N_CHANGES = int(os.environ.get("N_CHANGES", "200"))
WATCHERS = [int(n) for n in os.environ.get("WATCHERS", "1,100,1000").split(",")]
N_KUBELETS = int(os.environ.get("N_KUBELETS", "500"))
STREAMS = 50  # watches on one connection

POD = {"metadata": {"namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


class Server:
    """An API server and how to reach it."""

    def __init__(self, cluster=None, remote=None):
        self.cluster, self.token = cluster, ""
        self.address = ("127.0.0.1", 6443)
        if remote:
            url, self.token = remote.split(",")
            parsed = urllib.parse.urlsplit(url)
            self.address = (parsed.hostname, parsed.port)

    @property
    def pid(self):
        return self.cluster.process.pid

    def connect(self, protocol):
        tls = certificate(self.cluster) if self.cluster else ssl._create_unverified_context()
        tls.set_alpn_protocols([protocol])
        with network_of(self.cluster) if self.cluster else contextlib.nullcontext():
            raw = socket.create_connection(self.address, timeout=120)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(raw)

    def client(self):
        """One HTTP/1.1 connection that stays open."""
        made = http.client.HTTPConnection(*self.address)
        made.sock = self.connect("http/1.1")
        return made

    def ask(self, client, method, path, body=None, kind="application/json"):
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        client.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = client.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise Failure(f"{method} {path}: {answer.status} {text[:300]}")
        return text


def literal(name, value):
    """A header field that needs no table of names."""
    name, value = name.encode(), value.encode()
    length = lambda text: bytes([len(text)]) if len(text) < 127 else bytes([127]) + varint(len(text) - 127)
    return b"\0" + length(name) + name + length(value) + value


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


class Watches:
    """Watches on HTTP/2 connections, as Go's clients hold them; counts the events of all of them."""

    def __init__(self, server, paths):
        self.connections, self.n_events = [], 0
        self.poll = select.epoll()
        self.by_fd = {}
        for start in range(0, len(paths), STREAMS):
            made = server.connect("h2")
            # A large window for each stream and for the connection: nobody waits for the reader.
            settings = struct.pack(">HIHI", 4, 1 << 30, 3, 1000)
            out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack(">I", (1 << 30)))
            for idx, path in enumerate(paths[start : start + STREAMS]):
                fields = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "localhost"), ("accept", "application/json")]
                if server.token:
                    fields.append(("authorization", f"Bearer {server.token}"))
                out += frame(1, 5, 2 * idx + 1, b"".join(literal(*field) for field in fields))
            made.sendall(out)
            made.setblocking(False)
            self.connections.append(made)
            self.by_fd[made.fileno()] = [made, b"", 0]
            self.poll.register(made.fileno(), select.EPOLLIN)
        self.n_answered = 0

    def step(self, timeout):
        for fd, _ in self.poll.poll(timeout):
            state = self.by_fd[fd]
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    got = state[0].recv(1 << 18)
                    if not got:
                        raise Failure("the server closed a connection")
                    state[1] += got
            self.frames(state)

    def frames(self, state):
        data, at = state[1], 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3])
            if len(data) - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            payload = data[at + 9 : at + 9 + length]
            at += 9 + length
            if kind == 0:
                self.n_events += payload.count(b"\n")
                state[2] += length
            elif kind == 1:
                self.n_answered += 1
            elif kind in (4, 6) and not flags & 1:  # settings and pings want an answer
                state[0].setblocking(True)
                state[0].sendall(frame(kind, 1, 0, payload if kind == 6 else b""))
                state[0].setblocking(False)
            elif kind == 3 or kind == 7 and any(payload[4:8]):  # told to open no more, what is open goes on
                raise Failure(f"the server ended a watch: frame {kind} {payload[:60]!r}")
        state[1] = data[at:]
        if state[2] > 1 << 24:
            state[0].setblocking(True)
            state[0].sendall(frame(8, 0, 0, struct.pack(">I", state[2])))
            state[0].setblocking(False)
            state[2] = 0

    def until(self, done, what, secs=120):
        deadline = time.monotonic() + secs
        while not done():
            self.step(0.2)
            if time.monotonic() > deadline:
                raise Failure(f"{what}: {self.n_events} events, {self.n_answered} answers")

    def close(self):
        for made in self.connections:
            made.close()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def config_map(name, n_bytes=600):
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": "bench"}}, "data": {"text": "x" * n_bytes}}


def times_of(server, requests, n_clients):
    """What each of the requests took, in order of length, and all of them together, with several clients at once."""
    work, took, errors, lock = iter(requests), [], [], threading.Lock()

    def run():
        try:
            client = server.client()
            while True:
                with lock:
                    one = next(work, None)
                if one is None:
                    return
                began = time.monotonic()
                server.ask(client, *one)
                took.append(time.monotonic() - began)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(n_clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sorted(took), time.monotonic() - began


def create_many(server, paths_and_bodies, n_clients):
    """Creates with several clients at once; the time it took."""
    return times_of(server, (("POST", *one) for one in paths_and_bodies), n_clients)[1]


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def watch_rows(server, rows):
    """Watches of all ConfigMaps of a namespace, while one of them changes."""
    client = server.client()
    few = "/api/v1/namespaces/few/configmaps"
    made = config_map("changing")
    made["metadata"]["namespace"] = "few"
    server.ask(client, "POST", few, made)
    change = lambda n: server.ask(client, "PATCH", f"{few}/changing", {"data": {"n": str(n)}}, "application/merge-patch+json")
    for n_watchers in WATCHERS:
        measure(server, rows, f"{n_watchers} watches", [f"{few}?watch=1"] * n_watchers, change, n_watchers)
    others = [f"/api/v1/namespaces/other-{n}/configmaps?watch=1" for n in range(max(WATCHERS))]
    measure(server, rows, f"{len(others)} watches of other namespaces", others, change, 0)


def kubelet_rows(server, rows):
    """Kubelets' watches of their own pods, while the pods of one of them change."""
    client = server.client()
    pods = "/api/v1/namespaces/default/pods"
    for n in (1, N_KUBELETS):
        server.ask(client, "POST", pods, {**POD, "metadata": {"name": f"p{n}", "namespace": "default"}, "spec": {**POD["spec"], "nodeName": "kubelet-0"}})
        change = lambda at: server.ask(client, "PATCH", f"{pods}/p{n}", {"metadata": {"labels": {"n": str(at)}}}, "application/merge-patch+json")
        paths = [f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dkubelet-{idx}" for idx in range(n)]
        measure(server, rows, f"{n} kubelets, spec.nodeName", paths, change, 1)
        server.ask(client, "DELETE", f"{pods}/p{n}?gracePeriodSeconds=0")


def measure(server, rows, what, paths, change, n_sends):
    before = status_bytes(server.pid, "RssAnon")
    watches = Watches(server, paths)
    watches.until(lambda: watches.n_answered == len(paths), f"{what} start")
    quiet = None
    while quiet != watches.n_events:  # what a watch begins with
        quiet = watches.n_events
        watches.step(0.3)
    held = status_bytes(server.pid, "RssAnon") - before
    began, cpu, first = time.monotonic(), cpu_secs(server.pid), watches.n_events
    for n in range(N_CHANGES):
        change(n)
        watches.step(0)
    watches.until(lambda: watches.n_events - first >= N_CHANGES * n_sends, what)
    elapsed, cpu = time.monotonic() - began, cpu_secs(server.pid) - cpu
    rows.append((f"{what}: CPU a change", cpu / N_CHANGES * 1e6, "us"))
    if n_sends:
        rows.append((f"{what}: events", N_CHANGES * n_sends / elapsed, "/s"))
    if len(paths) > 1:
        rows.append((f"{what}: memory a watch", held / len(paths) / 1024, "KiB"))
    watches.close()
    time.sleep(2)


def list_rows(server, rows, name):
    """Lists of many objects, read and thrown away as fast as they come."""
    own = server.cluster is not None
    for form, accept in (("JSON", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")):
        times, cpus = [], []
        if own:
            with contextlib.suppress(OSError):
                open(f"/proc/{server.pid}/clear_refs", "w").write("5")
            before = status_bytes(server.pid, "VmHWM")
        for _ in range(5):
            with contextlib.closing(server.client()) as client:
                headers = {"Accept": accept, **({"Authorization": f"Bearer {server.token}"} if server.token else {})}
                cpu = cpu_secs(server.pid) if own else 0
                start = time.monotonic()
                client.request("GET", CONFIG_MAPS, headers=headers)
                answer = client.getresponse()
                buffer, size = memoryview(bytearray(1 << 18)), 0
                while got := answer.readinto(buffer):
                    size += got
                times.append(time.monotonic() - start)
                cpus.append(cpu_secs(server.pid) - cpu if own else 0)
                if answer.status != 200 or size < N_OBJECTS * 600:
                    raise Failure(f"a list of {size} bytes: {answer.status}")
        rows.append((f"{name}: list of {N_OBJECTS}, {form} ({size / MIB:.1f} MB)", sorted(times)[2] * 1000, "ms"))
        if own:
            rows.append((f"{name}:   CPU", sorted(cpus)[2] * 1000, "ms"))
            rows.append((f"{name}:   peak memory beyond what it held", (status_bytes(server.pid, "VmHWM") - before) / MIB, "MB"))


def create_rows(server, rows, name):
    for n_clients, n in ((1, 500), (50, 2000)):
        work = [(CONFIG_MAPS, config_map(f"c{n_clients}-{idx}")) for idx in range(n)]
        rows.append((f"{name}: create at {n_clients} clients", n / create_many(server, work, n_clients), "/s"))
    client = server.client()
    start = time.monotonic()
    for _ in range(1000):
        server.ask(client, "GET", f"{CONFIG_MAPS}/c1-0")
    rows.append((f"{name}: get", (time.monotonic() - start) * 1000, "us"))
    present = 2500
    create_many(server, [(CONFIG_MAPS, config_map(f"many-{idx}")) for idx in range(max(N_OBJECTS - present, 0))], 16)


def main():
    cluster = Cluster(sys.argv[1])
    rows = []
    try:
        cluster.start()
        until(lambda: cluster.kubectl("get", "sa", "default", check=False).returncode == 0, "a service account", 20)
        cluster.kubectl("create", "namespace", "few")
        server = Server(cluster)
        create_rows(server, rows, "k3rs")
        list_rows(server, rows, "k3rs")
        kubelet_rows(server, rows)
        watch_rows(server, rows)
        if len(sys.argv) > 2:
            other = Server(remote=sys.argv[2])
            create_rows(other, rows, "other")
            list_rows(other, rows, "other")
    finally:
        print(f"\n{'what':66} {'measured':>12}")
        for what, value, unit in rows:
            print(f"{what:66} {value:>12.1f} {unit}")
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
