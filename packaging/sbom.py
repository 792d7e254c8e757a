"""What is in a binary, as SPDX 2.3 and CycloneDX 1.6: the crates that Cargo.lock names for it, and what they and the build bring along."""

import hashlib
import json
import pathlib
import re
import subprocess
import time
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent

TRIPLE = {"amd64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl", "armv7": "armv7-unknown-linux-musleabihf"}


class Part:
    """A package: `key` names it in both forms, `purl` everywhere; `needs` are keys."""

    def __init__(self, key, name, version, purl, licence, sha256=None, needs=()):
        self.key, self.name, self.version, self.purl = key, name, version, purl
        self.licence, self.sha256, self.needs = licence, sha256, sorted(needs)


def parts(binary, arch, version):
    """Everything in the binary; the first is the binary itself."""
    crates, direct = read_crates(arch)
    extra = [sqlite(crates), busybox(arch), c_library(binary)]
    for crate in crates:
        if crate.name == "libsqlite3-sys":
            crate.needs.append("sqlite")
    needs = direct + ["busybox", extra[2].key]
    whole = Part("k3rs", "k3rs", f"v{version}", f"pkg:generic/k3rs@v{version}?arch={arch}", "Apache-2.0", hashlib.sha256(binary).hexdigest(), needs)
    return [whole] + sorted(crates + extra, key=lambda part: part.key)


def read_crates(arch):
    """The crates of others that are linked into k3rs, and which of them its own rooms name."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={TRIPLE[arch]}", f"--manifest-path={ROOT}/Cargo.toml"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in said["packages"]}
    nodes = {node["id"]: node for node in said["resolve"]["nodes"]}
    with open(ROOT / "Cargo.lock", "rb") as lock:
        digests = {(it["name"], it["version"]): it.get("checksum") for it in tomllib.load(lock)["package"]}
    is_macro = lambda id: any("proc-macro" in target["kind"] for target in packages[id]["targets"])

    def needs(id):
        linked = [it["pkg"] for it in nodes[id]["deps"] if any(kind["kind"] is None for kind in it["dep_kinds"])]
        return [it for it in linked if not is_macro(it)]

    start = next(id for id, package in packages.items() if package["name"] == "k3rs")
    reached, rest, direct = {start}, [start], set()
    while rest:
        for id in needs(rest.pop()):
            if id not in reached:
                reached.add(id)
                rest.append(id)
    key = lambda id: f"{packages[id]['name']}-{packages[id]['version']}"
    found = []
    for id in reached:
        package = packages[id]
        if package["source"] is None:
            direct.update(key(it) for it in needs(id) if packages[it]["source"] is not None)
            continue
        name, version = package["name"], package["version"]
        licence = (package["license"] or "NOASSERTION").replace("/", " OR ")
        found.append(Part(key(id), name, version, f"pkg:cargo/{name}@{version}", licence, digests[name, version], map(key, needs(id))))
    return found, sorted(direct)


def sqlite(crates):
    """SQLite's source is in the crate that binds it, and its version only in the header there."""
    crate = next(crate for crate in crates if crate.name == "libsqlite3-sys")
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--manifest-path={ROOT}/Cargo.toml"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    manifest = next(it["manifest_path"] for it in said["packages"] if (it["name"], it["version"]) == (crate.name, crate.version))
    header = (pathlib.Path(manifest).parent / "sqlite3/sqlite3.h").read_text()
    version = re.search(r'#define SQLITE_VERSION +"([^"]+)"', header)[1]
    return Part("sqlite", "sqlite", version, f"pkg:generic/sqlite@{version}", "blessing")


def busybox(arch):
    for line in (ROOT / "userspace/checksums").read_text().splitlines():
        if line.startswith(f"{arch} "):
            _, debian, version, digest = line.split()
            purl = f"pkg:deb/debian/busybox-static@{version.replace('+', '%2B')}?arch={debian}&distro=bookworm"
            return Part("busybox", "busybox-static", version, purl, "GPL-2.0-only", digest)
    raise SystemExit(f"sbom: userspace/checksums has no line for {arch}")


def pins():
    """The versions in cross/env.sh."""
    return dict(re.findall(r"^(\w+)_pin=(\S+)$", (ROOT / "cross/env.sh").read_text(), re.M))


def is_musl(binary):
    return b"GNU C Library" not in binary and b"GLIBC_TUNABLES" not in binary


def c_library(binary):
    if is_musl(binary):
        zig = pins()["zig"]
        return Part("musl", "musl", f"of zig {zig}", f"pkg:generic/musl?zig={zig}", "MIT")
    return Part("glibc", "glibc", "of the build host", "pkg:generic/glibc", "LGPL-2.1-or-later")


def build(binary, arch, version, epoch):
    """The names and bytes of both forms."""
    found = parts(binary, arch, version)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    write = lambda value: (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    return [(f"k3rs-{arch}.spdx.json", write(spdx(found, at))), (f"k3rs-{arch}.cdx.json", write(cyclonedx(found, at)))]


def spdx(found, at):
    identity = lambda key: "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", key)
    packages, relations = [], [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": identity("k3rs")}]
    for part in found:
        package = {
            "SPDXID": identity(part.key), "name": part.name, "versionInfo": part.version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION", "licenseDeclared": part.licence, "copyrightText": "NOASSERTION",
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}],
        }
        if part.sha256:
            package["checksums"] = [{"algorithm": "SHA256", "checksumValue": part.sha256}]
        packages.append(package)
        relations += [{"spdxElementId": identity(part.key), "relationshipType": "DEPENDS_ON", "relatedSpdxElement": identity(key)} for key in part.needs]
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"k3rs-{found[0].version}",
        "documentNamespace": f"urn:k3rs:sbom:{found[0].sha256}", "creationInfo": {"created": at, "creators": ["Tool: k3rs-packaging"]},
        "packages": packages, "relationships": relations,
    }


def cyclonedx(found, at):
    by_key = {part.key: part for part in found}

    def component(part, kind):
        made = {"type": kind, "bom-ref": part.purl, "name": part.name, "version": part.version, "purl": part.purl}
        if part.licence != "NOASSERTION":
            made["licenses"] = [{"expression": part.licence}]
        if part.sha256:
            made["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
        return made

    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, found[0].sha256)}",
        "metadata": {"timestamp": at, "component": component(found[0], "application")},
        "components": [component(part, "library") for part in found[1:]],
        "dependencies": [{"ref": part.purl, "dependsOn": sorted({by_key[key].purl for key in part.needs})} for part in found],
    }
