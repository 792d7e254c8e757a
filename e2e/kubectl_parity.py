"""Our kubectl beside the real one: kubectl_parity.py BINARY [-v] [FILTER].

The same command lines, against the same server, must give the same standard output, standard error and exit code. Each
side works in a namespace of its own and a directory of its own with the same files; names of namespaces, ages, times,
uids, versions and generated names are made equal before they are compared. The lines are in kubectl_lines/*.txt, one a
line, run by a shell in their order: `k` is the side's kubectl, `real` always the real one, `NS` the namespace. A line that begins with `~` only prepares,
or is compared by its exit code alone; one with `?` sorts its output's lines first. Prints a table and the differences.
"""

import concurrent.futures
import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from cluster import HERE, Cluster, find_kubectl

FILES = {
    "cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c1, labels: {a: b}}\ndata: {k: v, long: \"line one\\nline two\\n\"}\n",
    "cm2.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c1, labels: {a: c}}\ndata: {k: w}\n",
    "multi.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m1}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: m2}\nstringData: {p: q}\n",
    "list.json": '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"l1"}},{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"l2"}}]}',
    "bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nfoo: bar\n",
    "twice.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f1}\ndata:\n  a: b\n  a: c\n",
    "comma.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f2",}}',
    "flow.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: f3}}\n",
    "half.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f4"}',
    "tail.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f5"}}\n---\n{}\n',
    "tail.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f6}\n---\na: : b\n",
    "first.yaml": "apiVersion: v9\nkind: Foo\nmetadata: {name: xx}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: f7}\n",
    "typed.json": '{"apiVersion":"v1","kind":"ConfigMapList","items":[{"metadata":{"name":"f8"}}]}',
    "number.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f9, labels: {a: 1}}\n",
    "bool.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n",
    "time.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f9, creationTimestamp: 5}\n",
    "owner.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f9, ownerReferences: [{name: 1}]}\n",
    "words.yaml": "some words\n",
    "null.yaml": "null\n",
    "nokind.yaml": "apiVersion: v1\nmetadata: {name: bad}\n",
    "unknown.yaml": "apiVersion: example.com/v1\nkind: Foo\nmetadata: {name: x}\n",
    "dep.yaml": """apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {none: such}
      containers:
      - {name: web, image: "registry.example/web:1", ports: [{containerPort: 80, name: http}], env: [{name: A, value: b}]}
      - {name: side, image: "registry.example/side:1"}
""",
    "dep2.yaml": """apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, tier: x}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {none: such}
      containers:
      - {name: web, image: "registry.example/web:2", ports: [{containerPort: 80, name: http}, {containerPort: 81, name: more}]}
""",
    "pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, labels: {app: p}}\nspec: {nodeSelector: {none: such}, containers: [{name: a, image: registry.example/a}, {name: b, image: registry.example/b}]}\n",
    "patch.yaml": "data: {patched: 'yes'}\n",
    "env": "K1=v1\n# comment\nK2=v2\n",
    "file1": "content of file1\n",
    "dir/one": "1\n",
    "dir/two": "2\n",
    "many/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d1, labels: {set: many}}\n",
    "many/b.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d2","labels":{"set":"many"}}}',
    "many/c.txt": "not read\n",
    "many/sub/e.yml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d3, labels: {set: many}}\n",
    "empty/none.txt": "",
    # with.sh FLAGS -- COMMAND: a proxy with these flags on ./s, and a command beside it; then what the proxy said.
    "with.sh": """rm -f s; f=; while [ "$1" != -- ]; do f="$f $1"; shift; done; shift
k proxy -u s $f > proxy.out 2>&1 & p=$!
i=0; while [ ! -S s ] && kill -0 $p 2>/dev/null && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done
"$@"; c=$?; kill $p; wait $p 2>/dev/null; sed 's/^[EWIF][0-9].*] //' proxy.out; exit $c
""",
    "www/index.html": "<p>home</p>\n",
    "www/list/a & b.css": "p {}\n",
    "www/list/inner/x.txt": "x\n",
}

# Topics that change what both sides have: nodes, ports of this machine. There one side waits for the other.
APART = ("62-running", "90-nodes")

NORMAL = [
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r'(resourceVersion"?: ?"?)\d+', r"\1RV"),
    (r"kubectl\.1\.\d+", "kubectl"),
    (r"(?m)^[EIW]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ .*\n?", ""),
    (r"(?m)(?<=[ (])(\d+[smhd]){1,2}(?= |$|\)|,)( +)?", "AGE "),
    (r"\b(web|gd|d\d)-[0-9a-f]{8,10}(-[a-z0-9]{5})?\b", r"\1-HASH"),
    (r"\b10\.43\.\d+\.\d+\b *", "IP "),
    (r"nodePort: \d+|\"nodePort\": \d+|:3\d{4}/TCP", "PORT"),
    (r"\bgen-[a-z0-9]{5}\b", "gen-X"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"v1\.32\.\d+(\+k3rs\d+)?", "VERSION"),
    (r"/tmp/kp-\w+/(real|ours)", "DIR"),
    (r"\bkp-(real|ours)\b", "NS"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
    (r"(?m) +$", ""),
]


def normal(text, own):
    for pattern, to in NORMAL:
        text = re.sub(pattern, to, text)
    return text


class Side:
    def __init__(self, name, kubectl, cluster, root):
        self.name, self.cluster = name, cluster
        self.dir = root / name
        self.dir.mkdir()
        for path, content in FILES.items():
            file = self.dir / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        bin_dir = root / f"bin-{name}"
        bin_dir.mkdir()
        script = bin_dir / "k"
        script.write_text(f'#!/bin/sh\nexec {kubectl} "$@"\n')
        script.chmod(0o755)
        (bin_dir / "real").symlink_to(find_kubectl())
        config = self.dir / "kubeconfig"
        config.write_bytes(pathlib.Path(cluster.env["KUBECONFIG"]).read_bytes())
        self.ns = f"kp-{name}"
        self.env = dict(os.environ, HOME=str(self.dir), KUBECONFIG=str(config), NS=self.ns, PATH=f"{bin_dir}:{os.environ['PATH']}", SIDE=name)
        self.env.pop("KUBE_EDITOR", None)
        cluster.kubectl("create", "namespace", self.ns)
        cluster.kubectl("config", "set-context", "--current", f"--namespace={self.ns}", "--kubeconfig", str(config))

    def run(self, line):
        try:
            done = subprocess.run(self.cluster.inside(["sh", "-c", line]), env=self.env, cwd=self.dir, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)
            return done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired as late:
            return (late.stdout or b"").decode(), "(no end within 90 s)", -1


def lines(pattern):
    for file in sorted((HERE / "kubectl_lines").glob("*.txt")):
        for line in file.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                yield file.stem, line


def main():
    args = [arg for arg in sys.argv[1:] if arg != "-v"]
    verbose = "-v" in sys.argv
    binary, only = os.path.realpath(args[0]), args[1:]
    cluster = Cluster(binary, args=())
    same, different, counts = 0, [], {}
    with tempfile.TemporaryDirectory(prefix="kp-") as root:
        try:
            cluster.start()
            sides = [
                Side("real", find_kubectl(), cluster, pathlib.Path(root)),
                Side("ours", f"{binary} kubectl", cluster, pathlib.Path(root)),
            ]
            for topic, line in lines(only):
                if only and not any(word == topic or line.startswith("~") for word in only):
                    continue
                mark, bare = (line[0], line[1:].strip()) if line[0] in "~?" else ("", line)
                results = []
                together = 1 if topic in APART else len(sides)
                with concurrent.futures.ThreadPoolExecutor(together) as pool:
                    said = list(pool.map(lambda side: side.run(bare), sides))
                for side, (stdout, stderr, code) in zip(sides, said):
                    out, err = normal(stdout, side.ns), normal(stderr, side.ns)
                    if mark == "?":
                        out = "\n".join(sorted(out.splitlines()))
                    results.append(("", "", code) if mark == "~" else (out, err, code))
                    if mark == "~" and code:
                        print(f"  ({side.name}: {bare}: {code} {stderr.strip()[:300]})")
                counts.setdefault(topic, [0, 0])
                if results[0] == results[1]:
                    same += 1
                    counts[topic][0] += 1
                    if verbose:
                        print(f"same  {topic}: {bare}")
                else:
                    counts[topic][1] += 1
                    different.append((topic, bare, results))
        finally:
            if "K3RS_E2E_KEEP" not in os.environ:
                cluster.close()
    for topic, line, (theirs, ours) in different:
        print(f"DIFF  {topic}: {line}")
        for what, left, right in zip(("stdout", "stderr", "exit"), theirs, ours):
            if left != right:
                diff = list(difflib.unified_diff(str(left).splitlines(), str(right).splitlines(), f"theirs {what}", f"ours {what}", lineterm="", n=1))
                print("\n".join("    " + text for text in diff[:40]))
    print(f"\n{'topic':16} same  different")
    for topic, (good, bad) in counts.items():
        print(f"{topic:16} {good:4}  {bad:4}")
    print(f"{same} same, {len(different)} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
