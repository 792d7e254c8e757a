"""What gateways go through, each on a node of its own: adversity.py BINARY [NAME ...]."""

import datetime
import os
import signal
import ssl
import subprocess
import sys
import time
import traceback

import cluster as harness
from cluster import Cluster, Failure

USERSPACE = "k3rs.io/userspace:1"

SHELLS = """
apiVersion: v1
kind: Pod
metadata: {name: shell, labels: {app: shell}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: shell, image: %(userspace)s, command: [sh, -c, "mkdir /www; echo here >/www/index.html; httpd -p 8080 -h /www; exec sleep 1000000"]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  type: NodePort
  selector: {app: shell}
  ports: [{port: 80, targetPort: 8080, nodePort: 30090}]
""" % {"userspace": USERSPACE}

JOBS = """
apiVersion: batch/v1
kind: Job
metadata: {name: long}
spec:
  activeDeadlineSeconds: 600
  template:
    spec:
      terminationGracePeriodSeconds: 0
      restartPolicy: Never
      activeDeadlineSeconds: 600
      containers: [{name: a, image: %(userspace)s, command: [sleep, "100000"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: short}
spec:
  ttlSecondsAfterFinished: 600
  template:
    spec:
      restartPolicy: Never
      containers: [{name: a, image: %(userspace)s, command: ["true"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: hourly}
spec:
  schedule: "0 * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: a, image: %(userspace)s, command: ["true"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: punctual}
spec:
  schedule: "0 0 1 1 *"
  startingDeadlineSeconds: 60
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: a, image: %(userspace)s, command: ["true"]}]
""" % {"userspace": USERSPACE}

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


class Clock:
    """The server's idea of the time, as the file that it follows."""

    def __init__(self, cluster, at=None):
        self.path = cluster.dir / "clock-shift"
        cluster.env["K3RS_CLOCK_SHIFT_FILE"] = str(self.path)
        self.shift = 0
        self.set(at)

    def set(self, at):
        """`at` is seconds since 1970, or None for the right time."""
        self.shift = 0 if at is None else int(at - time.time())
        self.path.write_text(str(self.shift))

    def now(self):
        return time.time() + self.shift


def clock_1970(cluster):
    """Boots in 1970, is set to today half a minute later; kubectl's own clock is right all the time."""
    clock = Clock(cluster, 5)
    cluster.start()
    prepare(cluster)
    cluster.apply(JOBS, "default")
    cluster.kubectl("wait", "--for=condition=complete", "job/short", "--timeout=30s")
    until(lambda: cluster.kubectl("get", "pod", "-l", "job-name=long", "-o", "jsonpath={.items[0].status.phase}").stdout == "Running", "the long job runs")
    year = lambda kind, name, path: cluster.kubectl("get", kind, name, "-o", f"jsonpath={{{path}}}").stdout[:4]
    expect(year("pod", "shell", ".metadata.creationTimestamp"), "1970")
    blind = ends(cluster, 6443)
    expect(blind > time.time() + 8 * 365 * 86400, True, "without the time, the certificate lasts")
    # 401 is what a pod must never see: its token, once used before and once after, by hand.
    token = cluster.kubectl("exec", "shell", "--", "cat", TOKEN).stdout
    expect(with_token(cluster, token), "403", "the pod's token, fresh")
    watch = subprocess.Popen(cluster.inside([cluster.kubectl_path, "get", "pods", "--watch", "--no-headers"]), env=cluster.env, stdout=subprocess.PIPE, text=True)
    before = state(cluster)
    node = cluster.get("node", "node1")["spec"].get("taints")
    clock.set(None)
    until(lambda: ends(cluster, 6443) < time.time() + 370 * 86400, "the listener shows a certificate of one year", 15)
    until(lambda: ends(cluster, 10250) < time.time() + 370 * 86400, "the kubelet's too", 5)
    expect(with_token(cluster, token), "403", "the token of 1970 lives as long as it was to")
    fresh = lambda: cluster.kubectl("exec", "shell", "--", "cat", TOKEN).stdout
    until(lambda: fresh() != token, "the pod has a token of today", 15)
    expect(with_token(cluster, fresh()), "403", "the pod's token, renewed")
    renewed = lambda: cluster.kubectl("get", "lease", "node1", "-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}").stdout
    until(lambda: renewed()[:4] != "1970", "the lease is of today", 5)
    # Longer than any suspicion lasts.
    time.sleep(float(os.environ.get("K3RS_E2E_REST", "55")))
    expect(state(cluster), before, "every pod is as it was")
    expect(cluster.get("node", "node1")["spec"].get("taints"), node, "no taint")
    nodes = cluster.kubectl("get", "nodes", "--no-headers").stdout.split()
    expect(nodes[1], "Ready")
    conditions = {c["type"]: c["status"] for c in cluster.get("job", "long")["status"].get("conditions", [])}
    expect(conditions, {}, "the job is within its deadline")
    expect(cluster.kubectl("get", "job", "short", check=False).returncode, 0, "the finished job stays for its time")
    runs = [job["metadata"]["name"] for job in cluster.get("jobs")["items"] if job["metadata"]["name"].startswith(("hourly", "punctual"))]
    expect([name.split("-")[0] for name in runs], ["hourly"], "one run for all that were missed, none where it is too late")
    events = cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").stdout
    expect("TooManyMissedTimes" in events, True, "the CronJob tells")
    expect(watch.poll(), None, "the watch from 1970 goes on")
    cluster.kubectl("delete", "pod", "-l", "job-name=long", "--wait=false")
    watched(watch, "long")
    # The next process meets the same stamps.
    until(lambda: len(state(cluster)) == 2, "the long job has another pod", 20)
    before = state(cluster)
    cluster.stop()
    cluster.start()
    time.sleep(8)
    expect(state(cluster), before, "every pod is as it was, after a restart")
    expect(cluster.get("job", "long")["status"].get("conditions", []), [], "and the job within its deadline")
    silent = [line for line in cluster.log_lines() if "NodeNotReady" in line or "Unknown" in line]
    expect(silent, [])


def clock_jumps(cluster):
    """An hour and two years, ahead and back; a restart in between."""
    clock = Clock(cluster)
    cluster.start()
    prepare(cluster)
    cluster.apply(JOBS, "default")
    until(lambda: cluster.kubectl("get", "pod", "-l", "job-name=long", "-o", "jsonpath={.items[0].status.phase}").stdout == "Running", "the long job runs")
    before = state(cluster)
    day = 86400
    for to in (3600, -3600, 2 * 365 * day, 10, -2 * 365 * day, None):
        clock.set(None if to is None else time.time() + to)
        time.sleep(8)
        expect(cluster.kubectl("get", "nodes", "--no-headers").stdout.split()[1], "Ready", f"set by {to}")
        # The client's clock is right: whatever the server believes, its certificate must do.
        expect(ends(cluster, 6443) > time.time(), True, f"set by {to}")
        cluster.kubectl("create", "configmap", f"c{to}".replace("-", "m").lower())
        token = cluster.kubectl("exec", "shell", "--", "cat", TOKEN).stdout
        expect(with_token(cluster, token), "403", f"the pod's token, set by {to}")
        expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30090/"), "here\n")
    expect(state(cluster), before, "every pod is as it was")
    cluster.kubectl("delete", "pod", "shell")
    cluster.apply(SHELLS, "default")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=30s")


def moves(cluster):
    """A new lease, another network, no network, and the first again."""
    cluster.start()
    prepare(cluster)
    address = lambda: [a["address"] for a in cluster.get("node", "node1")["status"]["addresses"] if a["type"] == "InternalIP"]
    endpoint = lambda: cluster.get("endpoints", "kubernetes")["subsets"][0]["addresses"][0]["ip"]
    api = lambda: cluster.kubectl("exec", "shell", "--", "sh", "-c", "nc -w 3 kubernetes.default.svc 443 </dev/null >/dev/null && echo open", check=False).stdout
    expect((address(), endpoint(), api()), (["192.0.2.10"], "192.0.2.10", "open\n"))
    certificate = ends(cluster, 6443)
    cluster.sh("ip addr del 192.0.2.10/24 dev eth0; ip addr add 192.0.2.77/24 dev eth0; ip route replace default via 192.0.2.1")
    until(lambda: (address(), endpoint()) == (["192.0.2.77"], "192.0.2.77"), "the node has its new address", 10)
    until(lambda: covers(cluster, "192.0.2.77", 6443) and covers(cluster, "192.0.2.77", 10250), "certificates name it", 10)
    expect(api(), "open\n", "pods reach the API")
    expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.77:30090/"), "here\n", "the node port")
    server = cluster.kubectl("-s", "https://192.0.2.77:6443", "get", "nodes", "--no-headers").stdout
    expect(server.split()[1], "Ready")
    cluster.sh("ip addr flush dev eth0")
    until(lambda: endpoint() != "192.0.2.77", "the API is told to be elsewhere", 10)
    until(lambda: api() == "open\n", "pods reach the API without any network", 10)
    expect(cluster.kubectl("exec", "shell", "--", "wget", "-qO-", "http://front/").stdout, "here\n", "and each other")
    cluster.sh("ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1")
    until(lambda: (address(), endpoint()) == (["192.0.2.10"], "192.0.2.10"), "and back", 10)
    until(lambda: cluster.get("pod", "shell")["status"]["hostIP"] == "192.0.2.10", "pods say so", 15)
    expect(state(cluster)["shell"][1], 0, "nothing was restarted")
    return f"certificate of {datetime.datetime.fromtimestamp(certificate):%Y-%m-%d}"


def no_default_route(cluster):
    cluster.sh("ip route del default")
    cluster.start()
    prepare(cluster)
    expect(cluster.kubectl("exec", "shell", "--", "wget", "-qO-", "http://front/").stdout, "here\n")
    address = [a["address"] for a in cluster.get("node", "node1")["status"]["addresses"] if a["type"] == "InternalIP"]
    expect(address, ["192.0.2.10"])


def no_address(cluster):
    """Not even loopback is up; an address comes later."""
    cluster.sh("ip addr flush dev eth0; ip link set eth0 down; ip link set lo down")
    cluster.start()
    prepare(cluster)
    expect(cluster.kubectl("exec", "shell", "--", "wget", "-qO-", "http://front/").stdout, "here\n")
    expect(cluster.kubectl("exec", "shell", "--", "sh", "-c", "nc -w 3 kubernetes.default.svc 443 </dev/null >/dev/null && echo open", check=False).stdout, "open\n", "the API from a pod")
    cluster.sh("ip link set eth0 up; ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1")
    address = lambda: [a["address"] for a in cluster.get("node", "node1")["status"]["addresses"] if a["type"] == "InternalIP"]
    until(lambda: address() == ["192.0.2.10"], "the node has its address", 10)
    until(lambda: covers(cluster, "192.0.2.10", 6443), "the certificate names it", 10)
    expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30090/"), "here\n", "the node port")


def read_only_root(cluster):
    """Nothing is writable but a small data partition and /run."""
    partition(cluster, "96M")
    run = cluster.dir / "run"
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", run], check=True)
    cluster.env["KUBECONFIG"] = str(cluster.data / "etc/k3s/k3s.yaml")
    cluster.names_kubeconfig = False
    read_only = "mount -o remount,bind,ro / && ! touch /tmp/x 2>/dev/null && exec \"$@\""
    cluster.through = ["unshare", "-m", "sh", "-c", read_only, "sh"]
    cluster.start()
    prepare(cluster)
    cluster.kubectl("run", "teller", "--image", USERSPACE, "--restart=Never", "--", "echo", "spoken")
    until(lambda: cluster.kubectl("logs", "teller").stdout == "spoken\n", "logs are read")
    cluster.kubectl("exec", "shell", "--", "sh", "-c", "echo >/tmp/own && cat /etc/resolv.conf /etc/hosts")
    before = state(cluster)
    cluster.stop()
    cluster.through = []
    said = [line for line in cluster.log_lines() if "[WARN]" in line or "[ERROR]" in line]
    expect(said, [], "nothing to complain about")
    told = "\n".join(line.split("] ")[-1] for line in cluster.log_lines() if "Using " in line)
    expect(told.count("Using "), 2, f"says where things are instead: {told}")


def disk_full(cluster):
    """An ext4 partition fills up to the last reserved block, is found full by a restart, and is freed."""
    partition(cluster, "128M")
    cluster.start()
    prepare(cluster)
    cluster.kubectl("create", "configmap", "before")
    fill(cluster)
    # What was kept back for this lets the node tell, and users delete.
    until(lambda: condition(cluster, "DiskPressure") == "True", "the node tells that its disk is full", 25)
    taints = [taint["key"] for taint in cluster.get("node", "node1")["spec"].get("taints", [])]
    expect("node.kubernetes.io/disk-pressure" in taints, True, "and takes no more pods")
    until(lambda: cluster.get("pod", "shell")["status"].get("reason") == "Evicted", "a pod is evicted", 25)
    cluster.kubectl("delete", "configmap", "before")
    cluster.kubectl("create", "configmap", "before")
    refused = until(lambda: (lambda done: done.returncode and done.stderr)(create(cluster)), "writes are refused", 20)
    expect("disk is full" in refused, True, f"the error names it: {refused}")
    expect(cluster.kubectl("get", "configmap", "before", "--no-headers").returncode, 0, "reads go on")
    until(lambda: "disk" in "".join(cluster.log_lines()[-200:]).lower(), "the log names it")
    time.sleep(25)
    expect(cluster.alive(), True)
    expect(condition(cluster, "Ready"), "True")
    cluster.stop()
    cluster.start(wait=False)
    until(lambda: cluster.kubectl("get", "configmap", "before", check=False).returncode == 0, "a restart on a full disk answers", 30)
    expect(create(cluster).returncode != 0, True, "and writes nothing")
    (cluster.data / "fill").unlink()
    until(lambda: create(cluster).returncode == 0, "it recovers by itself", 30)
    until(lambda: condition(cluster, "Ready") == "True", "the node is ready")
    cluster.kubectl("delete", "pod", "shell")
    prepare(cluster)
    wal = (cluster.data / "server/db/state.db-wal").stat().st_size
    expect(wal < 3 << 20, True, f"the log of SQLite is {wal} bytes")
    return f"the error: {refused.strip()}"


def full_from_the_start(cluster):
    """A fresh directory on a disk with nothing left, with hardly anything, and with room again."""
    partition(cluster, "32M")
    fill(cluster)
    cluster.start(wait=False)
    until(lambda: cluster.process.poll() is not None, "it gives up", 20)
    expect("No space left on device" in cluster.tail(), True, "and says why")
    os.truncate(cluster.data / "fill", (cluster.data / "fill").stat().st_size - (1 << 20))
    cluster.start()
    until(lambda: condition(cluster, "Ready") == "True", "with one MiB it serves")
    (cluster.data / "fill").unlink()
    prepare(cluster)


def partition(cluster, size):
    image = cluster.dir / "disk.img"
    cluster.data.mkdir()
    subprocess.run(f"truncate -s {size} {image} && mkfs.ext4 -q {image} && mount -o loop {image} {cluster.data}", shell=True, check=True)


def fill(cluster):
    with open(cluster.data / "fill", "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
            except OSError:
                pass


def create(cluster):
    return cluster.kubectl("create", "configmap", f"c{time.monotonic_ns()}", "--from-literal=a=" + "x" * 50000, check=False)


def condition(cluster, kind):
    conditions = cluster.get("node", "node1")["status"]["conditions"]
    return next((c["status"] for c in conditions if c["type"] == kind), None)


def until(condition, what, timeout=30):
    """As the harness's; a machine with other things to do is given its time."""
    return harness.until(condition, what, max(timeout, 45))


def prepare(cluster):
    until(lambda: cluster.kubectl("get", "nodes", "--no-headers").stdout.split()[1:2] == ["Ready"], "the node is ready")
    until(lambda: cluster.kubectl("get", "serviceaccount", "default", check=False).returncode == 0, "the namespace is ready")
    cluster.apply(SHELLS, "default")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s", timeout=70)
    until(lambda: cluster.kubectl("exec", "shell", "--", "wget", "-qO-", "http://front/", check=False).stdout == "here\n", "the service answers", 15)


def state(cluster):
    """Of each pod that lives: its uid and restarts."""
    pods = cluster.get("pods")["items"]
    return {p["metadata"]["name"]: (p["metadata"]["uid"], sum(s["restartCount"] for s in p["status"].get("containerStatuses", []))) for p in pods if p["status"]["phase"] == "Running"}


def certificate(cluster, port, host="127.0.0.1"):
    pem = cluster.sh(f"openssl s_client -connect {host}:{port} </dev/null 2>/dev/null | openssl x509")
    return subprocess.run(["openssl", "x509", "-noout", "-enddate", "-ext", "subjectAltName"], input=pem, capture_output=True, text=True, check=True).stdout


def ends(cluster, port):
    line = certificate(cluster, port).splitlines()[0]
    return ssl.cert_time_to_seconds(line.removeprefix("notAfter="))


def covers(cluster, address, port):
    return f"IP Address:{address}" in certificate(cluster, port)


def with_token(cluster, token):
    """403 is an answer to somebody who is known; 401 is not."""
    return cluster.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' https://127.0.0.1:6443/api/v1/nodes")


def watched(watch, word):
    end = time.monotonic() + 10
    os.set_blocking(watch.stdout.fileno(), False)
    text = ""
    while time.monotonic() < end:
        text += watch.stdout.read() or ""
        if "Terminating" in text and word in text:
            watch.kill()
            return
        time.sleep(0.2)
    watch.kill()
    raise Failure(f"the watch does not tell of {word}: {text}")


def expect(got, want, what=""):
    if got != want:
        raise Failure(f"{what}: got {got!r}, want {want!r}")


SCENARIOS = [clock_1970, clock_jumps, moves, no_default_route, no_address, read_only_root, disk_full, full_from_the_start]


def main():
    binary, chosen = os.path.realpath(sys.argv[1]), sys.argv[2:]
    if "K3RS_E2E_MOUNTS" not in os.environ:
        # What is mounted here is nobody else's, and goes with us.
        os.environ["K3RS_E2E_MOUNTS"] = "private"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    failed = 0
    for scenario in SCENARIOS:
        if chosen and scenario.__name__ not in chosen:
            continue
        cluster = Cluster(binary)
        if not cluster.kubectl_path:
            print("adversity: skipped: no kubectl on this machine")
            cluster.close()
            return 0
        started = time.monotonic()
        try:
            note = scenario(cluster)
            print(f"ok    {scenario.__name__:20} {time.monotonic() - started:6.1f} s  {note or ''}", flush=True)
        except Exception as error:
            failed += 1
            why = str(error) if isinstance(error, Failure) else traceback.format_exc()
            print(f"FAIL  {scenario.__name__:20} {time.monotonic() - started:6.1f} s\n{why}\n--- k3rs says:\n{cluster.tail()}", flush=True)
        finally:
            if failed and os.environ.get("K3RS_E2E_KEEP"):
                print(f"kept: {cluster.dir} netns {cluster.netns} pid {cluster.process and cluster.process.pid}")
            else:
                cluster.close()
                subprocess.run(f"umount -l {cluster.data} {cluster.dir}/run; rm -rf {cluster.dir}", shell=True, capture_output=True)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
