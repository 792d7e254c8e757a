"""The CRI socket: what clients see of the kubelet's pods, and pods that come over it, which are nobody else's."""

import json
import pathlib
import signal
import socket
import subprocess
import time

from cluster import Failure, expect, until
from faults._grpc import Grpc, fields, message
from faults.pods import create, ready, remove
from faults.pods import container as kubelet_container
from faults.pods import pod as kubelet_pod

IMAGE = "k3rs.io/userspace:1"
RUNTIME, IMAGES = "/runtime.v1.RuntimeService/", "/runtime.v1.ImageService/"
NOT_FOUND = 5
# States, as the protocol numbers them.
RUNNING, EXITED = 1, 2


def path(cluster):
    return cluster.dir / "run/containerd/containerd.sock"


def ask(cluster, method, *asked, status=0, timeout=60):
    """Calls a method on a connection of its own: the fields of its answer."""
    client = Grpc(path(cluster))
    try:
        service = IMAGES if "Image" in method else RUNTIME
        got, answer = client.unary(service + method, message(*asked), timeout)
    finally:
        client.close()
    if got != status:
        raise Failure(f"{method}: gRPC status {got}, not {status}")
    return fields(answer or b"")


def text(answer, *numbers):
    """What lies at this path of numbers; empty if nothing does."""
    value = answer
    for number in numbers:
        found = (fields(value) if isinstance(value, bytes) else value).get(number)
        if not found:
            return ""
        value = found[0]
    return value.decode() if isinstance(value, bytes) else value


def pod_config(cluster, name, *more):
    metadata = message((1, name), (2, f"uid-{name}"), (3, "cri"))
    label = message((1, "app"), (2, name))
    return message((1, metadata), (2, name), (3, str(cluster.dir / "cri-logs" / name)), (6, label), *more)


def container_config(name, command, *more):
    return message((1, message((1, name))), (2, message((1, IMAGE))), (3, ["sh", "-c", command]), (11, f"{name}.log"), *more)


class Pod:
    """A sandbox that came over the socket."""

    def __init__(self, cluster, name, *more):
        self.cluster, self.config = cluster, pod_config(cluster, name, *more)
        self.logs = cluster.dir / "cri-logs" / name
        self.id = text(ask(cluster, "RunPodSandbox", (1, self.config)), 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ask(self.cluster, "RemovePodSandbox", (1, self.id))

    def run(self, name, command, *more):
        """A container of it that was started."""
        config = container_config(name, command, *more)
        made = text(ask(self.cluster, "CreateContainer", (1, self.id), (2, config), (3, self.config)), 1)
        ask(self.cluster, "StartContainer", (1, made))
        return made

    def status(self):
        return ask(self.cluster, "PodSandboxStatus", (1, self.id))

    def address(self):
        return text(self.status(), 1, 5, 1)


def state(cluster, container):
    return text(ask(cluster, "ContainerStatus", (1, container)), 1, 3) or 0


def run_in(cluster, container, *command, timeout=30):
    """Standard output and exit code of a command in a container."""
    answer = ask(cluster, "ExecSync", (1, container), (2, list(command)), (3, timeout))
    return text(answer, 1), text(answer, 3) or 0


def sandboxes(cluster):
    return [fields(one) for one in ask(cluster, "ListPodSandbox").get(1, [])]


def test_who_answers(cluster):
    version = ask(cluster, "Version", (1, "0.1.0"))
    expect((text(version, 2), text(version, 4)) == ("containerd", "v1"), f"{version}")
    conditions = [fields(one) for one in fields(ask(cluster, "Status")[1][0])[1]]
    expect([(text(one, 1), text(one, 2)) for one in conditions] == [("RuntimeReady", 1), ("NetworkReady", 1)], f"{conditions}")
    mode = path(cluster).stat().st_mode & 0o777
    expect(mode == 0o600, f"only root may connect, not {mode:o}")
    images = ask(cluster, "ListImages").get(1, [])
    expect(any(IMAGE in text(fields(one), 2) for one in images), "the built-in image is listed")
    expect(text(ask(cluster, "ImageStatus", (1, message((1, IMAGE)))), 1, 1).startswith("sha256:"), "an image by its name")
    expect(not ask(cluster, "ImageStatus", (1, message((1, "no.such/image:1")))), "an image that is not there is no error")
    expect(text(ask(cluster, "ImageFsInfo"), 1, 3, 1) > 0, "the image store has a size")


def test_pods_of_the_kubelet_are_seen(cluster):
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account", 30)
    create(cluster, kubelet_pod("seen", kubelet_container("c", "echo a line; exec sleep 1000")))
    until(lambda: ready(cluster, "seen"), "the pod runs", 60)
    address = cluster.get("pod", "seen", "-n", "default")["status"]["podIP"]
    (mine,) = [one for one in sandboxes(cluster) if text(one, 2, 1) == "seen"]
    status = ask(cluster, "PodSandboxStatus", (1, text(mine, 1)))
    expect(text(status, 1, 5, 1) == address, f"the sandbox says {text(status, 1, 5, 1)}, the API {address}")
    chosen = message((3, text(mine, 1)))
    (container,) = [fields(one) for one in ask(cluster, "ListContainers", (1, chosen))[1]]
    identity = text(container, 1)
    expect(state(cluster, identity[:13]) == RUNNING, "a container by the beginning of its id")
    told = ask(cluster, "ContainerStatus", (1, identity), (2, 1))
    log = pathlib.Path(text(told, 1, 15))
    until(lambda: log.read_text().split(maxsplit=3)[1:] == ["stdout", "F", "a line\n"], "its log is in CRI's form")
    info = json.loads(text(told, 2, 2))
    expect(info["runtimeSpec"]["process"]["args"][0] == "sh" and pathlib.Path(f"/proc/{info['pid']}").exists(), f"{info}")
    expect(run_in(cluster, identity, "sh", "-c", "echo out; exit 3") == ("out\n", 3), "a command in it")
    stats = ask(cluster, "ContainerStats", (1, identity))
    expect(text(stats, 1, 2, 2, 1) > 0 and text(stats, 1, 3, 2, 1) > 0, "it uses CPU and memory")
    remove(cluster, "pod/seen")


def test_the_kubelet_repairs_what_clients_break(cluster):
    create(cluster, kubelet_pod("broken", kubelet_container("c", "exec sleep 1000")))
    until(lambda: ready(cluster, "broken"), "the pod runs", 60)
    ids = lambda: {text(one, 1) for one in sandboxes(cluster) if text(one, 2, 1) == "broken" and not text(one, 3)}
    (first,) = ids()
    ask(cluster, "StopPodSandbox", (1, first))
    until(lambda: ids() - {first} and ready(cluster, "broken"), "it has another sandbox", 90)
    (second,) = ids()
    ask(cluster, "RemovePodSandbox", (1, second))
    until(lambda: ids() - {first, second} and ready(cluster, "broken"), "and another, after that was removed", 90)
    remove(cluster, "pod/broken")


def test_a_pod_over_the_socket(cluster):
    with Pod(cluster, "whole", (8, message((3, message((1, "net.ipv4.ip_local_port_range"), (2, "40000 50000")))))) as pod:
        serve = "mkdir -p /www; echo served > /www/x; echo to-err >&2; exec httpd -f -p 80 -h /www"
        mount = cluster.dir / "mounted"
        mount.mkdir(exist_ok=True)
        web = pod.run("web", serve, (6, message((1, "ANSWER"), (2, "42"))), (7, message((1, "/mnt"), (2, str(mount)))))
        address = pod.address()
        until(lambda: cluster.sh(f"curl -s http://{address}/x", check=False) == "served\n", "the node reaches it")
        expect(run_in(cluster, web, "sh", "-c", "echo $ANSWER; hostname; touch /mnt/made; cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' '")[0] == "42\nwhole\n40000 50000\n", "environment, name and sysctl")
        expect((mount / "made").exists(), "what was mounted is the host's")
        until(lambda: " stderr F to-err\n" in (pod.logs / "web.log").read_text(), "its log")
        # Limits are changed in place, and told.
        ask(cluster, "UpdateContainerResources", (1, web), (2, message((4, 64 << 20))))
        expect(text(ask(cluster, "ContainerStatus", (1, web)), 1, 16, 1, 4) == 64 << 20, "the new limit is told")
        short = pod.run("short", "exit 7")
        until(lambda: state(cluster, short) == EXITED, "a container that ends")
        expect(text(ask(cluster, "ContainerStatus", (1, short)), 1, 7) == 7, "its exit code")
        client = Grpc(path(cluster))
        expect(client.unary(RUNTIME + "ExecSync", message((1, web), (2, ["sleep", "100"]), (3, 1)))[0] == 4, "a command that takes too long")
        client.close()
        ask(cluster, "StopContainer", (1, web), (2, 0))
        expect(state(cluster, web) == EXITED, "it is stopped")
        ask(cluster, "RemoveContainer", (1, web))
        ask(cluster, "RemoveContainer", (1, web))
        ask(cluster, "ContainerStatus", (1, web), status=NOT_FOUND)
        ask(cluster, "StopPodSandbox", (1, pod.id))
        expect(text(pod.status(), 1, 3) == 1, "the sandbox is not ready")
    ask(cluster, "PodSandboxStatus", (1, pod.id), status=NOT_FOUND)
    expect(not (cluster.dir / "run/cri" / pod.id).exists(), "its files are gone")


def test_pods_over_the_socket_outlive_k3rs(cluster):
    mapped = message((2, 80), (3, 18080))
    with Pod(cluster, "stays", (5, mapped)) as pod:
        web = pod.run("web", "mkdir -p /www; echo served > /www/x; exec httpd -f -p 80 -h /www")
        address = pod.address()
        reached = lambda: cluster.sh("curl -s -m 5 http://192.0.2.10:18080/x", check=False) == "served\n"
        until(reached, "by the node's port")
        cluster.stop(signal.SIGKILL)
        cluster.start()
        until(lambda: path(cluster).exists() and pod.address() == address, "it has its address as before", 60)
        expect(state(cluster, web) == RUNNING, "and its container")
        until(reached, "by the node's port again")
        # A kubelet that has seen the API's pods has taken away what is nobody's.
        create(cluster, kubelet_pod("after", kubelet_container("c", "exec sleep 1000")))
        until(lambda: ready(cluster, "after"), "the kubelet works", 60)
        remove(cluster, "pod/after")
        expect(state(cluster, web) == RUNNING and run_in(cluster, web, "echo", "hi") == ("hi\n", 0), "it is nobody else's")
    return address


def test_events(cluster):
    client = Grpc(path(cluster))
    call = client.open(RUNTIME + "GetContainerEvents")
    client.send(call, b"", True)
    # The stream's own answer comes first: from then on nothing is missed.
    with Pod(cluster, "told") as pod:
        sleeper = pod.run("c", "exec sleep 1000")
        ask(cluster, "StopContainer", (1, sleeper), (2, 0))
        ask(cluster, "RemoveContainer", (1, sleeper))
    mine = lambda: [(text(one, 1), text(one, 2) or 0) for one in map(fields, call.messages) if text(one, 1) in (sleeper, pod.id)]
    wanted = [(sleeper, 0), (sleeper, 1), (sleeper, 2), (sleeper, 3), (pod.id, 3)]
    client.wait(lambda: set(wanted) <= set(mine()), 30)
    expect([one for one in mine() if one[0] == sleeper] == wanted[:4], f"in their order: {mine()}")
    client.close()


def upgrade(url, inside):
    """The head of the answer to a WebSocket request, and the socket."""
    host, _, rest = url.removeprefix("http://").partition("/")
    address, _, port = host.rpartition(":")
    with inside():
        raw = socket.create_connection((address, int(port)), timeout=30)
    key = "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    raw.sendall((key % rest).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = raw.recv(4096)
        if not piece:
            break
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    return head.decode(), rest, raw


def test_streams_are_promised_once(cluster):
    from faults.floods import network_of

    with Pod(cluster, "streams") as pod:
        shell = pod.run("c", "exec sleep 1000")
        url = text(ask(cluster, "Exec", (1, shell), (2, ["sh", "-c", "echo streamed"]), (5, 1)), 1)
        expect(url.startswith("http://127.0.0.1:"), url)
        head, rest, raw = upgrade(url, lambda: network_of(cluster))
        expect(head.startswith("HTTP/1.1 101 "), head)
        while b"streamed" not in rest:
            piece = raw.recv(4096)
            expect(piece, f"the stream ended with {rest}")
            rest += piece
        raw.close()
        head, _, raw = upgrade(url, lambda: network_of(cluster))
        raw.close()
        expect(head.startswith("HTTP/1.1 404 "), f"an address is good for one use: {head}")
        wrong = url.rsplit("/", 1)[0] + "/" + "0" * 32
        head, _, raw = upgrade(wrong, lambda: network_of(cluster))
        raw.close()
        expect(head.startswith("HTTP/1.1 404 "), head)
        for asked, why in ((((3, 1), (6, 1)), "a terminal has no stderr"), ((), "no stream at all")):
            ask(cluster, "Exec", (1, shell), (2, ["sh"]), *asked, status=3)


def test_what_is_refused(cluster):
    for method, asked, status in (
        ("NoSuchMethod", (), 12),
        ("CheckpointContainer", ((1, "x"),), 12),
        ("ContainerStatus", ((1, ""),), NOT_FOUND),
        ("PodSandboxStatus", ((1, "0" * 64),), NOT_FOUND),
        ("ContainerStatus", ((1, b"\xff\xfe"),), 13),
        ("RunPodSandbox", (), 3),
        ("RunPodSandbox", ((1, pod_config(cluster, "x")), (2, "kata")), 2),
        ("RunPodSandbox", ((1, pod_config(cluster, "x", (8, message((1, "../../out"))))),), 3),
        ("RunPodSandbox", ((1, pod_config(cluster, "x", (8, message((3, message((1, "kernel.panic"), (2, "1"))))))),), 2),
        ("StopPodSandbox", ((1, "0" * 64),), 0),
        ("RemovePodSandbox", ((1, "0" * 64),), 0),
        ("PullImage", (), 3),
    ):
        ask(cluster, method, *asked, status=status)
    expect(not [one for one in sandboxes(cluster) if text(one, 2, 1) == "x"], "nothing is left of what was refused")
    with Pod(cluster, "one") as pod:
        ask(cluster, "RunPodSandbox", (1, pod.config), status=2)
        for config, status in (
            (container_config("c", "true", (15, message((2, message((2, 1)))))), 2),
            (container_config("c", "true", (15, message((2, message((16, message((1, 2), (2, "x")))))))), 2),
            (container_config("c", "true", (17, message((1, "vendor/x=y")))), 12),
            (container_config("c", "true", (7, message((1, "/mnt"), (2, "relative")))), 3),
            (message((1, message((1, "c"))), (2, message((1, "no.such/image:1")))), NOT_FOUND),
        ):
            ask(cluster, "CreateContainer", (1, pod.id), (2, config), (3, pod.config), status=status)
    # More than a request may have, and a stranger who speaks something else.
    client = Grpc(path(cluster))
    call = client.open(RUNTIME + "Version")
    client.send(call, message((1, "x" * (5 << 20))), True)
    client.wait(lambda: call.status is not None, 30)
    expect(call.status not in (None, 0), f"{call.status}")
    client.close()
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(30)
    raw.connect(str(path(cluster)))
    raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expect(raw.recv(100).startswith(b"HTTP/1.1 415 "), "HTTP is not what it speaks")
    raw.close()
    cluster.alive()


def crictl(cluster, *args, code=0, timeout=60, input=None):
    done = subprocess.run(cluster.inside([cluster.binary, "crictl", *args]), env=cluster.env, input=input, capture_output=True, text=True, timeout=timeout)
    expect(done.returncode == code, f"crictl {' '.join(args)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done


def test_crictl(cluster):
    said = crictl(cluster, "version").stdout.split()
    expect(said[3:5] == ["containerd", "RuntimeVersion:"], f"{said}")
    create(cluster, kubelet_pod("ours", kubelet_container("c", "echo one; echo two >&2; exec sleep 1000")))
    until(lambda: ready(cluster, "ours"), "the pod runs", 60)
    head, *rows = [line.split() for line in crictl(cluster, "ps", "--name", "^c$").stdout.splitlines()]
    expect(head == "CONTAINER IMAGE CREATED STATE NAME ATTEMPT POD ID POD NAMESPACE".split(), f"{head}")
    (row,) = [row for row in rows if "ours" in row]
    expect("Running" in row and row[-1] == "default", f"{row}")
    (full,) = crictl(cluster, "ps", "-q", "--label", "io.kubernetes.pod.name=ours").stdout.split()
    expect(full.startswith(row[0]), f"{full} {row}")
    until(lambda: crictl(cluster, "logs", row[0]).stdout == "one\n" and crictl(cluster, "logs", "--tail", "1", row[0]).stderr == "two\n", "its log")
    expect(crictl(cluster, "exec", row[0], "echo", "hi").stdout == "hi\n", "a command")
    expect(crictl(cluster, "exec", "-i", "-r", "websocket", row[0], "cat", input="through").stdout == "through", "its input")
    expect("command terminated with exit code 3" in crictl(cluster, "exec", row[0], "sh", "-c", "exit 3", code=1).stderr, "an exit code")
    told = json.loads(crictl(cluster, "inspect", row[0]).stdout)
    expect(told["status"]["state"] == "CONTAINER_RUNNING" and told["info"]["pid"] > 0, f"{told}")
    expect("is running, please stop it first" in crictl(cluster, "rm", row[0], code=1).stderr, "what runs is not removed")
    expect(crictl(cluster, "nope", code=3).stderr == "No help topic for 'nope'\n", "an unknown command")
    remove(cluster, "pod/ours")
    # A pod of its own, from files as crictl's users have them: JSON or YAML, names in either form.
    pod, container = cluster.dir / "pod.yaml", cluster.dir / "container.json"
    pod.write_text(f"metadata: {{name: mine, namespace: d, uid: u1, attempt: 1}}\nlog_directory: {cluster.dir}/cri-logs/mine\nlinux: {{}}\n")
    container.write_text(json.dumps({"metadata": {"name": "c"}, "image": {"image": IMAGE}, "command": ["sh", "-c", "echo mine; exec sleep 1000"], "logPath": "c.log", "linux": {"resources": {"memory_limit_in_bytes": 33554432}}}))
    made = crictl(cluster, "run", "--no-pull", str(container), str(pod)).stdout.strip()
    limit = json.loads(crictl(cluster, "inspect", made).stdout)["status"]["resources"]["linux"]["memoryLimitInBytes"]
    expect(limit == "33554432", limit)
    crictl(cluster, "update", "--memory", "67108864", made)
    expect(json.loads(crictl(cluster, "inspect", made).stdout)["status"]["resources"]["linux"]["memoryLimitInBytes"] == "67108864", "its new limit")
    (mine,) = crictl(cluster, "pods", "-q", "--name", "mine").stdout.split()
    expect("CPU %" in crictl(cluster, "stats", made).stdout and "mine" in crictl(cluster, "statsp", "--id", mine).stdout, "statistics")
    follower = subprocess.Popen(cluster.inside([cluster.binary, "crictl", "logs", "-f", made]), env=cluster.env, stdout=subprocess.PIPE, text=True)
    expect(follower.stdout.readline() == "mine\n", "a log that is followed")
    expect(crictl(cluster, "stop", made).stdout == made + "\n", "it is stopped")
    expect(follower.wait(60) == 0, "and its log ends")
    expect(crictl(cluster, "rmp", "-f", mine).stdout == f"Stopped sandbox {mine}\nRemoved sandbox {mine}\n", "its pod is removed")
    expect(not crictl(cluster, "pods", "-q", "--name", "mine").stdout, "it is gone")


def test_crictl_flags_do_something_or_are_refused(cluster):
    started = time.monotonic()
    # Nobody has this address: without the flag it takes as long as the kernel looks for it.
    failed = crictl(cluster, "pull", "--pull-timeout", "100ms", "192.0.2.77/x:1", code=1).stderr
    expect("context deadline exceeded" in failed, f"after {time.monotonic() - started:.1f} s: {failed}")
    expect('invalid value \\"soon\\" for flag -pull-timeout' in crictl(cluster, "pull", "-pt", "soon", "x", code=1).stderr, "what is no duration")
    told = crictl(cluster, "--debug", "pods", "-q").stderr
    expect("level=debug" in told and "ListPodSandboxRequest" in told and "ListPodSandboxResponse" in told, told)
    settings = cluster.dir / "crictl.yaml"
    settings.write_text(f"runtime-endpoint: unix://{path(cluster)}\ntimeout: 30\ndebug: true\n")
    expect("VersionRequest" in crictl(cluster, "--config", str(settings), "version").stderr, "its file says so, too")
    for flag in ("--tracing-endpoint=x:1", "--enable-tracing", "--profile-cpu=x"):
        refused = crictl(cluster, flag, "version", code=1).stderr
        expect(f"{flag.split('=')[0]} is not supported by k3rs" in refused, refused)
    with Pod(cluster, "limits") as pod:
        made = pod.run("ends", "exit 0")
        until(lambda: state(cluster, made) == EXITED, "it ends")
        listed = lambda *flags: made[:13] in crictl(cluster, "stats", *flags, "--id", made).stdout
        expect(not listed() and listed("--all"), "what does not run is shown with all")
        files = [cluster.dir / "c.json", cluster.dir / "p.json"]
        files[0].write_text(json.dumps({"metadata": {"name": "c"}, "image": {"image": IMAGE}}))
        files[1].write_text(json.dumps({"metadata": {"name": "limits", "namespace": "cri", "uid": "u"}}))
        both = crictl(cluster, "create", "--with-pull", "--no-pull", pod.id, *map(str, files), code=1).stderr
        expect("no-pull and with-pull are both set" in both, both)
        expect(len(crictl(cluster, "create", "-T", "30s", pod.id, *map(str, files)).stdout.strip()) == 64, "a time to be created in")
