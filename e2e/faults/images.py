"""Images that lie: archives and registries whose layers, links, sizes and redirects lead where they must not."""

import os
import pathlib
import subprocess
import sys
import tempfile

import hostile_images as hostile
from cluster import HERE, Failure, until

# Of all cases each so many-th in CI, with another remainder than the kinds have, so that each kind and place is met.
EVERY_ARCHIVE, EVERY_PULL = (1, 5) if os.environ.get("K3RS_HOSTILE_ALL") else (5, 17)


def prepare(cluster):
    cluster.outside = hostile.outside_tree(cluster.dir)
    cluster.before = hostile.snapshot(cluster.outside)


def ctr(cluster, *args, check=True, timeout=120):
    done = subprocess.run(cluster.inside([cluster.binary, "ctr", "images", *args]), env=cluster.env, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise Failure(f"ctr {args}: {done.stdout}{done.stderr}")
    return done


def names(cluster):
    return set(ctr(cluster, "ls", "-q").stdout.split())


def unchanged(cluster, what):
    after = hostile.snapshot(cluster.outside)
    if after != cluster.before:
        changed = [path for path in {**after, **cluster.before} if after.get(path) != cluster.before.get(path)]
        raise Failure(f"{what} changed {changed}")
    cluster.alive()


class Served:
    """A registry program in the cluster's network; what it says is in `lines`."""

    def __init__(self, cluster, port, *how):
        self.log = pathlib.Path(tempfile.mkstemp(dir=cluster.dir, prefix="registry-")[1])
        command = [sys.executable, str(HERE / "hostile_images.py"), str(port), str(cluster.outside), *map(str, how)]
        self.process = subprocess.Popen(cluster.inside(command), stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        self.says("ready")

    def text(self):
        return self.log.read_text()

    def says(self, word, timeout=20):
        until(lambda: word in self.text(), f"the registry says {word!r}: {self.text()[-500:]}", timeout, interval=0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_archives(cluster):
    directory = cluster.data / "agent/images"
    directory.mkdir(parents=True, exist_ok=True)
    cases = hostile.all_cases(EVERY_ARCHIVE)
    for n, (kind, place) in enumerate(cases):
        part = directory / f"case-{n}.part"
        hostile.archive(part, f"docker.io/case/a{n}:1", hostile.layers(kind, place, cluster.outside))
        part.rename(directory / f"case-{n}.tar")

    def settled():
        taken = {name for name in names(cluster) if "/case/a" in name}
        refused = {line.split("case-")[1].split(".tar")[0] for line in cluster.log_lines() if "airgap image file" in line and "case-" in line}
        return len(taken) + len(refused) >= len(cases) and (len(taken), len(refused))

    taken, refused = until(settled, "all archives are read", 120, interval=0.5)
    unchanged(cluster, "an archive")
    if taken < len(cases) / 3:
        raise Failure(f"only {taken} of {len(cases)} were taken: this proves nothing")
    return f"{taken} taken, {refused} refused"


def test_pulls(cluster):
    cases = hostile.all_cases(EVERY_PULL)
    with Served(cluster, 5001, EVERY_PULL, "cases"):
        pulled = 0
        for n in range(len(cases)):
            pulled += ctr(cluster, "pull", f"127.0.0.1:5001/case/{n}:1", check=False).returncode == 0
    unchanged(cluster, "a pull")
    if pulled < len(cases) / 3:
        raise Failure(f"only {pulled} of {len(cases)} were pulled: this proves nothing")
    return f"{pulled} of {len(cases)} pulled"


def test_mode_through_a_link(cluster):
    """A directory of mode 4777 in one layer, made again by a file in the next, and replaced by a link to the host."""
    victim = cluster.outside / "file"
    for n, later in enumerate((
        [(hostile.info("a/b/f", b"0"), b"x"), (hostile.info("a/b", b"2", link=str(victim)), b"")],
        [(hostile.info("a/b/f", b"0"), b"x"), (hostile.info("a", b"2", link=str(cluster.outside)), b"")],
        [(hostile.info("a/b/f", b"0"), b"x"), (hostile.info("a/.wh.b", b"0"), b""), (hostile.info("a/b", b"2", link=f"{cluster.outside}/dir"), b"")],
        [(hostile.info("link", b"2", link="a"), b""), (hostile.info("link/b/f", b"0"), b"x"), (hostile.info("a/b", b"2", link=str(victim)), b"")],
        [(hostile.info("a/dir/f", b"0"), b"x"), (hostile.info("a", b"2", link=str(cluster.outside)), b"")],
    )):  # fmt: skip
        lower = hostile.tar([(hostile.info(name, b"5"), b"") for name in ("a", "a/b", "a/dir")])
        path = cluster.dir / f"mode-{n}.tar"
        hostile.archive(path, f"docker.io/case/mode{n}:1", [lower, hostile.tar(later)])
        ctr(cluster, "import", str(path))
        unchanged(cluster, f"variation {n}")


def test_size_of_zero(cluster):
    with Served(cluster, 5002, 1, "sizes"):
        done = ctr(cluster, "pull", "127.0.0.1:5002/case/lie:1", check=False)
        if done.returncode == 0 or "content size of zero" not in done.stderr:
            raise Failure(done.stdout + done.stderr)


def test_pull_ends_with_its_client(cluster):
    with Served(cluster, 5003, 1, "endless") as registry:
        client = subprocess.Popen(cluster.inside([cluster.binary, "ctr", "images", "pull", "127.0.0.1:5003/case/lie:1"]), env=cluster.env, stderr=subprocess.DEVNULL)
        registry.says("begin")
        client.kill()
        client.wait()
        registry.says("left")
    with Served(cluster, 5004, 1, "endless") as registry:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "endless"}, "spec": {"containers": [{"name": "c", "image": "127.0.0.1:5004/case/lie:1"}]}}
        cluster.apply(hostile.json.dumps(pod), "default")
        registry.says("begin", 30)
        cluster.kubectl("delete", "pod", "endless", "--now")
        registry.says("left", 30)


def test_redirects_to_this_machine(cluster):
    """A layer's redirect to loopback, link-local and the like reaches nobody; one to another address does."""
    with Served(cluster, 5005, 1, "honest") as canary:
        blob = hostile.sha256(hostile.tar([(hostile.info("f", b"0"), b"x")]))
        hosts = ["127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "169.254.169.254", "[fe80::1]", "2130706433"]
        for n, host in enumerate(hosts):
            with Served(cluster, 5010 + n, 1, "redirect", f"http://{host}:5005/v2/case/lie/blobs/{blob}"):
                done = ctr(cluster, "pull", f"127.0.0.1:{5010 + n}/case/lie:1", check=False)
                if done.returncode == 0 or "blobs/" in canary.text():
                    raise Failure(f"{host}: {done.stdout}{done.stderr}")
        with Served(cluster, 5020, 1, "redirect", f"http://192.0.2.10:5005/v2/case/lie/blobs/{blob}"):
            ctr(cluster, "pull", "127.0.0.1:5020/case/lie:1")
        if "blobs/" not in canary.text():
            raise Failure("the honest redirect reached nobody")


def test_a_link_whose_target_another_layer_has(cluster):
    """containerd resolves it inside the root and makes the directory; a VOLUME that no layer has is made as well."""
    lower = hostile.tar([(hostile.info("real", b"5", 0o711), b""), (hostile.info("real/old", b"0"), b"old")])
    upper = hostile.tar([(hostile.info("link", b"2", link="/real"), b""), (hostile.info("link/new", b"0", 0o644), b"new"), (hostile.info("far", b"2", link="/not/yet"), b""),
                         (hostile.info("far/new", b"0", 0o644), b"new")])  # fmt: skip
    program = next(cluster.data.glob("data/current/root/bin/busybox"))
    tools = hostile.tar([(hostile.info("bin", b"5", 0o755), b""), (hostile.info("bin/busybox", b"0", 0o755), program.read_bytes())])
    path = cluster.dir / "link.tar"
    hostile.archive(path, "docker.io/case/link:1", [lower, tools, upper], Volumes={"/data/made": {}, "/real": {}})
    ctr(cluster, "import", str(path))
    command = "cat /real/old /real/new /not/yet/new; for d in /data/made /real /not; do /bin/busybox stat -c '%a %u' $d; done; : > /data/made/f && echo; echo written; sleep 600"
    spec = {"containers": [{"name": "c", "image": "docker.io/case/link:1", "imagePullPolicy": "Never", "command": ["/bin/busybox", "sh", "-c", command.replace("cat", "/bin/busybox cat")]}]}
    cluster.apply(hostile.json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "link"}, "spec": {**spec, "terminationGracePeriodSeconds": 0}}), "default")
    said = until(lambda: "written" in (text := cluster.kubectl("logs", "link").stdout) and text, "the pod has written", 30)
    if said.split() != ["oldnewnew755", "0", "711", "4000", "755", "0", "written"]:
        raise Failure(said)
    cluster.kubectl("delete", "pod", "link", "--now")


def test_a_root_of_links(cluster):
    """Every directory that a container's root needs is a link out: it starts, or is refused, and nothing outside is touched."""
    out = str(cluster.outside)
    places = ("proc", "sys", "dev", "etc", "tmp", "run", "var", "home")
    for n, targets in enumerate(([out] * 8, ["/../../../.." + out] * 8, [f"{out}/file"] * 8, ["tmp", "proc", "etc", "dev", "sys", "var", "run", "home"])):
        links = [(hostile.info(name, b"2", link=target), b"") for name, target in zip(places, targets, strict=True)]
        path = cluster.dir / f"root-{n}.tar"
        hostile.archive(path, f"docker.io/case/root{n}:1", [hostile.tar(links)], Volumes={"/var/made": {}, "/home/x": {}})
        ctr(cluster, "import", str(path))
        container = {"name": "c", "image": f"docker.io/case/root{n}:1", "imagePullPolicy": "Never", "workingDir": "/home/work", "terminationMessagePath": "/tmp/log",
                     "volumeMounts": [{"name": "e", "mountPath": "/etc/made"}, {"name": "e", "mountPath": "/run/sub", "subPath": "x/y"}]}  # fmt: skip
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"root{n}"}, "spec": {"restartPolicy": "Never", "containers": [container], "volumes": [{"name": "e", "emptyDir": {}}]}}
        cluster.apply(hostile.json.dumps(pod), "default")

    def ended(n):
        status = cluster.get("pod", f"root{n}")["status"].get("containerStatuses", [{}])[0].get("state", {})
        return status.get("terminated") or status.get("waiting", {}).get("reason") in ("CreateContainerError", "RunContainerError", "CreateContainerConfigError")

    for n in range(4):
        until(lambda: ended(n), f"root{n} has ended", 30)
    unchanged(cluster, "a root of links")
    cluster.kubectl("delete", "pods", "--all", "--now")


def test_words_of_an_image_are_bounded(cluster):
    """What an image's configuration says, and how many tags it has, is in no status in full; and records of it are read again."""
    # Large, because the Node lists the largest.
    layer, long = hostile.tar([(hostile.info("d", b"5", 0o755), b""), (hostile.info("big", b"0"), bytes(16 << 20))]), "x" * 800_000
    until(lambda: names(cluster), "the runtime answers")
    images = {"signal": {"Entrypoint": ["/d"], "StopSignal": f"SIG{long}"}, "program": {"Entrypoint": [f"/{long}"]}}
    for name, config in images.items():
        path = cluster.dir / f"{name}.tar"
        hostile.archive(path, f"docker.io/case/{name}:1", [layer], **config)
        ctr(cluster, "import", str(path))
    for n in range(12):
        ctr(cluster, "tag", "docker.io/case/signal:1", f"docker.io/case/signal:also-{n}")
    # Six, because a record of them in full would be longer than the node reads back.
    for name, n in (("signal", 1), ("program", 6)):
        containers = [{"name": f"c{idx}", "image": f"docker.io/case/{name}:1", "imagePullPolicy": "Never"} for idx in range(n)]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": containers}}
        cluster.apply(hostile.json.dumps(pod), "default")
    status = lambda name: cluster.get("pod", name)["status"]
    until(lambda: "unknown stop signal" in str(status("signal")), "what is wrong with it is told", 30)
    failed = until(lambda: (found := status("program"))["phase"] == "Failed" and found, "nothing could be started", 30)
    for name in images:
        if len(str(status(name))) > 40_000:
            raise Failure(f"{name}: a status of {len(str(status(name)))} bytes")
    cluster.stop()
    cluster.start()
    ids = lambda found: [(one["containerID"], one["state"]) for one in found["containerStatuses"]]
    until(lambda: cluster.kubectl("get", "pod", "program"), "the pod is there")
    cluster.kubectl("label", "pod", "program", "looked=yes")
    if ids(status("program")) != ids(failed) or status("program")["phase"] != "Failed":
        raise Failure(f"it was tried again: {status('program')}")
    listed = until(lambda: [one["names"] for one in cluster.get("node", "node1")["status"]["images"] if any("/signal" in name for name in one["names"])], "the node lists it", 60)
    if len(listed[0]) > 5:
        raise Failure(f"{len(listed[0])} names of an image: {listed}")
    cluster.kubectl("delete", "pods", "--all", "--now")
    unchanged(cluster, "what images say")
