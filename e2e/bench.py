"""The budgets of the release build, as measured on this machine: bench.py BINARY."""

import os
import pathlib
import statistics
import subprocess
import sys
import time

from cluster import Cluster, Failure, until

MIB = 1 << 20
# Lazy writes are flushed every five minutes: less than that would measure none of them.
IDLE_SECS = int(os.environ.get("K3RS_BENCH_IDLE", "330"))
N_PODS = 20

POD = """
apiVersion: v1
kind: Pod
metadata: {name: bench-%d, labels: {app: bench}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000000"]}]
"""


def processes(binary):
    """Our processes, the server and the shims: pid and resident bytes. Shims run from another mount of the file, so its name says nothing."""
    found, ours = {}, os.stat(binary)
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if not os.path.samestat(os.stat(proc / "exe"), ours):
                continue
            pages = int((proc / "statm").read_text().split()[1])
            found[int(proc.name)] = pages * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    return found


def private(pid):
    """Private bytes of a process: what one more of it costs."""
    total = 0
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1]) * 1024
    return total


def status_bytes(pid, key):
    """A size of /proc/PID/status: VmHWM is the most that ever was resident, RssAnon what no file backs."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024


def wakeups(pid):
    """How often threads of the process have gone to sleep: each time something had woken them."""
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        for line in open(status):
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def cpu_secs(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(pid):
    for line in open(f"/proc/{pid}/io"):
        if line.startswith("write_bytes"):
            return int(line.split()[1])


def node_ready(cluster):
    """From the start of the process to the log line that the server writes when its node is Ready."""
    line = until(lambda: next((line for line in (cluster.dir / "k3rs.log").read_text().splitlines()[cluster.seen:] if "is Ready after" in line), None), "Ready", 30, 0.005)
    cluster.seen = len((cluster.dir / "k3rs.log").read_text().splitlines())
    return int(line.rsplit("after", 1)[1].split()[0])


def main():
    binary = sys.argv[1]
    cluster = Cluster(binary)
    cluster.seen = 0
    rows = []
    try:
        rows.append(("binary, everything included", os.path.getsize(binary) / MIB, "MB", 17, 8, "64.5 MB"))
        cluster.start(wait=False)
        fresh = node_ready(cluster)
        cluster.wait_up()
        time.sleep(5)
        peak = status_bytes(cluster.process.pid, "VmHWM")
        again = []
        for _ in range(5):
            cluster.stop()
            cluster.start(wait=False)
            again.append(node_ready(cluster))
        cluster.wait_up()
        rows.append(("start to Ready, fresh directory", fresh, "ms", 3000, 700, "25-40 s"))
        rows.append(("start to Ready, restart (median of 5)", statistics.median(again), "ms", 2000, 300, "25-40 s"))
        until(lambda: cluster.kubectl("get", "sa", "default", check=False).returncode == 0, "a service account", 20)
        time.sleep(5)  # what a start leaves to do must not be counted as idle
        server = cluster.process.pid
        cpu, disk, woken, start = cpu_secs(server), written(server), wakeups(server), time.monotonic()
        time.sleep(IDLE_SECS)
        elapsed = time.monotonic() - start
        rows.append(("idle RSS of all k3rs processes", sum(processes(binary).values()) / MIB, "MB", 40, 16, "430-565 MB"))
        rows.append(("  of it anonymous", sum(status_bytes(pid, "RssAnon") for pid in processes(binary)) / MIB, "MB", 16, 6, ""))
        rows.append(("peak RSS of the server, fresh directory", peak / MIB, "MB", 40, 16, ""))
        rows.append(("idle wakeups of threads", (wakeups(server) - woken) / elapsed, "/s", 20, 2, ""))
        rows.append(("idle CPU of one core", (cpu_secs(server) - cpu) / elapsed * 100, "%", 1, 0.2, "5-6 %"))
        rows.append((f"idle disk writes (over {elapsed:.0f} s)", (written(server) - disk) / elapsed * 86400 / MIB, "MB/day", 100, 10, "500-900 MB/day"))
        before, anonymous = processes(binary)[server], status_bytes(server, "RssAnon")
        latencies = []
        for idx in range(N_PODS):
            watch = subprocess.Popen(cluster.inside([cluster.kubectl_path, "get", "pod", "-l", "app=bench", "--watch", "-o", "jsonpath={.metadata.name}={.status.phase}{\"\\n\"}"]), env=cluster.env, stdout=subprocess.PIPE, text=True)
            time.sleep(0.3)  # the watch is established before the pod is made
            begin = time.monotonic()
            made = subprocess.Popen(cluster.inside([cluster.kubectl_path, "create", "-f", "-"]), env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            made.communicate(POD % idx)
            created = time.monotonic()
            for line in watch.stdout:
                if line.strip() == f"bench-{idx}=Running":
                    break
            # kubectl's own start is not ours; the pod exists when create returns at the latest.
            latencies.append((time.monotonic() - created) * 1000)
            watch.kill()
            watch.wait()
        rows.append(("pod create -> Running, p50", statistics.median(latencies), "ms", 500, 60, "1-3 s"))
        after = processes(binary)
        shims = [pid for pid in after if pid != server]
        bookkeeping = max(after[server] - before, 0) / N_PODS
        per_shim = statistics.median(private(pid) for pid in shims) if shims else 0
        rows.append(("per pod: shim (private) + bookkeeping", (per_shim + bookkeeping) / 1024, "KiB", 1024, 200, "11-15 MB"))
        rows.append(("  of it the shim's private memory", per_shim / 1024, "KiB", 512, 100, ""))
        cluster.kubectl("delete", "pod", "-l", "app=bench", timeout=120)
        time.sleep(10)  # idle threads end, and their memory goes back
        left = status_bytes(server, "RssAnon") - anonymous
        rows.append((f"anonymous memory that {N_PODS} pods leave", left / MIB, "MB", 8, 1, ""))
        print(f"shim private {per_shim / 1024:.0f} KiB, bookkeeping {bookkeeping / 1024:.0f} KiB a pod, server RSS with {N_PODS} pods {after[server] / MIB:.1f} MB")
    finally:
        cluster.close()
    print(f"\n{'what':42} {'measured':>14} {'first':>10} {'goal':>10}   k3s (anchors)")
    over = 0
    for what, value, unit, first, goal, k3s in rows:
        mark = "" if value <= first else "  ABOVE BUDGET"
        over += value > first
        print(f"{what:42} {value:>9.2f} {unit:>6} {first:>10} {goal:>10}   {k3s}{mark}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
