"""What a newcomer does with a node, as scenarios in order on one cluster: scenarios.py BINARY [NAME ...]."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import images
import registry
from cluster import Cluster, Failure, until

USERSPACE = "k3rs.io/userspace:1"

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: nginx
        image: e2e/nginx:1
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /version, port: 80}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30081}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: shell, image: %(userspace)s, command: [sleep, "1000000"]}
""" % {"userspace": USERSPACE}

STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: shell
        image: %s
        command: [sh, -c, "cat /data/word; sleep 1000000"]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
""" % USERSPACE

JOBS = """
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: %(image)s, command: [sh, -c, "expr 20 + 22"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  timeZone: Europe/Berlin
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: %(image)s, command: [date]}]
""" % {"image": USERSPACE}

TROUBLE = """
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: %(image)s, command: [sh, -c, "echo going down; exit 3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - name: c
    image: %(image)s
    command: [sh, -c, "x=0123456789abcdef; while true; do x=$x$x; done"]
    resources: {limits: {memory: 24Mi}}
""" % {"image": USERSPACE}


def ready(cluster):
    until(lambda: condition(cluster.get("node", "node1"), "Ready") == "True", "the node is Ready", 30)
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a default service account", 20)
    cluster.kubectl("create", "namespace", "e2e")
    until(lambda: cluster.kubectl("get", "sa", "default", "-n", "e2e", check=False).returncode == 0, "its service account", 20)


def web(cluster):
    cluster.apply(WEB)
    cluster.kubectl("rollout", "status", "-n", "e2e", "deploy/web", "--timeout=60s", timeout=70)
    cluster.kubectl("wait", "-n", "e2e", "--for=condition=Ready", "pod/client", "--timeout=60s", timeout=70)
    for name in ("web", "web.e2e", "web.e2e.svc.cluster.local"):
        page = cluster.kubectl("exec", "-n", "e2e", "client", "--", "wget", "-qO-", f"http://{name}/").stdout
        expect(page, "hello from nginx\n")
    expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30081/"), "hello from nginx\n")
    seen = {cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30081/version") for _ in range(40)}
    expect(len(seen), 3, "every replica answers")
    api = cluster.kubectl("exec", "-n", "e2e", "client", "--", "sh", "-c", "nc -w 3 kubernetes.default 443 </dev/null && echo reached").stdout
    if "reached" not in api:
        raise Failure(f"kubernetes.default is not reachable from a pod: {api!r}")


def rolling_update(cluster):
    failures, count, stop = [], [0], threading.Event()

    def ask():
        # Bounded by the scenario: it stops when the rollout has ended.
        while not stop.is_set():
            done = subprocess.run(cluster.inside(["curl", "-sS", "--max-time", "5", "http://192.0.2.10:30081/version"]), capture_output=True, text=True)
            count[0] += 1
            if done.returncode != 0:
                failures.append(done.stderr)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        cluster.kubectl("set", "image", "-n", "e2e", "deploy/web", "nginx=e2e/nginx:2")
        cluster.kubectl("rollout", "status", "-n", "e2e", "deploy/web", "--timeout=90s", timeout=100)
        until(lambda: len(cluster.pods("app=web")) == 3, "the old pods are gone", 60)
    finally:
        stop.set()
        asker.join()
    expect(failures, [], f"no request failed of {count[0]}")
    expect({cluster.sh("curl -sS http://192.0.2.10:30081/version").split()[1] for _ in range(10)}, {"2"})
    cluster.kubectl("rollout", "undo", "-n", "e2e", "deploy/web")
    cluster.kubectl("rollout", "status", "-n", "e2e", "deploy/web", "--timeout=90s", timeout=100)
    return f"{count[0]} requests, none failed"


def stateful(cluster):
    cluster.apply(STATEFUL)
    cluster.kubectl("rollout", "status", "-n", "e2e", "sts/db", "--timeout=60s", timeout=70)
    cluster.kubectl("exec", "-n", "e2e", "db-0", "--", "sh", "-c", "echo kept > /data/word; sync")
    before = cluster.get("pod", "db-0", "-n", "e2e")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "db-0", "-n", "e2e")
    until(lambda: cluster.get("pod", "db-0", "-n", "e2e")["metadata"]["uid"] != before, "a new db-0", 30)
    cluster.kubectl("wait", "-n", "e2e", "--for=condition=Ready", "pod/db-0", "--timeout=30s")
    expect(until(lambda: cluster.kubectl("logs", "-n", "e2e", "db-0").stdout, "db-0 says something", 10), "kept\n")
    address = cluster.kubectl("exec", "-n", "e2e", "client", "--", "nslookup", "db-0.db.e2e.svc.cluster.local").stdout
    if cluster.get("pod", "db-0", "-n", "e2e")["status"]["podIP"] not in address:
        raise Failure(f"db-0.db has another address: {address}")


def jobs(cluster):
    cluster.apply(JOBS)
    cluster.kubectl("wait", "-n", "e2e", "--for=condition=Complete", "job/sum", "--timeout=60s", timeout=70)
    expect(cluster.kubectl("logs", "-n", "e2e", "job/sum").stdout, "42\n")
    # The CronJob's minute is waited for at the end of the run.


def cron(cluster):
    until(lambda: any(owner["kind"] == "CronJob" for job in cluster.get("jobs", "-n", "e2e")["items"] for owner in job["metadata"].get("ownerReferences", []) if job["status"].get("succeeded")), "a job of the CronJob succeeded", 90, interval=1)


def trouble(cluster):
    cluster.apply(TROUBLE)
    until(lambda: "OOMKilled" in str(cluster.get("pod", "hog", "-n", "e2e")["status"]), "hog is OOMKilled", 30)
    waiting = lambda: cluster.get("pod", "crash", "-n", "e2e")["status"]["containerStatuses"][0]
    until(lambda: waiting()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "crash is in CrashLoopBackOff", 30)
    status = waiting()
    expect(status["lastState"]["terminated"]["exitCode"], 3)
    expect(cluster.kubectl("logs", "-n", "e2e", "crash").stdout, "going down\n")
    described = cluster.kubectl("describe", "pod", "crash", "-n", "e2e").stdout
    for word in ("CrashLoopBackOff", "Back-off restarting failed container", "Exit Code:    3"):
        if word not in described:
            raise Failure(f"describe does not say {word!r}:\n{described}")
    shown = cluster.kubectl("get", "pods", "-n", "e2e").stdout
    for word in ("CrashLoopBackOff", "OOMKilled"):
        if word not in shown:
            raise Failure(f"get pods does not show {word}:\n{shown}")


def hands_on(cluster):
    """exec, attach, cp, port-forward, logs -f, scale, and the rest of kubectl's verbs."""
    k = lambda *args, **kw: cluster.kubectl("-n", "e2e", *args, **kw).stdout
    expect(k("exec", "client", "--", "sh", "-c", "echo out; echo err >&2; exit 0"), "out\n")
    expect(cluster.kubectl("exec", "-n", "e2e", "client", "--", "sh", "-c", "exit 7", check=False).returncode, 7, "exit codes come through")
    expect(k("exec", "-i", "client", "--", "cat", input="through\n"), "through\n")
    source = cluster.dir / "copied"
    source.write_text("copied\n" * 10000)
    k("cp", str(source), "client:/tmp/copied")
    k("cp", "client:/tmp/copied", str(cluster.dir / "back"))
    expect((cluster.dir / "back").read_text(), source.read_text())
    forward = subprocess.Popen(cluster.inside([cluster.kubectl_path, "port-forward", "-n", "e2e", "deploy/web", "18080:80"]), env=cluster.env, stdout=subprocess.PIPE, text=True)
    try:
        forward.stdout.readline()
        expect(cluster.sh("curl -sS --max-time 5 http://127.0.0.1:18080/"), "hello from nginx\n")
    finally:
        forward.terminate()
        forward.wait()
    k("scale", "deploy/web", "--replicas=2")
    expect(k("get", "deploy", "web", "--subresource=scale").split()[:5], ["NAME", "DESIRED", "AVAILABLE", "AGE", "web"])
    until(lambda: len(cluster.pods("app=web")) == 2, "two replicas", 30)
    k("scale", "deploy/web", "--replicas=3")
    k("rollout", "status", "deploy/web", "--timeout=60s")
    k("label", "pod", "client", "colour=blue")
    k("annotate", "pod", "client", "note=x")
    k("patch", "deploy", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels","value":{"patched":"yes"}}]')
    expect(k("get", "deploy", "web", "-o", "jsonpath={.metadata.labels.patched}"), "yes")
    k("create", "configmap", "settings", "--from-literal=a=1")
    k("apply", "--server-side", "-f", "-", input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings2}\ndata: {b: '2'}\n")
    expect(cluster.kubectl("diff", "-n", "e2e", "-f", "-", input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings2}\ndata: {b: '3'}\n", check=False).returncode, 1)
    k("create", "secret", "generic", "s", "--from-literal=p=w")
    k("expose", "deploy", "web", "--name=web2", "--port=80")
    k("run", "once", f"--image={USERSPACE}", "--restart=Never", "--command", "--", "true")
    until(lambda: cluster.get("pod", "once", "-n", "e2e")["status"]["phase"] == "Succeeded", "a pod ran once", 20)
    expect(k("auth", "can-i", "create", "pods").strip(), "yes")
    if "DESCRIPTION" not in k("explain", "deployment.spec.strategy") or "deployments" not in k("api-resources"):
        raise Failure("explain or api-resources")
    for output in ("wide", "yaml", "json", "name", "custom-columns=N:.metadata.name", "jsonpath={.items[*].metadata.name}"):
        k("get", "pods,svc,deploy,rs,sts,jobs,cronjobs,events,endpoints,endpointslices,pvc,cm,secrets,sa", "-o", output)
    cluster.kubectl("cordon", "node1")
    cluster.kubectl("uncordon", "node1")
    token = k("create", "token", "default").strip()
    who = cluster.sh(f"curl -sS --cacert {cluster.data}/server/tls/server-ca.crt -H 'Authorization: Bearer {token}' -X POST -H 'Content-Type: application/json' -d '{{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}}' https://127.0.0.1:6443/apis/authentication.k8s.io/v1/selfsubjectreviews")
    if "system:serviceaccount:e2e:default" not in who:
        raise Failure(f"a token is not who it is for: {who}")


def old_and_new_kubectl(cluster):
    from cluster import find_kubectl
    tried = []
    for minor in range(27, 34):
        path = find_kubectl(minor)
        if not path or not path.endswith(str(minor)):
            continue
        manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: from-{minor}}}\ndata: {{a: b}}\n"
        cluster.kubectl("apply", "-n", "e2e", "-f", "-", input=manifest, binary=path)
        cluster.kubectl("apply", "-n", "e2e", "-f", "-", input=manifest.replace("b}", "c}"), binary=path)
        cluster.kubectl("get", "pods", "-n", "e2e", "-o", "wide", binary=path)
        expect(cluster.kubectl("exec", "-n", "e2e", "client", "--", "echo", "hi", binary=path).stdout, "hi\n")
        tried.append(f"1.{minor}")
    return " ".join(tried)


def python_client(cluster):
    script = """
import sys, time
from kubernetes import client, config, watch, stream
config.load_kube_config()
v1, apps = client.CoreV1Api(), client.AppsV1Api()
assert any(n.metadata.name == 'node1' for n in v1.list_node().items)
v1.create_namespaced_config_map('e2e', client.V1ConfigMap(metadata=client.V1ObjectMeta(name='py'), data={'a': '1'}))
v1.patch_namespaced_config_map('py', 'e2e', {'data': {'b': '2'}})
assert v1.read_namespaced_config_map('py', 'e2e').data == {'a': '1', 'b': '2'}
d = apps.read_namespaced_deployment('web', 'e2e'); assert d.status.ready_replicas == 3, d.status
apps.patch_namespaced_deployment_scale('web', 'e2e', {'spec': {'replicas': 2}})
apps.patch_namespaced_deployment_scale('web', 'e2e', {'spec': {'replicas': 3}})
seen = []
for event in watch.Watch().stream(v1.list_namespaced_config_map, 'e2e', timeout_seconds=5):
    seen.append((event['type'], event['object'].metadata.name))
    if ('ADDED', 'py') in seen and ('DELETED', 'py') not in seen and len(seen) < 1000:
        v1.delete_namespaced_config_map('py', 'e2e') if ('x', 'x') not in seen else None
        seen.append(('x', 'x'))
    if ('DELETED', 'py') in seen: break
assert ('DELETED', 'py') in seen, seen
out = stream.stream(v1.connect_get_namespaced_pod_exec, 'client', 'e2e', command=['echo', 'from python'], stdout=True, stderr=True, stdin=False, tty=False)
assert out == 'from python\\n', repr(out)
try: v1.read_namespaced_pod('nobody', 'e2e'); sys.exit('no 404')
except client.ApiException as e: assert e.status == 404
"""
    done = subprocess.run(cluster.inside([sys.executable, "-c", script]), env=cluster.env, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(done.stdout + done.stderr)


def containers(cluster):
    found = {}
    for pod in cluster.get("pods", "-n", "e2e")["items"]:
        if pod["metadata"]["name"].startswith(("web-", "db-", "client")):
            status = pod["status"]["containerStatuses"][0]
            found[pod["metadata"]["name"]] = (status["containerID"], status["restartCount"])
    return found


def registries(cluster):
    """docker-registry with a token server, and one whose own certificate says that it is an authority."""
    if not shutil.which("docker-registry") or not shutil.which("skopeo"):
        return "skipped: no docker-registry or skopeo"
    archive = cluster.dir / "tiny.tar"
    with tempfile.TemporaryDirectory() as work:
        root = pathlib.Path(work) / "root"
        shutil.copytree(cluster.data / "data/current/root", root, symlinks=True)
        images.archive(root, archive, "tiny:1", {"Cmd": ["sleep", "1000000"]})
    settings = cluster.dir / "etc/k3s/registries.yaml"
    tls = registry.certificate(cluster.dir, "registry", "TRUE")
    tokens, secure = registry.Registry(cluster, 5601, token_port=5602), registry.Registry(cluster, 5603, tls=tls)
    try:
        for name in ("public/a", "team/a", "team/b", "team/c"):
            tokens.push(archive, f"{name}:1")
        secure.push(archive, "team/d:1")

        def pull(pod, image, secret=None):
            """What became of it: `` for running, or why not."""
            spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": image}], "imagePullSecrets": [{"name": secret}] if secret else []}
            cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": {"app": "registries"}}, "spec": spec}))

            def ended():
                for status in cluster.get("pod", "-n", "e2e", pod)["status"].get("containerStatuses", []):
                    if "running" in status["state"]:
                        return "running"
                    waiting = status["state"].get("waiting", {})
                    if waiting.get("reason") == "ErrImagePull":
                        return waiting["message"]

            return until(ended, f"pod {pod} runs or fails", 20)

        def config(host, **what):
            settings.write_text(json.dumps({"configs": {f"127.0.0.1:{host}": what}}))

        settings.unlink(missing_ok=True)
        expect(pull("anonymous", "127.0.0.1:5601/public/a:1"), "running", "anonymous token")
        refused = pull("nobody", "127.0.0.1:5601/team/a:1")
        expect("127.0.0.1:5601" in refused and "401" in refused, True, refused)
        config(5601, auth={"username": registry.USER, "password": "wrong"})
        refused = pull("wrong", "127.0.0.1:5601/team/a:1")
        expect("get a token from" in refused and "401" in refused, True, refused)
        secret = {"auths": {"127.0.0.1:5601": {"username": registry.USER, "password": registry.PASSWORD}}}
        cluster.kubectl("create", "secret", "generic", "pull", "-n", "e2e", "--type=kubernetes.io/dockerconfigjson", f"--from-literal=.dockerconfigjson={json.dumps(secret)}")
        expect(pull("secret", "127.0.0.1:5601/team/b:1", "pull"), "running", "pull secret")
        config(5601, auth={"username": registry.USER, "password": registry.PASSWORD})
        expect(pull("password", "127.0.0.1:5601/team/a:1"), "running", "user and password")
        config(5601, auth={"identity_token": registry.IDENTITY})
        expect(pull("identity", "127.0.0.1:5601/team/c:1"), "running", "identity token")
        how = [line for line in tokens.log.read_text().splitlines() if "skopeo" not in line]
        expect(any(line.startswith("refresh ['repository:team/c:pull']") for line in how), True, how)

        config(5603, tls={"ca_file": str(cluster.data / "server/tls/server-ca.crt")})
        refused = pull("unlisted", "127.0.0.1:5603/team/d:1")
        expect("invalid peer certificate" in refused, True, refused)
        config(5603, tls={"ca_file": str(tls[0])})
        expect(pull("listed", "127.0.0.1:5603/team/d:1"), "running", "self-signed CA:TRUE certificate")
    finally:
        tokens.close()
        secure.close()
        settings.unlink(missing_ok=True)
        cluster.kubectl("delete", "pods", "-n", "e2e", "-l", "app=registries")
    return f"{len(how)} tokens"


EMPTY_ROOT = """
set -e
root=$(mktemp -d); mount -t tmpfs tmpfs $root; cd $root
mkdir -p proc var/lib/rancher/k3s; mount -t proc proc proc; mount --rbind "$1" var/lib/rancher/k3s
bin=/var/lib/rancher/k3s/data/current/bin
exec env -i PATH=$bin:$bin/aux $(command -v chroot) . $bin/sh -c 'ls /; ps | grep -c sh; echo a | sed s/a/b/; df / | tail -n1; vi --help 2>&1 | head -n1; ip -o addr show lo; which tar'
"""


def userspace(cluster):
    """Unpacked once, the image's layer without a copy, found in k3s's order, usable on an empty root."""
    data = cluster.data / "data"
    current = (data / "current").resolve()
    applets = (pathlib.Path(__file__).parent.parent / "userspace/applets").read_text().split()
    listed = subprocess.run([current / "bin/busybox", "--list"], capture_output=True, text=True).stdout.split()
    expect(sorted(listed), sorted([*applets, "busybox"]), "applets")
    expect([name for name in applets if not (current / "bin/aux" / name).exists()], [], "links")
    layers = [path for path in (cluster.data / "agent/containerd/l").iterdir() if path.is_symlink()]
    # The ingress's image holds one empty file, in whose place the running program is mounted.
    expect(sorted(path.resolve() for path in layers), sorted([current / "root", data / "program"]), "layers")
    copies = subprocess.run(["find", cluster.data, "-name", "busybox", "-type", "f"], capture_output=True, text=True).stdout.split()
    expect(copies, [str(current / "root/bin/busybox")], "copies of busybox")
    done = subprocess.run(cluster.inside(["unshare", "-m", "sh", "-c", EMPTY_ROOT, "sh", str(cluster.data)]), capture_output=True, text=True)
    lines = done.stdout.split("\n")
    expect((done.returncode, lines[:2], lines[3], "BusyBox" in lines[5], "127.0.0.1/8" in done.stdout), (0, ["proc", "var"], "b", True, True), done.stdout + done.stderr)

    def search_path():
        """Of the process that all pods' processes come from."""
        place = str(cluster.dir / "run/containerd")
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == place and b"zygote" in (process / "cmdline").read_bytes():
                    return dict(part.split("=", 1) for part in (process / "environ").read_text().split("\0") if part)["PATH"].split(":")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass

    def order():
        found = search_path()
        return [name for part in found for name in ("bin", "bin/aux", "/usr/bin") if part in (name, str(data / "current" / name))]

    expect(order(), ["bin", "/usr/bin", "bin/aux"], "PATH")
    old = data / ("0" * 64)
    old.mkdir()
    inode = (current / "root/bin/busybox").stat().st_ino
    cluster.stop()
    cluster.args.append("--prefer-bundled-bin")
    cluster.start()
    # The process that pods come from starts with the first of them.
    cluster.kubectl("run", "one", "-n", "e2e", f"--image={USERSPACE}", "--restart=Never", "--rm", "-i", "--quiet", "--", "true")
    expect(order(), ["bin", "bin/aux", "/usr/bin"], "PATH with --prefer-bundled-bin")
    cluster.args.remove("--prefer-bundled-bin")
    expect((old.exists(), (current / "root/bin/busybox").stat().st_ino), (False, inode), "old version, new version")
    size = sum(path.lstat().st_blocks * 512 for path in current.rglob("*"))
    return f"{size >> 10} KiB on disk"


def restart(cluster):
    cluster.kubectl("rollout", "status", "-n", "e2e", "deploy/web", "--timeout=60s", timeout=70)
    before = containers(cluster)
    expect(cluster.stop(), 0, "a clean stop")
    expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30081/"), "hello from nginx\n", "served while k3rs is away")
    took = cluster.start()
    until(lambda: condition(cluster.get("node", "node1"), "Ready") == "True", "Ready again", 20)
    expect(containers(cluster), before, "same containers, same restart counts")
    expect(cluster.kubectl("exec", "-n", "e2e", "client", "--", "wget", "-qO-", "http://web/").stdout, "hello from nginx\n")
    return f"answers after {took:.2f} s"


def kill9(cluster):
    n = int(os.environ.get("K3RS_E2E_KILLS", "100"))
    # A pod that is on its way out has its grace period anew at each start.
    until(lambda: not unused_addresses(cluster), "pods that were deleted are gone", 20)
    before = containers(cluster)
    acknowledged, random_source = [], random.Random(9)
    for round_number in range(n):
        end = time.monotonic() + random_source.uniform(0.0, 0.5)
        while True:
            name = f"w{round_number}-{len(acknowledged)}"
            done = cluster.kubectl("create", "configmap", name, "-n", "e2e", f"--from-literal=n={round_number}", check=False)
            if done.returncode == 0:
                acknowledged.append(name)
            if time.monotonic() >= end:
                break
        cluster.stop(signal.SIGKILL)
        cluster.start()
    present = {item["metadata"]["name"] for item in cluster.get("configmaps", "-n", "e2e")["items"]}
    expect([name for name in acknowledged if name not in present], [], "no acknowledged write is lost")
    lost = sorted(before.items() - containers(cluster).items())
    if lost:
        events = cluster.kubectl("get", "events", "-n", "e2e", check=False).stdout
        raise Failure(f"containers are lost: {lost}\n{events}\n{cluster.tail(200)}")
    expect(cluster.sh("curl -sS --max-time 5 http://192.0.2.10:30081/"), "hello from nginx\n")
    expect(unused_addresses(cluster), set(), "no address is leaked")
    return f"{n} kills, {len(acknowledged)} acknowledged writes"


def unused_addresses(cluster):
    addresses = {pod["status"].get("podIP") for pod in cluster.get("pods", "-A")["items"] if pod["status"].get("podIP") and pod["status"]["phase"] == "Running"}
    held = {name for name in os.listdir(cluster.data / "agent/net/addresses") if name[0].isdigit()}
    return held - addresses


def gone(cluster):
    cluster.kubectl("delete", "namespace", "e2e", "--timeout=90s", timeout=100)
    expect(cluster.get("pods", "-A")["items"], [])
    until(lambda: not cluster.get("pv")["items"], "the volumes are gone", 30)
    until(lambda: not list((cluster.data / "storage").glob("*")), "their directories too", 10)
    expect(cluster.sh("ip -o link show type veth | grep -vc 'eth0\\|peer0' || true").strip(), "0", "no interface of a pod is left")


def uninstalled(cluster):
    cluster.apply(WEB.replace("NodePort", "ClusterIP").replace(", nodePort: 30081", ""), namespace="default")
    cluster.kubectl("rollout", "status", "deploy/web", "-n", "default", "--timeout=60s", timeout=70)
    cluster.stop(signal.SIGKILL)
    done = cluster.uninstall()
    expect((done.returncode, done.stderr), (0, ""))
    expect(cluster.sh("ip -o link show type bridge; nft list tables; ip -o link show type veth | grep -v 'eth0\\|peer0' || true").strip(), "", "links and tables")
    expect([str(path) for path in cluster.dir.glob("*") if path.name in ("data", "run")], [], "files")
    mounts = [line for line in open("/proc/self/mounts") if str(cluster.dir) in line]
    expect(mounts, [], "mounts")
    left = subprocess.run(["sh", "-c", f"find /sys/fs/cgroup -type d -name '{cluster.cgroup}'"], capture_output=True, text=True).stdout
    expect(left, "", "cgroups")


def condition(item, kind):
    return next((c["status"] for c in item["status"].get("conditions", []) if c["type"] == kind), None)


def expect(got, want, what=""):
    if got != want:
        raise Failure(f"{what}: got {got!r}, want {want!r}")


SCENARIOS = [ready, web, rolling_update, stateful, jobs, trouble, hands_on, userspace, old_and_new_kubectl, python_client, registries, restart, kill9, cron, gone, uninstalled]


def main():
    binary, chosen = sys.argv[1], sys.argv[2:]
    cluster = Cluster(binary)
    if not cluster.kubectl_path:
        print("e2e: skipped: no kubectl on this machine")
        cluster.close()
        return 0
    passed = failed = 0
    try:
        images.nginx(cluster.data / "agent/images")
        took = cluster.start()
        print(f"k3rs answers after {took:.2f} s", flush=True)
        for scenario in SCENARIOS:
            if chosen and scenario.__name__ not in chosen and scenario is not ready:
                continue
            started = time.monotonic()
            try:
                note = scenario(cluster)
                passed += 1
                print(f"ok    {scenario.__name__:20} {time.monotonic() - started:6.1f} s  {note or ''}", flush=True)
            except Exception as error:
                failed += 1
                why = str(error) if isinstance(error, Failure) else traceback.format_exc()
                print(f"FAIL  {scenario.__name__:20} {time.monotonic() - started:6.1f} s\n{why}\n--- k3rs says:\n{cluster.tail()}", flush=True)
                if scenario is ready:
                    break
    finally:
        if failed and os.environ.get("K3RS_E2E_KEEP"):
            print(f"kept: {cluster.dir} netns {cluster.netns} pid {cluster.process.pid}")
        else:
            cluster.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
