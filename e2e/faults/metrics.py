"""What Prometheus scrapes: the names and labels that the usual dashboards and alerts ask for, in a form that it reads."""

import json
import re

from cluster import expect, until

PODS = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept, namespace: default}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: measured, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, persistentVolumeClaim: {claimName: kept}}]
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, "echo 12345 > /data/file; sleep 1000"]
    readinessProbe: {exec: {command: [cat, /data/file]}, periodSeconds: 1}
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1000}
    volumeMounts: [{name: data, mountPath: /data}]
"""

# By rule files and dashboards of kube-prometheus-stack.
APISERVER = {
    "apiserver_request_total": {"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"},
    "apiserver_request_sli_duration_seconds_bucket": {"verb", "group", "version", "resource", "subresource", "scope", "component", "le"},
    "apiserver_request_sli_duration_seconds_count": {"verb", "scope"},
    "apiserver_request_duration_seconds_bucket": {"verb", "dry_run", "le"},
    "apiserver_current_inflight_requests": {"request_kind"},
    "apiserver_longrunning_requests": {"verb", "resource"},
    "apiserver_storage_objects": {"resource"},
    "apiserver_flowcontrol_nominal_limit_seats": {"priority_level"},
    "apiserver_client_certificate_expiration_seconds_bucket": {"le"},
    "scheduler_pending_pods": {"queue"},
    "scheduler_schedule_attempts_total": {"profile", "result"},
    "scheduler_scheduling_algorithm_duration_seconds_bucket": {"le"},
    "workqueue_depth": {"name"},
    "workqueue_adds_total": {"name"},
    "workqueue_queue_duration_seconds_bucket": {"name", "le"},
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
    "process_start_time_seconds": set(),
    "kubernetes_build_info": {"major", "minor", "git_version"},
}
KUBELET = {
    "kubelet_node_name": {"node"},
    "kubelet_running_pods": set(),
    "kubelet_running_containers": {"container_state"},
    "kubelet_pleg_relist_duration_seconds_bucket": {"le"},
    "kubelet_pod_start_duration_seconds_bucket": {"le"},
    "kubelet_pod_worker_duration_seconds_bucket": {"operation_type", "le"},
    "kubelet_runtime_operations_total": {"operation_type"},
    "kubelet_runtime_operations_errors_total": {"operation_type"},
    "kubelet_runtime_operations_duration_seconds_bucket": {"operation_type", "le"},
    "kubelet_volume_stats_capacity_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_used_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_inodes_used": {"namespace", "persistentvolumeclaim"},
    "kubeproxy_sync_proxy_rules_duration_seconds_bucket": {"le"},
    "process_resident_memory_bytes": set(),
    "kubernetes_build_info": {"git_version"},
}

SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*)\})? (\S+)(?: \d+)?')


def read(text):
    """The samples, as name, labels and value; fails on what Prometheus would refuse."""
    samples, types, last, seen = [], {}, None, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            expect(name not in types, f"{name} has two families")
            types[name], last = kind, name
        elif not line.startswith("#"):
            found = SAMPLE.fullmatch(line)
            expect(found, f"no sample: {line!r}")
            name, labels, value = found[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")), float(found[3])
            family = re.sub("_(bucket|sum|count)$", "", name) if types.get(last) == "histogram" else name
            expect(family == last, f"{name} stands in the family of {last}")
            series = line.rpartition(" ")[0] if found[0].count("}") == 0 else line[: line.rindex("}")]
            expect(series not in seen, f"{series} is there twice")
            seen.add(series)
            samples.append((name, labels, value))
    return samples


def has(samples, wanted):
    for name, labels in wanted.items():
        found = [sample for sample in samples if sample[0] == name]
        expect(found, f"there is no {name}")
        expect(labels <= set(found[0][1]), f"{name} has labels {set(found[0][1])}, not {labels}")


def value(samples, of, **labels):
    found = [value for own, has, value in samples if own == of and labels.items() <= has.items()]
    return sum(found) if found else None


def test_the_api_server_tells_what_dashboards_ask_for(cluster):
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account")
    cluster.apply(PODS, "default")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/measured", "-n", "default", "--timeout=60s", timeout=70)
    cluster.kubectl("create", "configmap", "c", "-n", "default", "--dry-run=server")
    scrape = lambda: read(cluster.kubectl("get", "--raw", "/metrics").stdout)
    samples = scrape()
    has(samples, APISERVER)
    counted = lambda **labels: value(scrape(), "apiserver_request_total", **labels)
    for labels in (
        {"verb": "POST", "resource": "pods", "scope": "resource", "code": "201", "dry_run": ""},
        {"verb": "POST", "resource": "configmaps", "dry_run": "All"},
        {"verb": "GET", "resource": "serviceaccounts", "scope": "resource", "component": "apiserver"},
    ):
        expect(counted(**labels), f"nothing counted of {labels}")
    for bound in ("1", "5", "30", "+Inf"):
        n = value(samples, "apiserver_request_sli_duration_seconds_bucket", verb="POST", resource="pods", le=bound)
        expect(n == 1, f"{n} creates of pods below {bound} s")
    expect(value(samples, "apiserver_storage_objects", resource="pods") == 1, "one pod is stored")
    expect(value(samples, "workqueue_adds_total", name="service-account-controller"), "a controller has worked")
    # What nobody serves makes no series.
    cluster.kubectl("get", "--raw", "/apis/made-up.example/v1/things", check=False)
    expect("made-up" not in cluster.kubectl("get", "--raw", "/metrics").stdout, "a name that was made up is counted")


def test_the_scheduler_tells_what_it_did_and_what_waits(cluster):
    scrape = lambda of, **labels: value(read(cluster.kubectl("get", "--raw", "/metrics").stdout), of, **labels)
    attempts = lambda result: scrape("scheduler_schedule_attempts_total", profile="default-scheduler", result=result) or 0
    waiting = lambda: scrape("scheduler_pending_pods", queue="unschedulable")
    for name, selector in (("placed", {}), ("nowhere", {"no": "where"})):
        spec = {"nodeSelector": selector, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "1000"]}]}
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}), "default")
    until(lambda: attempts("scheduled") >= 1 and attempts("unschedulable") >= 1, "both decisions are counted")
    until(lambda: waiting() == 1, "one pod waits for a node")
    cluster.kubectl("delete", "pod", "placed", "nowhere", "-n", "default")
    until(lambda: waiting() == 0, "no pod waits")
    expect(scrape("apiserver_client_certificate_expiration_seconds_count") >= 1, "this client came with a certificate")


def test_the_kubelet_tells_what_dashboards_ask_for(cluster):
    scrape = lambda path: read(cluster.kubectl("get", "--raw", f"/api/v1/nodes/node1/proxy{path}").stdout)
    samples = scrape("/metrics")
    has(samples, KUBELET)
    for operation in ("run_podsandbox", "create_container", "start_container"):
        n = value(samples, "kubelet_runtime_operations_total", operation_type=operation)
        expect(n >= 1, f"{n} of {operation}")
    expect(value(samples, "kubelet_pod_start_duration_seconds_count") >= 1, "a pod was started")
    used = value(samples, "kubelet_volume_stats_used_bytes", namespace="default", persistentvolumeclaim="kept")
    expect(used and used < 1 << 20, f"the claim's volume holds {used} bytes")
    labels = {"pod": "measured", "namespace": "default", "container": "c"}
    probed = lambda kind, result: value(scrape("/metrics/probes"), "prober_probe_total", probe_type=kind, result=result, **labels)
    until(lambda: probed("Readiness", "successful") and probed("Liveness", "failed"), "both probes are counted")
    for path in ("/metrics/cadvisor", "/metrics/resource"):
        expect(len(scrape(path)) > 5, path)
    summary = cluster.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout
    expect('"pvcRef":{"name":"kept","namespace":"default"}' in re.sub(r"\s", "", summary), summary)
    # A pod that is gone is not told of.
    cluster.kubectl("delete", "pod", "measured", "-n", "default", timeout=70)
    until(lambda: probed("Readiness", "successful") is None, "its probes are forgotten")
