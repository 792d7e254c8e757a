"""RPM's packages of format 4: a lead, a header of digests, the header, and a compressed cpio."""

import hashlib
import lzma
import struct

import scripts
import tree

ARCH = {"amd64": "x86_64", "arm64": "aarch64", "armv7": "armv7hl"}

INT16, INT32, STRING, BIN, STRINGS, I18N = 3, 4, 6, 7, 8, 9
SENSE_EQUAL, SENSE_RPMLIB, SENSE_LE = 8, 0x100000A, 10


def header(tags, region):
    """A header of (tag, type, value), in the order of the tags, with its region."""
    index, store = [], bytearray()
    for tag, kind, value in sorted(tags):
        align = {INT16: 2, INT32: 4}.get(kind, 1)
        store.extend(b"\0" * (-len(store) % align))
        if kind in (INT16, INT32):
            values = value if isinstance(value, list) else [value]
            data, count = struct.pack(f">{len(values)}{'H' if kind == INT16 else 'I'}", *values), len(values)
        elif kind == BIN:
            data, count = value, len(value)
        else:
            values = value if isinstance(value, list) else [value]
            data, count = b"".join(text.encode() + b"\0" for text in values), len(values)
        index.append(struct.pack(">IIII", tag, kind, len(store), count))
        store.extend(data)
    size = (len(index) + 1) * 16
    index.insert(0, struct.pack(">IIII", region, BIN, len(store), 16))
    store.extend(struct.pack(">IIiI", region, BIN, -size, 16))
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", len(index), len(store)) + b"".join(index) + bytes(store)


def build(binary, arch, version, epoch):
    """Its name and its bytes."""
    entries = tree.files(binary, "systemd", "/usr/lib/systemd/system")
    # Directories belong to the system's own packages, but for ours.
    entries = [it for it in entries if it.data is not None or it.target is not None or it.path == "usr/share/doc/k3rs"]
    digest = hashlib.sha256(binary).hexdigest()
    raw = tree.cpio(entries, epoch)
    payload = lzma.compress(raw, preset=6)
    dirs = sorted({"/" + it.path.rpartition("/")[0] + "/" for it in entries})
    sizes = [len(it.data if it.data is not None else it.target or "") if it.kind() != 0o040000 else 4096 for it in entries]
    n = len(entries)
    requires = [("/bin/sh", 0x700, ""), ("/bin/sh", 0x1900, "")]
    requires += [(f"rpmlib({name})", SENSE_RPMLIB, since) for name, since in [
        ("CompressedFileNames", "3.0.4-1"), ("FileDigests", "4.6.0-1"), ("PayloadFilesHavePrefix", "4.0-1"), ("PayloadIsXz", "5.2-1"),
    ]]
    tags = [
        (100, STRINGS, ["C"]), (1000, STRING, "k3rs"), (1001, STRING, version), (1002, STRING, "1"),
        (1004, I18N, "Kubernetes distribution in one small static binary"),
        (1005, I18N, "API server, scheduler, controllers, kubelet, container runtime, network and DNS for machines where k3s\n"
         "is too big. Its services are k3s and k3s-agent; none is started by the installation: systemctl enable --now k3s"),
        (1006, INT32, epoch), (1007, STRING, "localhost"), (1009, INT32, sum(sizes)), (1014, STRING, "Apache-2.0 AND GPL-2.0-only"),
        (1016, I18N, "System Environment/Daemons"), (1020, STRING, "https://kubernetes.io"), (1021, STRING, "linux"), (1022, STRING, ARCH[arch]),
        (1023, STRING, scripts.keep(digest)), (1024, STRING, scripts.RESTART),
        (1025, STRING, f'if [ "$1" = 0 ]; then\n{scripts.STOP}fi\n'), (1026, STRING, f'if [ "$1" = 0 ]; then\n{scripts.FORGET}fi\n'),
        (1028, INT32, sizes), (1030, INT16, [it.kind() | it.mode for it in entries]), (1033, INT16, [0] * n), (1034, INT32, [epoch] * n),
        (1035, STRINGS, [hashlib.sha256(it.data).hexdigest() if it.data is not None else "" for it in entries]),
        (1036, STRINGS, [it.target or "" for it in entries]), (1037, INT32, [2 if "doc/" in it.path and it.data is not None else 0 for it in entries]),
        (1039, STRINGS, ["root"] * n), (1040, STRINGS, ["root"] * n), (1044, STRING, f"k3rs-{version}-1.src.rpm"), (1045, INT32, [0xFFFFFFFF] * n),
        (1047, STRINGS, ["k3rs"]), (1048, INT32, [it[1] for it in requires]), (1049, STRINGS, [it[0] for it in requires]), (1050, STRINGS, [it[2] for it in requires]),
        (1085, STRING, "/bin/sh"), (1086, STRING, "/bin/sh"), (1087, STRING, "/bin/sh"), (1088, STRING, "/bin/sh"),
        (1095, INT32, [1] * n), (1096, INT32, list(range(1, n + 1))), (1097, STRINGS, [""] * n),
        (1112, INT32, [SENSE_EQUAL]), (1113, STRINGS, [f"{version}-1"]),
        (1116, INT32, [dirs.index("/" + it.path.rpartition("/")[0] + "/") for it in entries]),
        (1117, STRINGS, [it.path.rpartition("/")[2] for it in entries]), (1118, STRINGS, dirs),
        (1124, STRING, "cpio"), (1125, STRING, "xz"), (1126, STRING, "6"), (5011, INT32, 8),
        (5092, STRINGS, [hashlib.sha256(payload).hexdigest()]), (5093, INT32, 8),
    ]
    main = header(tags, 63)
    digests = header(
        [
            (269, STRING, hashlib.sha1(main).hexdigest()), (273, STRING, hashlib.sha256(main).hexdigest()),
            (1000, INT32, len(main) + len(payload)), (1004, BIN, hashlib.md5(main + payload).digest()), (1007, INT32, len(raw)),
        ],
        62,
    )
    digests += b"\0" * (-len(digests) % 8)
    lead = struct.pack(">IBBHH66sHH16x", 0xEDABEEDB, 3, 0, 0, 1, f"k3rs-{version}-1".encode(), 1, 5)
    return f"k3rs-{version}-1.{ARCH[arch]}.rpm", lead + digests + main + payload
