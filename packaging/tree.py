"""The files of a package, as install.sh lays them down, and archives of them that come out the same each time."""

import hashlib
import io
import os
import pathlib
import stat
import subprocess
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


class File:
    """One entry: a directory has neither data nor target."""

    def __init__(self, path, mode, data=None, target=None):
        self.path, self.mode, self.data, self.target = path, mode, data, target

    def kind(self):
        return stat.S_IFREG if self.data is not None else stat.S_IFLNK if self.target is not None else stat.S_IFDIR


def files(binary, init, systemd_dir):
    """What a package has: the program, its services and scripts, with directories before what is in them."""
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(f"{root}/usr/bin")
        target = pathlib.Path(root, "usr/bin/k3rs")
        target.write_bytes(binary)
        target.chmod(0o755)
        target.with_name("k3s").symlink_to("k3rs")
        for command in ("server", "agent"):
            env = {
                "PATH": os.environ["PATH"],
                "INSTALL_K3RS_PACKAGE": "true",
                "INSTALL_K3RS_ROOT": root,
                "INSTALL_K3RS_INIT": init,
                "INSTALL_K3S_SKIP_DOWNLOAD": "true",
                "INSTALL_K3S_SKIP_ENABLE": "true",
                "INSTALL_K3S_SYMLINK": "skip",
                "INSTALL_K3S_BIN_DIR": "/usr/bin",
                "INSTALL_K3S_SYSTEMD_DIR": systemd_dir,
            }
            subprocess.run(["sh", HERE / "install.sh", command], env=env, check=True, stdout=subprocess.DEVNULL)
        doc = pathlib.Path(root, "usr/share/doc/k3rs")
        doc.mkdir(parents=True)
        (doc / "copyright").write_bytes(copyright_text())
        return walk(root)


def copyright_text():
    text = (HERE.parent / "LICENSE").read_bytes()
    return b"k3rs is under the Apache License 2.0, busybox in it under the GNU GPL 2 (usr/share/licenses there).\n\n" + text


def walk(root):
    found = []
    for path in sorted(pathlib.Path(root).rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found.append(File(name, 0o777, target=os.readlink(path)))
        elif stat.S_ISDIR(mode):
            found.append(File(name, 0o755))
        else:
            found.append(File(name, 0o755 if mode & 0o100 else 0o644, data=path.read_bytes()))
    return found


def tar(entries, epoch, prefix="", checksums=False, end=True):
    """A tar of the entries; with the SHA-1 of each that Alpine's apk wants, or without its end."""
    out = io.BytesIO()
    form = tarfile.PAX_FORMAT if checksums else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for entry in entries:
            info = tarfile.TarInfo(prefix + entry.path)
            info.mode, info.mtime, info.uname, info.gname = entry.mode, epoch, "root", "root"
            content = None
            if entry.data is not None:
                content, info.size = entry.data, len(entry.data)
            elif entry.target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
            else:
                info.type = tarfile.DIRTYPE
            if checksums and info.type != tarfile.DIRTYPE:
                hashed = content if content is not None else entry.target.encode()
                info.pax_headers = {"APK-TOOLS.checksum.SHA1": hashlib.sha1(hashed).hexdigest()}
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
        length = archive.offset
    return out.getvalue() if end else out.getvalue()[:length]


def cpio(entries, epoch):
    """A cpio of the form `newc`, its names below `./`, as RPM has it."""
    out = bytearray()

    def add(name, mode, data, number):
        fields = [number, mode, 0, 0, 1, epoch if number else 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out.extend(b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0")
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    for number, entry in enumerate(entries, 1):
        data = entry.data if entry.data is not None else (entry.target or "").encode()
        add(b"./" + entry.path.encode(), entry.kind() | entry.mode, data, number)
    add(b"TRAILER!!!", 0, b"", 0)
    return bytes(out)


def ar(members, epoch):
    out = bytearray(b"!<arch>\n")
    for name, data in members:
        out.extend(f"{name:<16}{epoch:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
        out.extend(data + b"\n" * (len(data) % 2))
    return bytes(out)
