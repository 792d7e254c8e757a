"""An image of k3rs that runs k3rs in a container, as k3d does with k3s's: one tar that is both an OCI layout and what `docker load` takes."""

import hashlib
import io
import json
import lzma
import pathlib
import subprocess
import tarfile
import time

import apk
import tree

HERE = pathlib.Path(__file__).resolve().parent

PLATFORM = {
    "amd64": {"architecture": "amd64", "os": "linux"},
    "arm64": {"architecture": "arm64", "os": "linux", "variant": "v8"},
    "armv7": {"architecture": "arm", "os": "linux", "variant": "v7"},
}


def userspace(arch):
    """The busybox that is in the binary, too: a container has a shell before k3rs has unpacked its own. As userspace/build.sh packs it."""
    packed = (HERE.parent / f"userspace/out/userspace-{arch}.tar.lzma").read_bytes()
    lc, lp, pb = {"amd64": (4, 0, 0), "arm64": (2, 2, 2), "armv7": (3, 1, 1)}[arch]
    # Python's ARM64 filter has no name there.
    branch = {"amd64": lzma.FILTER_X86, "arm64": 0x0A, "armv7": lzma.FILTER_ARMTHUMB}[arch]
    chain = [{"id": branch}, {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": lc, "lp": lp, "pb": pb}]
    try:
        return lzma.decompress(packed, lzma.FORMAT_RAW, filters=chain)
    except (ValueError, lzma.LZMAError):
        # Older libraries lack that filter; the tool, which packed it, does not.
        name = {"amd64": "--x86", "arm64": "--arm64", "armv7": "--armthumb"}[arch]
        figures = f"--lzma1=dict=1MiB,lc={lc},lp={lp},pb={pb}"
        return subprocess.run(["xz", "-dc", "--format=raw", name, figures], input=packed, check=True, capture_output=True).stdout


def layer(binary, arch, epoch):
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(userspace(arch))) as archive:
        for info in archive:
            name = info.name.removeprefix("./").rstrip("/")
            if not name or name == ".":
                continue
            if info.issym():
                entries[name] = tree.File(name, 0o777, target=info.linkname)
            elif info.isdir():
                entries[name] = tree.File(name, info.mode)
            else:
                entries[name] = tree.File(name, info.mode, data=archive.extractfile(info).read())
    entries["bin/k3rs"] = tree.File("bin/k3rs", 0o755, data=binary)
    for name in ("k3s", "kubectl", "crictl", "ctr"):
        entries[f"bin/{name}"] = tree.File(f"bin/{name}", 0o777, target="k3rs")
    for name in ("run", "proc", "sys", "dev", "var", "var/lib", "var/log", "usr", "usr/share", "usr/share/licenses", "usr/share/licenses/k3rs"):
        entries.setdefault(name, tree.File(name, 0o755))
    entries["usr/share/licenses/k3rs/LICENSE"] = tree.File("usr/share/licenses/k3rs/LICENSE", 0o644, data=tree.copyright_text())
    return tree.tar([entries[name] for name in sorted(entries)], epoch)


def build(binary, arch, version, epoch):
    """Its name and its bytes. Tags have no plus sign."""
    tag = "v" + version.replace("+", "-")
    content = layer(binary, arch, epoch)
    packed = apk.gzip(content)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    config = dump({
        **PLATFORM[arch],
        "created": created,
        "config": {
            "Entrypoint": ["/bin/k3s"],
            "Cmd": ["agent"],
            "Env": ["PATH=/var/lib/rancher/k3s/data/cni:/var/lib/rancher/k3s/data/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Volumes": {path: {} for path in ("/var/lib/rancher/k3s", "/var/log")},
            "Labels": {"org.opencontainers.image.title": "k3rs", "org.opencontainers.image.version": f"v{version}", "org.opencontainers.image.licenses": "Apache-2.0 AND GPL-2.0-only"},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
        "history": [{"created": created, "created_by": "packaging/image.py"}],
    })
    describe = lambda kind, data: {"mediaType": f"application/vnd.oci.image.{kind}", "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest = dump({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", config), "layers": [describe("layer.v1.tar+gzip", packed)],
    })
    blob = lambda data: "blobs/sha256/" + hashlib.sha256(data).hexdigest()
    index = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            **describe("manifest.v1+json", manifest), "platform": PLATFORM[arch],
            "annotations": {"io.containerd.image.name": f"docker.io/rancher/k3rs:{tag}", "org.opencontainers.image.ref.name": tag},
        }],
    }
    docker = [{"Config": blob(config), "RepoTags": [f"rancher/k3rs:{tag}"], "Layers": [blob(packed)]}]
    entries = [tree.File("blobs", 0o755), tree.File("blobs/sha256", 0o755)]
    entries += sorted((tree.File(blob(data), 0o644, data=data) for data in (config, manifest, packed)), key=lambda it: it.path)
    entries += [tree.File("index.json", 0o644, data=dump(index)), tree.File("manifest.json", 0o644, data=dump(docker)), tree.File("oci-layout", 0o644, data=dump({"imageLayoutVersion": "1.0.0"}))]
    return f"k3rs-image-{arch}.tar", tree.tar(entries, epoch)


def dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
