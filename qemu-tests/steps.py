"""The verbs that scenarios are written in; each is a function, its keyword arguments are the keys of a step.

A verb returns nothing or a note for the table, and fails by raising Failure. `run` is the scenario in progress.
"""

import base64
import fnmatch
import http.client
import inspect
import json
import pathlib
import random
import re
import ssl
import time
import urllib.request

import escapes
import initramfs
from machine import NODE_PORT, SLOW, Failure, shown, until

HERE = pathlib.Path(__file__).resolve().parent
VERBS = {}


def verb(function):
    VERBS[function.__name__] = function
    return function


def check(step):
    """A step that names an unknown verb or key is refused before any machine is started."""
    keys = dict(step)
    keys.pop("arch", None)
    name = keys.pop("do", None)
    if name not in VERBS:
        raise ValueError(f"unknown verb {name!r}")
    inspect.signature(VERBS[name]).bind(None, **keys)


def do(run, step):
    keys = dict(step)
    if keys.pop("arch", run.arch) != run.arch:
        return None
    return VERBS[keys.pop("do")](run, **keys)


# --- power ---


@verb
def boot(run, timeout=240, clock_is_wrong=False):
    """Power on; until the node is Ready."""
    run.machine.start()
    run.figures["ready_s"] = run.machine.wait_ready(timeout, checks_certificate=not clock_is_wrong)
    run.figures["ready_cpu_s"] = run.machine.cpu_when_ready_s


@verb
def power_off(run, how="term", timeout=60):
    """A clean end: SIGTERM to the first process, or the power button."""
    if how == "button":
        run.machine.power_button()
    else:
        run.machine.console.type("kill -TERM 1\n")
    run.machine.wait_off(timeout)
    for disk in run.machine.disks:
        if disk.cached:
            raise Failure(f"{len(disk.cached)} writes were not flushed when the machine went off")


@verb
def disk_is_clean(run, disk=0):
    found = run.machine.disks[disk].check()
    if found:
        raise Failure(f"e2fsck finds something to repair:\n{found}")


@verb
def next_image(run, version):
    """What the machine boots from its next start on: the same program as another version, `k3rsN` at the end of its name, or (0) the first one."""
    if version == 0:
        run.machine.initramfs = run.image
        return
    program = initramfs.binary(run.arch).read_bytes()
    own = re.search(rb"v1\.\d+\.\d+\+k3rs\d", program)[0]
    changed, out = run.machine.dir / "program", run.machine.dir / "initramfs"
    changed.write_bytes(program.replace(own, own[:-1] + str(version).encode()))
    initramfs.build(run.arch, changed, out)
    changed.unlink()
    run.machine.initramfs = out


@verb
def cable(run, plugged):
    run.machine.plug(plugged)


@verb
def power_cuts(run, times=20, seed=1, write_s=4.0):
    """The power goes in the middle of a stream of writes, again and again; no acknowledged write may be lost."""
    source, machine = random.Random(seed), run.machine
    disk, writes = machine.disks[0], Writes(random.Random(seed))
    n_kept = n_lost = 0
    for cut in range(times):
        if cut > 0:
            machine.start()
        if cut % 5 == 4:
            # A machine that is still starting: it finds what the last cut left, and leaves its own.
            machine.cut_after(source.uniform(0.2, 1.0) * run.figures["ready_s"])
        else:
            if cut > 0:
                machine.wait_ready()
            writes.compare(machine)
            # Half of the cuts fall between two writes to the disk, which random moments seldom hit.
            if cut % 2:
                disk.when_written(source.randrange(1, 60), machine.kill)
            else:
                machine.cut_after(source.uniform(0.1, write_s))
            writes.stream(machine)
        kept, lost = machine.power_cut(source)[0]
        n_kept, n_lost = n_kept + kept, n_lost + lost
    machine.start()
    machine.wait_ready()
    writes.compare(machine)
    return f"{times} cuts, {writes.n_acknowledged} acknowledged writes; of unflushed disk writes {n_kept} kept, {n_lost} lost"


class Writes:
    """A stream of creates, updates and deletes over one connection, and what must be there after all that was acknowledged."""

    def __init__(self, source):
        self.source = source
        self.expected = {}  # name -> value, as acknowledged
        self.doubtful = {}  # name -> values (None: absent) that are right too, because nobody acknowledged
        self.n = self.n_acknowledged = 0
        self.connection = None

    def connect(self, machine):
        text = machine.kubeconfig.read_text()
        files = {}
        for key in ("client-certificate-data", "client-key-data", "certificate-authority-data"):
            files[key] = machine.dir / key
            files[key].write_bytes(base64.b64decode(re.search(key + r": *(\S+)", text)[1]))
        context = ssl.create_default_context(cafile=files["certificate-authority-data"])
        context.load_cert_chain(files["client-certificate-data"], files["client-key-data"])
        self.connection = http.client.HTTPSConnection("127.0.0.1", machine.ports[6443], context=context, timeout=60 * SLOW)

    def next(self):
        """Method, name, value."""
        self.n += 1
        existing = [name for name in self.expected if name not in self.doubtful]
        kind = self.source.random()
        if existing and kind < 0.3:
            return "PUT", self.source.choice(existing), str(self.n)
        if len(existing) > 5 and kind < 0.4:
            return "DELETE", self.source.choice(existing), None
        return "POST", f"w{self.n}", str(self.n)

    def request(self, method, name, value):
        path = "/api/v1/namespaces/default/configmaps" + ("" if method == "POST" else f"/{name}")
        body = None if value is None else json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"by": "writes"}}, "data": {"value": value, "filler": "x" * self.source.randrange(2000)}})
        self.connection.request(method, path, body, {"Content-Type": "application/json"})

    def stream(self, machine):
        """Until the machine is gone. The request that was under way then may have happened or not."""
        self.connect(machine)
        while True:
            method, name, value = self.next()
            self.doubtful[name] = {self.expected.get(name), value}
            try:
                self.request(method, name, value)
                answer = self.connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                if machine.gone(within=5):
                    break
                raise Failure(f"{method} {name}: {error!r}") from None
            if answer.status not in (200, 201):
                raise Failure(f"{method} {name}: {answer.status} {text.decode(errors='replace')}")
            del self.doubtful[name]
            self.n_acknowledged += 1
            self.expected[name] = value
            if value is None:
                del self.expected[name]
        self.connection.close()

    def compare(self, machine):
        items = json.loads(machine.kubectl("get", "configmaps", "-l", "by=writes", "-o", "json").stdout)["items"]
        present = {item["metadata"]["name"]: item["data"]["value"] for item in items}
        wrong = []
        for name in sorted(present.keys() | self.expected.keys() | self.doubtful.keys()):
            allowed = self.doubtful.get(name, {self.expected.get(name)})
            if present.get(name) not in allowed:
                wrong.append(f"{name}: is {present.get(name)}, acknowledged {allowed}")
        if wrong:
            raise Failure(f"{len(wrong)} acknowledged writes are lost: " + "; ".join(wrong[:10]))
        # What the doubtful ones turned out to be holds from now on.
        self.expected, self.doubtful = present, {}


# --- the host's side ---


@verb
def apply(run, manifest, timeout=60):
    """A file of manifests/."""
    run.machine.kubectl("apply", "-f", "-", input=(HERE / "manifests" / manifest).read_text(), timeout=timeout)


@verb
def kubectl(run, args, expect=None, contains=None, fails=None, timeout=60):
    """Exactly `expect` (a shell pattern), or somewhere `contains`; with `fails`, an error that says this."""
    done = run.machine.kubectl(*args, check=fails is None, timeout=timeout)
    if fails is not None and (done.returncode == 0 or fails not in done.stderr + done.stdout):
        raise Failure(f"{shown(args)} should fail with {fails!r}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    compare(shown(args), done.stdout, expect, contains)


@verb
def refused_when_full(run, fails="disk is full", writes_max=60):
    """Once the store's reserve is used up, a write is refused with the reason, not half done."""
    for n in range(writes_max):
        manifest = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"fill{n}"}, "data": {"a": "x" * 500_000}})
        done = run.machine.kubectl("create", "-f", "-", input=manifest, check=False)
        if done.returncode != 0:
            break
    else:
        raise Failure(f"{writes_max} writes of half a megabyte were accepted on a full disk")
    if fails not in done.stderr:
        raise Failure(f"the refusal does not say {fails!r}: {done.stderr}")
    kubectl(run, ["get", "configmap", f"fill{n}"], fails="NotFound")
    return f"refused after {n} writes from the reserve"


@verb
def accepted_again(run, timeout=60):
    """Writes succeed again without anybody's help."""

    def write():
        run.machine.kubectl("create", "configmap", "written", "--from-literal=a=b")
        return True

    until(write, "a write is accepted", timeout * SLOW, interval=1)


@verb
def hostile(run, seed=1, at_once=3):
    """The hostile pods of e2e/hostile.py: nothing of the machine is read or written."""
    return escapes.go(run, seed, at_once)


@verb
def cpu_share(run, pod, percent, over_s=20):
    """A pod that would use all of the CPU gets this much of it, within a quarter."""
    uid = run.machine.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}").stdout
    read = f"cat $(find /sys/fs/cgroup/kubepods -type d -name '*{uid}*' | head -1)/cpu.stat; cat /proc/uptime"

    def used():
        text = run.machine.shell(read)
        return int(re.search(r"usage_usec (\d+)", text)[1]) / 1e6, float(text.splitlines()[-1].split()[0])

    (used_before, before), _, (used_after, after) = used(), time.sleep(over_s), used()
    share = (used_after - used_before) / (after - before) * 100
    if not percent * 0.75 <= share <= percent * 1.25:
        raise Failure(f"pod {pod} got {share:.1f} % of a CPU, its limit is {percent} %")
    return f"pod {pod} got {share:.1f} % of a CPU"


@verb
def wait(run, what, condition, timeout=120):
    """kubectl wait, once the object exists."""
    bound = f"--timeout={int(timeout * SLOW)}s"
    run.machine.kubectl("wait", "--for=create", what, bound, timeout=timeout + 10)
    run.machine.kubectl("wait", f"--for={condition}", what, bound, timeout=timeout + 10)


@verb
def rollout(run, what, timeout=180):
    run.machine.kubectl("rollout", "status", what, f"--timeout={int(timeout * SLOW)}s", timeout=timeout + 10)


@verb
def http_get(run, expect, path="/", timeout=30):
    """The NodePort, from outside the machine."""
    url = f"http://127.0.0.1:{run.machine.ports[NODE_PORT]}{path}"

    def ask():
        try:
            with urllib.request.urlopen(url, timeout=5 * SLOW) as answer:
                return answer.read().decode()
        except OSError as error:
            raise Failure(str(error)) from None

    # Rules follow an endpoint's readiness within moments that nobody announces.
    got = until(ask, f"{url} answers", timeout * SLOW)
    compare(url, got, expect, None)


@verb
def same_pods(run):
    """The first use remembers pods and restarts, the next ones compare."""
    found = {}
    for pod in json.loads(run.machine.kubectl("get", "pods", "-o", "json").stdout)["items"]:
        ready = all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
        restarts = sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
        found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], pod["status"]["phase"], ready, restarts)
    if run.pods is None:
        run.pods = found
        return
    found = {name: found.get(name) for name in run.pods}
    if run.pods != found:
        raise Failure(f"pods were {run.pods}, are {found}")


@verb
def stays_up(run, seconds=600, every=30):
    """The node stays Ready and the pods stay what they are, asked again and again."""
    same_pods(run)
    end = time.monotonic() + seconds
    while True:
        time.sleep(max(0, min(every, end - time.monotonic())))
        run.machine.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=20s", timeout=30)
        same_pods(run)
        if time.monotonic() >= end:
            break
    killed = [line for line in run.machine.console.lines if re.search("out of memory|oom-kill|panicked", line, re.IGNORECASE)]
    if killed:
        raise Failure("\n".join(killed))


# --- the console's side ---


@verb
def shell(run, command, expect=None, contains=None, fails=False, timeout=30):
    """With `fails`, any end but a good one."""
    got = run.machine.shell(f"{command}; echo \"status $?\"", timeout)
    got, _, status = got.rpartition("status ")
    if fails == (status.strip() == "0"):
        raise Failure(f"on the console: {command}: exit {status}\n{got}")
    compare(command, got, expect, contains)


@verb
def set_clock(run):
    """The machine's clock gets the host's time."""
    run.machine.shell(f"date -u -s @{int(time.time())}")


@verb
def console(run, pattern, timeout=60):
    """A line of the console since the last one waited for."""
    run.machine.console.wait_for(pattern, timeout)


@verb
def fetch_kubeconfig(run):
    """The kubeconfig again, because the certificates in it have changed."""
    run.machine.fetch_kubeconfig()


@verb
def measure(run, idle_s=30):
    """Fills the table: memory, disk, and CPU over an idle window."""
    machine = run.machine
    uptime = float(machine.shell("cat /proc/uptime").split()[0])
    run.figures["uptime_s"] = uptime - (machine.elapsed() - run.figures["ready_s"])
    memory = dict(re.findall(r"(\w+): +(\d+) kB", machine.shell("cat /proc/meminfo")))
    processes = k3rs_processes(machine)
    run.figures["rss_kib"] = sum(process["rss"] for process in processes)
    run.figures["pss_kib"] = sum(process["pss"] for process in processes)
    run.figures["n_processes"] = len(processes)
    run.figures["available_kib"] = int(memory["MemAvailable"])
    run.figures["total_kib"] = int(memory["MemTotal"])
    if machine.disks:
        run.figures["written"] = sum(disk.bytes_written for disk in machine.disks)
    ticks, started = cpu_ticks(machine, processes), time.monotonic()
    host = machine.host_cpu_s()
    # The window is what is measured: nothing happens in it by intention.
    time.sleep(idle_s)
    host = machine.host_cpu_s() - host
    took = time.monotonic() - started
    run.figures["idle_host_cpu"] = host / took * 100
    run.figures["idle_cpu"] = (cpu_ticks(machine, processes) - ticks) / 100 / took * 100


def k3rs_processes(machine):
    """k3rs as first process, as server, and its shims: pid, RSS and PSS in KiB."""
    # PSS tells shared pages once; RSS counts them for every process.
    text = machine.shell("for p in /proc/[0-9]*; do exe=$(readlink $p/exe) && echo $p $exe && grep -hE '^(Rss|Pss):' $p/smaps_rollup; done; true", timeout=60)
    found, process = [], None
    for line in text.splitlines():
        words = line.split()
        if line.startswith("/proc/"):
            process = {"pid": int(words[0].split("/")[2]), "exe": words[1] if len(words) > 1 else "", "rss": 0, "pss": 0}
            found.append(process)
        elif len(words) >= 2 and process:
            process[words[0].strip(":").lower()] = int(words[1])
    return [process for process in found if is_k3rs(process["exe"])]


def is_k3rs(exe):
    return pathlib.PurePath(exe.removesuffix(" (deleted)")).name in ("k3rs", "init")


def cpu_ticks(machine, processes):
    text = machine.shell("cat " + " ".join(f"/proc/{process['pid']}/stat" for process in processes), check=False)
    return sum(int(line.rpartition(")")[2].split()[11]) + int(line.rpartition(")")[2].split()[12]) for line in text.splitlines() if ")" in line)


def compare(what, got, expect, contains):
    if expect is not None and not fnmatch.fnmatchcase(got.strip(), expect.strip()):
        raise Failure(f"{what}: got {got!r}, want {expect!r}")
    if contains is not None and contains not in got:
        raise Failure(f"{what}: {contains!r} is not in {got!r}")
