"""k3rs's own kubectl where it stands between others: a proxy passes on what comes as it comes, and only what it may; debug's containers run.

What its commands print is compared with upstream's by kubectl_parity.py.
"""

import contextlib
import http.client
import json
import re
import socket
import subprocess

from cluster import expect, until

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
IMAGE = "k3rs.io/userspace:1"


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@contextlib.contextmanager
def proxy(cluster, *flags):
    """A proxy on a socket; what it said is in the process's standard output."""
    path = str(cluster.dir / "proxy.sock")
    process = subprocess.Popen(
        cluster.inside([cluster.binary, "kubectl", "proxy", "-u", path, *flags]), env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        # It says so once it listens.
        said = process.stdout.readline()
        expect(said == f"Starting to serve on {path}\n", f"the proxy said {said!r}")
        process.path = path
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(path, method, target, body=None, headers=None):
    connection = Unix(path)
    try:
        connection.request(method, target, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def config_map(name, text=""):
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}})


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])


def test_a_proxy_passes_a_watch_on_as_it_comes(cluster):
    with proxy(cluster) as own:
        connection = Unix(own.path)
        connection.request("GET", f"{MAPS}?watch=true&fieldSelector=metadata.name=seen")
        answer = connection.getresponse()
        expect(answer.status == 200, f"the watch: {answer.status}")
        # The watch is open: each event is here before the next thing happens.
        for n, kind in enumerate(["ADDED", "DELETED"]):
            if n == 0:
                done = ask(own.path, "POST", MAPS, config_map("seen"), {"Content-Type": "application/json"})
            else:
                done = ask(own.path, "DELETE", f"{MAPS}/seen")
            expect(done[0] in (200, 201), f"{kind}: {done}")
            event = json.loads(answer.readline())
            expect(event["type"] == kind, f"wanted {kind}: {event}")
        connection.close()


def test_a_proxy_holds_no_body(cluster):
    """Many large bodies on the way there, and a list of many megabytes on the way back."""
    text = "x" * 900_000
    with proxy(cluster) as own:
        ask(own.path, "GET", "/version")
        before = resident_kib(own.pid)
        for n in range(40):
            status, said = ask(own.path, "POST", MAPS, config_map(f"big{n}", text), {"Content-Type": "application/json"})
            expect(status == 201, f"{status}: {said[:200]}")
        status, body = ask(own.path, "GET", MAPS)
        expect(status == 200 and len(body) > 36_000_000, f"the list: {status}, {len(body)} bytes")
        # More than an object may have, and less than a request: it is read to its end on the way.
        status, said = ask(own.path, "POST", MAPS, config_map("two", text * 3), {"Content-Type": "application/json"})
        expect(status == 422, f"{status}: {said[:200]}")
        grew = resident_kib(own.pid) - before
        expect(grew < 12 << 10, f"the proxy grew by {grew} KiB")
    cluster.kubectl("delete", "configmap", "--all")
    return f"grew by {grew} KiB"


def test_a_proxy_passes_only_what_it_may(cluster):
    with proxy(cluster, "--reject-methods=^DELETE$", "--accept-paths=^/api/,^/version$") as own:
        for method, target, host, want in [
            ("GET", "/version", "localhost", 200),
            ("GET", "/version", "127.0.0.1:8001", 200),
            ("GET", "/version", "evil.example", 403),
            ("GET", "/version", "localhost.evil.example", 403),
            ("GET", "/healthz", "localhost", 403),
            ("DELETE", f"{MAPS}/none", "localhost", 403),
            ("GET", f"{MAPS}/none", "localhost", 404),
            ("POST", f"{PODS}/x/exec?command=ls", "localhost", 403),
            ("POST", f"{PODS}/x/%65xec?command=ls", "localhost", 403),
            ("POST", f"{PODS}/x/attach", "localhost", 403),
            # The path is made clean first, and asked for anew.
            ("GET", "/api/v1/../../version", "localhost", 301),
            ("GET", "//version", "localhost", 301),
        ]:
            got = ask(own.path, method, target, headers={"Host": host})
            expect(got[0] == want, f"{method} {target} of {host}: wanted {want}, got {got}")
    # Patterns take time that grows with what they are held against, not with its square or worse.
    with proxy(cluster, "--accept-paths=^(a|aa|/)*$") as own:
        got = ask(own.path, "GET", "/" + "a" * 60_000 + "b")
        expect(got[0] == 403, f"a long path: {got}")


def test_a_proxy_passes_other_protocols_on(cluster):
    cluster.kubectl("run", "talks", f"--image={IMAGE}", "--restart=Never", "--", "sleep", "1000")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/talks", "--timeout=60s")
    with proxy(cluster, "--reject-paths=^/none$") as own:
        connection = Unix(own.path)
        connection.connect()
        key = "AAAAAAAAAAAAAAAAAAAAAA=="
        connection.sock.sendall(
            f"GET {PODS}/talks/exec?command=echo&command=through&stdout=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n".encode()
        )
        said = b""
        while b"through" not in said:
            piece = connection.sock.recv(4096)
            expect(piece, f"the stream ended: {said}")
            said += piece
        expect(said.startswith(b"HTTP/1.1 101"), f"no upgrade: {said}")
        connection.close()


def test_debug_looks_into_a_pod_and_a_node(cluster):
    own = lambda *args: subprocess.run(
        cluster.inside([cluster.binary, "kubectl", *args]), env=cluster.env, input="go\n", capture_output=True, text=True, timeout=120
    )
    # What it prints comes after somebody is there who says go.
    talk = lambda command: ("-i", "-q", "--", "sh", "-c", f"read go; {command}")
    cluster.kubectl("run", "looked-at", f"--image={IMAGE}", "--restart=Never", "--", "sleep", "1000")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/looked-at", "--timeout=60s")
    for name in ("one", "two"):
        done = own("debug", "looked-at", f"--image={IMAGE}", "-c", name, "--profile=general", "--target=looked-at", *talk("ps"))
        expect(done.returncode == 0 and "sleep 1000" in done.stdout, f"debug {name}: {done}")
    pod = cluster.get("pod", "looked-at")
    expect([it["name"] for it in pod["spec"]["ephemeralContainers"]] == ["one", "two"], f"{pod['spec']}")
    # As upstream: what is there is not changed, and the server says so.
    done = own("debug", "looked-at", f"--image={IMAGE}", "-c", "two", "--profile=general", "--", "true")
    expect(done.returncode == 1 and "existing ephemeral containers" in done.stderr, f"again: {done}")
    done = own("debug", "node/node1", f"--image={IMAGE}", "--profile=sysadmin", *talk("ls /host"))
    expect(done.returncode == 0 and "etc" in done.stdout.split(), f"debug of the node: {done}")
    done = own("debug", "looked-at", f"--image={IMAGE}", "--copy-to=copied", "-c", "more", "--profile=general", "--", "sleep", "1000")
    expect(done.returncode == 0, f"a copy: {done}")
    until(lambda: cluster.get("pod", "copied")["status"]["phase"] == "Running", "the copy runs", 60)
    done = own("exec", "copied", "-c", "more", "--", "ps")
    expect(done.stdout.count("sleep 1000") == 2, f"the copy shares its processes: {done}")
