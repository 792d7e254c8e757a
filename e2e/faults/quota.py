"""Quotas and limit ranges: what is counted, refused, given back and filled in, also when many ask at once."""

import concurrent.futures
import json

from cluster import until

NS = "quota"


def prepare_namespace(cluster):
    cluster.kubectl("create", "namespace", NS, check=False)


def used(cluster, name, key):
    return cluster.get("quota", "-n", NS, name)["status"].get("used", {}).get(key)


def make(cluster, name, hard, more=""):
    prepare_namespace(cluster)
    cluster.apply(f"# YAML\n{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: {name}}}, spec: {{hard: {json.dumps(hard)}{more}}}}}", NS)
    until(lambda: cluster.get("quota", "-n", NS, name).get("status", {}).get("hard") == hard, "the quota holds")


def pod(name, resources="", more=""):
    return f'# YAML\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, {more} containers: [{{name: c, image: "k3rs.io/userspace:1", command: [sleep, "3600"], {resources}}}]}}}}'


def test_the_life_of_objects_is_counted(cluster):
    hard = {"pods": "2", "requests.cpu": "1", "secrets": "9", "count/deployments.apps": "1", "services.nodeports": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi"}
    make(cluster, "life", hard)
    refused = cluster.kubectl("apply", "-n", NS, "-f", "-", input=pod("silent"), check=False).stderr
    assert 'pods "silent" is forbidden: failed quota: life: must specify requests.cpu for: c' in refused, refused
    cluster.apply(pod("a", "resources: {requests: {cpu: 600m}}"), NS)
    assert (used(cluster, "life", "pods"), used(cluster, "life", "requests.cpu")) == ("1", "600m")
    refused = cluster.kubectl("apply", "-n", NS, "-f", "-", input=pod("b", "resources: {requests: {cpu: 600m}}"), check=False).stderr
    assert 'pods "b" is forbidden: exceeded quota: life, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1' in refused, refused
    dry = cluster.kubectl("apply", "-n", NS, "--dry-run=server", "-f", "-", input=pod("b", "resources: {requests: {cpu: 100m}}"))
    assert "created (server dry run)" in dry.stdout and used(cluster, "life", "pods") == "1"
    cluster.kubectl("create", "deployment", "-n", NS, "one", "--image=x", "--replicas=0")
    refused = cluster.kubectl("create", "deployment", "-n", NS, "two", "--image=x", "--replicas=0", check=False).stderr
    assert 'deployments.apps "two" is forbidden: exceeded quota: life, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1' in refused, refused
    cluster.kubectl("create", "service", "nodeport", "-n", NS, "s", "--tcp=80")
    assert used(cluster, "life", "services.nodeports") == "1"
    cluster.kubectl("patch", "service", "-n", NS, "s", "-p", '{"spec": {"type": "ClusterIP"}}')
    until(lambda: used(cluster, "life", "services.nodeports") == "0", "node ports are given back")
    cluster.kubectl("delete", "-n", NS, "pod/a", "deployment/one", "service/s", "--now")
    until(lambda: [used(cluster, "life", key) for key in ("pods", "requests.cpu", "count/deployments.apps")] == ["0", "0", "0"], "all is given back")
    row = cluster.kubectl("get", "quota", "-n", NS, "life", "--no-headers").stdout
    assert "pods: 0/2, requests.cpu: 0/1" in row, row
    cluster.kubectl("delete", "quota", "-n", NS, "life")


def test_a_pod_that_ends_gives_back_what_it_used(cluster):
    make(cluster, "ends", {"pods": "1", "count/pods": "5"})
    cluster.apply(f'# YAML\n{{apiVersion: v1, kind: Pod, metadata: {{name: once}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: "k3rs.io/userspace:1", command: ["true"]}}]}}}}', NS)
    until(lambda: used(cluster, "ends", "pods") == "0", "it has ended", 40)
    assert used(cluster, "ends", "count/pods") == "1"
    cluster.kubectl("delete", "pod", "-n", NS, "once", "--now")
    cluster.kubectl("delete", "quota", "-n", NS, "ends")


def test_parallel_creates_do_not_overcommit(cluster):
    make(cluster, "race", {"configmaps": "8"})
    had = int(used(cluster, "race", "configmaps"))

    def create(n):
        return cluster.kubectl("create", "configmap", "-n", NS, f"race-{n}", check=False)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        done = list(pool.map(create, range(32)))
    made = [one for one in done if one.returncode == 0]
    wrong = [one.stderr for one in done if one.returncode != 0 and "exceeded quota: race, requested: configmaps=1, used: configmaps=8, limited: configmaps=8" not in one.stderr]
    assert len(made) == 8 - had and not wrong, (len(made), had, wrong[:3])
    assert used(cluster, "race", "configmaps") == "8"
    cluster.kubectl("delete", "quota", "-n", NS, "race")


def test_scopes_choose_which_pods_count(cluster):
    make(cluster, "best-effort", {"pods": "1"}, ", scopes: [BestEffort]")
    make(cluster, "ending", {"pods": "1"}, ", scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: Exists}]}")
    cluster.apply(pod("plain"), NS)
    cluster.apply(pod("asks", "resources: {requests: {cpu: 1m}}", "activeDeadlineSeconds: 3600,"), NS)
    assert [used(cluster, name, "pods") for name in ("best-effort", "ending")] == ["1", "1"]
    refused = cluster.kubectl("apply", "-n", NS, "-f", "-", input=pod("more"), check=False).stderr
    assert "exceeded quota: best-effort, requested: pods=1, used: pods=1, limited: pods=1" in refused, refused
    cluster.apply(pod("others", "resources: {requests: {cpu: 1m}}"), NS)
    cluster.kubectl("delete", "pod", "-n", NS, "plain", "asks", "others", "--now")
    cluster.kubectl("delete", "quota", "-n", NS, "best-effort", "ending")


def test_a_replica_set_says_why_it_has_no_pods_and_recovers(cluster):
    make(cluster, "tight", {"pods": "1"})
    cluster.apply("""
apiVersion: v1
kind: ReplicationController
metadata: {name: wants}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: wants}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "3600"]}]}
""", NS)
    failure = lambda: [c for c in cluster.get("rc", "-n", NS, "wants")["status"].get("conditions", []) if c["type"] == "ReplicaFailure"]
    until(lambda: failure(), "it says that a pod is refused")
    assert failure()[0]["reason"] == "FailedCreate" and "exceeded quota: tight" in failure()[0]["message"], failure()
    cluster.kubectl("scale", "rc", "-n", NS, "wants", "--replicas=1")
    until(lambda: not failure(), "the failure is gone")
    cluster.kubectl("delete", "rc", "-n", NS, "wants")
    cluster.kubectl("delete", "quota", "-n", NS, "tight")


def test_limit_ranges_fill_in_and_refuse(cluster):
    prepare_namespace(cluster)
    cluster.apply("""
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
  - {type: Container, max: {cpu: "1"}, min: {cpu: 50m}, default: {cpu: 300m}, defaultRequest: {cpu: 100m}}
  - {type: PersistentVolumeClaim, max: {storage: 1Gi}}
""", NS)
    cluster.apply(pod("filled"), NS)
    filled = cluster.get("pod", "-n", NS, "filled")
    assert filled["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "300m"}, "requests": {"cpu": "100m"}}, filled
    assert filled["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    for text, why in (
        (pod("much", "resources: {limits: {cpu: 2}}"), '[maximum cpu usage per Container is 1, but limit is 2'),
        (pod("little", "resources: {requests: {cpu: 10m}}"), 'pods "little" is forbidden: minimum cpu usage per Container is 50m, but request is 10m'),
        (
            "# YAML\n{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: large}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}",
            'persistentvolumeclaims "large" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi',
        ),
    ):
        refused = cluster.kubectl("apply", "-n", NS, "-f", "-", input=text, check=False).stderr
        assert why.lstrip("[") in refused, refused
    cluster.kubectl("delete", "pod", "-n", NS, "filled", "--now")
    cluster.kubectl("delete", "limits", "-n", NS, "range")
