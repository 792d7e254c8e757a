"""What nodes cost: bench_nodes.py BINARY [N ...].

A server and its node, then real agents (network namespaces at one bridge), then hollow nodes: made by this program, with a certificate of
their own each, what a k3rs agent watches, its Lease every ten seconds and its tunnel, and no containers. Measured when there are N agents
(1, 3, 50 and 500 unless told otherwise): memory of server and agent, CPU of the server, bytes on an agent's wire. Then how long an agent's
requests wait when the server that it uses dies: of two servers over PostgreSQL, and of three with an embedded etcd, with and without its
leader. IDLE in the environment is how many seconds each measurement idles.
"""

import base64
import http.client
import json
import os
import pathlib
import select
import signal
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time

from bench import MIB, cpu_secs, status_bytes
from bench_api import Server, frame, literal
from cluster import Cluster, Failure, until
from faults._databases import Postgres
from faults.floods import network_of
from hosts import Host, Wire, is_ready

TOKEN = "a-token-of-many-nodes"
IDLE_SECS = float(os.environ.get("IDLE", "40"))
N_REAL = 3
LEASE_SECS, PING_SECS = 10, 5
PROTOBUF = "application/vnd.kubernetes.protobuf;stream=watch"
# What a k3rs agent follows, as its kubelet and as its service proxy.
OF_KUBELET = ["/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{name}", "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{name}"]
OF_PROXY = ["/api/v1/services?watch=1", "/apis/discovery.k8s.io/v1/endpointslices?watch=1", "/api/v1/nodes?watch=1"]
GOALS = "goals: agent 6 MB, server 16 MB and 50 KB a node, failover 2 s"


class Link:
    """An HTTP/2 connection on which requests are sent and answers only counted."""

    def __init__(self, sock):
        self.sock, self.data, self.stream, self.n_bytes = sock, b"", 1, 0
        settings = struct.pack(">HIHI", 4, 1 << 30, 3, 1000)
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack(">I", (1 << 30))))

    def ask(self, method, path, body=b""):
        fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost")]
        fields.append(("accept", PROTOBUF if method == "GET" else "application/json"))
        if body:
            fields.append(("content-type", "application/merge-patch+json" if method == "PATCH" else "application/json"))
        out = frame(1, 4 if body else 5, self.stream, b"".join(literal(*field) for field in fields))
        self.send(out + (frame(0, 1, self.stream, body) if body else b""))
        self.stream += 2

    def send(self, out):
        self.sock.setblocking(True)
        self.sock.sendall(out)
        self.sock.setblocking(False)

    def hear(self):
        try:
            while got := self.sock.recv(1 << 16):
                self.data += got
            raise Failure("the server closed a node's connection")
        except ssl.SSLWantReadError:
            pass
        at = 0
        while len(self.data) - at >= 9:
            length = int.from_bytes(self.data[at : at + 3])
            if len(self.data) - at < 9 + length:
                break
            kind, flags, payload = self.data[at + 3], self.data[at + 4], self.data[at + 9 : at + 9 + length]
            at += 9 + length
            self.n_bytes += length
            if kind in (4, 6) and not flags & 1:
                self.send(frame(kind, 1, 0, payload if kind == 6 else b""))
            if kind == 7:
                raise Failure(f"the server says goodbye to a node: {payload[:60]!r}")
            if kind == 0 and self.n_bytes > 1 << 24:
                self.send(frame(8, 0, 0, struct.pack(">I", self.n_bytes)))
                self.n_bytes = 0
        self.data = self.data[at:]


class Tunnel:
    """The WebSocket that an agent keeps, with nothing in it but pings."""

    def __init__(self, sock):
        self.sock = sock
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /v1-k3s/connect HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = sock.recv(4096)
        if b" 101 " not in answer.split(b"\r\n")[0]:
            raise Failure(f"no tunnel: {answer[:200]!r}")

    def ping(self):
        self.sock.setblocking(True)
        self.sock.sendall(b"\x89\x80" + os.urandom(4))
        self.sock.setblocking(False)

    def hear(self):
        try:
            while self.sock.recv(1 << 16):
                pass
            raise Failure("the server closed a tunnel")
        except ssl.SSLWantReadError:
            pass


class Hollow(threading.Thread):
    """Nodes without containers; they join in the order that they are asked for, and stay until the end."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.server = cluster, Server(cluster)
        self.poll, self.by_fd, self.nodes, self.failed = select.epoll(), {}, [], None
        self.lock, self.ended = threading.Lock(), False
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-hollow-", dir=cluster.dir))
        self.proxy = self.certificate("client-kube-proxy", "proxy", 0, {})
        # A real Node is what theirs are made of.
        self.template = None
        self.client = self.server.client()

    def certificate(self, what, name, idx, headers):
        client = http.client.HTTPConnection(*self.server.address)
        client.sock = self.connect(ssl._create_unverified_context(), "http/1.1", idx)
        credentials = base64.b64encode(f"node:{TOKEN}".encode()).decode()
        client.request("GET", f"/v1-k3s/{what}.crt", headers={"Authorization": f"Basic {credentials}", **headers})
        answer = client.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Failure(f"{what} of {name}: {answer.status} {text[:200]}")
        client.close()
        path = self.dir / f"{name}.pem"
        path.write_bytes(text)
        made = ssl._create_unverified_context()
        made.load_cert_chain(path)
        return made

    def connect(self, tls, protocol, idx):
        """Each node comes from an address of its own: a server counts by them."""
        tls.set_alpn_protocols([protocol])
        with network_of(self.cluster):
            raw = socket.create_connection(self.server.address, timeout=60, source_address=(f"127.1.{idx // 250}.{idx % 250 + 1}", 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(raw)

    def join_one(self, idx):
        name, address = f"hollow-{idx}", f"198.18.{idx // 250}.{idx % 250 + 1}"
        tls = self.certificate("client-kubelet", name, idx, {"k3s-Node-Name": name, "k3s-Node-Password": f"{idx:032x}", "k3s-Node-IP": address})
        node = json.loads(json.dumps(self.template))
        labels = {**node["metadata"]["labels"], "kubernetes.io/hostname": name}
        made = {"metadata": {"name": name, "labels": labels, "annotations": {"hollow": "true"}}, "spec": {}}
        self.server.ask(self.client, "POST", "/api/v1/nodes", made)
        node["status"]["addresses"] = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
        self.server.ask(self.client, "PATCH", f"/api/v1/nodes/{name}/status", {"status": node["status"]}, "application/merge-patch+json")
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}}
        kubelet, proxy, tunnel = Link(self.connect(tls, "h2", idx)), Link(self.connect(self.proxy, "h2", idx)), Tunnel(self.connect(tls, "http/1.1", idx))
        for path in OF_KUBELET:
            kubelet.ask("GET", path.format(name=name))
        for path in OF_PROXY:
            proxy.ask("GET", path)
        lease["spec"]["renewTime"] = now()
        kubelet.ask("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", json.dumps(lease).encode())
        with self.lock:
            for one in (kubelet, proxy, tunnel):
                one.sock.setblocking(False)
                self.by_fd[one.sock.fileno()] = one
                self.poll.register(one.sock.fileno(), select.EPOLLIN)
            start = time.monotonic()
            self.nodes.append([name, lease, kubelet, tunnel, start + LEASE_SECS * (idx % 97 + 1) / 97, start + PING_SECS * (idx % 89 + 1) / 89])

    def run(self):
        try:
            while not self.ended:
                heard = self.poll.poll(0.05)
                with self.lock:
                    for fd, _ in heard:
                        self.by_fd[fd].hear()
                    self.due(time.monotonic())
        except Exception as error:
            self.failed = error

    def due(self, at):
        for node in self.nodes:
            name, lease, kubelet, tunnel, renews, pings = node
            if at >= renews:
                node[4] += LEASE_SECS
                # A kubelet puts the whole Lease at the version that it knows, which is as long.
                lease["spec"]["renewTime"] = now()
                kubelet.ask("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}", json.dumps(lease).encode())
            if at >= pings:
                node[5] += PING_SECS
                tunnel.ping()

    def grow(self, n):
        while len(self.nodes) < n:
            self.join_one(len(self.nodes))
            self.check()

    def check(self):
        if self.failed:
            raise Failure(f"hollow nodes: {self.failed!r}")


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


def wire_bytes(host):
    """What came and went on the machine's cable."""
    for line in host.sh("cat /proc/net/dev").splitlines():
        if line.strip().startswith("eth0:"):
            fields = line.split(":")[1].split()
            return int(fields[0]) + int(fields[8])


class Nodes:
    """A server with agents, real ones and hollow ones."""

    def __init__(self, binary):
        self.cluster = Cluster(binary, ["--token", TOKEN])
        self.wire = Wire(self.cluster.netns)
        self.hosts, self.hollow = [], None
        try:
            self.wire.plug(self.cluster.inside, "peer0", "p10")
            self.cluster.start()
            self.server = Server(self.cluster)
            self.client = self.server.client()
        except BaseException:
            self.close()
            raise

    def node(self, name):
        try:
            return json.loads(self.server.ask(self.client, "GET", f"/api/v1/nodes/{name}"))
        except Failure:
            return None

    def agent(self):
        number = len(self.hosts) + 11
        host = Host(self.wire, self.cluster.dir, self.cluster.binary, f"agent{number}", number)
        self.hosts.append(host)
        since = time.monotonic()
        host.agent("https://192.0.2.10:6443", TOKEN)
        until(lambda: host.alive() and (node := self.node(host.name)) and is_ready(node), f"{host.name} is Ready", 60, interval=0.01)
        return time.monotonic() - since

    def grow(self, n):
        joins = []
        while len(self.hosts) < min(n, N_REAL):
            joins.append(self.agent())
        if n > N_REAL:
            if not self.hollow:
                self.hollow = Hollow(self.cluster)
                self.hollow.template = self.node(self.hosts[0].name)
                self.hollow.start()
            since = time.monotonic()
            self.hollow.grow(n - N_REAL)
            joins.append((time.monotonic() - since) / max(n - N_REAL, 1))
        return joins

    def measure(self, n):
        joins = self.grow(n)
        time.sleep(10)
        pid, agent = self.cluster.process.pid, self.hosts[0]
        cpu, sent, began = cpu_secs(pid), wire_bytes(agent), time.monotonic()
        time.sleep(IDLE_SECS)
        elapsed = time.monotonic() - began
        if self.hollow:
            self.hollow.check()
        # The connection from before was idle for longer than the server keeps such.
        self.client = self.server.client()
        listed = json.loads(self.server.ask(self.client, "GET", "/api/v1/nodes"))["items"]
        ready = sum(map(is_ready, listed))
        if ready != n + 1:
            raise Failure(f"{ready} of {n + 1} nodes are Ready")
        return [
            n,
            max(joins) if n <= N_REAL else None,
            status_bytes(pid, "VmRSS") / MIB,
            status_bytes(pid, "RssAnon") / MIB,
            (cpu_secs(pid) - cpu) / elapsed * 100,
            status_bytes(agent.process.pid, "VmRSS") / MIB,
            status_bytes(agent.process.pid, "RssAnon") / MIB,
            (wire_bytes(agent) - sent) / elapsed * 3600 / MIB,
        ]

    def close(self):
        if self.hollow:
            self.hollow.ended = True
        for host in self.hosts:
            host.close()
        self.cluster.close()
        self.wire.close()


class Asking(threading.Thread):
    """Asks an agent's own port for its node, one request after another, each on a new connection."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host, self.answered, self.ended = host, [], False
        self.tls = ssl._create_unverified_context()
        self.tls.load_cert_chain(host.data / "agent" / "client-kubelet.crt", host.data / "agent" / "client-kubelet.key")

    def run(self):
        # The whole thread is in the agent's network.
        with network_of(self.host):
            while not self.ended:
                if self.ask():
                    self.answered.append(time.monotonic())
                time.sleep(0.01)

    def ask(self):
        client = http.client.HTTPConnection("127.0.0.1", 6444, timeout=10)
        try:
            client.sock = self.tls.wrap_socket(socket.create_connection(("127.0.0.1", 6444), timeout=10))
            client.request("GET", f"/api/v1/nodes/{self.host.name}")
            answer = client.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()


def leads(server):
    return "\netcd_server_is_leader 1\n" in server.sh("curl -s http://127.0.0.1:2381/metrics", check=False)


def failover(binary, kind):
    """How long an agent's requests waited, each time that the server which it used was killed."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-failover-"))
    wire, hosts, database, gaps = Wire(f"k3rs-fo-{os.getpid()}"), [], None, []
    try:
        n_servers = 2 if kind == "postgres" else 3
        servers = [Host(wire, directory, binary, f"server{idx}", 10 + idx) for idx in range(n_servers)]
        agent = Host(wire, directory, binary, "agent0", 20)
        hosts += [*servers, agent]
        if kind == "postgres":
            base = Host(wire, directory, binary, "database", 30)
            hosts.append(base)
            database = Postgres(base.inside, base.address)
            database.start()
        for server in servers:
            more = ["--datastore-endpoint", database.endpoint()] if database else ["--cluster-init"] if server is servers[0] else ["--server", "https://192.0.2.10:6443"]
            server.server("--token", TOKEN, *more)
            server.wait_up(120)
        agent.agent("https://192.0.2.10:6443", TOKEN)
        until(lambda: agent.alive() and is_ready(servers[0].get("node", agent.name)), "the agent's node is Ready", 60)
        known = agent.data / "agent" / "etc" / "k3s-agent-load-balancer.json"
        until(lambda: known.read_text().count(":6443\"") > n_servers, "the agent knows the servers", 60)
        # The one that it was told to join is the one that it uses.
        dies = servers[0]
        if kind == "etcd, its leader":
            until(lambda: leads(dies), "the first server leads", 60)
        asking = Asking(agent)
        asking.start()
        time.sleep(3)
        killed = time.monotonic()
        dies.stop(signal.SIGKILL)
        until(lambda: asking.answered[-1] > killed + 8, "the agent is answered again", 60)
        asking.ended = True
        times = [at for at in asking.answered if at > killed - 1]
        return max(later - earlier for earlier, later in zip(times, times[1:]))
    finally:
        for host in reversed(hosts):
            host.close()
        if database:
            database.close()
        wire.close()


def main():
    binary = os.path.realpath(sys.argv[1])
    counts = [int(word) for word in sys.argv[2:]] or [1, 3, 50, 500]
    print(f"load {os.getloadavg()[0]:.1f}; {GOALS}\n")
    head = ("agents", "join, s", "server, MB", "anonymous", "server, CPU %", "agent, MB", "anonymous", "agent, MB an hour")
    print(" ".join(f"{what:>17}" for what in head))
    nodes = Nodes(binary)
    try:
        for n in counts:
            row = nodes.measure(n)
            print(" ".join(f"{'' if value is None else round(value, 2):>17}" for value in row), flush=True)
    finally:
        nodes.close()
    for kind in ("postgres", "etcd", "etcd, its leader"):
        print(f"failover over {kind}: an agent's requests waited {failover(binary, kind):.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
