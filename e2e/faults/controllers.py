"""Controllers: disruptions that Jobs can tell from failures, pods that their Job lets go, claims and names that are another's."""

import json
import time

from cluster import until

NS = "controllers"
POD = '{containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "trap \\"exit 1\\" TERM; while :; do sleep 0.2; done"]}], restartPolicy: Never, terminationGracePeriodSeconds: 5}'


def job(name, spec=""):
    return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  backoffLimit: 0
  {spec}
  template: {{spec: {POD}}}
"""


def pods_of(cluster, name):
    return cluster.pods(f"job-name={name}", NS)


def running(cluster, name):
    def found():
        return [p for p in pods_of(cluster, name) if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]

    return until(found, f"a pod of {name} runs", 30)[0]


def last_one_holding(cluster, name):
    """The pod, once only the test's finalizer holds it."""
    pod = cluster.get("pod", "-n", NS, name)
    return pod if pod["metadata"].get("finalizers") == ["example.com/looked-at"] else None


LOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: load, namespace: default}
spec:
  selector: {matchLabels: {app: load}}
  template:
    metadata: {labels: {app: load}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "while :; do :; done"], resources: {requests: {cpu: 20m}, limits: {cpu: 60m}}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: load, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: load}
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: nothing, namespace: default}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: nothing}, maxReplicas: 2}
"""


def test_autoscalers_begin(cluster):
    """They look every 15 seconds: the last test sees what they did."""
    told = cluster.kubectl("apply", "-f", "-", input=LOAD).stderr
    assert not told, told


def test_an_evicted_pod_fails_no_job_that_ignores_it(cluster):
    cluster.kubectl("create", "namespace", NS)
    cluster.apply(job("ignores", "podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}"), NS)
    pod = running(cluster, "ignores")["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NS}}
    dry = dict(eviction, deleteOptions={"dryRun": ["All"]})
    url = f"/api/v1/namespaces/{NS}/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", url, "-f", "-", input=json.dumps(dry))
    conditions = cluster.get("pod", "-n", NS, pod)["status"]["conditions"]
    assert not [c for c in conditions if c["type"] == "DisruptionTarget"], conditions
    # It would be gone before anybody could look at it.
    held = {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/looked-at"}
    cluster.kubectl("patch", "pod", "-n", NS, pod, "--type=json", "-p", json.dumps([held]))
    cluster.kubectl("create", "--raw", url, "-f", "-", input=json.dumps(eviction))
    evicted = until(lambda: last_one_holding(cluster, pod), "its Job has let it go", 20)
    conditions = evicted["status"]["conditions"]
    cluster.kubectl("patch", "pod", "-n", NS, pod, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    told = [(c["status"], c["reason"], c["message"]) for c in conditions if c["type"] == "DisruptionTarget"]
    assert told == [("True", "EvictionByEvictionAPI", "Eviction API: evicting")], told
    until(lambda: running(cluster, "ignores")["metadata"]["name"] != pod, "another pod takes its place")
    assert not cluster.get("job", "-n", NS, "ignores")["status"].get("conditions")


def test_a_pod_that_its_job_lets_go_is_held_by_nothing(cluster):
    held = lambda name: cluster.get("pod", "-n", NS, name)["metadata"].get("finalizers")
    cluster.apply(job("lets-go") + "---" + job("orphans"), NS)
    first, second = running(cluster, "lets-go")["metadata"]["name"], running(cluster, "orphans")["metadata"]["name"]
    assert held(first) and held(second)
    # All labels, also those by which the Job could be found again.
    drop = {"metadata": {"labels": {name: None for name in ("job-name", "controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid")}}}
    cluster.kubectl("patch", "pod", "-n", NS, first, "--type=merge", "-p", json.dumps(drop))
    until(lambda: not held(first), "the released pod has no finalizer")
    assert not cluster.get("pod", "-n", NS, first)["metadata"].get("ownerReferences")
    cluster.kubectl("delete", "job", "-n", NS, "orphans", "--cascade=orphan")
    until(lambda: not held(second), "the orphan has no finalizer")
    cluster.kubectl("delete", "pod", "-n", NS, first, second, "--now", timeout=30)


def test_claims_of_another_controller_are_not_taken(cluster):
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-kept-0", "namespace": NS},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": NS}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(owner))
    uid = cluster.get("configmap", "-n", NS, "owner")["metadata"]["uid"]
    claim["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": True}]
    cluster.kubectl("create", "-f", "-", input=json.dumps(claim))
    stateful = lambda name: f"""
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}}}
spec:
  serviceName: x
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete, whenScaled: Delete}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: "k3rs.io/userspace:1", command: [sleep, "100000"]}}]}}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"""
    cluster.apply(stateful("kept") + "---" + stateful("gone"), NS)
    owners = lambda name: [o["kind"] for o in cluster.get("pvc", "-n", NS, name)["metadata"].get("ownerReferences", [])]
    until(lambda: owners("data-gone-0") == ["StatefulSet"], "the set owns its own claim", 40)
    until(lambda: "ConflictingController" in cluster.kubectl("get", "events", "-n", NS).stdout, "the conflict is told")
    assert owners("data-kept-0") == ["ConfigMap"], owners("data-kept-0")
    cluster.kubectl("delete", "statefulset", "-n", NS, "kept", "gone")
    until(lambda: cluster.kubectl("get", "pvc", "-n", NS, "data-gone-0", check=False).returncode != 0, "its own claim goes")
    assert owners("data-kept-0") == ["ConfigMap"]


def test_a_name_that_is_anothers_is_waited_for(cluster):
    pod = lambda name: f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: other}}}}
spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: "k3rs.io/userspace:1", command: [sleep, "100000"]}}]}}
"""
    cluster.apply(pod("ss-0"), NS)
    cluster.apply(
        """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ss}
spec:
  serviceName: x
  selector: {matchLabels: {app: ss}}
  template:
    metadata: {labels: {app: ss}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "100000"]}]}
""",
        NS,
    )
    def told():
        events = cluster.get("events", "-n", NS)["items"]
        return [e for e in events if e["involvedObject"]["name"] == "ss" and e["reason"] == "FailedCreate"]

    begun = time.monotonic()
    until(told, "the conflict is told")
    time.sleep(1)  # what would be many tries
    n, seconds = sum(e.get("count", 1) for e in told()), time.monotonic() - begun
    assert n <= 1 + seconds, f"{n} tries in {seconds:.1f} seconds"
    assert not [line for line in cluster.log_lines() if 'pods "ss-0" already exists' in line]
    cluster.kubectl("delete", "pod", "-n", NS, "ss-0", "--now")
    until(lambda: cluster.get("pod", "-n", NS, "ss-0")["metadata"]["labels"]["app"] == "ss", "the set's own pod", 20)


def test_the_namespace_ends(cluster):
    cluster.kubectl("delete", "namespace", NS, "--wait=false")
    until(lambda: cluster.kubectl("get", "namespace", NS, check=False).returncode != 0, "the namespace is gone", 40)


def test_the_servers_node_keeps_its_roles(cluster):
    """A kubelet may not give itself a role; the server keeps them on its own node, also where somebody takes them away."""
    roles = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"]
    has = lambda: all(cluster.get("node", "node1")["metadata"]["labels"].get(role) == "true" for role in roles)
    until(has, "the node has its roles")
    cluster.kubectl("label", "node", "node1", f"{roles[0]}-", f"{roles[1]}=other", "--overwrite")
    until(has, "the node has its roles again")
    assert cluster.get("node", "node1")["spec"]["podCIDRs"] == ["10.42.0.0/24"]


def test_a_replication_controller_keeps_its_pods_and_leaves_them_unless_told(cluster):
    cluster.kubectl("create", "namespace", NS, check=False)
    cluster.apply("""
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: old}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "3600"]}]}
""", NS)
    old = lambda: cluster.get("rc", "-n", NS, "old")
    assert old()["spec"]["selector"] == {"app": "old"} == old()["metadata"]["labels"]
    ready = lambda n: until(lambda: old()["status"].get("readyReplicas", 0) == n == len(cluster.pods("app=old", NS)), f"{n} are ready", 40)
    ready(1)
    scale = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{NS}/replicationcontrollers/old/scale").stdout)
    assert scale["status"] == {"replicas": 1, "selector": "app=old"}, scale
    cluster.kubectl("scale", "rc", "-n", NS, "old", "--replicas=2")
    ready(2)
    # One that no longer matches is let go and replaced.
    lost = cluster.pods("app=old", NS)[0]["metadata"]["name"]
    cluster.kubectl("label", "pod", "-n", NS, lost, "--overwrite", "app=other")
    until(lambda: not cluster.get("pod", "-n", NS, lost)["metadata"].get("ownerReferences"), "it is released")
    ready(2)
    rows = cluster.kubectl("get", "rc", "-n", NS, "old", "--no-headers").stdout.split()
    assert rows[:4] == ["old", "2", "2", "2"], rows
    # A deletion that says nothing of dependents leaves them, as clients older than propagation policies expect.
    cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{NS}/replicationcontrollers/old")
    until(lambda: not cluster.kubectl("get", "rc", "-n", NS, "-o", "name").stdout, "it is gone")
    left = cluster.pods("app=old", NS)
    assert len(left) == 2 and not any(pod["metadata"].get("ownerReferences") for pod in left), left
    cluster.kubectl("delete", "pod", "-n", NS, "-l", "app in (old,other)", "--now")


def test_pod_templates_are_kept_and_listed_in_chunks(cluster):
    cluster.kubectl("create", "namespace", NS, check=False)
    template = lambda n: f"""
apiVersion: v1
kind: PodTemplate
metadata: {{name: chunk-{n:02}, labels: {{chunk: "y"}}}}
template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}
"""
    cluster.apply("---".join(template(n) for n in range(12)), NS)
    url, seen = f"/api/v1/namespaces/{NS}/podtemplates?limit=5", []
    page = json.loads(cluster.kubectl("get", "--raw", url).stdout)
    seen += page["items"]
    while page["metadata"].get("continue"):
        page = json.loads(cluster.kubectl("get", "--raw", f"{url}&continue={page['metadata']['continue']}").stdout)
        seen += page["items"]
    assert [one["metadata"]["name"] for one in seen] == [f"chunk-{n:02}" for n in range(12)]
    assert seen[0]["template"]["spec"]["restartPolicy"] == "Always" and seen[0]["metadata"]["generation"] == 1, seen[0]
    rows = cluster.kubectl("get", "podtemplates", "-n", NS, "--no-headers").stdout.splitlines()
    assert rows[0].split() == ["chunk-00", "c", "i", "a=b"], rows[0]
    cluster.kubectl("delete", "podtemplates", "-n", NS, "-l", "chunk=y")


def test_autoscalers_follow_the_load(cluster):
    conditions = lambda name: {c["type"]: (c["status"], c["reason"], c["message"]) for c in cluster.get("hpa", name)["status"].get("conditions", [])}
    failed = until(lambda: conditions("nothing").get("AbleToScale"), "a target that is not there is told of", 40)
    assert failed == ("False", "FailedGetScale", 'the HPA controller was unable to get the target\'s current scale: deployments.apps "nothing" not found'), failed
    until(lambda: cluster.get("deploy", "load")["spec"]["replicas"] == 2, "the load is shared", 60)
    told = until(lambda: conditions("load").get("ScalingActive"), "the autoscaler says what it saw")
    assert told[:2] == ("True", "ValidMetricFound"), told
    events = cluster.kubectl("get", "events", "--field-selector", "involvedObject.kind=HorizontalPodAutoscaler,reason=SuccessfulRescale", "-o", "jsonpath={.items[*].message}").stdout
    assert events == "New size: 2; reason: cpu resource utilization (percentage of request) above target", events
    cluster.kubectl("delete", "hpa,deploy", "load", "--wait=false")
    cluster.kubectl("delete", "hpa", "nothing")
