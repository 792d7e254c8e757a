"""How long a changed endpoint takes to the kernel where there are many, and what they cost: bench_services.py BINARY [SERVICES [ENDPOINTS]].

One node, Services without selectors, one slice of ENDPOINTS addresses each (10,000 and 5). Then one address after the other is
changed by a patch; what counts is when `nft monitor` tells of it. The monitor is a process of its own: its part is in the figures.
"""

import base64
import http.client
import json
import pathlib
import re
import ssl
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from cluster import Cluster, until  # noqa: E402

CHANGES = 100
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def connection(directory):
    context = ssl.create_default_context(cafile=f"{directory}/ca")
    context.load_cert_chain(f"{directory}/cert", f"{directory}/key")
    return http.client.HTTPSConnection("127.0.0.1", 6443, context=context)


def ask(link, method, path, tree, kind="application/json"):
    link.request(method, path, json.dumps(tree), {"Content-Type": kind})
    answer = link.getresponse()
    body = answer.read()
    if answer.status not in (200, 201):
        raise SystemExit(f"{method} {path}: {answer.status} {body[:300]}")


def make(directory, n_services, n_endpoints, workers=4):
    def some(first):
        link = connection(directory)
        for n in range(first, n_services, workers):
            spec = {"ports": [{"port": 80, "targetPort": 8080}]}
            ask(link, "POST", "/api/v1/namespaces/default/services", {"metadata": {"name": f"s{n}"}, "spec": spec})
            numbers = range(n * n_endpoints + 1, (n + 1) * n_endpoints + 1)
            endpoints = [{"addresses": [f"10.{50 + x // 65536}.{x // 256 % 256}.{x % 256}"], "nodeName": "other"} for x in numbers]
            labels = {"kubernetes.io/service-name": f"s{n}"}
            ask(link, "POST", SLICES, {"metadata": {"name": f"s{n}", "labels": labels}, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints})

    threads = [threading.Thread(target=some, args=(first,)) for first in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def change(directory, n_services, n_changes, block):
    """Prints for each: the new address, when it was asked for, when that was answered."""
    link = connection(directory)
    for n in range(n_changes):
        address = f"10.{block}.{n // 250}.{n % 250 + 1}"
        asked = time.time()
        patch = [{"op": "replace", "path": "/endpoints/0/addresses", "value": [address]}]
        ask(link, "PATCH", f"{SLICES}/s{37 * n % n_services}", patch, "application/json-patch+json")
        print(address, asked, time.time(), flush=True)
        time.sleep(0.25)


def pss_mib(pid):
    return int(re.search(r"(?m)^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text())[1]) >> 10


def main(binary, n_services=10_000, n_endpoints=5):
    n_services, n_endpoints = int(n_services), int(n_endpoints)
    cluster = Cluster(binary)
    monitor = None
    try:
        cluster.start()
        client = ("config", "view", "--raw", "-o")
        for name, path in (("ca", "clusters[0].cluster.certificate-authority-data"), ("cert", "users[0].user.client-certificate-data"), ("key", "users[0].user.client-key-data")):
            encoded = cluster.kubectl(*client, f"jsonpath={{.{path}}}").stdout
            (cluster.dir / name).write_bytes(base64.b64decode(encoded))
        here = ["python3", __file__]
        before = pss_mib(cluster.process.pid)
        started = time.monotonic()
        subprocess.run(cluster.inside([*here, "--make", str(cluster.dir), str(n_services), str(n_endpoints)]), check=True)
        count = "nft list map inet k3rs endpoints4 | grep -o ' : ' | wc -l"
        until(lambda: int(cluster.sh(count, timeout=60)) >= n_services * n_endpoints, "all is in the kernel", 600, 2)
        print(f"{n_services} services with {n_services * n_endpoints} endpoints: made and in the kernel after {time.monotonic() - started:.0f} s")
        monitor = subprocess.Popen(cluster.inside(["nft", "monitor", "elements"]), stdout=subprocess.PIPE, text=True, bufsize=1)
        seen = []
        threading.Thread(target=lambda: seen.extend((time.time(), line) for line in monitor.stdout), daemon=True).start()

        def changed(n_changes, block):
            words = [*here, "--change", str(cluster.dir), str(n_services), str(n_changes), str(block)]
            return subprocess.run(cluster.inside(words), check=True, capture_output=True, text=True).stdout

        # It reads the whole table before it tells of anything.
        blocks = iter(range(100, 250))
        until(lambda: changed(1, next(blocks)) and seen, "the monitor is there", 300, 2)
        from_request, from_answer = [], []
        for line in changed(CHANGES, 99).splitlines():
            address, asked, answered = line.split()
            until(lambda: any(f": {address} ." in told for _, told in seen), f"{address} is in the kernel")
            when = next(when for when, told in seen if f": {address} ." in told)
            from_request.append((when - float(asked)) * 1000)
            from_answer.append((when - float(answered)) * 1000)
        for what, all_ms in (("the request", from_request), ("its answer", from_answer)):
            all_ms.sort()
            print(f"to the kernel from {what}: median {statistics.median(all_ms):.1f} ms, p90 {all_ms[len(all_ms) * 9 // 10]:.1f} ms, at most {all_ms[-1]:.1f} ms")
        print(f"memory of the server (PSS): {before} MiB before, {pss_mib(cluster.process.pid)} MiB with them")
    finally:
        if monitor:
            monitor.kill()
        cluster.close()


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(sys.argv[2], *map(int, sys.argv[3:]))
    elif sys.argv[1] == "--change":
        change(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main(*sys.argv[1:])
