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
from bench_api import CONFIG_MAPS, Server, Watches, config_map, create_many
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
        rows[f"{name}: p50 ms"] = took[len(took) // 2] * 1000
        rows[f"{name}: p99 ms"] = took[len(took) * 99 // 100] * 1000

    for n_clients in (1, 16):
        name = lambda n: f"a{n_clients}-{n}"
        measure("create", (("POST", CONFIG_MAPS, config_map(name(n))) for n in range(N_ASKED)), n_clients)
        measure("get", (("GET", f"{CONFIG_MAPS}/{name(n)}") for n in range(N_ASKED)), n_clients)
        measure("update", (("PUT", f"{CONFIG_MAPS}/{name(n)}", config_map(name(n), 601)) for n in range(N_ASKED)), n_clients)
        merge = "application/merge-patch+json"
        measure("patch", (("PATCH", f"{CONFIG_MAPS}/{name(n)}", {"data": {"n": str(n)}}, merge) for n in range(N_ASKED)), n_clients)


def list_rows(server, rows, path, what, n_objects):
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

        peak = peak_while(server, lambda: [read() for _ in range(7)])
        rows[f"{what}, {form}: p50 ms"] = sorted(took)[3] * 1000
        rows[f"{what}, {form}: most ms"] = max(took) * 1000
        rows[f"{what}, {form}: MB held while listing"] = peak


def watch_rows(server, rows):
    client = server.client()
    few = "/api/v1/namespaces/few/configmaps"
    made = config_map("changing")
    made["metadata"]["namespace"] = "few"
    server.ask(client, "POST", few, made)
    watches = Watches(server, [f"{few}?watch=1"] * N_WATCHERS)
    watches.until(lambda: watches.n_answered == N_WATCHERS, "watches start")
    watches.until(lambda: watches.n_events >= N_WATCHERS, "what they begin with")
    began, cpu, first = time.monotonic(), sum(map(cpu_secs, server.pids)), watches.n_events
    for n in range(N_CHANGES):
        server.ask(client, "PATCH", f"{few}/changing", {"data": {"n": str(n)}}, "application/merge-patch+json")
        watches.step(0)
    watches.until(lambda: watches.n_events - first >= N_CHANGES * N_WATCHERS, "changes")
    rows[f"{N_WATCHERS} watches: events a second"] = N_CHANGES * N_WATCHERS / (time.monotonic() - began)
    rows[f"{N_WATCHERS} watches: CPU ms a change"] = (sum(map(cpu_secs, server.pids)) - cpu) / N_CHANGES * 1000
    rows[f"{N_WATCHERS} watches: MB held"] = resident(server)
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
    list_rows(server, rows, thousand, "list of 1000", 1000)
    n_more = N_LISTED - 2 * N_ASKED
    create_many(server, [(CONFIG_MAPS, config_map(f"many-{n}")) for n in range(max(n_more, 0))], 16)
    rows[f"MB held with {N_LISTED} objects"] = resident(server)
    list_rows(server, rows, CONFIG_MAPS, f"list of {N_LISTED}", N_LISTED)
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
