"""One client must not stop the others: connections, memory of requests, room in the datastore."""

import base64
import contextlib
import ctypes
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

from cluster import Failure, until

# It measures the server's memory, and how long others wait.
ALONE = True

libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def network_of(cluster):
    """This thread, inside the node's network."""
    with open("/proc/self/ns/net") as own, open(f"/run/netns/{cluster.netns}") as other:
        libc.setns(other.fileno(), 0)
        try:
            yield
        finally:
            libc.setns(own.fileno(), 0)


def credentials(cluster):
    """The administrator's certificate and key, as files."""
    if (cluster.dir / "client-key-data").exists():
        return [str(cluster.dir / field) for field in ("client-certificate-data", "client-key-data")]
    text = (cluster.dir / "kubeconfig").read_text()
    found = []
    for field in ("client-certificate-data", "client-key-data"):
        path = cluster.dir / field
        # Another thread may ask at the same time, and sees all of it or nothing.
        made = cluster.dir / f"{field}.{threading.get_ident()}"
        made.write_bytes(base64.b64decode(re.search(rf"{field}: (\S+)", text)[1]))
        made.chmod(0o600)
        made.rename(path)
        found.append(str(path))
    return found


def context(cluster=None, version=None):
    made = ssl._create_unverified_context()
    if cluster:
        made.load_cert_chain(*credentials(cluster))
    if version:
        made.minimum_version = made.maximum_version = version
    return made


class Client:
    """One connection of the administrator that is made when asked, as kubectl makes it."""

    def __init__(self, cluster, port=6443, host="127.0.0.1", name=None, **kwargs):
        with network_of(cluster):
            raw = socket.create_connection((host, port), timeout=60)
        self.socket = context(cluster, **kwargs).wrap_socket(raw, server_hostname=name)

    def ask(self, method, path, body=b"", kind="application/json"):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        text = b""
        while b"\r\n\r\n" not in text:
            piece = self.socket.recv(65536)
            if not piece:
                raise Failure(f"{method} {path}: the connection ended after {text!r}")
            text += piece
        head, _, rest = text.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(rest) < int(length[1]):
            rest += self.socket.recv(65536)
        return int(head.split()[1]), head.decode(), rest.decode(errors="replace")


def rss_kib(cluster):
    for line in open(f"/proc/{cluster.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def prepare(cluster):
    """Before any thread asks for it."""
    cluster.start()
    credentials(cluster)


START = False


def test_idle_strangers(cluster):
    """Connections of every idle sort, and more than there are places: the administrator gets in at once."""
    until(lambda: cluster.kubectl("get", "node", "node1", "-o", "jsonpath={.status.conditions}").stdout, "the node runs")
    slowest, opened = 0, []
    for port, n_sockets, modes in ((6443, 540, ("raw", "hello", "head", "request")), (10250, 140, ("raw", "request"))):
        for mode in modes:
            sockets, n_failed = [], 0
            with network_of(cluster):
                for n in range(n_sockets):
                    if n_failed > 3:
                        break
                    try:
                        # Several addresses, as a botnet has.
                        s = socket.create_connection(("127.0.0.1", port), 5, (f"127.0.{n % 3}.1", 0))
                        if mode == "hello":
                            s.send(b"\x16\x03\x01\x02\x00\x01\x00")
                        elif mode != "raw":
                            s = context().wrap_socket(s)
                        if mode == "head":
                            s.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-a: ")
                        elif mode == "request":
                            s.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                            s.recv(4096)
                        sockets.append(s)
                    except OSError:
                        n_failed += 1
            opened.append(len(sockets))
            begun = time.monotonic()
            code = Client(cluster, port).ask("GET", "/healthz")[0]
            slowest = max(slowest, time.monotonic() - begun)
            if code != 200:
                raise Failure(f"port {port}, {mode}: {code}")
            for s in sockets:
                s.close()
    if slowest > 2:
        raise Failure(f"the administrator waited {slowest:.1f} s")
    return f"{sum(opened)} connections, the slowest answer in {slowest * 1000:.0f} ms"


def test_server_names(cluster):
    """A server name that is no host name is no reason to refuse a client, in any version, with any certificate."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for name in ("127.0.0.1:6443", "my_node:6443", "localhost", None):
            for port in (6443, 10250):
                code = Client(cluster, port, name=name, version=version).ask("GET", "/healthz")[0]
                if code != 200:
                    raise Failure(f"{version!r} {name}: {code}")


def bombs():
    """Bodies that are small and large at once: (what, content type, verb and path, body)."""
    maps = "/api/v1/namespaces/default/configmaps"
    aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    for n in range(1, 6):
        aliases += f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 9) + "]\n"
    aliases = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bomb}}\ndata:\n  x: 1\n{aliases}"
    keys = ",".join(f'"{n}":0' for n in range(250_000))
    yield "aliases", "application/yaml", "POST", maps, aliases
    yield "aliases, applied", "application/apply-patch+yaml", "PATCH", f"{maps}/bomb?fieldManager=x", aliases
    yield "keys", "application/json", "POST", maps, f'{{"metadata":{{"name":"bomb"}},"data":{{{keys}}}}}'
    yield "small maps", "application/json", "POST", maps, '{"metadata":{"name":"bomb"},"x":[' + '{"a":0},' * 300_000 + "0]}"
    yield "brackets", "application/json", "POST", maps, "[" * 3_000_000
    yield "merge patch", "application/merge-patch+json", "PATCH", f"{maps}/kube-root-ca.crt", f'{{"data":{{{keys}}}}}'
    message = b"\x12\x00" * 1_000_000
    spec = b"\x12" + varint(len(message)) + message
    raw = b"\x0a\x08\x0a\x01b\x1a\x03" + b"abc" + spec
    unknown = b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12" + varint(len(raw)) + raw
    yield "protobuf", "application/vnd.kubernetes.protobuf", "POST", "/api/v1/namespaces/default/pods", b"k8s\x00" + unknown


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def parts():
    """Objects of many small parts, and what makes many of few: (what, content type, verb and path, body). Nothing is kept."""
    maps = "/api/v1/namespaces/default/configmaps"
    keys = ",".join(f'"k{n}":"v"' for n in range(70_000))
    whole = f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"parts"}},"data":{{{keys}}}}}'
    yield "keys", "application/json", "POST", f"{maps}?dryRun=All", whole
    yield "keys, applied", "application/apply-patch+yaml", "PATCH", f"{maps}/parts?dryRun=All&fieldManager=x", whole
    containers = ",".join(f'{{"name":"c{n}","image":"x"}}' for n in range(25_000))
    yield "containers", "application/json", "POST", "/api/v1/namespaces/default/pods?dryRun=All", f'{{"metadata":{{"name":"parts"}},"spec":{{"containers":[{containers}]}}}}'
    copies = ",".join(['{"op":"copy","from":"/x/0","path":"/x/-"}'] * 420)
    copies = f'[{{"op":"add","path":"/x","value":[[{",".join(["{" + chr(34) * 2 + ":0}"] * 900)}]]}},{copies}]'
    yield "copies", "application/json-patch+json", "PATCH", f"{maps}/kube-root-ca.crt?dryRun=All", copies


def test_small_bodies_large_trees(cluster):
    """The memory of requests, and of what is made of them, is bounded, whoever sends them; and it is given back."""
    settle(cluster)
    before = rss_kib(cluster)
    most, codes = [before], {}
    stop = threading.Event()

    def look():
        while not stop.wait(0.01):
            most[0] = max(most[0], rss_kib(cluster))

    def send(what, kind, verb, path, body):
        body = body if isinstance(body, bytes) else body.encode()
        try:
            codes.setdefault(what, []).append(Client(cluster).ask(verb, path, body, kind)[0])
        except (OSError, Failure) as error:
            codes.setdefault(what, []).append(repr(error))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for bomb in (*bombs(), *parts()):
            threads = [threading.Thread(target=send, args=bomb) for _ in range(6)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
    finally:
        stop.set()
        watcher.join()
    served = {what: (200, 201) for what, *_ in parts()}
    wrong = {what: found for what, found in codes.items() if not all(code in (400, 413, 422, 429, *served.get(what, ())) for code in found)}
    if wrong:
        raise Failure(f"answers: {wrong}")
    grown = (most[0] - before) // 1024
    if grown > 160:
        raise Failure(f"{grown} MiB more than before; {codes}")
    after = settle(cluster, before + 10 * 1024)
    return f"at most {grown} MiB more, {(after - before) / 1024:.1f} MiB more in the end"


def test_long_bodies_leave_room(cluster):
    """Bodies that take a thread for long, many at once, do not make anybody else wait: one is worked on at a time."""
    keys = "".join(f"  key{n}: value-{n}\n" for n in range(50_000))
    long = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: long}}\ndata:\n{keys}".encode()
    short = b'{"metadata": {"name": "short"}}'
    maps = "/api/v1/namespaces/default/configmaps"
    post = ("POST", f"{maps}?dryRun=All", long, "application/yaml")
    apply = ("PATCH", f"{maps}/long?dryRun=All&fieldManager=x", long, "application/apply-patch+yaml")
    codes = []
    send = lambda asked: codes.append(Client(cluster).ask(*asked)[0])
    begun = time.monotonic()
    send(post)
    alone = time.monotonic() - begun

    def slowest():
        """The longest wait for anything short beside six of them."""
        threads = [threading.Thread(target=send, args=(asked,)) for asked in (post, apply) * 3]
        client, waited = Client(cluster), {}
        [thread.start() for thread in threads]
        while any(thread.is_alive() for thread in threads):
            for what, asked in (("/healthz", ("GET", "/healthz")), ("a short body", ("POST", f"{maps}?dryRun=All", short))):
                begun = time.monotonic()
                code = client.ask(*asked)[0]
                if code not in (200, 201):
                    raise Failure(f"{what}: {code}")
                waited[what] = max(waited.get(what, 0), time.monotonic() - begun)
            time.sleep(0.02)
        return waited

    # The machine may be busy with other things: once, nobody waits for as long as half of one body takes.
    rounds = []
    while len(rounds) < 3 and (not rounds or max(rounds[-1].values()) > alone / 2):
        rounds.append(slowest())
    if not set(codes) <= {200, 201, 429} or codes[0] != 201:
        raise Failure(f"answers: {codes}")
    shown = f"one body takes {alone:.2f} s; the longest waits beside six: {rounds}"
    if max(rounds[-1].values()) > alone / 2:
        raise Failure(shown)
    return shown


def settle(cluster, below_kib=None, timeout=40):
    """Waits until memory is given back, or does not change any more; how much there is."""
    if below_kib:
        try:
            until(lambda: rss_kib(cluster) <= below_kib, f"no more than {below_kib} KiB resident", timeout, interval=0.5)
        except Failure as failure:
            raise Failure(f"{failure}: {rss_kib(cluster)} KiB")
        return rss_kib(cluster)
    seen = []

    def still():
        seen.append(rss_kib(cluster))
        return len(seen) > 12 and max(seen[-12:]) - min(seen[-12:]) < 512

    until(still, "memory does not change", timeout, interval=0.5)
    return seen[-1]


def test_slow_senders(cluster):
    """Who sends bodies slowly, or opens watches and reads nothing, holds nobody up."""
    slow = []
    head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n{"
    for _ in range(230):
        client = Client(cluster)
        client.socket.sendall(head.encode())
        slow.append(client)
    code, _, text = Client(cluster).ask("POST", "/api/v1/namespaces/default/configmaps", b'{"metadata":{"name":"quick"}}')
    if code not in (200, 201):
        raise Failure(f"beside slow senders: {code} {text}")
    for client in slow:
        client.socket.close()
    # Watches, many on a connection, have a bound of their own.
    code, _, text = Client(cluster).ask("DELETE", "/api/v1/namespaces/default/configmaps/quick")
    if code != 200:
        raise Failure(f"{code} {text}")


def fill(cluster, namespace, size, n):
    """Creates ConfigMaps of `size` bytes until one is refused; how many there are, and the refusal."""
    client, data = Client(cluster), "x" * size
    for idx in range(n):
        body = json.dumps({"metadata": {"name": f"fill{size}-{idx}"}, "data": {"x": data}})
        code, _, text = client.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", body.encode())
        if code != 201:
            return idx, code, json.loads(text)
    raise Failure(f"{n} ConfigMaps of {size} bytes found room in {namespace}")


def test_full_datastore(cluster):
    """One namespace does not fill the datastore for others, nor users for the cluster; and it shrinks again."""
    for name in ("hog", "other", "third"):
        cluster.kubectl("create", "namespace", name)
    path = cluster.data / "server/db/state.db"
    n, code, status = fill(cluster, "hog", 1_000_000, 200)
    if code != 507 or status["reason"] != "InsufficientStorage" or 'namespace "hog"' not in status["message"] or "delete objects" not in status["message"]:
        raise Failure(f"{code} {status}")
    # Others have room, until all is taken that users may take.
    fill(cluster, "other", 1_000_000, 200)
    fill(cluster, "other", 1000, 2000)
    full = cluster.kubectl("create", "configmap", "more", "-n", "third", f"--from-literal=x={'x' * 2000}", check=False)
    if "the datastore holds" not in full.stderr or "delete objects" not in full.stderr:
        raise Failure(full.stderr)
    # The cluster goes on, and so do changes that lead to less.
    cluster.kubectl("create", "configmap", "system", "-n", "kube-system", "--from-literal=x=y")
    cluster.kubectl("label", "node", "node1", "full=yes")
    cluster.kubectl("patch", "configmap", "fill1000000-0", "-n", "other", "--type=merge", "-p", '{"data":{"x":"small"}}')
    largest = path.stat().st_size
    cluster.kubectl("delete", "namespace", "hog", "other", "third", timeout=120)
    cluster.kubectl("create", "configmap", "again", "-n", "default", "--from-literal=x=y")
    until(lambda: path.stat().st_size < largest / 4, f"state.db shrinks from {largest >> 20} MiB", 60, interval=1)
    return f"{n} objects of a namespace, {largest >> 20} MiB, then {path.stat().st_size >> 10} KiB"


def test_many_came_and_went(cluster):
    """Memory that thousands of objects needed is given back."""
    cluster.kubectl("create", "namespace", "many")
    settle(cluster)
    before = rss_kib(cluster)
    client = Client(cluster)
    for idx in range(4000):
        body = json.dumps({"metadata": {"name": f"m{idx}", "labels": {"a": "b" * 50}}, "data": {"x": "y" * 600}})
        code, _, text = client.ask("POST", "/api/v1/namespaces/many/configmaps", body.encode())
        if code != 201:
            raise Failure(f"{code} {text}")
    most = rss_kib(cluster)
    code, _, text = Client(cluster).ask("DELETE", "/api/v1/namespaces/many/configmaps")
    if code != 200:
        raise Failure(f"{code} {text}")
    after = settle(cluster, before + 6 * 1024)
    return f"{before >> 10} MiB, {most >> 10} MiB with all, {after >> 10} MiB after"


def test_a_small_disk_has_a_small_bound(cluster):
    """The datastore takes a third of a small disk at most, and says so before the disk is full."""
    path, kept = cluster.data / "server/db", cluster.dir / "db"
    cluster.stop()
    shutil.copytree(path, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", path], check=True)
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        cluster.start()
        cluster.kubectl("create", "namespace", "small")
        n, code, status = fill(cluster, "small", 1_000_000, 60)
        # A third of 48 MiB; users have seven eighths of that, a namespace three quarters of theirs.
        if code != 507 or "delete objects" not in status["message"] or not 4 <= n <= 11:
            raise Failure(f"{n} objects, then {code} {status}")
        used = shutil.disk_usage(path)
        cluster.stop()
    finally:
        subprocess.run(["umount", "-l", path], check=True)
    return f"{n} objects on 48 MiB, {used.free >> 20} MiB of it free"
