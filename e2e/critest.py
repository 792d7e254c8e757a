"""The suite of the Container Runtime Interface, cri-tools' critest, against the CRI socket of a k3rs: critest.py K3RS [--focus REGEX]... [--skip REGEX]....

CRI_TOOLS is a Git repository with cri-tools' tags (https://github.com/kubernetes-sigs/cri-tools; a clone does). Its dependencies lie in it. What is built
stays below .run/critest. The suite's images are of registries that need not be reachable: stand-ins with what the specs look for are made of Debian's
packages and served by a registry beside k3rs, which takes it for a mirror. Two words of the suite are changed for them: an image's digest, which no other
image can have, and what a shell says (bash's for busybox').

Fails if a spec fails, and if one is skipped that UNABLE does not name; what it names and this kernel can do after all, is said.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import images
from cluster import Cluster, Failure, expect, until
from registry import Registry

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE.parent / ".run/critest"
TAG = "v1.32.0"
PORT = 5000
E2E, STAGING = "registry.k8s.io/e2e-test-images", "gcr.io/k8s-staging-cri-tools"
DIGEST = re.compile(r"(test-image-digest@sha256:)[0-9a-f]{64}")
SHELL_SAYS = ('"/bin/sh: ls: Permission denied\\n"', '"/bin/sh: line 1: /bin/ls: Permission denied\\n"')
PATH = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
# What may be skipped, which the suite does by what the kernel has and the runtime says: a regular expression on the spec's name, and why.
UNABLE = {
    r" AppArmor ": "wants a kernel with AppArmor",
    r" Security Context UserNamespaces ": "wants pods with user namespaces, which Kubernetes 1.32 has behind a gate and k3rs refuses",
}

# Applets that Debian's busybox lacks, as far as specs use them.
LACKING = {
    "ipcs": "exec cat /proc/sysvipc/shm",
    "pgrep": 'code=1; for comm in /proc/[0-9]*/comm; do pid=${comm#/proc/}; [[ $(cat $comm 2>/dev/null) =~ $1 ]] && echo ${pid%/comm} && code=0; done; exit $code',
}

NGINX_CONF = """
worker_processes 1;
daemon off;
pid /var/run/nginx.pid;
error_log stderr;
events {}
http { access_log off; server { listen LISTEN; location / { root /www; } } }
"""
PRIVILEGED = '#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("Effective uid: %d\\n", (int)geteuid()); return 0; }\n'


class Images:
    """Stand-ins for the suite's images, as archives in a directory."""

    def __init__(self, directory):
        self.directory, self.names = directory, []
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-critest-"))

    def make(self):
        try:
            self.shell()
            self.web()
            self.privileged()
        finally:
            shutil.rmtree(self.work)

    def root(self, name, packages):
        """A root with these packages and a userland."""
        directory = self.work / name
        directory.mkdir()
        root = images.unpack(directory, packages)
        for place in ("bin", "root", "home", "var/run", "var/log/nginx", "var/lib/nginx", "www"):
            (root / place).mkdir(parents=True, exist_ok=True)
        busybox = root / "bin/busybox"
        shutil.copy("/bin/busybox", busybox)
        for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
            # Not symbolic links: one of them is hidden by itself. Nor a shell that prefers its applets to files.
            if applet not in ("sh", "busybox", "ip") and not (root / "bin" / applet).exists():
                os.link(busybox, root / "bin" / applet)
        (root / "bin/bash-static").rename(root / "bin/sh")
        for name, lines in LACKING.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
            (root / "bin" / name).chmod(0o755)
        (root / "www/index.html").write_text("hello\n")
        return root

    def pack(self, root, name, **config):
        path = self.directory / (re.sub(r"[/:]", "_", name) + ".tar")
        images.archive(root, path, name, {"Env": PATH, "Cmd": ["sh"], **config})
        self.names.append((name, path))

    def shell(self):
        root = self.root("shell", ["bash-static"])
        with open(root / "etc/passwd", "a") as file:
            file.write("default-user:x:1000:1000::/home:/bin/sh\n")
        with open(root / "etc/group", "a") as file:
            file.write("default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
        self.pack(root, f"{E2E}/busybox:1.29-2")
        for name, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:3003"), ("username-group", "www-data:100")):
            self.pack(root, f"{STAGING}/test-image-user-{name}:latest", User=user)
        self.pack(root, f"{STAGING}/test-image-predefined-group:latest", User="1000")
        for name in ("latest:latest", "digest:test", "tag:test", "tag:all", "1:latest", "2:latest", "3:latest"):
            self.pack(root, f"{STAGING}/test-image-{name}", Labels={"test": name})
        for tag in ("1", "2", "3"):
            self.pack(root, f"{STAGING}/test-image-tags:{tag}", Labels={"test": "tags"})

    def web(self):
        root = self.root("web", [*images.NGINX, "bash-static"])
        start = ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"]
        for name, port in ((f"{E2E}/nginx:1.14-2", 80), (f"{STAGING}/hostnet-nginx-amd64:latest", 12003)):
            (root / "etc/nginx/nginx.conf").write_text(NGINX_CONF.replace("LISTEN", str(port)))
            self.pack(root, name, Cmd=start)
        self.pack(root, f"{E2E}/httpd:2.4.39-4", Cmd=["sh", "-c", "echo httpd starts; exec httpd -f -p 80 -h /www"])

    def privileged(self):
        root = self.root("privileged", ["bash-static"])
        source, program = self.work / "uid.c", root / "bin/uid"
        source.write_text(PRIVILEGED)
        subprocess.run(["cc", "-static", "-O", "-o", program, source], check=True)
        program.chmod(0o6755)
        self.pack(root, f"{E2E}/nonewprivs:1.3", Cmd=["/bin/uid"])


def push(cluster, registry, made):
    for name, path in made:
        registry.push(path, name.split("/", 1)[1])
    asked = f"docker://127.0.0.1:{PORT}/{STAGING.split('/', 1)[1]}/test-image-digest:test"
    done = subprocess.run(cluster.inside(["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", asked]), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def build(digest):
    """critest that asks for the image of this digest."""
    program = WORK / f"critest-{TAG}-{digest[7:19]}"
    if program.exists():
        return program
    print("building critest, which takes minutes the first time", flush=True)
    for tool in ("go", "git"):
        expect(shutil.which(tool), f"{tool} is needed")
    source = WORK / "source"
    shutil.rmtree(source, ignore_errors=True)
    repository = os.environ.get("CRI_TOOLS")
    if not repository:
        repository = WORK / "cri-tools"
        if not repository.exists():
            subprocess.run(["git", "clone", "-q", "--bare", "--depth=1", "--branch", TAG, "https://github.com/kubernetes-sigs/cri-tools", repository], check=True)
    source.mkdir(parents=True)
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["git", "-c", "safe.directory=*", "-C", repository, "archive", TAG], stdout=archive, check=True)
        archive.seek(0)
        subprocess.run(["tar", "-x", "-C", source], stdin=archive, check=True)
    change(source / "pkg/validate/consts.go", lambda text: DIGEST.sub(lambda found: found[1] + digest[7:], text, count=1))
    change(source / "pkg/validate/security_context_linux.go", lambda text: text.replace(*SHELL_SAYS))
    env = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-mod=vendor")
    flags = f"-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version={TAG[1:]}"
    subprocess.run(["go", "test", "-c", "-trimpath", "-ldflags", flags, "-o", program, "./cmd/critest"], cwd=source, env=env, check=True)
    return program


def change(path, how):
    text = path.read_text()
    changed = how(text)
    expect(changed != text, f"{path} is not what it was in {TAG}")
    path.write_text(changed)


def segments():
    """Shared memory of this host such as specs make and leave: a MiB that nobody uses, of root."""
    rows = [line.split() for line in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {row[1] for row in rows if (row[3], row[6], row[7]) == ("1048576", "0", "0")}


def run(cluster, program, args):
    report, log = WORK / "report.json", WORK / "output.log"
    report.unlink(missing_ok=True)
    socket = f"unix://{cluster.dir}/run/containerd/containerd.sock"
    command = [program, f"--runtime-endpoint={socket}", f"--image-endpoint={socket}", "--ginkgo.v", "--ginkgo.no-color", f"--ginkgo.json-report={report}"]
    command += [f"--ginkgo.focus={one}" for one in args.focus] + [f"--ginkgo.skip={one}" for one in args.skip]
    before = segments()
    with open(log, "w") as file:
        ended = subprocess.run(cluster.inside(command), env=cluster.env, stdout=file, stderr=subprocess.STDOUT, cwd=cluster.dir).returncode
    for left in segments() - before:
        subprocess.run(["ipcrm", "-m", left], capture_output=True)
    expect(report.exists(), f"critest ended with {ended} and no report, see {log}:\n{log.read_text()[-2000:]}")
    (suite,) = json.loads(report.read_text())
    return suite["SpecReports"] or []


def judge(specs):
    """Says what came out; whether it is as it should be."""
    counts, wrong = {}, []
    for spec in specs:
        failure = spec.get("Failure") or {}
        is_spec = spec["LeafNodeType"] == "It"
        if spec["State"] in ("pending", "skipped") and not failure.get("Message"):
            continue  # not chosen
        if not is_spec and spec["State"] == "passed":
            continue
        name = " ".join([*(spec.get("ContainerHierarchyTexts") or []), spec["LeafNodeText"]])
        why = next((why for unable, why in UNABLE.items() if re.search(unable, name)), None)
        state = spec["State"]
        counts[state] = counts.get(state, 0) + 1
        if state == "passed":
            if why:
                print(f"passes, though UNABLE says that it {why}: {name}")
            continue
        if state == "skipped" and why:
            print(f"skipped, for it {why}: {name}")
            continue
        print(f"{state}: {name}\n    {' '.join(failure.get('Message', '').split())[:400]}")
        wrong.append(name)
    print(", ".join(f"{n} {state}" for state, n in sorted(counts.items())) or "no specs", flush=True)
    return not wrong and counts.get("passed", 0) > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--focus", action="append", default=[])
    parser.add_argument("--skip", action="append", default=[])
    args = parser.parse_args()
    for tool in ("docker-registry", "skopeo", "ipcmk", "cc"):
        expect(shutil.which(tool), f"{tool} is needed")
    WORK.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(os.path.abspath(args.binary))
    registry = None
    try:
        made = Images(cluster.dir)
        made.make()
        registry = Registry(cluster, PORT)
        program = build(push(cluster, registry, made.names))
        etc = cluster.dir / "etc/k3s"
        etc.mkdir(parents=True, exist_ok=True)
        mirror = {"endpoint": [f"http://127.0.0.1:{PORT}"]}
        (etc / "registries.yaml").write_text(json.dumps({"mirrors": {"registry.k8s.io": mirror, "gcr.io": mirror}}))
        cluster.start()
        until(lambda: (cluster.dir / "run/containerd/containerd.sock").exists(), "the CRI socket is there", 30)
        good = judge(run(cluster, program, args))
        cluster.alive()
    finally:
        shutil.copy(cluster.dir / "k3rs.log", WORK / "k3rs.log")
        if registry:
            registry.close()
        cluster.close()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"critest: {failure}")
