"""k3rs beside a stock kube-apiserver over etcd, in one run: bench_stock.py BINARY KUBE_APISERVER APIDIFF_DIRECTORY.

Both are asked the same by the same client, one after the other, while the other one rests. The client is Python, whose own
time is in every figure, so the servers are further apart than the figures say. N_LISTED and N_ASKED make the run smaller.
"""

import contextlib
import json
import os
import pathlib
import sys
import time

from apidiff import stock_url
from bench import MIB, cpu_secs, status_bytes
from bench_api import CONFIG_MAPS, Server, Watches, config_map, create_many, times_of
from cluster import Cluster, Failure, until

N_ASKED = int(os.environ.get("N_ASKED", "2000"))
N_LISTED = int(os.environ.get("N_LISTED", "20000"))
N_WATCHERS = 1000
N_CHANGES = 100
PROTOBUF = "application/vnd.kubernetes.protobuf"


class Stock(Server):
    """The other server, in the same network namespace."""

    def __init__(self, cluster, url, pids):
        super().__init__(cluster)
        address, self.token = url.split(",")
        self.address = ("127.0.0.1", int(address.rpartition(":")[2]))
        self.pids = pids


def processes_of(directory, kube_apiserver):
    """The process ids of the stock server and of its etcd, by what they were started with."""
    found = {}
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if words[0] == kube_apiserver and f"--cert-dir={directory}/certs" in words:
                found["kube-apiserver"] = int(place.name)
            if words[0].endswith("etcd") and f"{directory}/etcd" in words:
                found["etcd"] = int(place.name)
    if len(found) != 2:
        raise Failure(f"the stock server's processes: {found}")
    return list(found.values())


def resident(server):
    return sum(status_bytes(pid, "VmRSS") for pid in server.pids) / MIB


def peak_while(server, work):
    """The most that its processes hold while something is done."""
    for pid in server.pids:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    work()
    return sum(status_bytes(pid, "VmHWM") for pid in server.pids) / MIB


def ask_rows(server, rows):
    def measure(what, requests, n_clients):
        requests = list(requests)
        took, all_of = times_of(server, requests, n_clients)
        name = f"{what}, {n_clients} client{'s' * (n_clients > 1)}"
        rows[f"{name}: a second"] = len(requests) / all_of
        spread(rows, name, took)

    for n_clients in (1, 16):
        name = lambda n: f"a{n_clients}-{n}"
        measure("create", (("POST", CONFIG_MAPS, config_map(name(n))) for n in range(N_ASKED)), n_clients)
        measure("get", (("GET", f"{CONFIG_MAPS}/{name(n)}") for n in range(N_ASKED)), n_clients)
        measure("update", (("PUT", f"{CONFIG_MAPS}/{name(n)}", config_map(name(n), 601)) for n in range(N_ASKED)), n_clients)
        merge = "application/merge-patch+json"
        measure("patch", (("PATCH", f"{CONFIG_MAPS}/{name(n)}", {"data": {"n": str(n)}}, merge) for n in range(N_ASKED)), n_clients)


def spread(rows, name, took):
    """The middle of what was measured, and what all but a hundredth stay below."""
    took = sorted(took)
    rows[f"{name}: p50 ms"] = took[len(took) // 2] * 1000
    rows[f"{name}: p99 ms"] = took[len(took) * 99 // 100] * 1000


def list_rows(server, rows, path, what, n_objects, n_reads):
    for form, accept in (("JSON", "application/json"), ("protobuf", PROTOBUF)):
        took = []

        def read():
            with contextlib.closing(server.client()) as client:
                headers = {"Accept": accept, **({"Authorization": f"Bearer {server.token}"} if server.token else {})}
                began = time.monotonic()
                client.request("GET", path, headers=headers)
                answer, buffer, size = client.getresponse(), memoryview(bytearray(1 << 18)), 0
                while got := answer.readinto(buffer):
                    size += got
                took.append(time.monotonic() - began)
                if answer.status != 200 or size < n_objects * 600:
                    raise Failure(f"a list of {size} bytes: {answer.status}")

        peak = peak_while(server, lambda: [read() for _ in range(n_reads)])
        rows[f"{what}, {form}: a second"] = n_reads / sum(took)
        spread(rows, f"{what}, {form}", took)
        rows[f"{what}, {form}: MB held while listing"] = peak


class TimedWatches(Watches):
    """Knows when how many events came."""

    def __init__(self, server, paths):
        self.arrivals = []
        super().__init__(server, paths)

    def frames(self, state):
        before = self.n_events
        super().frames(state)
        self.arrivals.append((time.monotonic(), self.n_events - before))


def watch_rows(server, rows):
    client = server.client()
    few = "/api/v1/namespaces/few/configmaps"
    made = config_map("changing")
    made["metadata"]["namespace"] = "few"
    # From a revision, as clients watch after they listed: where they ask for the newest instead, the stock server makes all
    # of them wait for its cache, and ends most of them after three seconds ("Too large resource version").
    since = json.loads(server.ask(client, "POST", few, made))["metadata"]["resourceVersion"]
    watches = TimedWatches(server, [f"{few}?watch=1&resourceVersion={since}"] * N_WATCHERS)
    watches.until(lambda: watches.n_answered == N_WATCHERS, "watches start")
    change = lambda n: server.ask(client, "PATCH", f"{few}/changing", {"data": {"n": str(n)}}, "application/merge-patch+json")
    began, cpu, first = time.monotonic(), sum(map(cpu_secs, server.pids)), watches.n_events
    for n in range(N_CHANGES):
        change(n)
        watches.step(0)
    watches.until(lambda: watches.n_events - first >= N_CHANGES * N_WATCHERS, "changes")
    name = f"{N_WATCHERS} watches"
    rows[f"{name}: events a second"] = N_CHANGES * N_WATCHERS / (time.monotonic() - began)
    rows[f"{name}: CPU ms a change"] = (sum(map(cpu_secs, server.pids)) - cpu) / N_CHANGES * 1000
    rows[f"{name}: MB held"] = resident(server)
    # From when one change is asked for to when each watcher has it, one change at a time.
    took = []
    for n in range(N_CHANGES):
        watches.arrivals.clear()
        began, first = time.monotonic(), watches.n_events
        change(-n - 1)
        watches.until(lambda: watches.n_events - first >= N_WATCHERS, "one change")
        took += [at - began for at, n_events in watches.arrivals for _ in range(n_events)]
    spread(rows, f"{name}: change to event", took)
    watches.close()


def measured(server):
    rows = {"MB held at rest": resident(server)}
    client = server.client()
    for name in ("few", "thousand"):
        server.ask(client, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    ask_rows(server, rows)
    thousand = CONFIG_MAPS.replace("default", "thousand")
    in_it = [{**config_map(f"t{n}"), "metadata": {"name": f"t{n}", "namespace": "thousand"}} for n in range(1000)]
    create_many(server, [(thousand, made) for made in in_it], 16)
    list_rows(server, rows, thousand, "list of 1000", 1000, 200)
    n_more = N_LISTED - 2 * N_ASKED
    create_many(server, [(CONFIG_MAPS, config_map(f"many-{n}")) for n in range(max(n_more, 0))], 16)
    rows[f"MB held with {N_LISTED} objects"] = resident(server)
    list_rows(server, rows, CONFIG_MAPS, f"list of {N_LISTED}", N_LISTED, 30)
    try:
        watch_rows(server, rows)
    except Failure as why:  # the other rows stand all the same
        print(f"watches of {server.address}: {why}", file=sys.stderr)
    return rows


def main():
    binary, kube_apiserver, instruments = sys.argv[1:4]
    kube_apiserver = os.path.realpath(kube_apiserver)
    cluster, stock = Cluster(binary), None
    try:
        cluster.start()
        until(lambda: cluster.kubectl("get", "sa", "default", check=False).returncode == 0, "a service account", 30)
        ours = Server(cluster)
        ours.pids = [cluster.process.pid]
        first = measured(ours)
        directory = f"{cluster.dir}/stock"
        stock, url = stock_url(cluster, kube_apiserver, os.path.realpath(instruments), directory)
        second = measured(Stock(cluster, url, processes_of(directory, kube_apiserver)))
    finally:
        if stock:
            stock.terminate()
            stock.wait()
        cluster.close()
    print(f"\n{'what (memory of the stock server is with its etcd)':50} {'k3rs':>10} {'stock':>10} {'times':>7}")
    for what, value in first.items():
        other = second.get(what)
        if other is None:
            print(f"{what:50} {value:>10.2f} {'-':>10}")
            continue
        better = value / other if what.endswith("a second") else other / value if value else float("inf")
        print(f"{what:50} {value:>10.2f} {other:>10.2f} {better:>7.1f}")


if __name__ == "__main__":
    sys.exit(main())
