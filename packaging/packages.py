#!/usr/bin/env python3
"""Packages of a binary: packages.py BINARY amd64|arm64|armv7 DIST [deb rpm apk image sbom provenance]. The same binary and commit give
the same bytes.

DIST gets a .deb, an .rpm, an .apk, an image, lists of what is in the binary (SPDX, CycloneDX), where it comes from (in-toto), and
SHA256SUMS, which names what install.sh takes and all of these.
"""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import apk
import deb
import image
import provenance
import rpm
import sbom

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = {"deb", "rpm", "apk", "image", "sbom", "provenance"}


def epoch():
    """The time that everything in the packages has: SOURCE_DATE_EPOCH, or the commit's."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    done = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True)
    if done.returncode:
        sys.exit("packages: neither SOURCE_DATE_EPOCH nor git tells the time of the sources")
    return int(done.stdout)


def version():
    text = (ROOT / "src/stdx/version.rs").read_text()
    return re.search(r'VERSION: &str = "v([^"]+)"', text)[1]


def main():
    kinds = set(sys.argv[4:]) or KINDS
    if len(sys.argv) < 4 or sys.argv[2] not in image.PLATFORM or not kinds <= KINDS:
        sys.exit(__doc__)
    program, arch, dist = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    binary, when, ours = program.read_bytes(), epoch(), version()
    if f"v{ours}".encode() not in binary:
        sys.exit(f"packages: {program} is not k3rs v{ours}")
    dist.mkdir(parents=True, exist_ok=True)
    modules = {"deb": deb, "rpm": rpm, "apk": apk, "image": image}
    made = [module.build(binary, arch, ours, when) for kind, module in modules.items() if kind in kinds]
    if "sbom" in kinds:
        made += sbom.build(binary, arch, ours, when)
    if "provenance" in kinds:
        made.append(provenance.build(binary, arch, ours))
    made.append((f"k3rs-{arch}", binary))
    made.append(("install.sh", (ROOT / "packaging/install.sh").read_bytes()))
    for name, data in made:
        if (dist / name).exists() and (dist / name).read_bytes() == data:
            continue
        new = dist / f".{name}.new"
        new.write_bytes(data)
        new.chmod(0o755 if name in (f"k3rs-{arch}", "install.sh") else 0o644)
        new.rename(dist / name)
    write_sums(dist, made)
    for name, data in made:
        print(f"packages: {dist / name}, {len(data)} bytes")


def write_sums(dist, made):
    """The digests of what was made now, and of the other architectures' files that are there still."""
    sums = dist / "SHA256SUMS"
    known = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines()) if sums.exists() else {}
    known = {name: digest for name, digest in known.items() if (dist / name).exists()}
    known |= {name: hashlib.sha256(data).hexdigest() for name, data in made}
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(known.items())))


if __name__ == "__main__":
    main()
