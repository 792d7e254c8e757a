"""A name server with faults, and a client that shows the bytes: _dns.py serve LOG ADDRESS=MODE ..., _dns.py ask SERVER NAME TYPE ..."""

import json
import os
import socket
import struct
import sys
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def name_at(data, at):
    labels, end = [], None
    while data[at]:
        if data[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack(">H", data[at : at + 2])[0] & 0x3FFF
            continue
        labels.append(data[at + 1 : at + 1 + data[at]].decode("latin1"))
        at += data[at] + 1
    return ".".join(labels), end or at + 1


def record(owner, kind, data, ttl=60):
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def answer(query, mode, tcp):
    name, at = name_at(query, 12)
    kind = struct.unpack(">H", query[at : at + 2])[0]
    edns = struct.unpack(">H", query[at + 7 : at + 9])[0] if query[11] else None
    if mode == "silent":
        return None
    if mode == "noedns" and edns:
        return query[:2] + struct.pack(">HHHHH", 0x8181, 0, 0, 0, 0)
    lower, owner, records, authority, code = name.lower(), b"\xc0\x0c", [], [], 0
    soa = record(encode("example.test"), 6, encode("ns.example.test") + encode("h.example.test") + struct.pack(">IIIII", 1, 2, 3, 4, 30))
    if lower.startswith("big.") and kind == 1:
        records = [record(owner, 1, bytes([10, 9, idx // 250, idx % 250])) for idx in range(int(lower.split(".")[1]))]
    elif lower.startswith("chain.") and kind == 1:
        for idx in range(8):
            target = encode(f"c{idx}.some-rather-long-name-to-fill-the-packet.example.test")
            records.append(record(owner, 5, target))
            owner = target
        records += [record(owner, 1, bytes([10, 9, 9, idx])) for idx in range(30)]
    elif lower.startswith("mail.") and kind == 15:
        records = [record(owner, 15, b"\0\x0a\x02mx" + b"\xc0\x0c")]
    elif lower.startswith("nx."):
        code, authority = 3, [soa]
    elif lower.startswith("who.") and kind == 16:
        records = [record(owner, 16, bytes([len(mode)]) + mode.encode(), 0)]
    elif kind == 1:
        records = [record(owner, 1, bytes([10, 9, 9, 3]))]
    else:
        authority = [soa]

    def pack(records, cut):
        opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0) if edns and mode != "noedns" else b""
        head = struct.pack(">HHHHH", 0x8180 | code | (0x200 if cut else 0), 1, len(records), len(authority), 1 if opt else 0)
        return query[:2] + head + query[12 : at + 4] + b"".join(records) + b"".join(authority) + opt

    whole = pack(records, False)
    if tcp or len(whole) <= max(512, edns or 512):
        return whole
    return pack(records[:10], True)


def serve(log, addresses):
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(line):
        # One write, whole: several threads do so.
        os.write(log, f"{line}\n".encode())

    def udp(address, mode):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, 53))
        while True:
            query, peer = server.recvfrom(4096)
            note(f"{mode} udp {name_at(query, 12)[0]} opt={query[11]} port={peer[1]}")
            said = answer(query, mode, False)
            if said:
                server.sendto(said, peer)

    def tcp(address, mode):
        server = socket.create_server((address, 53))
        while True:
            client, _ = server.accept()
            with client:
                client.settimeout(2)
                try:
                    size = struct.unpack(">H", client.recv(2))[0]
                    query = client.recv(size)
                    note(f"{mode} tcp {name_at(query, 12)[0]} opt={query[11]} port=0")
                    said = answer(query, mode, True)
                    client.sendall(struct.pack(">H", len(said)) + said)
                except (OSError, struct.error, TypeError):
                    pass

    for pair in addresses:
        address, mode = pair.split("=")
        threading.Thread(target=udp, args=(address, mode), daemon=True).start()
        # This one has no TCP at all.
        if mode not in ("silent", "udponly"):
            threading.Thread(target=tcp, args=(address, mode), daemon=True).start()
    # It ends with the test that started it.
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)


def ask(server, name, kind, edns=0, tcp=False, timeout=10):
    """A plain client: what is in the answer, as a dictionary."""
    query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 1 if edns else 0) + encode(name) + struct.pack(">HH", TYPES[kind], 1)
    if edns:
        query += b"\0" + struct.pack(">HHIH", 41, edns, 0, 0)
    started = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((server, 53))
        if tcp:
            sock.sendall(struct.pack(">H", len(query)) + query)
            size, data = struct.unpack(">H", sock.recv(2))[0], b""
            while len(data) < size:
                data += sock.recv(size - len(data))
        else:
            sock.send(query)
            data = sock.recv(65535)
    ident, flags, _, answers, authority, additional = struct.unpack(">HHHHHH", data[:12])
    asked, at = name_at(data, 12)
    at += 4
    records = []
    for _ in range(answers + authority + additional):
        owner, at = name_at(data, at)
        kind, _, ttl, size = struct.unpack(">HHIH", data[at : at + 10])
        start = at + 10
        if kind in (2, 5, 12):
            text = name_at(data, start)[0]
        elif kind == 33:
            text = f"{struct.unpack('>H', data[start + 4 : start + 6])[0]} {name_at(data, start + 6)[0]}"
        elif kind == 15:
            text = name_at(data, start + 2)[0]
        else:
            text = data[start : start + size].hex() if kind not in (1, 16) else ".".join(map(str, data[start : start + 4])) if kind == 1 else data[start + 1 : start + size].decode()
        records.append([owner, kind, ttl, text])
        at = start + size
    return {
        "ok": ident == 4711 and at == len(data),
        "seconds": time.monotonic() - started,
        "bytes": len(data),
        "code": flags & 15,
        "cut": bool(flags & 0x200),
        "asked": asked,
        "answers": records[:answers],
        "authority": records[answers : answers + authority],
        "additional": records[answers + authority :],
    }


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        print(json.dumps(ask(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6] == "tcp", float(sys.argv[7]))))
