"""An initramfs that holds the k3rs binary as /init and the kernel's modules, nothing else: initramfs.py ARCH BINARY OUT."""

import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

# What a node may need of these machines' kernels: their devices, file systems, and what k3rs asks the network for.
# Modules that a kernel has built in or does not know are left out.
MODULES = """
virtio_mmio virtio_pci virtio_net virtio_blk virtio_console virtio_rng evdev
ext4 squashfs overlay
bridge br_netfilter veth vxlan
nf_tables nf_conntrack nf_conntrack_netlink nf_nat nf_reject_ipv4 nf_reject_ipv6
nft_chain_nat nft_ct nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_hash nft_limit nft_log nft_masq nft_nat
nft_numgen nft_objref nft_redir nft_reject nft_reject_inet nft_reject_ipv4 nft_reject_ipv6 nft_quota nft_connlimit
nf_log_syslog
""".split()


def directory():
    """Where setup.sh put QEMU and the kernels."""
    return pathlib.Path(os.environ.get("K3RS_QEMU_DIR") or pathlib.Path.home() / ".cache/k3rs-qemu")


def tools():
    """The environment of the tools that setup.sh unpacked."""
    said = subprocess.run(["bash", "-c", '. "$0" && env -0 && printf "DATA=%s" "$K3RS_QEMU_DATA"', str(directory() / "tools/env")], capture_output=True, check=True)
    return dict(entry.split("=", 1) for entry in said.stdout.decode().split("\0") if "=" in entry)


def binary(arch):
    """The program of an architecture: what BIN_ARCH names, or what `make cross` made."""
    path = pathlib.Path(os.environ.get(f"BIN_{arch.upper()}") or pathlib.Path(__file__).resolve().parents[1] / f"dist/k3rs-{arch}")
    if not path.exists():
        sys.exit(f"qemu-tests: no {path} (make cross TARGET={arch}, or BIN_{arch.upper()}=FILE)")
    return path


def canonical(name):
    return pathlib.PurePath(name).name.split(".ko")[0].replace("-", "_")


def selected(tree, names):
    """The files of the named modules with all they depend on, hard and soft, as paths below `tree`."""
    files, needs = {}, {}
    for line in (tree / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        files[canonical(file)] = file
        needs[canonical(file)] = [canonical(other) for other in rest.split()]
    aliases = {}
    for line in (tree / "modules.alias").read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            aliases.setdefault(words[1].replace("-", "_"), []).append(words[2])
    for line in (tree / "modules.softdep").read_text().splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "softdep":
            wanted = [word.replace("-", "_") for word in words[2:] if not word.endswith(":")]
            needs.setdefault(words[1].replace("-", "_"), []).extend(wanted)
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop().replace("-", "_")
        if name in found:
            continue
        if name not in files:
            # A softdep may name an alias, e.g. crypto-crc32c: the plain C implementation of those that offer it works everywhere.
            offers = aliases.get(name, [])
            waiting += [offer for offer in offers if offer.endswith("_generic")] or offers[:1]
            found[name] = None
            continue
        found[name] = files[name]
        waiting += needs.get(name, [])
    return sorted(file for file in found.values() if file)


class Archive:
    """A cpio archive of the kind the kernel unpacks (newc), made without root."""

    def __init__(self):
        self.bytes, self.inode = bytearray(), 1

    def add(self, name, mode, data=b""):
        path = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self.bytes += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        self.pad()
        self.bytes += data
        self.pad()
        self.inode += 1

    def pad(self):
        self.bytes += b"\0" * (-len(self.bytes) % 4)

    def end(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.bytes)


def build(arch, binary, out, modules=MODULES, level=6, more=None):
    """Writes the initramfs; a gzip level of 0 leaves it uncompressed. `more` are further files. Returns its size and what is in it."""
    kernel = directory() / arch
    release = (kernel / "release").read_text().strip()
    tree = kernel / "root/lib/modules" / release
    archive = Archive()
    archive.add("init", 0o100755, pathlib.Path(binary).read_bytes())
    for parent in sorted({str(pathlib.PurePath(name).parent) for name in more or ()}):
        archive.add(parent, 0o040755)
    for name, content in (more or {}).items():
        archive.add(name, 0o100644, content)
    files = selected(tree, modules)
    with tempfile.TemporaryDirectory(prefix="k3rs-initramfs-") as scratch:
        base = pathlib.Path(scratch) / "lib/modules" / release
        for file in files:
            (base / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / file, base / file)
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copyfile(tree / name, base / name)
        subprocess.run(["depmod", "-b", scratch, release], env=tools(), check=True)
        keep = {"modules.dep", "modules.softdep", "modules.alias", "modules.builtin"}
        for path in sorted(pathlib.Path(scratch).rglob("*")):
            name = str(path.relative_to(scratch))
            if path.is_dir():
                archive.add(name, 0o040755)
            elif path.suffix == ".ko" or path.name in keep or ".ko." in path.name:
                archive.add(name, 0o100644, path.read_bytes())
    data = archive.end()
    if level:
        data = gzip.compress(data, level, mtime=0)
    pathlib.Path(out).write_bytes(data)
    return len(data), len(files)


if __name__ == "__main__":
    size, n_modules = build(*sys.argv[1:4], level=int(sys.argv[4]) if len(sys.argv) > 4 else 6)
    print(f"{sys.argv[3]}: {size} bytes, {n_modules} modules")
