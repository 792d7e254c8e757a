"""Pods that come and go, and what a node keeps of them: churn.py BINARY [--pods 1000] [--at-once 50] [--most 250].

First as many pods as --most run at the same time: how long they take, what the node takes for them. Then --pods pods
start and end, --at-once of them at a time. After each wave the node has what it had after the first ones: mounts, cgroups,
network namespaces, links, addresses, files of pods, processes; in the end no more descriptors, threads and memory either.
The node is an agent, for a server keeps Events and what pods were like a while longer, and that is no leak.
"""

import argparse
import hashlib
import ipaddress
import json
import os
import pathlib
import sys
import time

from cluster import Cluster, expect, until
from faults.remote import Node

IMAGE = "k3rs.io/userspace:1"
NAMESPACE = "churn"
# Waves in which caches, pools and tables find their size.
WARM_UP = 3
# What the allocator may hold back.
GROWTH_MAX_KIB = 1024


def wave(cluster, prefix, n, command="exec sleep 100000"):
    """Starts pods; seconds until all are Ready, or have ended if their command does."""
    one = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}
    spec = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "enableServiceLinks": False, "containers": [one]}
    items = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{prefix}-{idx}", "labels": {"wave": prefix}}, "spec": spec} for idx in range(n)]
    begun = time.monotonic()
    cluster.kubectl("create", "-n", NAMESPACE, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), timeout=300)
    wanted = "Running" if "sleep" in command else "Succeeded"
    phases = lambda: cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[*].status.phase}", timeout=120).stdout.split()
    until(lambda: phases().count(wanted) == n, f"{n} pods are {wanted}", 900, interval=0.5)
    return time.monotonic() - begun


def end(cluster):
    cluster.kubectl("delete", "pods", "-n", NAMESPACE, "--all", "--wait=false", timeout=300)
    until(lambda: not cluster.get("pods", "-n", NAMESPACE)["items"], "they are gone", 900, interval=0.5)


def cgroups(node):
    root = pathlib.Path("/sys/fs/cgroup")
    places = [root] if (root / "cgroup.controllers").exists() else [place for place in root.iterdir() if place.is_dir() and not place.is_symlink()]
    own = "kubepods-" + hashlib.sha256(str(node.data).encode()).hexdigest()[:8]
    found = [place / own for place in places if (place / own).is_dir()]
    expect(found, "the node has cgroups for its pods")
    return sum(sum(len(inner) for _, inner, _ in os.walk(place)) for place in found)


def entries(directory):
    return sum(len(files) + len(found) for _, found, files in os.walk(directory))


def is_about(pid, words):
    try:
        return words in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kept(node):
    """What there is of pods, by kind; and the node's descriptors and threads."""
    proc, run = pathlib.Path(f"/proc/{node.process.pid}"), pathlib.Path(node.env["K3RS_RUN_DIR"])
    pids = [path.name for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]
    return {
        "mounts": sum(str(node.cluster.dir) in line for line in (proc / "mountinfo").read_text().splitlines()),
        "cgroups": cgroups(node),
        "namespaces and records": entries(run),
        "links": len(node.cluster.sh("ip -o link").splitlines()),
        "addresses in rules": node.cluster.sh("nft -j list ruleset").count('"10.42.'),
        "files of pods": entries(node.data / "agent" / "pods"),
        "logs": entries(node.env["K3RS_LOG_DIR"]),
        "processes": sum(is_about(pid, str(run).encode()) for pid in pids),
        "descriptors": len(list((proc / "fd").iterdir())),
        "threads": len(list((proc / "task").iterdir())),
    }


def memory_kib(node, name="RssAnon"):
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0])


def cpu_seconds(node):
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(before, now):
    # Connections, threads and their descriptors come and go with load; they are bounded, and seen at the end.
    return {name: (before[name], now[name]) for name in before if now[name] > before[name] and name not in ("descriptors", "threads")}


def many(cluster, node, n):
    before, used = memory_kib(node), cpu_seconds(node)
    seconds = wave(cluster, "many", n)
    used = cpu_seconds(node) - used
    rss, anonymous = memory_kib(node, "VmRSS"), memory_kib(node)
    idle = cpu_seconds(node)
    time.sleep(10)
    idle = (cpu_seconds(node) - idle) / 10
    addresses = {pod["status"]["podIP"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]}
    expect(len(addresses) == n and all(ipaddress.ip_address(it).is_private for it in addresses), f"{len(addresses)} addresses of {n} pods")
    print(f"{n} pods run after {seconds:.1f} s and {used:.1f} s of the node's CPU; it takes {rss} KiB, {(anonymous - before) / n:.1f} KiB more of its own a pod, and {idle * 100:.1f} % of a processor then", flush=True)
    begun = time.monotonic()
    end(cluster)
    print(f"they are gone after {time.monotonic() - begun:.1f} s", flush=True)


def churn(cluster, node, n, at_once):
    before, first, done, waves = None, None, 0, 0
    while done < n:
        # Those that are ended, and those that end by themselves.
        seconds = wave(cluster, f"w{waves}", at_once, "exec sleep 100000" if waves % 2 == 0 else "exit 0")
        end(cluster)
        waves, done = waves + 1, done + at_once
        if waves <= WARM_UP:
            # What is taken away after the pod is gone from the API.
            time.sleep(5)
            before, first = kept(node), memory_kib(node)
            continue
        until(lambda: not compare(before, kept(node)), f"nothing is left of {done} pods but {compare(before, kept(node))}", 60, interval=1)
        print(f"{done} pods: the last {at_once} in {seconds:.1f} s, {memory_kib(node)} KiB of memory of its own, {first} after {WARM_UP} waves", flush=True)
    # An idle node gives back what a burst took: threads end, connections close.
    until(lambda: not [name for name, n in kept(node).items() if n > before[name]], "descriptors and threads are as they were", 120, interval=2)
    until(lambda: memory_kib(node) <= first + GROWTH_MAX_KIB, "it has no more memory than before", 60, interval=2)
    print(f"{done} pods came and went; left of them: nothing, {memory_kib(node) - first} KiB more memory", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--most", type=int, default=250)
    asked = parser.parse_args()
    cluster = Cluster(asked.binary, args=["--disable-agent", "--disable", "coredns,metrics-server,local-storage"])
    node = Node(cluster, args=["--kubelet-arg=max-pods=300"])
    try:
        cluster.start()
        node.start()
        node.wait_ready()
        cluster.kubectl("create", "namespace", NAMESPACE)
        until(lambda: cluster.get("sa", "default", "-n", NAMESPACE), "a service account")
        if asked.most:
            many(cluster, node, asked.most)
        churn(cluster, node, asked.pods, asked.at_once)
    except Exception as error:
        print(f"FAIL: {error}\n{node.tail()}", flush=True)
        sys.exit(1)
    finally:
        node.close()
        cluster.close()


if __name__ == "__main__":
    main()
