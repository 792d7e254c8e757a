"""Where a binary comes from, as an in-toto statement with SLSA's provenance 1.0: the commit, what is pinned, and how to build it again."""

import hashlib
import json
import subprocess

import sbom

ROOT = sbom.ROOT


def build(binary, arch, version):
    """Its name and its bytes. It is not signed, and no time is in it: two builds of a commit give the same statement."""
    digest = lambda path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
    git = lambda *arguments: subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()
    commit = git("rev-parse", "HEAD")
    cross = sbom.is_musl(binary)
    resolved = [{"uri": path, "digest": {"sha256": digest(path)}} for path in ("Cargo.lock", "cross/env.sh", "userspace/checksums")]
    if commit:
        resolved.insert(0, {"uri": "git+file:k3rs", "digest": {"gitCommit": commit}, "annotations": {"clean": not git("status", "--porcelain", "-uno")}})
    if cross:
        resolved += [{"uri": f"pkg:generic/{name}@{pin}"} for name, pin in sorted(sbom.pins().items())]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"k3rs-{arch}", "digest": {"sha256": hashlib.sha256(binary).hexdigest()}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:k3rs:make-cross:1" if cross else "urn:k3rs:make-release:1",
                "externalParameters": {"target": arch, "version": f"v{version}", "command": f"make cross TARGET={arch}" if cross else "make release"},
                "resolvedDependencies": resolved,
            },
            "runDetails": {"builder": {"id": "urn:k3rs:cross/build.sh" if cross else "urn:k3rs:Makefile"}},
        },
    }
    return f"k3rs-{arch}.provenance.json", (json.dumps(statement, indent=1, sort_keys=True) + "\n").encode()
