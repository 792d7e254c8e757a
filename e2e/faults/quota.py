"""Quotas and limit ranges: what is counted, refused, given back and filled in, also when many ask at once."""

import concurrent.futures
import json

from cluster import until


def in_a_namespace(test):
    """Gives a test a namespace of its own, so that none finds what another left."""
    ns = test.__name__.removeprefix("test_").replace("_", "-")[:40].strip("-")

    def run(cluster):
        cluster.kubectl("create", "namespace", ns)
        try:
            return test(cluster, ns)
        finally:
            cluster.kubectl("delete", "namespace", ns, "--wait=false", check=False)

    run.__name__ = test.__name__
    return run


def used(cluster, ns, name, key):
    return cluster.get("quota", "-n", ns, name)["status"].get("used", {}).get(key)


def make(cluster, ns, name, hard, more=""):
    cluster.apply(f"# YAML\n{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: {name}}}, spec: {{hard: {json.dumps(hard)}{more}}}}}", ns)
    until(lambda: cluster.get("quota", "-n", ns, name).get("status", {}).get("hard") == hard, "the quota holds")


def pod(name, resources="", more=""):
    return f'# YAML\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, {more} containers: [{{name: c, image: "k3rs.io/userspace:1", command: [sleep, "3600"], {resources}}}]}}}}'


@in_a_namespace
def test_the_life_of_objects_is_counted(cluster, ns):
    hard = {"pods": "2", "requests.cpu": "1", "secrets": "9", "count/deployments.apps": "1", "services.nodeports": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi"}
    make(cluster, ns, "life", hard)
    refused = cluster.kubectl("apply", "-n", ns, "-f", "-", input=pod("silent"), check=False).stderr
    assert 'pods "silent" is forbidden: failed quota: life: must specify requests.cpu for: c' in refused, refused
    cluster.apply(pod("a", "resources: {requests: {cpu: 600m}}"), ns)
    assert (used(cluster, ns, "life", "pods"), used(cluster, ns, "life", "requests.cpu")) == ("1", "600m")
    refused = cluster.kubectl("apply", "-n", ns, "-f", "-", input=pod("b", "resources: {requests: {cpu: 600m}}"), check=False).stderr
    assert 'pods "b" is forbidden: exceeded quota: life, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1' in refused, refused
    dry = cluster.kubectl("apply", "-n", ns, "--dry-run=server", "-f", "-", input=pod("b", "resources: {requests: {cpu: 100m}}"))
    assert "created (server dry run)" in dry.stdout and used(cluster, ns, "life", "pods") == "1"
    cluster.kubectl("create", "deployment", "-n", ns, "one", "--image=x", "--replicas=0")
    refused = cluster.kubectl("create", "deployment", "-n", ns, "two", "--image=x", "--replicas=0", check=False).stderr
    assert 'deployments.apps "two" is forbidden: exceeded quota: life, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1' in refused, refused
    cluster.kubectl("create", "service", "nodeport", "-n", ns, "s", "--tcp=80")
    assert used(cluster, ns, "life", "services.nodeports") == "1"
    cluster.kubectl("patch", "service", "-n", ns, "s", "-p", '{"spec": {"type": "ClusterIP"}}')
    until(lambda: used(cluster, ns, "life", "services.nodeports") == "0", "node ports are given back")
    cluster.kubectl("delete", "-n", ns, "pod/a", "deployment/one", "service/s", "--now")
    until(lambda: [used(cluster, ns, "life", key) for key in ("pods", "requests.cpu", "count/deployments.apps")] == ["0", "0", "0"], "all is given back")
    row = cluster.kubectl("get", "quota", "-n", ns, "life", "--no-headers").stdout
    assert "pods: 0/2, requests.cpu: 0/1" in row, row


@in_a_namespace
def test_a_pod_that_ends_gives_back_what_it_used(cluster, ns):
    make(cluster, ns, "ends", {"pods": "1", "count/pods": "5"})
    cluster.apply(f'# YAML\n{{apiVersion: v1, kind: Pod, metadata: {{name: once}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: "k3rs.io/userspace:1", command: ["true"]}}]}}}}', ns)
    until(lambda: used(cluster, ns, "ends", "pods") == "0", "it has ended", 40)
    assert used(cluster, ns, "ends", "count/pods") == "1"
    cluster.kubectl("delete", "pod", "-n", ns, "once", "--now")


@in_a_namespace
def test_parallel_creates_do_not_overcommit(cluster, ns):
    make(cluster, ns, "race", {"configmaps": "8"})
    # The authority of the cluster is one; it may come later than the quota.
    until(lambda: used(cluster, ns, "race", "configmaps") == "1", "the namespace has its authority")

    def create(n):
        return cluster.kubectl("create", "configmap", "-n", ns, f"race-{n}", check=False)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        done = list(pool.map(create, range(32)))
    made = [one for one in done if one.returncode == 0]
    wrong = [one.stderr for one in done if one.returncode != 0 and "exceeded quota: race, requested: configmaps=1, used: configmaps=8, limited: configmaps=8" not in one.stderr]
    assert len(made) == 7 and not wrong, (len(made), wrong[:3])
    assert used(cluster, ns, "race", "configmaps") == "8"


@in_a_namespace
def test_scopes_choose_which_pods_count(cluster, ns):
    make(cluster, ns, "best-effort", {"pods": "1"}, ", scopes: [BestEffort]")
    make(cluster, ns, "ending", {"pods": "1"}, ", scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: Exists}]}")
    cluster.apply(pod("plain"), ns)
    cluster.apply(pod("asks", "resources: {requests: {cpu: 1m}}", "activeDeadlineSeconds: 3600,"), ns)
    assert [used(cluster, ns, name, "pods") for name in ("best-effort", "ending")] == ["1", "1"]
    refused = cluster.kubectl("apply", "-n", ns, "-f", "-", input=pod("more"), check=False).stderr
    assert "exceeded quota: best-effort, requested: pods=1, used: pods=1, limited: pods=1" in refused, refused
    cluster.apply(pod("others", "resources: {requests: {cpu: 1m}}"), ns)
    cluster.kubectl("delete", "pod", "-n", ns, "plain", "asks", "others", "--now")


@in_a_namespace
def test_a_replica_set_says_why_it_has_no_pods_and_recovers(cluster, ns):
    make(cluster, ns, "tight", {"pods": "1"})
    cluster.apply("""
apiVersion: v1
kind: ReplicationController
metadata: {name: wants}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: wants}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "3600"]}]}
""", ns)
    failure = lambda: [c for c in cluster.get("rc", "-n", ns, "wants")["status"].get("conditions", []) if c["type"] == "ReplicaFailure"]
    until(lambda: failure(), "it says that a pod is refused")
    assert failure()[0]["reason"] == "FailedCreate" and "exceeded quota: tight" in failure()[0]["message"], failure()
    cluster.kubectl("scale", "rc", "-n", ns, "wants", "--replicas=1")
    until(lambda: not failure(), "the failure is gone")
    cluster.kubectl("delete", "rc", "-n", ns, "wants")


@in_a_namespace
def test_limit_ranges_fill_in_and_refuse(cluster, ns):
    cluster.apply("""
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
  - {type: Container, max: {cpu: "1"}, min: {cpu: 50m}, default: {cpu: 300m}, defaultRequest: {cpu: 100m}}
  - {type: PersistentVolumeClaim, max: {storage: 1Gi}}
""", ns)
    cluster.apply(pod("filled"), ns)
    filled = cluster.get("pod", "-n", ns, "filled")
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
        refused = cluster.kubectl("apply", "-n", ns, "-f", "-", input=text, check=False).stderr
        assert why.lstrip("[") in refused, refused
    cluster.kubectl("delete", "pod", "-n", ns, "filled", "--now")
