"""The etcd API: Debian's etcdctl against `k3rs kine` and the server's socket, clients that mean no good, and what a stop leaves."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time

from cluster import Failure, expect, until
from faults._grpc import Grpc, fields, message
from registry import certificate

START = False

KV, WATCH, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"


class Kine:
    """`k3rs kine` on a file of the test."""

    def __init__(self, cluster, name, *args, listen=None, endpoint=None):
        self.cluster, self.dir = cluster, cluster.dir / name
        self.dir.mkdir(exist_ok=True)
        self.socket, self.log = self.dir / "kine.sock", self.dir / "log"
        self.command = [cluster.binary, "kine", "--listen-address", listen or f"unix://{self.socket}", "--endpoint", endpoint or f"sqlite://{self.dir}/state.db", *args]
        self.start()

    def start(self):
        said = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.cluster.inside(self.command), stdout=log, stderr=log, cwd=self.dir)
        self.url = until(lambda: self.alive() and re.search(r"Kine available at (\S+)", self.log.read_text()[said:]), "kine listens", 60, interval=0.02)[1]

    def alive(self):
        if self.process.poll() is not None:
            raise Failure(f"kine ended with {self.process.returncode}:\n{self.log.read_text()}")
        return True

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(30)

    def rss_mb(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def ctl(self, *args, **options):
        return etcdctl(self.cluster, self.url, *args, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def etcdctl(cluster, url, *args, given=None, tls=(), fails=False):
    """What it prints; of one that must fail, what it complains of."""
    command = cluster.inside(["etcdctl", "--endpoints", url, *tls, *args])
    done = subprocess.run(command, env=dict(os.environ, ETCDCTL_API="3"), input=given, capture_output=True, text=True, timeout=60)
    expect((done.returncode != 0) == fails, f"etcdctl {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr if fails else done.stdout


def put(key, value, *more):
    return message((1, key), (2, value), *more)


def create(key, *more):
    return message((1, message((1, key), *more)))


def told(data):
    """A WatchResponse: its fields, with events as (deleted, key, value, mod_revision, value before)."""
    found = fields(data)
    events = []
    for event in map(fields, found.get(11, [])):
        kv = fields(event[2][0])
        before = fields(event[3][0]).get(5, [b""])[0] if 3 in event else None
        events.append((1 in event, kv[1][0], kv.get(5, [b""])[0], kv[3][0], before))
    return found, events


def test_etcdctl(cluster):
    if not shutil.which("etcdctl"):
        return "skipped: no etcdctl"
    with Kine(cluster, "ctl") as kine:
        ctl = kine.ctl
        expect(ctl("put", "a", "1") == "OK\n", "a put")
        ctl("put", "b", "2")
        expect(ctl("put", "b", "3", "--prev-kv") == "OK\nb\n2\n", "a put that tells what was")
        expect(ctl("put", "b", "--ignore-value", "--prev-kv", given="").startswith("OK\nb\n3"), "a put that keeps the value")
        expect("key not found" in ctl("put", "none", "--ignore-value", given="", fails=True), "a put that keeps what is not there")
        expect(ctl("get", "", "--prefix").split() == ["a", "1", "b", "3"], "everything")
        expect(ctl("get", "a", "--from-key", "--order=DESCEND", "--sort-by=MODIFY", "--limit=1").split() == ["b", "3"], "the newest")
        old = json.loads(ctl("get", "b", "--rev=3", "-w", "json"))
        expect(old["kvs"][0]["value"] == "Mg==" and old["header"]["revision"] == 5, f"an older revision: {old}")
        expect(json.loads(ctl("get", "", "--prefix", "--limit=1", "-w", "json"))["count"] == 2, "a count beside a limit")
        expect("future revision" in ctl("get", "a", "--rev=99", fails=True), "a revision that has not been")
        txn = 'value("b") = "3"\nmod("a") > "1"\n\nput c yes\nget b\ndel a\n\nput c no\n\n'
        expect(ctl("txn", given=txn).split() == ["SUCCESS", "OK", "b", "3", "1"], "a transaction")
        expect(ctl("txn", given=txn).split() == ["FAILURE", "OK"], "its other branch")
        expect("duplicate key given in txn request" in ctl("txn", given="\nput x 1\nput x 2\n\n\n", fails=True), "one key twice")
        lease = ctl("lease", "grant", "100").split()[1]
        ctl("put", "l", "x", f"--lease={lease}")
        expect("attached keys([l])" in ctl("lease", "timetolive", lease, "--keys"), "a lease's keys")
        expect("keepalived with TTL(100)" in ctl("lease", "keep-alive", "--once", lease), "a lease that is kept")
        expect(lease in ctl("lease", "list"), "the leases")
        expect("requested lease not found" in ctl("put", "l", "y", "--lease=99", fails=True), "a lease that is not there")
        ctl("lease", "revoke", lease)
        expect(ctl("get", "l") == "" and "already expired" in ctl("lease", "timetolive", lease), "a revoked lease")
        expect("compacted revision 5" in ctl("compaction", "5"), "compaction")
        for refused in (("compaction", "5"), ("get", "a", "--rev=4")):
            expect(COMPACTED in ctl(*refused, fails=True), refused)
        expect("is healthy" in subprocess_both(cluster, kine.url, "endpoint", "health"), "health")
        status = json.loads(ctl("endpoint", "status", "-w", "json"))[0]["Status"]
        expect(status["version"] == "3.5.13" and status["leader"] == status["header"]["member_id"], status)
        members = json.loads(ctl("member", "list", "-w", "json"))["members"]
        expect(len(members) == 1 and members[0]["clientURLs"] == [kine.url], members)
        expect(ctl("alarm", "list") == "" and "Finished defragmenting" in ctl("defrag") and re.search(r", \d+", ctl("endpoint", "hashkv")), "upkeep")
        for words, args in {
            "does not support snapshot": ("snapshot", "save", str(kine.dir / "x")),
            "etcdserver: member not found": ("member", "remove", "1"),
            "not enough started members": ("member", "add", "m", "--peer-urls=http://192.0.2.1:1"),
            "bad leader transferee": ("move-leader", "1"),
            "etcdserver: authentication is not enabled": ("user", "add", "root:x"),
        }.items():
            expect(words in ctl(*args, fails=True), args)
        expect(kine.stop() == 0 and not kine.socket.exists(), "a stop")


def subprocess_both(cluster, url, *args):
    """Both of what etcdctl prints, for some of it is among the complaints."""
    done = subprocess.run(cluster.inside(["etcdctl", "--endpoints", url, *args]), env=dict(os.environ, ETCDCTL_API="3"), capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_watches(cluster):
    """Everything a watch may ask for, on one stream."""
    with Kine(cluster, "watches", "--watch-progress-notify-interval=100ms") as kine:
        grpc = Grpc(kine.socket)
        for value in ("1", "2"):
            grpc.unary(KV + "Put", put("/a", value))  # 2, 3
        grpc.unary(KV + "Put", put("/b", "1"))  # 4
        call = grpc.open(WATCH)
        seen = {}

        def until_seen(done):
            def take():
                for data in call.messages:
                    found, events = told(data)
                    seen.setdefault(found.get(2, [0])[0], []).append((found, events))
                call.messages.clear()
                return done()

            grpc.wait(take)

        # From the past with what was before; without puts; without deletions; from the future; a range that is empty, a number twice.
        grpc.send(call, create("/a", (3, 2), (6, 1), (7, 1)))
        grpc.send(call, create("/", (2, "0"), (5, 0), (7, 2)))
        grpc.send(call, create("/", (2, "0"), (5, 1), (7, 3)))
        grpc.send(call, create("/a", (3, 6), (7, 4)))
        grpc.send(call, create("b", (2, "a"), (7, 5)))
        grpc.send(call, create("/a", (7, 4)))
        until_seen(lambda: len(seen.get(-1, [])) == 2 and all(number in seen for number in (1, 2, 3, 4)))
        expect([found[6] for found, _ in seen[-1]] == [[b"mvcc: watcher range is empty"], [b"mvcc: duplicate watch ID provided on the WatchStream"]], seen[-1])
        grpc.unary(KV + "Put", put("/a", "3"))  # 5
        grpc.unary(KV + "Txn", message((2, message((3, message((1, "/a"))))), (2, message((2, put("/b", "2"))))))  # 6
        grpc.unary(KV + "Put", put("/a", "4"))  # 7
        events = lambda number: [event for _, events in seen[number] for event in events]
        until_seen(lambda: all(events(number) and events(number)[-1][3] >= last for number, last in ((1, 7), (2, 6), (3, 7), (4, 7))))
        none = None
        expect(events(1) == [(False, b"/a", b"1", 2, none), (False, b"/a", b"2", 3, b"1"), (False, b"/a", b"3", 5, b"2"), (True, b"/a", b"", 6, b"3"), (False, b"/a", b"4", 7, none)], events(1))
        expect(events(2) == [(True, b"/a", b"", 6, none)], events(2))
        expect([(event[1], event[3]) for event in events(3)] == [(b"/a", 5), (b"/b", 6), (b"/a", 7)], events(3))
        expect([event[3] for event in events(4)] == [6, 7], events(4))
        # How far all are, when asked; how far one is, now and then; the end of one.
        grpc.send(call, message((3, b"")))
        until_seen(lambda: len(seen[-1]) == 3)
        far = seen[-1][2][0]
        expect(fields(far[1][0])[3] == [7] and 11 not in far and 3 not in far, far)
        grpc.send(call, create("/none", (4, 1), (7, 6)))
        until_seen(lambda: len(seen.get(6, [])) >= 3)
        expect(all(fields(found[1][0])[3] == [7] and not events for found, events in seen[6]), seen[6])
        grpc.send(call, message((2, message((1, 6)))))
        until_seen(lambda: 4 in seen[6][-1][0])
        # Compacted: told from where it can be watched; a watch from there lives.
        grpc.unary(KV + "Compact", message((1, 6)))
        grpc.send(call, create("/a", (3, 5), (7, 8)))
        until_seen(lambda: len(seen.get(8, [])) == 2)
        expect(seen[8][1][0][5] == [7] and seen[8][1][0][6] == [COMPACTED.encode()], seen[8])
        grpc.send(call, create("/a", (3, 7), (7, 9)))
        until_seen(lambda: len(seen.get(9, [])) == 2)
        expect(events(9) == [(False, b"/a", b"4", 7, none)], events(9))
        # Parts of what is large, where parts are wanted.
        grpc.send(call, create("/big/", (2, "/big0"), (8, 1), (7, 10)))
        until_seen(lambda: 10 in seen)
        for idx in range(3):
            grpc.unary(KV + "Put", put(f"/big/{idx}", b"x" * 700_000))
        grpc.send(call, create("/big/", (2, "/big0"), (8, 1), (6, 1), (7, 11)))
        until_seen(lambda: len(events(10)) == 3 and 11 in seen)
        grpc.unary(KV + "DeleteRange", message((1, "/big/"), (2, "/big0")))
        until_seen(lambda: len(events(11)) == 3)
        expect([found.get(7, [0]) for found, _ in seen[11][1:]] == [[1], [1], [0]], [found.get(7) for found, _ in seen[11]])
        expect(call.status is None, "the stream ended")
        grpc.close()


def test_a_lease_ends_and_a_stop_leaves_everything(cluster):
    with Kine(cluster, "lease") as kine:
        grpc = Grpc(kine.socket)
        status, granted = grpc.unary(LEASE + "LeaseGrant", message((1, 1)))
        short = fields(granted)[2][0]
        expect(status == 0 and fields(granted)[3] == [2], "the shortest lease is two seconds")
        grpc.unary(LEASE + "LeaseGrant", message((1, 1000), (2, 77)))
        grpc.unary(KV + "Put", put("short", "1", (3, short)))
        grpc.unary(KV + "Put", put("long", "1", (3, 77)))
        call = grpc.open(WATCH)
        grpc.send(call, create("short"))
        grpc.wait(lambda: len(call.messages) == 2)
        expect(told(call.messages[1])[1][0][:2] == (True, b"short"), call.messages)
        for status, words in ((9, message((1, 1000), (2, 77))), (11, message((1, 10**10)))):
            expect(grpc.unary(LEASE + "LeaseGrant", words)[0] == status, "a lease twice, and one that is too long")
        kept = grpc.open(LEASE + "LeaseKeepAlive")
        grpc.send(kept, message((1, 77)))
        grpc.send(kept, message((1, short)))
        grpc.wait(lambda: len(kept.messages) == 2)
        expect([fields(data).get(3, [0])[0] for data in kept.messages] == [1000, 0], kept.messages)
        before = grpc.unary(KV + "Range", message((1, "\0"), (2, "\0")))[1]
        grpc.close()
        # Killed, and stopped: the same afterwards.
        for sig in (signal.SIGKILL, signal.SIGTERM):
            kine.stop(sig)
            kine.start()
            grpc = Grpc(kine.socket)
            after = grpc.unary(KV + "Range", message((1, "\0"), (2, "\0")))[1]
            expect(fields(after)[2] == fields(before)[2], (before, after))
            expect(fields(grpc.unary(LEASE + "LeaseTimeToLive", message((1, 77), (2, 1)))[1])[5] == [b"long"], "the lease and its key")
            grpc.close()
        # The file is one process's.
        other = subprocess.run(cluster.inside([*kine.command[:3], f"unix://{kine.dir}/other.sock", *kine.command[4:]]), capture_output=True, text=True, timeout=30)
        expect(other.returncode == 1 and "state.db" in other.stderr, other)


def test_certificates(cluster):
    if not shutil.which("etcdctl"):
        return "skipped: no etcdctl"
    stranger = certificate(cluster.dir, "stranger", "TRUE")
    authority, made = cluster.dir / "authority", cluster.dir / "made"
    made.mkdir()
    # A CA, a server and a client of it.
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-days", "30", "-keyout", f"{authority}.key", "-out", f"{authority}.crt"], check=True, capture_output=True)
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        (made / "ext").write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        subprocess.run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", made / f"{name}.key", "-out", made / f"{name}.csr"], check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-req", "-in", made / f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-days", "30", "-extfile", made / "ext", "-out", made / f"{name}.crt"], check=True, capture_output=True)
    tls = ["--server-cert-file", made / "server.crt", "--server-key-file", made / "server.key", "--trusted-ca-file", f"{authority}.crt"]
    with Kine(cluster, "tls", *map(str, tls), listen="127.0.0.1:0") as kine:
        ours = ("--cacert", f"{authority}.crt", "--cert", str(made / "client.crt"), "--key", str(made / "client.key"))
        expect(kine.url.startswith("https://127.0.0.1:") and kine.ctl("put", "a", "1", tls=ours) == "OK\n", kine.url)
        expect(json.loads(kine.ctl("member", "list", "-w", "json", tls=ours))["members"][0]["clientURLs"] == [kine.url], "the member's URL")
        refused = kine.ctl("get", "a", tls=("--cacert", f"{authority}.crt"), fails=True)
        expect("certificate" in refused or "deadline" in refused, refused)
        kine.ctl("get", "a", tls=("--cacert", f"{authority}.crt", "--cert", str(stranger[0]), "--key", str(stranger[1])), fails=True)


def test_messages_that_are_too_much(cluster):
    with Kine(cluster, "large") as kine:
        grpc = Grpc(kine.socket)
        expect(grpc.unary(KV + "Put", put("/a", b"x" * 1_400_000))[0] == 0, "a value of 1.4 MB")
        expect(grpc.unary(KV + "Put", put("/a", b"x" * 1_600_000))[0] == 3, "a request that is too large")
        before = kine.rss_mb()
        for _ in range(20):
            # The head of a message of 100 MB, and as much of it as is let in.
            other = Grpc(kine.socket)
            call = other.open(KV + "Put")
            other.push(call, b"\0" + struct.pack(">I", 100_000_000) + b"x" * 200_000, False)
            other.wait(lambda: call.status is not None)
            expect(call.status == 8, call.status)
            other.close()
        # Two hundred that begin a large message and do not go on: who is small is served beside them.
        idle = Grpc(kine.socket)
        for _ in range(200):
            call = idle.open(KV + "Put")
            idle.socket.sendall(idle.frame(0, 0, call.stream, b"\0" + struct.pack(">I", 1_400_000) + b"x" * 100))
        idle.unary(KV + "Range", message((1, "/a"), (8, 1)))
        expect(grpc.unary(KV + "Put", put("/small", "x"))[0] == 0, "a small put beside large ones that do not come")
        idle.close()
        puts = [(2, message((2, put(f"/{idx}", "x")))) for idx in range(40_000)]
        expect(grpc.unary(KV + "Txn", message(*puts))[0] == 3, "40,000 operations")
        expect(grpc.unary(KV + "Txn", message(*puts[:129]))[0] == 3, "129 operations")
        expect(grpc.unary(KV + "Txn", message(*puts[:128]))[0] == 0, "128 operations")
        nested = message(puts[0])
        for depth in range(1, 1001):
            nested = message((2, message((4, nested))))
            if depth in (5, 30, 1000):
                status = grpc.unary(KV + "Txn", nested)[0]
                expect(status == (0 if depth == 5 else 3), f"{depth} deep: {status}")
        wide = message(*[(2, message((4, message(*puts[:60]))))] * 60)
        expect(grpc.unary(KV + "Txn", wide)[0] == 3, "3,600 operations in 60 transactions")
        prng = random.Random(1)
        for path in (KV + "Range", KV + "Txn", WATCH, LEASE + "LeaseKeepAlive", "/etcdserverpb.Maintenance/Status", "/no/such", "/"):
            for _ in range(20):
                call = grpc.open(path)
                grpc.send(call, prng.randbytes(prng.randrange(40)), True)
        grpc.unary(KV + "Range", message((1, "/a")))
        expect(kine.alive() and kine.rss_mb() - before < 40, f"{before:.0f} MB became {kine.rss_mb():.0f} MB")
        grpc.close()


def test_ten_thousand_watches(cluster):
    """On one stream of one connection: each is told, and gone when the connection is."""
    with Kine(cluster, "many") as kine:
        grpc, n = Grpc(kine.socket), 10_000
        grpc.unary(KV + "Put", put("/w/9", "x"))
        before = kine.rss_mb()
        call = grpc.open(WATCH)
        started = time.monotonic()
        for idx in range(n):
            grpc.send(call, create(f"/w/{idx % 10}"))
            if idx % 500 == 499:
                grpc.wait(lambda: len(call.messages) >= idx)
        grpc.wait(lambda: len(call.messages) == n)
        made, grown = time.monotonic() - started, kine.rss_mb() - before
        call.messages.clear()
        other = Grpc(kine.socket)
        started = time.monotonic()
        for idx in range(10):
            other.unary(KV + "Put", put(f"/w/{idx}", "y"))
        grpc.wait(lambda: len(call.messages) == n, 60)
        heard = time.monotonic() - started
        expect(len({fields(data).get(2, [0])[0] for data in call.messages}) == n, "each of them once")
        expect(grown < 30, f"{grown:.0f} MB for {n} watches")
        grpc.close()
        expect(other.unary(KV + "Put", put("/w/1", "z"))[0] == 0, "a put afterwards")
        other.close()
        return f"made in {made:.1f} s, told in {heard:.1f} s, {grown:.1f} MB"


def test_a_watcher_that_never_reads(cluster):
    """Its watches wait in bounds; when it reads at last, it hears of what it missed, or that this is forgotten."""
    with Kine(cluster, "slow") as kine:
        slow, grpc = Grpc(kine.socket, window=0, greedy=False), Grpc(kine.socket)
        calls = [slow.open(WATCH) for _ in range(20)]
        for call in calls:
            for idx in range(20):
                slow.send(call, create("/s/", (2, "/s0"), (6, 1)))
        value = bytes(1_000_000)
        for idx in range(30):
            expect(grpc.unary(KV + "Put", put(f"/s/{idx % 2}", value))[0] == 0, "a put beside it")
        first = kine.rss_mb()
        for idx in range(120):
            expect(grpc.unary(KV + "Put", put(f"/s/{idx % 2}", value))[0] == 0, "a put beside it")
        grown = kine.rss_mb() - first
        # The history may hold 64 MB.
        expect(grown < 90, f"{grown:.0f} MB more, of 120 MB that were written")
        slow.greedy = True
        for call in calls[:1]:
            slow.socket.sendall(slow.frame(8, 0, call.stream, struct.pack(">I", 1 << 30)))
        revisions, ended = {}, set()

        def take():
            for data in calls[0].messages:
                found, events = told(data)
                number = found.get(2, [0])[0]
                revisions.setdefault(number, []).extend(event[3] for event in events)
                if 4 in found:
                    expect(found[6] == [COMPACTED.encode()] and found[5][0] > 1, found)
                    ended.add(number)
            calls[0].messages.clear()
            last = {number: max(told, default=0) for number, told in revisions.items()}
            return len(revisions) == 20 and all(number in ended or last[number] == 151 for number in revisions)

        slow.wait(take, 60)
        for number, heard in revisions.items():
            expect(heard == list(range(2, 2 + len(heard))) or number in ended, f"a gap in {number}: {heard}")
        slow.close()
        grpc.close()
        return f"{grown:.0f} MB, {len(ended)} of 20 watches ended"


class Questions:
    """Random requests of the API, of which an etcd on the same questions knows the answers."""

    KEYS = [b"a", b"a/1", b"a/2", b"b", b"b\0", b"c"]

    def __init__(self, seed):
        self.prng, self.revision, self.leases = random.Random(seed), 1, [99]

    def chance(self, percent):
        return self.prng.randrange(100) < percent

    def span(self, one):
        key = self.prng.choice(self.KEYS + [b"\0", b""] if self.chance(30) else self.KEYS)
        return [(1, key)] if self.chance(one) else [(1, key), (2, self.prng.choice([b"\0", b"b", b"a0", b"z", b"a/"]))]

    def near(self):
        return max(0, self.revision - self.prng.randrange(-2, 8))

    def range(self):
        sort = (self.prng.randrange(3), self.prng.randrange(5))
        sorts = [(5, sort[0]), (6, sort[1] if sort[0] else 0)] if self.chance(30) else []
        flags = [(number, 1) for number, percent in ((7, 20), (8, 20), (9, 15)) if self.chance(percent)]
        bounds = [(number, self.near()) for number in (10, 11, 12, 13) if self.chance(10)]
        more = [(3, self.prng.randrange(4))] * self.chance(30) + [(4, self.near())] * self.chance(30)
        return message(*self.span(50), *more, *sorts, *flags, *bounds)

    def put(self):
        keeps = self.chance(15)
        value = [(2, str(self.prng.randrange(5)))] if not keeps or self.chance(10) else []
        lease = [(3, self.prng.choice([*self.leases, 12345]))] * self.chance(20)
        flags = [(number, 1) for number, is_set in ((4, self.chance(40)), (5, keeps), (6, self.chance(15))) if is_set]
        return message((1, self.prng.choice(self.KEYS) if self.chance(97) else b""), *value, *lease, *flags)

    def delete(self):
        return message(*self.span(70), *[(3, 1)] * self.chance(50))

    def compare(self):
        target = self.prng.randrange(5)
        number = (4, 5, 6, 7, 8)[target]
        operand = (self.prng.randrange(4), self.near(), self.near(), str(self.prng.randrange(5)), self.prng.choice(self.leases))[target]
        ends = [(64, self.prng.choice([b"\0", b"b", b"z"]))] * self.chance(30)
        return message((1, self.prng.randrange(4)), (2, target), (3, self.prng.choice(self.KEYS)), *[(number, operand)] * self.chance(95), *ends)

    def txn(self, depth=2):
        def operation():
            kind = self.prng.choices((1, 2, 3, 4), (30, 35, 15, 20 if depth else 0))[0]
            make = {1: self.range, 2: self.put, 3: self.delete, 4: lambda: self.txn(depth - 1)}[kind]
            return message((kind, make()))

        parts = [(1, self.compare)] * self.prng.randrange(3) + [(2, operation)] * self.prng.randrange(4) + [(3, operation)] * self.prng.randrange(4)
        return message(*[(number, make()) for number, make in parts])

    def next(self):
        kind = self.prng.choices(("Range", "Put", "DeleteRange", "Txn", "Compact", "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive"), (25, 20, 10, 35, 2, 3, 2, 3))[0]
        lease = self.prng.choice(self.leases)
        if kind == "LeaseGrant":
            lease = self.prng.randrange(1, 8)
            self.leases.append(lease)
        data = {
            "Range": self.range, "Put": self.put, "DeleteRange": self.delete, "Txn": self.txn,
            "Compact": lambda: message((1, max(0, self.revision - self.prng.randrange(-2, 30)))),
            "LeaseGrant": lambda: message((1, self.prng.choice([1000, 5000, 10**10])), (2, lease)),
            "LeaseRevoke": lambda: message((1, lease)),
            "LeaseTimeToLive": lambda: message((1, lease), (2, 1)),
        }[kind]()  # fmt: skip
        return kind, (LEASE if kind.startswith("Lease") else KV) + kind, data

    @classmethod
    def plain(cls, kind, answer):
        """An answer without who gave it: the revision, and the fields."""
        found = fields(answer)
        head = found.pop(1, None)
        revision = fields(head[0]).get(3, [0])[0] if head else 0
        if kind == "Txn":
            inner = [next(iter(fields(one).items())) for one in found.pop(3, [])]
            names = {1: "Range", 2: "Put", 3: "DeleteRange", 4: "Txn"}
            # Only puts in it have a head of their own that clients look at.
            told = [cls.plain(names[number], one[0]) for number, one in inner]
            found["inner"] = [(names[number], *(one if number == 2 else one[1:])) for (number, _), one in zip(inner, told)]
        if kind == "LeaseTimeToLive":
            found.pop(3, None)
            found.get(5, []).sort()
        return revision, found


def test_answers_are_those_of_etcd(cluster):
    if not shutil.which("etcd"):
        return "skipped: no etcd"
    with Kine(cluster, "beside") as kine, etcd_of(cluster, "etcd", 2380) as (socket, _):
        etcd, ours, questions = Grpc(socket), Grpc(kine.socket), Questions(2)
        for idx in range(1000):
            kind, path, data = questions.next()
            answers = [grpc.unary(path, data) for grpc in (etcd, ours)]
            plain = [(status, Questions.plain(kind, answer) if status == 0 else None) for status, answer in answers]
            if kind == "Txn" and all(status in (3, 5, 11) for status, _ in plain):
                # Of several faults, each names one.
                continue
            expect(plain[0] == plain[1], f"question {idx}, {kind} {fields(data)}:\n{plain[0]}\n{plain[1]}")
            if plain[0][0] == 0:
                questions.revision = max(questions.revision, plain[0][1][0])
        etcd.close()
        ours.close()
        return f"at revision {questions.revision}"


@contextlib.contextmanager
def etcd_of(cluster, name, port):
    """An etcd that answers: its socket, and its URL."""
    work = cluster.dir / name
    work.mkdir()
    urls = f"unix://localhost:{port + 1},http://127.0.0.1:{port + 2}"
    command = ["etcd", "--data-dir", str(work / "data"), "--listen-client-urls", urls, "--advertise-client-urls", urls, "--listen-peer-urls", f"http://127.0.0.1:{port}"]
    with open(work / "log", "wb") as log, subprocess.Popen(cluster.inside(command), cwd=work, stdout=log, stderr=log) as process:
        try:
            socket = work / f"localhost:{port + 1}"
            until(socket.exists, "etcd listens", 60)
            grpc = Grpc(socket)
            # It elects itself first.
            until(lambda: grpc.unary(KV + "Range", message((1, "a")), 60)[0] == 0, "etcd answers", 60)
            grpc.close()
            yield socket, f"http://127.0.0.1:{port + 2}"
        finally:
            process.kill()


def test_two_fronts_of_one_datastore(cluster):
    """What one acknowledged the other shows, and tells its watches; one that dies takes nothing with it."""
    if not shutil.which("etcd"):
        return "skipped: no etcd"
    with etcd_of(cluster, "shared", 2480) as (_, url), Kine(cluster, "one", endpoint=url) as one, Kine(cluster, "two", endpoint=url) as two:
        fronts = [Grpc(one.socket), Grpc(two.socket)]
        call = fronts[1].open(WATCH)
        fronts[1].send(call, create("/k/", (2, "/k0")))
        fronts[1].wait(lambda: call.messages)
        expect(fronts[0].unary(LEASE + "LeaseGrant", message((1, 1000), (2, 7)))[0] == 0, "a lease")
        for idx in range(60):
            writer, reader = fronts[idx % 2], fronts[1 - idx % 2]
            expect(writer.unary(KV + "Put", put(f"/k/{idx % 5}", str(idx), (3, 7)))[0] == 0, "a put")
            found = fields(reader.unary(KV + "Range", message((1, f"/k/{idx % 5}")))[1])
            expect(fields(found[2][0])[5] == [str(idx).encode()], f"{idx}: {found}")
        heard = lambda: [event[2] for data in call.messages for event in told(data)[1]]
        fronts[1].wait(lambda: len(heard()) == 60)
        expect(heard() == [str(idx).encode() for idx in range(60)], heard())
        one.stop(signal.SIGKILL)
        expect(fields(fronts[1].unary(LEASE + "LeaseTimeToLive", message((1, 7), (2, 1)))[1])[5] == [f"/k/{idx}".encode() for idx in range(5)], "a lease's keys")
        expect(fronts[1].unary(LEASE + "LeaseRevoke", message((1, 7)))[0] == 0, "a lease is revoked")
        expect(2 not in fields(fronts[1].unary(KV + "Range", message((1, "/k/"), (2, "/k0")))[1]), "its keys are gone")
        one.start()
        again = Grpc(one.socket)
        expect(2 not in fields(again.unary(KV + "Range", message((1, "/k/"), (2, "/k0")))[1]), "its keys are gone")
        for grpc in (*fronts, again):
            grpc.close()


def test_flags(cluster):
    for args, words in {
        ("--nonsense",): "flag provided but not defined: -nonsense",
        ("--compact-interval=5m",): "flag --compact-interval is not supported: the history has a bound by itself",
        ("--metrics-bind-address=:8080",): "--metrics-bind-address=:8080 is not supported",
        ("--endpoint=nats://x",): "NATS is not supported",
        ("--server-cert-file=/dev/null",): "belong together",
        ("stray",): "kine does not accept positional arguments",
    }.items():
        done = subprocess.run(cluster.inside([cluster.binary, "kine", "--listen-address", f"unix://{cluster.dir}/none.sock", *args]), capture_output=True, text=True, timeout=30, cwd=cluster.dir)
        expect(done.returncode == 1 and words in done.stderr, done)
    done = subprocess.run([cluster.binary, "kine", "--help"], capture_output=True, text=True, timeout=30)
    expect(done.returncode == 0 and "--listen-address" in done.stdout and "compact-interval" not in done.stdout, done.stdout)


def test_the_socket_of_a_server(cluster):
    cluster.args = ["--disable-agent"]
    done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args(), "--kine-socket", "--secrets-encryption"]), env=cluster.env, capture_output=True, text=True, timeout=30)
    expect(done.returncode == 1 and "--kine-socket is not supported with encryption of the datastore" in done.stderr, done)
    cluster.args.append("--kine-socket")
    cluster.start()
    socket = cluster.data / "server" / "kine.sock"
    expect(socket.stat().st_mode & 0o777 == 0o600, oct(socket.stat().st_mode))
    cluster.kubectl("create", "configmap", "seen", "--from-literal=a=b")
    grpc, key = Grpc(socket), "/registry/configmaps/default/seen"
    status, found = grpc.unary(KV + "Range", message((1, key)))
    expect(status == 0 and b"k8s\0" == fields(fields(found)[2][0])[5][0][:4], found)
    # What is written there is no object, which its readers are told and nothing else breaks.
    expect(grpc.unary(KV + "Put", put("/registry/configmaps/default/broken", "nonsense"))[0] == 0, "a put")
    until(lambda: cluster.kubectl("get", "configmap", "broken", check=False).returncode != 0, "the broken one is refused", 30)
    expect(grpc.unary(KV + "DeleteRange", message((1, "/registry/configmaps/default/broken")))[0] == 0, "a deletion")
    expect(grpc.unary(KV + "DeleteRange", message((1, key)))[0] == 0, "a deletion of an object")
    until(lambda: "NotFound" in cluster.kubectl("get", "configmap", "seen", check=False).stderr, "what is deleted there is gone", 30)
    grpc.close()
    cluster.stop()
    expect(not socket.exists(), "the socket outlives the server")
