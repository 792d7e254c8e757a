"""Debian's packages: an ar of three members."""

import hashlib
import lzma

import scripts
import tree

ARCH = {"amd64": "amd64", "arm64": "arm64", "armv7": "armhf"}


def build(binary, arch, version, epoch):
    """Its name and its bytes."""
    entries = tree.files(binary, "systemd", "/lib/systemd/system")
    digest = hashlib.sha256(binary).hexdigest()
    size = sum(len(entry.data or b"") for entry in entries) // 1024 + 1
    control = f"""Package: k3rs
Version: {version}
Architecture: {ARCH[arch]}
Maintainer: The k3rs authors <root@localhost>
Installed-Size: {size}
Section: admin
Priority: optional
Homepage: https://kubernetes.io
Description: Kubernetes distribution in one small static binary
 API server, scheduler, controllers, kubelet, container runtime, network and DNS
 for machines where k3s is too big. Its services are k3s and k3s-agent; none is
 started by the installation: systemctl enable --now k3s
"""
    sums = "".join(f"{hashlib.md5(it.data).hexdigest()}  {it.path}\n" for it in entries if it.data is not None)
    head = "#!/bin/sh\nset -e\n"
    members = {
        "control": (0o644, control),
        "md5sums": (0o644, sums),
        "preinst": (0o755, head + scripts.keep(digest)),
        "postinst": (0o755, head + f'if [ "$1" = configure ]; then\n{scripts.RESTART}fi\n'),
        "prerm": (0o755, head + f'if [ "$1" = remove ]; then\n{scripts.STOP}fi\n'),
        "postrm": (0o755, head + f'if [ "$1" = purge ] || [ "$1" = remove ]; then\n{scripts.FORGET}fi\n'),
    }
    inside = [tree.File(name, mode, data=text.encode()) for name, (mode, text) in members.items()]
    pack = lambda tar: lzma.compress(tar, preset=6)
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", pack(tree.tar(inside, epoch, "./"))),
        ("data.tar.xz", pack(tree.tar(entries, epoch, "./"))),
    ]
    return f"k3rs_{version}_{ARCH[arch]}.deb", tree.ar(parts, epoch)
