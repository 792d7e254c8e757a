"""A disk with a write cache that a power cut really empties: QEMU reaches it by NBD, this process owns the cache.

A killed QEMU loses nothing by itself, because the host's page cache survives it. Here a write stays in this process's
memory until the guest flushes; `cut` then keeps an arbitrary part of what was not flushed, as a real disk does: any
subset of the writes, some of them torn between sectors. All of NBD that QEMU needs: https://github.com/NetworkBlockDevice/nbd.
"""

import os
import pathlib
import socket
import struct
import subprocess
import threading

from initramfs import tools

SECTOR = 512
# What a disk of this size would hold back at most; older writes are destaged, oldest first.
CACHE_MAX_BYTES = 32 << 20

OPTION_EXPORT_NAME, OPTION_ABORT, OPTION_INFO, OPTION_GO = 1, 2, 6, 7
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, 0x80000001
COMMAND_READ, COMMAND_WRITE, COMMAND_DISCONNECT, COMMAND_FLUSH = 0, 1, 2, 3
HAS_FLAGS, SEND_FLUSH = 1, 4


class Disk:
    """One disk image and the server that QEMU connects to."""

    def __init__(self, path, size_mib, filesystem="ext4", label=None, options=()):
        self.path = pathlib.Path(path)
        self.socket_path = str(self.path) + ".sock"
        with open(self.path, "wb") as file:
            file.truncate(size_mib << 20)
        if filesystem:
            labels = ["-L", label] if label else []
            subprocess.run(["mke2fs", "-q", "-F", "-t", filesystem, *labels, *options, str(self.path)], env=tools(), check=True)
        self.size = size_mib << 20
        self.file = os.open(self.path, os.O_RDWR)
        self.lock = threading.Lock()
        self.cached = []  # (offset, bytes), in the order the guest wrote them
        self.cached_bytes = 0
        self.newest = {}  # sector -> its bytes, for reads
        self.bytes_written = self.n_writes = self.n_flushes = 0
        self.alarm = None  # (at which number of writes, what to do then)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket_path)
        self.listener.listen(1)
        threading.Thread(target=self.accept, daemon=True).start()

    def arguments(self, node, device):
        return [
            "-blockdev", f"driver=nbd,node-name={node},server.type=unix,server.path={self.socket_path}",
            "-device", f"{device},drive={node},write-cache=on",
        ]

    def when_written(self, n_more, action):
        """Calls `action` before the n-th further write is acknowledged; nothing reaches the disk after it."""
        with self.lock:
            self.alarm = (self.n_writes + n_more, action)

    def cut(self, source):
        """The power goes: of what was not flushed, a part chosen by `source` reaches the medium. Returns writes kept and lost."""
        with self.lock:
            chance = source.choice([0.0, 0.0, source.random(), 1.0])
            self.alarm = None
            kept = 0
            for offset, data in self.cached:
                if source.random() >= chance:
                    continue
                if len(data) > SECTOR and source.random() < 0.3:
                    data = data[: SECTOR * source.randrange(1, len(data) // SECTOR)]
                os.pwrite(self.file, data, offset)
                kept += 1
            lost = len(self.cached) - kept
            self.forget()
            return kept, lost

    def check(self):
        """What e2fsck finds after the journal has been replayed: an empty text if nothing needs repair. Works on a copy."""
        copy = str(self.path) + ".check"
        subprocess.run(["cp", "--sparse=always", self.path, copy], check=True)
        subprocess.run(["e2fsck", "-E", "journal_only", "-y", copy], env=tools(), capture_output=True)
        done = subprocess.run(["e2fsck", "-fn", copy], env=tools(), capture_output=True, text=True)
        os.unlink(copy)
        return done.stdout + done.stderr if done.returncode != 0 else ""

    def close(self):
        self.listener.close()
        with self.lock:
            os.close(self.file)
            self.file = -1

    # --- the cache ---

    def forget(self):
        self.cached, self.cached_bytes, self.newest = [], 0, {}

    def read(self, offset, length):
        with self.lock:
            data = os.pread(self.file, length, offset)
            if not self.newest:
                return data
            data = bytearray(data)
            for at in range(0, length, SECTOR):
                newer = self.newest.get((offset + at) // SECTOR)
                if newer is not None:
                    data[at : at + SECTOR] = newer
            return bytes(data)

    def write(self, offset, data):
        with self.lock:
            self.bytes_written += len(data)
            self.n_writes += 1
            self.cached.append((offset, data))
            self.cached_bytes += len(data)
            for at in range(0, len(data), SECTOR):
                self.newest[(offset + at) // SECTOR] = data[at : at + SECTOR]
            if self.cached_bytes > CACHE_MAX_BYTES:
                self.destage()

    def flush(self):
        with self.lock:
            self.n_flushes += 1
            self.destage()

    def destage(self):
        for offset, data in self.cached:
            os.pwrite(self.file, data, offset)
        self.forget()

    # --- NBD ---

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            # One at a time: a machine that was killed is gone when the next one starts.
            try:
                self.serve(Wire(connection))
            except (EOFError, OSError):
                pass
            connection.close()

    def serve(self, wire):
        wire.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1))
        no_zeroes = wire.unpack(">I")[0] & 2
        while True:
            _, option, length = wire.unpack(">8sII")
            wire.take(length)
            if option in (OPTION_GO, OPTION_INFO):
                wire.answer(option, REPLY_INFO, struct.pack(">HQH", 0, self.size, HAS_FLAGS | SEND_FLUSH))
                wire.answer(option, REPLY_INFO, struct.pack(">HIII", 3, SECTOR, 4096, 4 << 20))
                wire.answer(option, REPLY_ACK)
                if option == OPTION_GO:
                    break
            elif option == OPTION_EXPORT_NAME:
                wire.send(struct.pack(">QH", self.size, HAS_FLAGS | SEND_FLUSH) + (b"" if no_zeroes else bytes(124)))
                break
            elif option == OPTION_ABORT:
                wire.answer(option, REPLY_ACK)
                return
            else:
                wire.answer(option, REPLY_UNSUPPORTED)
        while True:
            _, _, command, handle, offset, length = wire.unpack(">IHHQQI")
            data, error = b"", 0
            if command == COMMAND_DISCONNECT:
                return
            if command == COMMAND_READ:
                data = self.read(offset, length)
            elif command == COMMAND_WRITE:
                self.write(offset, wire.take(length))
                if self.alarm and self.n_writes >= self.alarm[0]:
                    action, self.alarm = self.alarm[1], None
                    action()
                    return
            elif command == COMMAND_FLUSH:
                self.flush()
            else:
                error = 22
            wire.send(struct.pack(">IIQ", 0x67446698, error, handle) + data)


class ReadOnly:
    """A root file system that holds nothing but the directories it is mounted over at."""

    DIRECTORIES = ["dev", "proc", "sys", "run", "tmp", "etc", "mnt", "var/log", "var/lib/rancher/k3s"]

    def __init__(self, path, filesystem):
        self.path, tree = pathlib.Path(path), pathlib.Path(f"{path}.tree")
        for name in self.DIRECTORIES:
            (tree / name).mkdir(parents=True)
        if filesystem == "squashfs":
            subprocess.run(["mksquashfs", tree, path, "-quiet", "-no-progress", "-all-root"], env=tools(), check=True, stdout=subprocess.DEVNULL)
        else:
            with open(path, "wb") as file:
                file.truncate(8 << 20)
            subprocess.run(["mke2fs", "-q", "-F", "-t", filesystem, "-d", tree, path], env=tools(), check=True)

    def arguments(self, node, device):
        return ["-drive", f"if=none,id={node},file={self.path},format=raw,readonly=on", "-device", f"{device},drive={node}"]


class Wire:
    """A stream socket read by exact lengths."""

    def __init__(self, connection):
        self.connection = connection

    def send(self, data):
        self.connection.sendall(data)

    def take(self, length):
        parts = bytearray()
        while len(parts) < length:
            part = self.connection.recv(length - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def answer(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

