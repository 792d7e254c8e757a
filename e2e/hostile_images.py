"""Hostile image archives: every kind of tar entry at every place against a tree of links, and a registry that serves them."""

import hashlib
import http.server
import io
import json
import os
import pathlib
import socket
import sys
import tarfile
import threading

KINDS = {
    "file": tarfile.REGTYPE, "old-file": tarfile.AREGTYPE, "hardlink": tarfile.LNKTYPE, "symlink": tarfile.SYMTYPE, "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE, "directory": tarfile.DIRTYPE, "fifo": tarfile.FIFOTYPE, "contiguous": tarfile.CONTTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE, "unknown": b"Z", "vendor": b"V",
}  # fmt: skip

# Where an entry of layer two stands; OUT is the absolute path of what is outside, UP leads there from any depth.
PLACES = [
    "abs", "abs/new", "abs/file", "abs-file", "up", "up/new", "up-file", "chain", "chain/new", "chain/dir/new", "loop", "loop/new", "dangling", "dangling/new",
    "d", "d/sub", "d/f", "d/f/below-a-file", "d/abs", "d/abs/file", "d/hard", "replaced", "replaced/new", "was-link", "was-link/new", "..", "../new", "../../outside/new",
    "d/../../../outside/new", "/abs/new", "//up//new", "./abs/./new", "", ".", "/", "OUT/new", "UP/new", "abs/../new", ".wh.abs", "abs/.wh.file", "up/.wh.dir", ".wh.d", ".wh...", ".wh.", "abs/.wh..wh..opq",
    "chain/.wh..wh..opq", "d/.wh..wh..opq", ".wh..wh..opq", "n" * 256, "n" * 5000, "/".join("d" * 1 for _ in range(2000)), "nul\0name", "\udcff\udcfe",
]  # fmt: skip


def info(name, kind, mode=0o4777, link="", **more):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.uid, entry.gid, entry.mtime = kind, mode, link, 4000, 4000, 86400
    for key, value in more.items():
        setattr(entry, key, value)
    return entry


def tar(entries):
    """A tar of (TarInfo, bytes); names that PAX or GNU headers must carry are carried by both in turn."""
    out = io.BytesIO()
    for n, (entry, data) in enumerate(entries):
        entry.size = len(data)
        entry.devmajor, entry.devminor = 1, 3
        out.write(entry.tobuf([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT][n % 2], "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % 512))
    out.write(bytes(1024))
    return out.getvalue()


def tree(outside):
    """The lower layer: directories with wide modes, and links that lead everywhere."""
    up = "../" * 20 + str(outside).lstrip("/")
    entries = [info(name, tarfile.DIRTYPE) for name in ("d", "d/sub", "replaced", "was-link-target")]
    links = {"abs": outside, "abs-file": f"{outside}/file", "up": up, "up-file": f"{up}/file", "chain": "chain2", "chain2": "chain3", "chain3": "abs", "loop": "loop2",
             "loop2": "loop", "dangling": "/nowhere/at/all", "d/abs": outside, "was-link": outside, "proc": "/proc/self/root" + str(outside)}  # fmt: skip
    entries += [info(name, tarfile.SYMTYPE, link=str(target)) for name, target in links.items()]
    return tar([(entry, b"") for entry in entries] + [(info("d/f", tarfile.REGTYPE), b"inside"), (info("d/hard", tarfile.LNKTYPE, link="d/f"), b"")])


def layers(kind, place, outside):
    """What lies between: the second layer makes implied directories and then replaces them by links; the third has the entry."""
    up = "../" * 20 + str(outside).lstrip("/")
    place = place.replace("OUT", str(outside)).replace("UP", up)
    second = tar([(info("replaced/f", tarfile.REGTYPE), b"x"), (info("replaced", tarfile.SYMTYPE, link=str(outside)), b""), (info("was-link", tarfile.DIRTYPE), b""),
                  (info("d/sub/f", tarfile.REGTYPE), b"x"), (info("d/sub", tarfile.SYMTYPE, link=f"{outside}/file"), b"")])  # fmt: skip
    data = b"hostile" if kind in ("file", "old-file", "contiguous", "sparse", "unknown", "vendor") else b""
    third = [(info("replaced/f", tarfile.REGTYPE), b"x"), (info("abs", tarfile.SYMTYPE, link=str(outside)), b""), (info("up", tarfile.SYMTYPE, link=up), b"")]
    targets = [f"{outside}/file", f"{up}/file", "abs/file", "d/f"] if kind in ("symlink", "hardlink") else [""]
    # The same name more than once: each target over the one before, and something below it.
    third += [(info(place, KINDS[kind], link=target), data) for target in targets]
    third += [(info(f"{place}/below", tarfile.REGTYPE), b"hostile")] if kind in ("symlink", "directory") else []
    return [tree(outside), second, tar(third)]


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image_config(blobs, **config):
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"], **config}, "rootfs": {"type": "layers", "diff_ids": [sha256(blob) for blob in blobs]}}).encode()


def archive(path, name, blobs, **config):
    """An archive as `docker save` writes it."""
    with tarfile.open(path, "w") as out:
        saved = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in range(len(blobs))]}]
        for entry, data in [("config.json", image_config(blobs, **config)), *((f"{n}.tar", blob) for n, blob in enumerate(blobs)), ("manifest.json", json.dumps(saved).encode())]:
            header = tarfile.TarInfo(entry)
            header.size = len(data)
            out.addfile(header, io.BytesIO(data))


def outside_tree(directory):
    outside = pathlib.Path(directory) / "outside"
    (outside / "dir").mkdir(parents=True)
    for name in ("file", "dir/file"):
        (outside / name).write_text("canary")
        (outside / name).chmod(0o600)
        os.setxattr(outside / name, "user.canary", b"1")
    (outside / "link").symlink_to("dir")
    return outside


def snapshot(directory):
    """All that can be seen below a directory, times of change included."""
    seen = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        stat = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        seen[str(path)] = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink, stat.st_mtime_ns, stat.st_ctime_ns, content, xattrs)
    return seen


class Registry:
    """A registry of these images, with whatever it is told to lie about. Runs where it is started: inside a cluster's network as a program."""

    def __init__(self, images, port, host="127.0.0.1", sizes=True, redirect=None, endless=False):
        blobs, manifests = {}, {}
        for name, layers_of in images.items():
            config = image_config(layers_of)
            described = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(blob), "size": len(blob) if sizes else 0} for blob in layers_of]
            manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": described,
                        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)}}  # fmt: skip
            if endless:
                # A layer that says it has so much, and whose end mark is followed by zeros for ever.
                manifest["layers"][0]["size"] = 1 << 34
            manifests[name] = json.dumps(manifest).encode()
            blobs.update({sha256(blob): blob for blob in [config, *layers_of]})
        layer_digests = {sha256(blob) for layers_of in images.values() for blob in layers_of}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                parts = self.path.split("/")
                what, reference = parts[-2], parts[-1]
                if self.path == "/v2/":
                    return self.answer(200, b"{}")
                if what == "manifests" and (body := manifests.get("/".join(parts[2:-2]))):
                    return self.answer(200, body, "application/vnd.oci.image.manifest.v1+json")
                if what == "blobs" and reference in blobs:
                    if redirect and reference in layer_digests:
                        return self.answer(307, b"", location=redirect)
                    if endless and reference in layer_digests:
                        return self.pour(blobs[reference])
                    return self.answer(200, blobs[reference])
                self.answer(404, b"{}")

            def pour(self, blob):
                self.send_response(200)
                self.send_header("content-length", str(1 << 34))
                self.end_headers()
                print("begin", flush=True)
                try:
                    self.wfile.write(blob)
                    while True:
                        threading.Event().wait(0.02)
                        self.wfile.write(bytes(4096))
                except OSError:
                    print("left", flush=True)

            def answer(self, status, body, kind="application/octet-stream", location=None):
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                if location:
                    self.send_header("location", location)
                self.end_headers()
                self.wfile.write(body)
                print(status, self.path[:200], flush=True)

        # HTTPServer asks DNS for the name of its address, and waits for seconds where nobody answers.
        socket.getfqdn = str
        self.server = http.server.ThreadingHTTPServer((host, port), Handler)


def all_cases(every=1):
    cases = [(kind, place) for place in PLACES for kind in KINDS]
    return cases[::every]


def main(port, outside, every, how, argument=""):
    """Serves all cases as 127.0.0.1:PORT/case/N; or, for `sizes`, `endless` and `redirect`, one honest image that is lied about."""
    if how == "cases":
        images = {f"case/{n}": layers(kind, place, pathlib.Path(outside)) for n, (kind, place) in enumerate(all_cases(int(every)))}
        registry = Registry(images, int(port))
    else:
        honest = {"case/lie": [tar([(info("f", tarfile.REGTYPE), b"x")])]}
        host = "0.0.0.0"
        registry = Registry(honest, int(port), host, sizes=how != "sizes", redirect=argument or None, endless=how == "endless")
    print("ready", flush=True)
    registry.server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
