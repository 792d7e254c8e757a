"""Alpine's packages of format 2: two compressed tars one after the other, of which the first has no end. They are not signed."""

import hashlib
import re
import zlib

import scripts
import tree

ARCH = {"amd64": "x86_64", "arm64": "aarch64", "armv7": "armv7"}


def gzip(data):
    """Without a time in it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def alpine_version(version):
    """1.32.9+k3rs1 as Alpine writes versions: 1.32.9_p1-r0."""
    number, ours = re.fullmatch(r"([0-9.]+)\+k3rs([0-9]+)", version).groups()
    return f"{number}_p{ours}-r0"


def build(binary, arch, version, epoch):
    """Its name and its bytes."""
    entries = tree.files(binary, "openrc", "/etc/systemd/system")
    version = alpine_version(version)
    digest = hashlib.sha256(binary).hexdigest()
    data = gzip(tree.tar(entries, epoch, checksums=True))
    info = f"""pkgname = k3rs
pkgver = {version}
pkgdesc = Kubernetes distribution in one small static binary
url = https://kubernetes.io
builddate = {epoch}
packager = The k3rs authors <root@localhost>
size = {sum(len(it.data or b"") for it in entries)}
arch = {ARCH[arch]}
origin = k3rs
license = Apache-2.0 AND GPL-2.0-only
provides = cmd:k3rs
datahash = {hashlib.sha256(data).hexdigest()}
"""
    head = "#!/bin/sh\n"
    inside = [
        tree.File(".PKGINFO", 0o644, data=info.encode()),
        tree.File(".post-deinstall", 0o755, data=(head + scripts.FORGET).encode()),
        tree.File(".post-upgrade", 0o755, data=(head + scripts.RESTART).encode()),
        tree.File(".pre-deinstall", 0o755, data=(head + scripts.STOP).encode()),
        tree.File(".pre-upgrade", 0o755, data=(head + scripts.keep(digest)).encode()),
    ]
    return f"k3rs-{version}.{ARCH[arch]}.apk", gzip(tree.tar(inside, epoch, end=False)) + data
