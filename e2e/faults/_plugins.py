"""A device plugin: a gRPC server by hand on a unix socket, which answers as it is told to."""

import pathlib
import socket
import struct
import threading

from faults._grpc import Grpc, fields, message

# The paths of the methods, in Huffman's code.
PATHS = {
    bytes.fromhex("63b8632a4615ef97b9885d745b31aa633990986a9390d249ff"): "ListAndWatch",
    bytes.fromhex("63b8632a4615ef97b9885d745b31aa621a28390692ff"): "Allocate",
    bytes.fromhex("63b8632a4615ef97b9885d745b31aa635d85dc91d89bc7a9233545b3"): "PreStartContainer",
    bytes.fromhex("63b8632a4615ef97b9885d745b31aa631153aec2ca5b2c2c90d141c83498f57f"): "GetPreferredAllocation",
}


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Refusal(Exception):
    """What a plugin says instead of an answer."""


class Connection:
    """One connection of the kubelet: a thread reads it, any thread writes."""

    def __init__(self, plugin, connected):
        self.plugin, self.socket, self.lock, self.calls = plugin, connected, threading.Lock(), {}
        threading.Thread(target=self.run, daemon=True).start()

    def write(self, data):
        with self.lock:
            try:
                self.socket.sendall(data)
            except OSError:
                pass

    def read(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise OSError("closed")
            data += piece
        return data

    def run(self):
        try:
            self.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            # No table of headers, so that paths come as they are.
            self.write(Grpc.frame(4, 0, 0, struct.pack(">HI", 1, 0)))
            while True:
                head = self.read(9)
                payload = self.read(int.from_bytes(head[:3], "big"))
                self.take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except OSError:
            self.socket.close()

    def take(self, kind, flags, stream, payload):
        if kind == 4 and not flags & 1:
            self.write(Grpc.frame(4, 1, 0, b""))
        elif kind == 6 and not flags & 1:
            self.write(Grpc.frame(6, 1, 0, payload))
        elif kind == 1:
            # The longest that fits: no path is the beginning of another, but codes may be.
            found = [path for path in PATHS if path in payload]
            self.calls[stream] = [PATHS[max(found, key=len)], b""]
        elif kind == 0:
            self.calls[stream][1] += payload
        if kind in (0, 1) and flags & 1:
            method, data = self.calls.pop(stream)
            threading.Thread(target=self.answer, args=(stream, method, data[5:]), daemon=True).start()

    def answer(self, stream, method, data):
        self.write(Grpc.frame(1, 4, stream, b"\x88" + literal(b"content-type", b"application/grpc")))
        if method == "ListAndWatch":
            self.plugin.watched(self, stream)
            return
        status, why = 0, b""
        try:
            self.send(stream, self.plugin.answer(method, data))
        except Refusal as refusal:
            status, why = 2, str(refusal).encode()
        trailers = literal(b"grpc-status", str(status).encode()) + literal(b"grpc-message", why)
        self.write(Grpc.frame(1, 5, stream, trailers))

    def send(self, stream, data):
        self.write(Grpc.frame(0, 0, stream, b"\0" + struct.pack(">I", len(data)) + data))


class Plugin:
    """Offers devices of a resource: their ids, and whether they are healthy."""

    def __init__(self, root, resource, devices, options=()):
        self.kubelet = pathlib.Path(root) / "device-plugins"
        self.resource, self.devices, self.options = resource, dict(devices), options
        # Asked for, in order: allocations and starts of containers.
        self.allocated, self.started = [], []
        # What is said instead of an answer, and what an answer waits for.
        self.refusal, self.hang, self.prefers = None, None, []
        self.watchers, self.lock, self.connections = [], threading.Lock(), []
        self.name = resource.replace("/", "-") + ".sock"
        self.open()

    def open(self):
        path = self.kubelet / self.name
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            self.connections.append(Connection(self, connected))

    def register(self, version="v1beta1", endpoint=None, resource=None):
        """The status, 0 if the kubelet takes it."""
        client = Grpc(self.kubelet / "kubelet.sock")
        try:
            options = message(*[(number, 1) for number in self.options])
            asked = message((1, version), (2, endpoint or self.name), (3, resource or self.resource), (4, options))
            return client.unary("/v1beta1.Registration/Register", asked)[0]
        finally:
            client.close()

    def told(self):
        return message((1, [message((1, id), (2, "Healthy" if well else "Unhealthy")) for id, well in self.devices.items()]))

    def watched(self, connection, stream):
        with self.lock:
            self.watchers.append((connection, stream))
            connection.send(stream, self.told())

    def set(self, **devices):
        with self.lock:
            self.devices.update(devices)
            for connection, stream in self.watchers:
                connection.send(stream, self.told())

    def answer(self, method, data):
        if self.hang:
            self.hang.wait(120)
        if self.refusal:
            raise Refusal(self.refusal)
        asked = fields(data).get(1, [])
        if method == "PreStartContainer":
            self.started.append([id.decode() for id in asked])
            return b""
        if method == "GetPreferredAllocation":
            return message((1, message((1, self.prefers))))
        ids = [id.decode() for id in fields(asked[0]).get(1, [])]
        self.allocated.append(ids)
        env = message((1, "DEVICE_IDS"), (2, ",".join(ids)))
        mount = message((1, "/plugin"), (2, str(self.kubelet)), (3, 1))
        device = message((1, "/dev/e2e"), (2, "/dev/zero"), (3, "rw"))
        note = message((1, "e2e.k3rs.io/ids"), (2, ",".join(ids)))
        return message((1, message((1, env), (2, mount), (3, device), (4, note))))

    def close(self):
        self.listener.close()
        for connection in self.connections:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
