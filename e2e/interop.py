"""Clients that are not ours, against a real node: interop.py BINARY [NAME ...].

Their programs come from the registries of their languages and stay below .run/interop; a part whose language is not on
this machine is skipped by name. INSTRUMENTS is where kubectl150.sh lies.
"""

import base64
import glob
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time

from cert_manager import cert_manager
from cluster import Cluster, Failure, until
from peers import HERE, SOURCES, WORK, Skipped, built, cargo_program, go_program, run, say, source, wants

INSTRUMENTS = pathlib.Path(os.environ.get("INSTRUMENTS", HERE.parent.parent / "shared"))

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
HELM = "helm.sh/helm/v3/cmd/helm@v3.18.4"

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n",
    "values.yaml": "word: first\nreplicas: 1\n",
    "crds/widgets.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.demo.example}
spec:
  group: demo.example
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {word: {type: string}}}}}}}]
""",
    "templates/all.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-words}
data: {word: {{ .Values.word | quote }}, version: {{ .Capabilities.KubeVersion.Minor | quote }}}
---
apiVersion: demo.example/v1
kind: Widget
metadata: {name: {{ .Release.Name }}}
spec: {word: {{ .Values.word | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}, annotations: {word: {{ .Values.word | quote }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000000"]}]
""",
    "templates/hook.yaml": """
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "echo hooked"]}]
""",
    "templates/test.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-test, annotations: {helm.sh/hook: test}}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "test -n \\"$WORD\\""], env: [{name: WORD, valueFrom: {configMapKeyRef: {name: {{ .Release.Name }}-words, key: word}}}]}]
""",
}


OWN_WORDS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-words}
data: {word: {{ .Values.word | quote }}}
"""


def h2spec(cluster):
    """RFC 7540 and 7541, every case."""
    out = run(cluster, [built("h2spec", H2SPEC), "-h", "127.0.0.1", "-p", "6443", "-t", "-k", "-o", "5"])
    last = [line for line in out.splitlines() if "passed" in line][-1].strip()
    if " 0 failed" not in last or " 0 skipped" not in last:
        raise Failure(out[-4000:])
    return last


def client_go(cluster):
    """e2e/interop/client-go: protobuf, informers with WatchList, apply, leader election, custom resources."""
    program, _ = go_program("client-go", ["client-go/go.mod", "client-go/main.go"])
    out = run(cluster, [program, cluster.env["KUBECONFIG"]], KUBE_FEATURE_WatchListClient="true")
    return f"{out.count('ok    ')} parts"


def kube_rs(cluster):
    """e2e/interop/kube-rs: patches, apply, watchers, reflectors, a derived kind and its controller, exec, logs, port-forward."""
    files = [str(path.relative_to(SOURCES)) for path in (SOURCES / "kube-rs").rglob("*") if path.suffix in (".rs", ".toml")]
    out = run(cluster, [cargo_program("kube-rs", files)])
    return f"{out.count('ok    ')} parts"


def javascript(cluster):
    """e2e/interop/javascript: the same of the JavaScript client."""
    wants("node", "npm")
    place, is_new = source("javascript", ["javascript/package.json", "javascript/main.js"])
    if is_new or not (place / "node_modules").exists():
        say("installing the JavaScript client")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=place, check=True)
    out = run(cluster, ["node", str(place / "main.js"), cluster.env["KUBECONFIG"]])
    return f"{out.count('ok    ')} parts"


def helm(cluster):
    """install with CRDs and hooks, upgrade, rollback, test, uninstall."""
    program = built("helm", HELM)
    chart = cluster.dir / "demo"
    for name, text in CHART.items():
        path = chart / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def word():
        kinds = ("configmap/one-words", "{.data.word}"), ("widget/one", "{.spec.word}")
        return [cluster.kubectl("get", name, "-o", f"jsonpath={path}").stdout for name, path in kinds]

    run(cluster, [program, "install", "one", str(chart), "--wait", "--timeout", "60s"])
    if word() != ["first", "first"]:
        raise Failure(f"installed {word()}")
    run(cluster, [program, "upgrade", "one", str(chart), "--set", "word=second,replicas=2", "--wait", "--timeout", "60s"])
    if word() != ["second", "second"]:
        raise Failure(f"upgraded {word()}")
    run(cluster, [program, "rollback", "one", "1", "--wait", "--timeout", "60s"])
    if word() != ["first", "first"]:
        raise Failure(f"rolled back {word()}")
    run(cluster, [program, "test", "one", "--timeout", "60s"])
    history = run(cluster, [program, "history", "one"])
    if "Rollback to 1" not in history:
        raise Failure(history)
    run(cluster, [program, "uninstall", "one", "--wait", "--timeout", "60s"])
    left = cluster.kubectl("get", "deployment,configmap,widget", "-o", "name").stdout.split()
    if [name for name in left if "one" in name]:
        raise Failure(f"left over: {left}")
    return "install, upgrade, rollback, test, uninstall"


def helm_charts(cluster):
    """Helm manages what a HelmChart installed, and a HelmChart takes over what Helm installed."""
    program = built("helm", HELM)
    archive = cluster.dir / "own-1.0.0.tgz"
    archive.write_bytes(packed({"Chart.yaml": CHART["Chart.yaml"].replace("demo", "own"), "values.yaml": "word: first\n", "templates/words.yaml": OWN_WORDS}, "own"))

    def chart(name, values):
        tree = {
            "apiVersion": "helm.cattle.io/v1",
            "kind": "HelmChart",
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"targetNamespace": "default", "chartContent": base64.b64encode(archive.read_bytes()).decode(), "valuesContent": values},
        }
        cluster.kubectl("apply", "-f", "-", input=json.dumps(tree))

    def said(name):
        return cluster.kubectl("get", "configmap", f"{name}-words", "-o", "jsonpath={.data.word}", check=False).stdout

    def until_said(name, word):
        until(lambda: said(name) == word, f"{name} says {word}", 60)

    def until_listed(name, revision, status):
        def listed():
            releases = json.loads(run(cluster, [program, "ls", "-a", "-o", "json"]))
            return [(one["revision"], one["status"], one["chart"]) for one in releases if one["name"] == name]

        until(lambda: listed() == [(str(revision), status, "own-1.0.0")], f"{name} is {status} at {revision}, not {listed()}", 60)

    chart("ours", "word: second")
    until_listed("ours", 1, "deployed")
    if run(cluster, [program, "get", "values", "ours", "-o", "json"]).strip() != '{"word":"second"}':
        raise Failure("values")
    if "# Source: own/templates/words.yaml" not in run(cluster, [program, "get", "manifest", "ours"]):
        raise Failure("manifest")
    run(cluster, [program, "upgrade", "ours", str(archive), "--set", "word=third"])
    until_said("ours", "third")
    run(cluster, [program, "rollback", "ours", "1"])
    until_said("ours", "second")
    # Its next change goes on from there.
    chart("ours", "word: fourth")
    until_listed("ours", 4, "deployed")
    until_said("ours", "fourth")
    history = [one["status"] for one in json.loads(run(cluster, [program, "history", "ours", "-o", "json"]))]
    if history != ["superseded"] * 3 + ["deployed"]:
        raise Failure(f"history {history}")
    run(cluster, [program, "install", "theirs", str(archive)])
    until_said("theirs", "first")
    chart("theirs", "word: taken")
    until_listed("theirs", 2, "deployed")
    until_said("theirs", "taken")
    # And away.
    cluster.kubectl("delete", "helmchart", "-n", "kube-system", "ours", "theirs", "--timeout=60s")
    if run(cluster, [program, "ls", "-a", "-q"]).split():
        raise Failure("releases are left")
    return "ls, get, upgrade, rollback, history of ours; theirs taken over"


def packed(files, name):
    """A chart's archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def kubectls():
    """kubectl of each minor version on this machine, by version; KUBECTLS names others."""
    named = os.environ.get("KUBECTLS", "").split() or glob.glob("/usr/lib/google-cloud-sdk/bin/kubectl.1.*") + [shutil.which("kubectl")]
    found = {}
    for program in filter(None, named):
        out = subprocess.run([program, "version", "--client"], capture_output=True, text=True).stdout
        version = re.search(r"v(1\.\d+)", out)
        if version:
            found.setdefault(version[1], program)
    return dict(sorted(found.items()))


def kubectl(cluster):
    """The handed script with each version of kubectl."""
    script = INSTRUMENTS / "kubectl150.sh"
    if not script.exists():
        raise Failure(f"no {script}; INSTRUMENTS=DIRECTORY says where kubectl150.sh lies")
    # The script wants two images that can do the same.
    tag = [cluster.binary, "ctr", "images", "tag", "k3rs.io/userspace:1", "k3rs.io/userspace:2"]
    subprocess.run(cluster.inside(tag), env=cluster.env, capture_output=True, check=True)
    # The script makes a quota of CPU and memory and later pods that ask for none, which any server refuses: its quotas come last.
    names = re.findall(r"(?m)^(?:.*[;&] )?t ([\w.-]+) ", script.read_text())
    quotas = [name for name in names if "quota" in name or name == "describe-ns"]
    others = [name for name in names if name not in quotas]
    said, bad = [], []
    for version, program in kubectls().items():
        env = dict(cluster.env, KUBECTL=program, IMG2="k3rs.io/userspace:2")
        text, passed, failed = "", 0, 0
        for part in (others, quotas):
            asked = ["bash", str(script), f"^({'|'.join(map(re.escape, part))})$"]
            done = subprocess.run(cluster.inside(asked), env=env, capture_output=True, text=True, timeout=1800)
            text += done.stdout + done.stderr
            last = re.search(r"(\d+) passed, (\d+) failed", (done.stdout.strip().splitlines() or [""])[-1])
            passed, failed = passed + int(last[1] if last else 0), failed + int(last[2] if last else 1)
        (WORK / f"kubectl-{version}.log").write_text(text)
        said.append(f"{version}: {passed} passed, {failed} failed")
        if failed:
            bad.append(version)
        print(f"      kubectl {said[-1]}", flush=True)
    if bad:
        raise Failure(f"kubectl {bad}, see {WORK}/kubectl-VERSION.log")
    return "; ".join(said)


PARTS = [h2spec, client_go, kube_rs, javascript, helm, helm_charts, cert_manager, kubectl]


def main():
    binary, names = sys.argv[1], sys.argv[2:]
    (WORK / "bin").mkdir(parents=True, exist_ok=True)
    passed = failed = skipped = 0
    cluster = Cluster(binary)
    try:
        cluster.start()
        until(lambda: cluster.kubectl("get", "serviceaccount", "default", check=False).returncode == 0, "the default service account")
        for part in PARTS:
            name = part.__name__.replace("_", "-")
            if names and name not in names:
                continue
            began = time.monotonic()
            try:
                note = part(cluster)
            except Skipped as why:
                skipped += 1
                print(f"skip  {name}: {why}", flush=True)
                continue
            except (Failure, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAIL  {name}: {error}\n{cluster.tail()}", flush=True)
                continue
            passed += 1
            print(f"ok    {name:<12} {time.monotonic() - began:6.1f} s  {note}", flush=True)
    finally:
        cluster.close()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


main()
