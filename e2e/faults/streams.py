"""Watches and streams that one client opens and does nothing with: bounded, and nobody else waits."""

import json
import socket
import struct
import time

from cluster import Failure, until
from faults.floods import Client, context, credentials, network_of, rss_kib, settle

# It measures how long others wait.
ALONE = True

START = False


def prepare(cluster):
    cluster.start()
    credentials(cluster)


class Http2:
    """A connection that opens streams and reads nothing but heads; `window` bytes of each body are let through."""

    def __init__(self, cluster, window):
        with network_of(cluster):
            raw = socket.create_connection(("127.0.0.1", 6443), timeout=30)
        tls = context(cluster)
        tls.set_alpn_protocols(["h2"])
        self.socket = tls.wrap_socket(raw)
        self.buffer, self.next_id, self.codes, self.ended = b"", 1, {}, set()
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, struct.pack(">HI", 4, window)))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def open(self, method, path, ends=True):
        """Opens a stream; its headers are literals that nobody indexes."""
        block = b""
        for name, value in ((":method", method), (":scheme", "https"), (":authority", "x"), (":path", path), ("content-type", "application/json")):
            block += b"\x00" + bytes([len(name)]) + name.encode()
            block += (bytes([len(value)]) if len(value) < 127 else b"\x7f" + bytes([len(value) - 127])) + value.encode()
        self.socket.sendall(self.frame(1, 5 if ends else 4, self.next_id, block))
        self.next_id += 2
        return self.next_id - 2

    def heads(self, n, timeout=30):
        """Reads until `n` streams have a head or are reset; how many there are."""
        end = time.monotonic() + timeout
        self.socket.settimeout(1)
        while len(self.codes) < n and time.monotonic() < end:
            try:
                piece = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not piece:
                break
            self.buffer += piece
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + length:
                    break
                kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
                payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                if kind == 4 and not flags & 1:
                    self.socket.sendall(self.frame(4, 1, 0, b""))
                elif kind == 1:
                    # The first field is the status: an index for 200, or one with a literal of three digits.
                    self.codes.setdefault(stream, "200" if payload[:1] == b"\x88" else "other")
                elif kind == 3:
                    self.codes.setdefault(stream, "reset")
                if kind in (0, 1) and flags & 1:
                    self.ended.add(stream)
        return len(self.codes)


def somebody(cluster):
    """The token of a client that is not the administrator."""
    cluster.kubectl("create", "serviceaccount", "somebody", check=False)
    return cluster.kubectl("create", "token", "somebody").stdout.strip()


def served(cluster, token, what):
    """Somebody else is answered at once, as is whoever asks for health."""
    begun = time.monotonic()
    with network_of(cluster):
        raw = socket.create_connection(("127.0.0.1", 6443), timeout=30)
    with context().wrap_socket(raw) as other:
        body = b"{}"
        head = f"POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        other.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = other.recv(1 << 16)
    code, took = Client(cluster).ask("GET", "/healthz")[0], time.monotonic() - begun
    if b" 201 " not in answer[:20] or code != 200 or took > 5:
        raise Failure(f"beside {what}: {answer!r} {code} after {took:.1f} s")


def test_watches_of_one_client_are_bounded(cluster):
    """One client opens watches without end: some are refused, others are served, and all goes when it goes."""
    token, before = somebody(cluster), rss_kib(cluster)
    connections, answers = [], []
    for _ in range(6):
        one = Http2(cluster, 65535)
        for _ in range(240):
            one.open("GET", "/api/v1/namespaces/default/configmaps?watch=true")
        one.heads(240)
        answers += one.codes.values()
        connections.append(one)
    served(cluster, token, "watches")
    grown = (rss_kib(cluster) - before) // 1024
    n_open = answers.count("200")
    if len(answers) != 1440 or not 0 < n_open < 1440 or grown > 160:
        raise Failure(f"{len(answers)} answers, {n_open} watches, {grown} MiB more")
    for one in connections:
        one.socket.close()
    last = Http2(cluster, 65535)

    def again():
        stream = last.open("GET", "/api/v1/namespaces/default/configmaps?watch=true")
        last.heads(len(last.codes) + 1, 5)
        return last.codes.get(stream) == "200"

    until(again, "a new watch is let in")
    return f"{n_open} of 1440 watches, {grown} MiB more"


def test_readers_that_do_not_read(cluster):
    """Watchers that read nothing while large objects change: what waits for them is bounded."""
    token = somebody(cluster)
    maps = "/api/v1/namespaces/default/configmaps"
    Client(cluster).ask("POST", maps, b'{"metadata":{"name":"large"}}')
    settle(cluster)
    before, watchers = rss_kib(cluster), []
    for _ in range(40):
        one = Client(cluster)
        one.socket.sendall(f"GET {maps}?watch=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        watchers.append(one)
    most, writer = before, Client(cluster)
    for n in range(120):
        body = json.dumps({"data": {"x": f"{n:06}" * 33_000}}).encode()
        code, _, text = writer.ask("PATCH", f"{maps}/large", body, "application/merge-patch+json")
        if code != 200:
            raise Failure(f"change {n}: {code} {text[:300]}")
        most = max(most, rss_kib(cluster))
    served(cluster, token, "readers that do not read")
    for one in watchers:
        one.socket.close()
    Client(cluster).ask("DELETE", f"{maps}/large")
    grown = (most - before) // 1024
    if grown > 160:
        raise Failure(f"{grown} MiB more")
    return f"24 MB of changes for 40 watchers, at most {grown} MiB more"


def test_streams_without_window_or_body(cluster):
    """HTTP/2 streams whose bodies never come, or whose answers nobody lets through."""
    token = somebody(cluster)
    maps = "/api/v1/namespaces/default/configmaps"
    data = "x" * 400_000
    code, _, text = Client(cluster).ask("POST", maps, json.dumps({"metadata": {"name": "large"}, "data": {"x": data}}).encode())
    if code != 201:
        raise Failure(f"{code} {text}")
    settle(cluster)
    before = rss_kib(cluster)
    deaf, mute = [], []
    for _ in range(4):
        one = Http2(cluster, 0)
        for _ in range(240):
            one.open("GET", maps)
        deaf.append(one)
        other = Http2(cluster, 65535)
        for _ in range(240):
            other.open("POST", maps, ends=False)
        mute.append(other)
    n_heads = sum(one.heads(240, 4) for one in deaf)
    served(cluster, token, "streams that stand still")
    grown = (rss_kib(cluster) - before) // 1024
    for one in deaf + mute:
        one.socket.close()
    until(lambda: Client(cluster).ask("DELETE", f"{maps}/large")[0] in (200, 404), "the client may ask again")
    after = settle(cluster, before + 12 * 1024)
    if grown > 160:
        raise Failure(f"{grown} MiB more")
    return f"1920 streams, {n_heads} heads, {grown} MiB more, {(after - before) // 1024} MiB in the end"
