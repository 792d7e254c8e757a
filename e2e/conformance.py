"""Kubernetes' own suite against a cluster of k3rs: conformance.py K3RS [--nodes N] [--dual-stack] [--focus REGEX]... [--skip REGEX].

The cluster is one server and N - 1 agents, machines on one wire (hosts.py); the suite runs on a machine of its own beside them. Each --focus is a run of
its own, in order, on the same cluster; without any, there is one of everything that conformance asks for. If all of it passes, what a certification
asks for (junit_01.xml and e2e.log, as cncf/k8s-conformance wants them) is kept in .run/conformance/certification/VERSION/k3rs.

INSTRUMENTS is where conformance/conformance.sh lies. What it builds (the suite and its images, from the Go module proxy and Debian packages: half an hour
of two cores, the first time) stays below .run/conformance, as do the reports. PROCS: specs at the same time (4). TIMEOUT: of one run (3h).
SERVER_ARGS: more flags for the server.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as xml

from cluster import Failure, expect, find_kubectl, until
from hosts import Host, Wire, is_ready, took

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / ".run/conformance"
CONFORMANCE = r"\[Conformance\]"
TOKEN = "a-token-of-a-cluster"
DUAL_STACK = ["--cluster-cidr=10.42.0.0/16,fd42::/56", "--service-cidr=10.43.0.0/16,fd43::/112"]
# What one node cannot show is no failure there, and is said by name.
NEEDS_MORE_NODES = re.compile(r"at least (2|two)|requires [2-9] |not enough nodes|[2-9] schedulable nodes|two nodes", re.IGNORECASE)
# What a spec's line in the instrument's summary begins with: all states but `passed` and `skipped`.
FAILED = ("failed", "timedout", "panicked", "interrupted", "aborted")
MEMORY = ("VmRSS", "RssAnon", "VmHWM")


class Suite:
    """The suite's programs and images, made by the instrument."""

    def __init__(self, binary):
        script = pathlib.Path(os.environ.get("INSTRUMENTS", ROOT.parent / "shared")) / "conformance/conformance.sh"
        expect(os.access(script, os.X_OK), f"no {script}; INSTRUMENTS=DIRECTORY says where conformance/ lies")
        for tool in ("go", "kubectl"):
            expect(shutil.which(tool), f"{tool} is needed")
        WORK.mkdir(parents=True, exist_ok=True)
        self.command = [script, binary, WORK]
        # A part that is there is not built again, so this takes seconds then.
        subprocess.run([*self.command, "build"], check=True)
        self.bin = WORK / "conf/bin"
        if not self.images():
            subprocess.run([*self.command, "images"], check=True)

    def images(self):
        return sorted((WORK / "images").glob("*.tar"))

    def image_names(self):
        names = set()
        for path in self.images():
            with tarfile.open(path) as archive:
                names.update(json.load(archive.extractfile("manifest.json"))[0]["RepoTags"])
        return names

    def names(self, focus):
        """The specs that a run of `focus` has."""
        args = ["--ginkgo.dry-run", f"--ginkgo.focus={focus}", "--ginkgo.no-color", "--ginkgo.v", "--provider=skeleton"]
        said = subprocess.run([self.bin / "e2e.test", *args], capture_output=True, text=True).stdout
        return set(re.findall(r"^(\[sig-.*\])$", said, re.MULTILINE))

    def summary(self, name):
        return subprocess.run([*self.command, "summary", name], capture_output=True, text=True, check=True).stdout


class Machines:
    """One server, agents, and the machine beside them that asks."""

    def __init__(self, binary, n_nodes, dual_stack):
        # Where the images lie: they are linked, not copied, and a pod's root must not be on an overlay.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cluster-", dir=WORK))
        self.hosts, self.families = [], "46" if dual_stack else "4"
        self.server_args = [*(DUAL_STACK if dual_stack else []), *os.environ.get("SERVER_ARGS", "").split()]
        self.wire = Wire(f"k3rs-cf-{os.getpid()}")
        self.suite = self.host(binary, "suite", 5)
        self.server = self.host(binary, "server1", 10)
        self.agents = [self.host(binary, f"agent{idx + 1}", 20 + idx) for idx in range(n_nodes - 1)]
        self.nodes = [self.server, *self.agents]

    def host(self, binary, name, number):
        host = Host(self.wire, self.dir, binary, name, number, self.families)
        # A name of its own, too: specs look at it from inside pods that have the node's.
        host.through = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
        host.ingress = True
        self.hosts.append(host)
        return host

    def start(self, suite):
        for node in self.nodes:
            images = node.data / "agent/images"
            images.mkdir(parents=True)
            for path in suite.images():
                link_or_copy(path, images / path.name)
        began = time.monotonic()
        self.server.server("--token", TOKEN, *self.server_args)
        self.server.wait_up()
        for agent in self.agents:
            agent.agent(f"https://{self.server.address}:6443", TOKEN)
        until(self.all_ready, "all nodes are Ready", 600)
        ready, names = took(began), suite.image_names()
        until(lambda: self.have(names), "all nodes have the images", 600)
        text = pathlib.Path(self.server.env["KUBECONFIG"]).read_text()
        self.kubeconfig = self.dir / "kubeconfig"
        self.kubeconfig.write_text(text.replace("https://127.0.0.1:6443", f"https://{self.server.address}:6443"))
        print(f"== {len(self.nodes)} nodes Ready after {ready}, with all images after {took(began)}", flush=True)

    def all_ready(self):
        for node in self.nodes:
            node.alive()
        nodes = self.server.get("nodes")["items"]
        return len(nodes) == len(self.nodes) and all(map(is_ready, nodes))

    def have(self, names):
        missing = lambda node: names - {name for image in node["status"].get("images", []) for name in image["names"]}
        return not any(map(missing, self.server.get("nodes")["items"]))

    def memory(self):
        """Of each node's process, in KiB."""
        found = {}
        for node in self.nodes:
            status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
            found[node.name] = {key: int(re.search(rf"^{key}:\s+(\d+)", status, re.MULTILINE)[1]) for key in MEMORY}
        return found

    def close(self):
        for host in self.hosts:
            host.close()
        self.wire.close()
        # The logs stay beside the reports.
        for host in self.hosts:
            if host.log_path.exists():
                shutil.copy(host.log_path, WORK / f"{host.name}.log")
        shutil.rmtree(self.dir, ignore_errors=True)


def link_or_copy(path, place):
    try:
        os.link(path, place)
    except OSError:
        shutil.copy(path, place)


def run_specs(machines, suite, name, focus, skip):
    """One run of the suite; whether everything passed."""
    report = WORK / "conf-report" / name
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    before, began = machines.memory(), time.monotonic()
    print(f"== {name}: {focus}{f', without {skip}' if skip else ''}", flush=True)
    ginkgo = [
        suite.bin / "ginkgo", f"--procs={os.environ.get('PROCS', 4)}", f"--timeout={os.environ.get('TIMEOUT', '3h')}", "--grace-period=30s", "--no-color", "-v",
        "--silence-skips", "--output-interceptor-mode=none", f"--output-dir={report}", "--json-report=report.json", f"--focus={focus}",
        *([f"--skip={skip}"] if skip else []), suite.bin / "e2e.test", "--", f"--kubeconfig={machines.kubeconfig}", "--provider=skeleton", "--disable-log-dump",
        f"--kubectl-path={find_kubectl()}", f"--report-dir={report}", f"--num-nodes={len(machines.nodes)}",
    ]  # fmt: skip
    with open(report / "output.log", "wb") as log:
        runner = subprocess.Popen(machines.suite.inside(ginkgo), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            passed = runner.wait() == 0
        finally:
            # Its processes, too, where this is ended before them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(runner.pid, signal.SIGKILL)
    lines = suite.summary(name).splitlines()
    (report / "summary").write_text("\n".join(lines) + "\n")
    tell(lines, len(machines.nodes))
    print(f"== {name}: {lines[-1]}, {took(began)}; every spec: {report}/summary, output: {report}/output.log")
    for node, after in machines.memory().items():
        was = before[node]
        print(f"   {node:8} RSS {was['VmRSS']} -> {after['VmRSS']} KiB (at most {after['VmHWM']}), of it anonymous {was['RssAnon']} -> {after['RssAnon']}", flush=True)
    return passed


def tell(lines, n_nodes):
    """Each failure, and what one node cannot show; a spec's words, if any, stand in the line below it."""
    for line, why in zip(lines, [*lines[1:], ""]):
        if n_nodes == 1 and line.startswith(("failed", "skipped")) and NEEDS_MORE_NODES.search(why):
            print(f"   needs more than one node: {line[21:]}")
        elif line.startswith(FAILED):
            print(f"   {line}\n{why}")


def certify(suite, name, version):
    """Keeps what is asked for, after looking whether it says what a reviewer looks for."""
    report = WORK / "conf-report" / name
    wanted = suite.names(CONFORMANCE)
    passed = set()
    for case in xml.parse(report / "junit_01.xml").iter("testcase"):
        if not any(case.find(state) is not None for state in ("skipped", "failure", "error")):
            passed.add(re.sub(r"^\[It\] ", "", case.get("name")))
    # Labels are told behind the name, in both, but not always in one order.
    bare = lambda names: {re.sub(r" \[[^\]]*, [^\]]*\]$", "", one) for one in names}
    missing = bare(wanted) - bare(passed)
    expect(not missing, f"{len(missing)} of {len(wanted)} specs are missing in junit_01.xml: {sorted(missing)[:5]}")
    log = (report / "output.log").read_text(errors="replace")
    for words in (f"e2e test version: {version}.", f"kube-apiserver version: {version}.", f"SUCCESS! -- {len(wanted)} Passed | 0 Failed"):
        expect(words in log, f"e2e.log does not say {words!r}")
    place = WORK / "certification" / version / "k3rs"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(report / "junit_01.xml", place / "junit_01.xml")
    shutil.copy(report / "output.log", place / "e2e.log")
    print(f"== {len(wanted)} of {len(wanted)}; for a certification: {place}/junit_01.xml and e2e.log")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--dual-stack", action="store_true", help="IPv4 and IPv6")
    parser.add_argument("--focus", action="append")
    parser.add_argument("--skip")
    args = parser.parse_args()
    binary, failed = os.path.realpath(args.binary), False
    suite = Suite(binary)
    machines = Machines(binary, args.nodes, args.dual_stack)
    try:
        machines.start(suite)
        for idx, focus in enumerate(args.focus or [CONFORMANCE]):
            is_all = focus == CONFORMANCE and not args.skip
            name = "all" if is_all else f"run{idx + 1}"
            passed = run_specs(machines, suite, name, focus, args.skip)
            failed |= not passed
            if is_all and passed:
                version = json.loads(machines.server.kubectl("get", "--raw", "/version").stdout)
                certify(suite, name, f"v{version['major']}.{version['minor']}")
    finally:
        machines.close()
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"conformance: {failure}")
