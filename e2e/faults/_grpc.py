"""A gRPC client that does what no library lets one do: frames by hand over a unix socket, without reading what comes."""

import socket
import struct
import time

# "grpc-status", in Huffman's code and plain.
STATUS = (b"\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f", b"\x0bgrpc-status")


def varint(value):
    out = b""
    value &= (1 << 64) - 1
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields):
    """A protobuf message of (number, value): int, str, bytes, or a list of them."""
    out = b""
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(number << 3) + varint(one)
            else:
                one = one.encode() if isinstance(one, str) else one
                out += varint(number << 3 | 2) + varint(len(one)) + one
    return out


def fields(data):
    """The fields of a message: number to the list of its values, ints and bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
            value -= (value >> 63) << 64
        else:
            length = number()
            value, at = data[at : at + length], at + length
        found.setdefault(key >> 3, []).append(value)
    return found


class Call:
    """One stream: the messages that came, and how it ended."""

    def __init__(self, stream):
        self.stream, self.data, self.messages, self.status, self.window = stream, b"", [], None, 65535


class Grpc:
    """A connection. With `greedy` false, what streams send is never let through beyond `window` bytes."""

    def __init__(self, path, window=1 << 30, greedy=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.buffer, self.next_id, self.calls, self.greedy = b"", 1, {}, greedy
        self.send_window, self.first_window, self.closed = 65535, 65535, False
        # No table of headers, so that what comes can be read without one.
        settings = struct.pack(">HIHI", 1, 0, 4, window)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, settings) + self.frame(8, 0, 0, struct.pack(">I", (1 << 31) - 65536)))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def open(self, path):
        block = b""
        for name, value in ((":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path), ("content-type", "application/grpc"), ("te", "trailers")):
            block += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        call = Call(self.next_id)
        call.window = self.first_window
        self.calls[call.stream] = call
        self.next_id += 2
        self.socket.sendall(self.frame(1, 4, call.stream, block))
        return call

    def send(self, call, data, ends=False):
        """Sends one message, as far as the server lets it."""
        self.push(call, b"\0" + struct.pack(">I", len(data)) + data, ends)

    def push(self, call, data, ends):
        while True:
            piece = data[: max(0, min(16384, self.send_window, call.window))]
            if piece or not data:
                data = data[len(piece) :]
                self.send_window -= len(piece)
                call.window -= len(piece)
                self.socket.sendall(self.frame(0, int(ends and not data), call.stream, piece))
                if not data:
                    return
            elif not self.read(30) or call.status is not None:
                return

    def unary(self, path, data, timeout=30):
        """The status (0 is well) and the message that came."""
        call = self.open(path)
        self.send(call, data, True)
        self.wait(lambda: call.status is not None, timeout)
        del self.calls[call.stream]
        return call.status, call.messages[0] if call.messages else None

    def wait(self, done, timeout=30):
        end = time.monotonic() + timeout
        while not done():
            left = end - time.monotonic()
            if left <= 0 or not self.read(left):
                raise TimeoutError(f"gRPC: nothing more came; closed: {self.closed}")

    def read(self, timeout):
        """Reads some frames; whether any came."""
        self.socket.settimeout(timeout)
        try:
            piece = self.socket.recv(1 << 18)
        except TimeoutError:
            return False
        except ConnectionError:
            piece = b""
        if not piece:
            self.closed = True
            for call in self.calls.values():
                call.status = "closed" if call.status is None else call.status
            return False
        self.buffer += piece
        at = 0
        while len(self.buffer) - at >= 9:
            length = int.from_bytes(self.buffer[at : at + 3], "big")
            if len(self.buffer) - at < 9 + length:
                break
            kind, flags, stream = self.buffer[at + 3], self.buffer[at + 4], int.from_bytes(self.buffer[at + 5 : at + 9], "big")
            self.take(kind, flags, stream, self.buffer[at + 9 : at + 9 + length])
            at += 9 + length
        self.buffer = self.buffer[at:]
        return True

    def take(self, kind, flags, stream, payload):
        call = self.calls.get(stream)
        if kind == 4 and not flags & 1:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    for each in self.calls.values():
                        each.window += value - self.first_window
                    self.first_window = value
            self.socket.sendall(self.frame(4, 1, 0, b""))
        elif kind == 6 and not flags & 1:
            self.socket.sendall(self.frame(6, 1, 0, payload))
        elif kind == 7:
            self.closed = True
        elif kind == 8:
            increment = int.from_bytes(payload, "big")
            if stream == 0:
                self.send_window += increment
            elif call:
                call.window += increment
        elif kind == 3 and call and call.status is None:
            call.status = "reset"
        elif kind == 1 and call:
            for name in STATUS:
                at = payload.find(name)
                if at >= 0:
                    value = payload[at + len(name) :]
                    call.status = int(value[1 : 1 + (value[0] & 0x7F)])
        elif kind == 0:
            if self.greedy and payload:
                self.socket.sendall(self.frame(8, 0, 0, struct.pack(">I", len(payload))) + (self.frame(8, 0, stream, struct.pack(">I", len(payload))) if call and not flags & 1 else b""))
            if call:
                call.data += payload
                while len(call.data) >= 5:
                    length = int.from_bytes(call.data[1:5], "big")
                    if len(call.data) < 5 + length:
                        break
                    call.messages.append(call.data[5 : 5 + length])
                    call.data = call.data[5 + length :]

    def close(self):
        self.socket.close()
