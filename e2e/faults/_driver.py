"""A storage driver (CSI) for tests: a gRPC server by hand over a unix socket, whose volumes are directories that it binds.

A call's path comes in Huffman's code of HPACK; of the few paths
that there are the codes are made here and looked for.
"""

import contextlib
import pathlib
import socket
import struct
import subprocess
import threading

from cluster import until
from faults._grpc import Grpc, fields, message

PREFACE_BYTES = 24
# Of the characters that paths of methods have, by the length of their codes, which follow each other.
CODES = {5: "012aceiost", 6: " %-./3456789=A_bdfghlmnpru", 7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"}
METHODS = {
    "/pluginregistration.Registration/": ("GetInfo", "NotifyRegistrationStatus"),
    "/csi.v1.Node/": (
        "NodeGetInfo", "NodeGetCapabilities", "NodeStageVolume", "NodeUnstageVolume", "NodePublishVolume", "NodeUnpublishVolume",
        "NodeGetVolumeStats", "NodeExpandVolume",
    ),
}  # fmt: skip


def huffman(text):
    bits, code, codes = "", 0, {}
    for length in range(5, 8):
        code <<= 1
        for character in CODES[length]:
            codes[character] = format(code, f"0{length}b")
            code += 1
    bits = "".join(codes[character] for character in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


PATHS = {huffman(service + method): method for service, methods in METHODS.items() for method in methods}


def texts(data, number):
    """A map of texts."""
    entries = [fields(entry) for entry in fields(data).get(number, [])]
    return {entry[1][0].decode(): entry.get(2, [b""])[0].decode() for entry in entries}


def loop(path):
    """A device whose bytes are those of a file, which is made."""
    path.write_bytes(bytes(1 << 20))
    return subprocess.run(["losetup", "--find", "--show", str(path)], check=True, capture_output=True, text=True).stdout.strip()


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Driver:
    """Registered while it is open. `calls` has the methods that were called, each with its request."""

    def __init__(self, cluster, name, capabilities=(1,), topology=None, volumes_max=0):
        self.name, self.capabilities, self.topology, self.volumes_max = name, capabilities, topology or {}, volumes_max
        self.root = cluster.dir / "drivers" / name
        self.data = self.root / "volumes"
        self.data.mkdir(parents=True, exist_ok=True)
        self.registry = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"]) / "plugins_registry" / f"{name}-reg.sock"
        self.socket = self.root / "csi.sock"
        self.calls, self.lock = [], threading.Lock()
        self.told = threading.Event()
        # Method to what it does instead of its work.
        self.faults = {}
        self.mounts = set()
        # Handle to the device of a volume that has no file system.
        self.loops = {}
        self.listeners = []

    def __enter__(self):
        until(lambda: self.registry.parent.is_dir(), "the kubelet looks for plugins")
        self.open()
        return self

    def open(self):
        self.told.clear()
        for path in (self.socket, self.registry):
            path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            # The length of addresses is bounded, those of directories of tests are not.
            listener.bind(str(path))
            listener.listen(16)
            self.listeners.append(listener)
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        if not self.told.wait(60):
            raise TimeoutError(f"{self.name} was not registered; it was asked {[method for method, _ in self.calls]}")

    def shut(self):
        self.registry.unlink(missing_ok=True)
        for listener in self.listeners:
            # Only so whoever waits for a connection wakes.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.listeners = []

    def __exit__(self, *_):
        self.shut()
        for place in sorted(self.mounts, reverse=True):
            subprocess.run(["umount", "-l", place], capture_output=True)
        for device in self.loops.values():
            subprocess.run(["losetup", "-d", device], capture_output=True)

    def called(self, method):
        with self.lock:
            return [request for name, request in self.calls if name == method]

    def accept(self, listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        """The calls of one connection, each answered by a thread of its own."""
        data, begun, calls, sending = b"", False, {}, threading.Lock()
        try:
            with peer:
                # No table of headers: each path is written out.
                peer.sendall(Grpc.frame(4, 0, 0, struct.pack(">HI", 1, 0)))
                while True:
                    piece = peer.recv(65536)
                    if not piece:
                        return
                    data += piece
                    if not begun:
                        if len(data) < PREFACE_BYTES:
                            continue
                        begun, data = True, data[PREFACE_BYTES:]
                    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                        length, kind, flags, stream = int.from_bytes(data[:3], "big"), data[3], data[4], int.from_bytes(data[5:9], "big")
                        payload, data = data[9 : 9 + length], data[9 + length :]
                        if kind in (4, 6) and not flags & 1:
                            with sending:
                                peer.sendall(Grpc.frame(kind, 1, 0, payload if kind == 6 else b""))
                        elif kind == 1:
                            calls[stream] = (payload, b"")
                        elif kind == 0 and stream in calls:
                            calls[stream] = (calls[stream][0], calls[stream][1] + payload)
                        if kind in (0, 1) and flags & 1 and stream in calls:
                            head, body = calls.pop(stream)
                            threading.Thread(target=self.answer, args=(peer, sending, stream, head, body[5:]), daemon=True).start()
        except OSError:
            pass

    def answer(self, peer, sending, stream, head, request):
        method = next((method for path, method in PATHS.items() if path in head), None)
        with self.lock:
            self.calls.append((method, request))
        code, text, answer = 0, "", b""
        try:
            fault = self.faults.get(method)
            answer = (fault or getattr(self, method))(request) or b""
        except Refused as refused:
            code, text = refused.code, str(refused)
        literal = lambda name, value: b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        out = Grpc.frame(1, 4, stream, b"\x88" + literal("content-type", "application/grpc"))
        if not code:
            out += Grpc.frame(0, 0, stream, b"\0" + struct.pack(">I", len(answer)) + answer)
        out += Grpc.frame(1, 5, stream, literal("grpc-status", str(code)) + literal("grpc-message", text))
        with sending, contextlib.suppress(OSError):
            peer.sendall(out)

    def GetInfo(self, _):
        return message((1, "CSIPlugin"), (2, self.name), (3, str(self.socket)), (4, "1.0.0"))

    def NotifyRegistrationStatus(self, request):
        self.status = fields(request)
        if self.status.get(1) == [1]:
            self.told.set()

    def NodeGetInfo(self, _):
        segments = [message((1, key), (2, value)) for key, value in self.topology.items()]
        topology = [(3, message((1, segments)))] if segments else []
        return message((1, f"id-{self.name}"), (2, self.volumes_max), *topology)

    def NodeGetCapabilities(self, _):
        return message((1, [message((1, message((1, number)))) for number in self.capabilities]))

    def volume(self, request):
        path = self.data / fields(request)[1][0].decode()
        path.mkdir(exist_ok=True)
        return path

    def device(self, request):
        handle = fields(request)[1][0].decode()
        if handle not in self.loops:
            self.loops[handle] = loop(self.data / f"{handle}.img")
        return self.loops[handle]

    def bind(self, source, target):
        place = pathlib.Path(target)
        if pathlib.Path(source).is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        if target not in self.mounts:
            subprocess.run(["mount", "--bind", source, target], check=True)
            self.mounts.add(target)

    def unbind(self, target):
        if target in self.mounts:
            subprocess.run(["umount", target], check=True)
            self.mounts.discard(target)
        place = pathlib.Path(target)
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)

    def NodeStageVolume(self, request):
        if 1 in fields(fields(request)[4][0]):
            self.device(request)
        else:
            self.bind(self.volume(request), fields(request)[3][0].decode())

    def NodeUnstageVolume(self, request):
        self.unbind(fields(request)[2][0].decode())

    def NodePublishVolume(self, request):
        if 1 in fields(fields(request)[5][0]):
            return self.bind(self.device(request), fields(request)[4][0].decode())
        staged = fields(request).get(3)
        self.bind(staged[0].decode() if staged else self.volume(request), fields(request)[4][0].decode())

    def NodeUnpublishVolume(self, request):
        self.unbind(fields(request)[2][0].decode())

    def NodeGetVolumeStats(self, _):
        of_bytes = message((1, 60), (2, 100), (3, 40), (4, 1))
        return message((1, [of_bytes, message((1, 6), (2, 10), (3, 4), (4, 2))]))

    def NodeExpandVolume(self, request):
        return message((1, fields(fields(request)[3][0])[1][0]))
