"""What `make packages` makes: the same bytes twice, packages that install and take back, and an image in which k3rs runs."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib

from cluster import HERE, run, until

PACKAGES = HERE.parent / "packaging" / "packages.py"
VERSION = "v1.32.9+k3rs1"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "armv7")
# Without the commit, which may be another one a moment later where somebody works.
ENV = {**os.environ, "SOURCE_DATE_EPOCH": "1793491200", "GIT_DIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


def program(folder, words):
    """Something small in the binary's place that knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "program"
    path.write_text(f'#!/bin/sh\necho "k3rs version {VERSION}"\n# {words}\n')
    path.chmod(0o755)
    return path


def make(binary, dist, *kinds):
    done = subprocess.run([sys.executable, PACKAGES, binary, ARCH, dist, *kinds], env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done
    return dist


def whole(cluster):
    """Everything of one program, made once."""
    dist = cluster.dir / "first"
    return dist if dist.exists() else make(program(cluster.dir / "a", "a"), dist)


def empty_root(path):
    for folder in ("bin", "sbin", "etc", "usr/bin", "usr/sbin", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/rpm"):
        (path / folder).mkdir(parents=True)
    run(["cp", "/bin/busybox", path / "bin/busybox"])
    run(["chroot", path, "/bin/busybox", "--install", "-s"])
    (path / "var/lib/dpkg/status").touch()
    return path


def test_the_same_bytes_come_out_twice(cluster):
    first, second = whole(cluster), make(program(cluster.dir / "a", "a"), cluster.dir / "second")
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == 10, names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    run(["sh", "-c", f"cd {first} && sha256sum -c --quiet SHA256SUMS"])


def test_what_is_in_it_and_whence_it_comes(cluster):
    dist = whole(cluster)
    digest = hashlib.sha256((dist / f"k3rs-{ARCH}").read_bytes()).hexdigest()
    spdx = json.loads((dist / f"k3rs-{ARCH}.spdx.json").read_text())
    packages = {package["SPDXID"]: package for package in spdx["packages"]}
    names = {package["name"] for package in packages.values()}
    assert {"k3rs", "rusqlite", "sqlite", "busybox-static", "rustls"} <= names and "libfuzzer-sys" not in names, names
    assert packages["SPDXRef-k3rs"]["checksums"][0]["checksumValue"] == digest
    for relation in spdx["relationships"]:
        assert relation["relatedSpdxElement"] in packages and relation["spdxElementId"] in {*packages, "SPDXRef-DOCUMENT"}, relation
    cyclonedx = json.loads((dist / f"k3rs-{ARCH}.cdx.json").read_text())
    known = {cyclonedx["metadata"]["component"]["bom-ref"], *(it["bom-ref"] for it in cyclonedx["components"])}
    assert len(known) == len(packages) and all(set(it["dependsOn"]) <= known for it in cyclonedx["dependencies"])
    statement = json.loads((dist / f"k3rs-{ARCH}.provenance.json").read_text())
    assert statement["subject"][0]["digest"]["sha256"] == digest and statement["_type"] == "https://in-toto.io/Statement/v1", statement


def test_dpkg_installs_keeps_the_one_before_and_removes(cluster):
    root = empty_root(cluster.dir / "debian")
    dpkg = ["dpkg", f"--root={root}", f"--log={cluster.dir}/dpkg.log"]
    debs = [next(make(program(cluster.dir / name, name), cluster.dir / name / "dist", "deb").glob("*.deb")) for name in ("a", "b")]
    run([*dpkg, "-i", debs[0]])
    unit = (root / "lib/systemd/system/k3s.service").read_text()
    assert "ExecStart=/usr/bin/k3rs server\n" in unit and "Type=notify" in unit, unit
    assert (root / "usr/bin/k3s").is_symlink() and not (root / "usr/bin/k3rs.previous").exists()
    run([*dpkg, "-i", debs[1]])
    assert "# a\n" in (root / "usr/bin/k3rs.previous").read_text() and "# b\n" in (root / "usr/bin/k3rs").read_text()
    # The same once more is no version before.
    run([*dpkg, "-i", debs[1]])
    assert "# a\n" in (root / "usr/bin/k3rs.previous").read_text()
    run([*dpkg, "-V", "k3rs"])
    run([*dpkg, "--purge", "k3rs"])
    left = [path for path in root.rglob("*k3*") if "dpkg" not in path.parts]
    assert not left, left


def test_rpm_checks_installs_and_removes(cluster):
    root = empty_root(cluster.dir / "fedora")
    rpms = [next(make(program(cluster.dir / name, name), cluster.dir / name / "dist", "rpm").glob("*.rpm")) for name in ("a", "b")]
    said = run(["rpm", "-Kv", rpms[0]])
    assert said.count(": OK") == 4 and "BAD" not in said, said
    rpm = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm"]
    run([*rpm, "--nodeps", "-i", str(rpms[0])])
    assert run([*rpm, "-q", "k3rs"]).startswith("k3rs-1.32.9+k3rs1-1.")
    assert not run([*rpm, "--nodeps", "-V", "k3rs"]), "what is installed is what the package says"
    run([*rpm, "--nodeps", "-U", "--replacepkgs", str(rpms[1])])
    assert "# a\n" in (root / "usr/bin/k3rs.previous").read_text() and "# b\n" in (root / "usr/bin/k3rs").read_text()
    run([*rpm, "-e", "k3rs"])
    left = [path for path in root.rglob("*k3*")]
    assert not left, left
    broken = bytearray(rpms[0].read_bytes())
    broken[-20] ^= 1
    (cluster.dir / "broken.rpm").write_bytes(broken)
    assert subprocess.run(["rpm", "-K", cluster.dir / "broken.rpm"], capture_output=True).returncode != 0


def test_apk_has_the_form_that_alpine_reads(cluster):
    """apk itself is in no package of Debian's: the two streams, the digests and the attributes of each file are looked at."""
    apk = next(whole(cluster).glob("*.apk")).read_bytes()
    unpacker = zlib.decompressobj(31)
    control, data = unpacker.decompress(apk), unpacker.unused_data
    assert not control.endswith(b"\0" * 1024), "the first stream has no end, so that the second follows it"
    with tarfile.open(fileobj=io.BytesIO(control + b"\0" * 1024)) as archive:
        assert archive.getnames()[0] == ".PKGINFO" and ".pre-upgrade" in archive.getnames()
        info = dict(line.split(" = ", 1) for line in archive.extractfile(".PKGINFO").read().decode().splitlines())
    assert info["pkgver"] == "1.32.9_p1-r0" and info["datahash"] == hashlib.sha256(data).hexdigest(), info
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive:
            if not member.isdir():
                content = member.linkname.encode() if member.issym() else archive.extractfile(member).read()
                assert member.pax_headers["APK-TOOLS.checksum.SHA1"] == hashlib.sha1(content).hexdigest(), member.name
        text = archive.extractfile("etc/init.d/k3s").read().decode()
        assert text.startswith("#!/sbin/openrc-run\n") and "k3rs" in text, text


POD = """
apiVersion: v1
kind: Pod
metadata: {name: nested, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: k3rs
    image: docker.io/rancher/k3rs:v1.32.9-k3rs1
    args: [server, --disable, "traefik,servicelb,local-storage", --node-name, nested, --cluster-cidr, 10.52.0.0/16, --service-cidr, 10.53.0.0/16, --cluster-dns, 10.53.0.10]
    securityContext: {privileged: true}
    volumeMounts: [{name: data, mountPath: /var/lib/rancher/k3s}]
  volumes: [{name: data, emptyDir: {}}]
"""


def test_k3rs_runs_in_its_image(cluster):
    """As k3d's nodes do: a privileged container, in it a server, a node and a pod."""
    image = next(make(cluster.binary, cluster.dir / "image", "image").glob("*image*.tar"))
    done = subprocess.run(cluster.inside([cluster.binary, "ctr", "images", "import", image]), env={**cluster.env, "K3S_DATA_DIR": str(cluster.data)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    until(lambda: cluster.get("serviceaccounts", "-n", "default")["items"], "the service account")
    cluster.kubectl("apply", "-f", "-", input=POD)
    inside = lambda command: cluster.kubectl("exec", "-n", "default", "nested", "--", "sh", "-c", command).stdout

    def is_up():
        return "k3rs is up and running: node nested" in cluster.kubectl("logs", "-n", "default", "nested").stdout

    until(is_up, "the server in the pod runs", 120)
    assert VERSION in inside("k3s --version")
    # A pod in the pod, from the image that every k3rs has: its manifest is laid where the nested server looks.
    manifest = "{apiVersion: v1, kind: Pod, metadata: {name: inner, namespace: kube-system}, spec: {containers: [{name: a, image: 'k3rs.io/userspace:1', command: [sh, -c, 'echo inner pod; sleep 1000']}]}}"
    inside(f"echo \"{manifest}\" > /var/lib/rancher/k3s/server/manifests/inner.yaml")
    until(lambda: "inner pod" in inside("cat /var/log/pods/kube-system_inner_*/a/0.log 2>/dev/null || true"), "the pod in the pod runs", 120)
    inside("k3s killall; true")
    cluster.kubectl("delete", "pod", "nested", "-n", "default", "--wait=false")
    cluster.wait_pods_gone("default")
