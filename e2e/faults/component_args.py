"""Arguments of components: what is honoured shows, what does nothing is named once, what nobody knows ends the start."""

import json
import pathlib
import re
import subprocess

from cluster import Cluster, expect, until
from faults._https import Https

KUBELET = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 21
kubeReserved: {cpu: 10m}
syncFrequency: 2m
"""

SCHEDULER = """apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
parallelism: 4
profiles:
- schedulerName: default-scheduler
- schedulerName: elsewhere
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: place, operator: In, values: [elsewhere]}]}]
- schedulerName: careless
  plugins:
    filter: {disabled: [{name: TaintToleration}]}
"""

IMAGE = "k3rs.io/userspace:1"


def prepare(cluster):
    file = cluster.dir / "kubelet.yaml"
    file.write_text(KUBELET)
    profiles = cluster.dir / "scheduler.yaml"
    profiles.write_text(SCHEDULER)
    cluster.args += [
        f"--kubelet-arg=config={file}", "--kubelet-arg=max-pods=22", "--kubelet-arg=max-pods=23", "--kubelet-arg=system-reserved=cpu=20m", "--kubelet-arg=oom-score-adj=-500",
        "--kube-controller-manager-arg=controllers=*,-replicaset", "--kube-controller-manager-arg=leader-elect=false", "--kube-controller-manager-arg=feature-gates=AllAlpha=true",
        "--kube-scheduler-arg=leader-elect=false", f"--kube-scheduler-arg=config={profiles}", "--kube-proxy-arg=masquerade-all",
        "--kube-apiserver-arg=feature-gates=JobManagedBy=false,WatchList=false,HPAScaleToZero=true,RelaxedDNSSearchValidation=true,ImageVolume=true",
    ]


def test_the_nodes_figures_are_the_kubelets_arguments(cluster):
    def reserved():
        status = cluster.get("node")["items"][0]["status"]
        capacity, allocatable = status["capacity"], status["allocatable"]
        return (capacity["pods"], allocatable["pods"], int(capacity["cpu"]) * 1000 - int(allocatable["cpu"].rstrip("m")))

    until(lambda: reserved() == ("23", "23", 30), "the flag counts, the last of them, and the reserves add up")
    name = cluster.get("node")["items"][0]["metadata"]["name"]
    configz = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/configz").stdout)
    expect(configz["kubeletconfig"]["maxPods"] == 23, configz)


def test_a_controller_that_is_off_does_nothing(cluster):
    template = {"metadata": {"labels": {"by": "set"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "9999"]}]}}
    for kind, version, selector in (("ReplicaSet", "apps/v1", {"matchLabels": {"by": "set"}}), ("ReplicationController", "v1", {"by": "controller"})):
        if kind == "ReplicationController":
            template = json.loads(json.dumps(template).replace('"set"', '"controller"'))
        made = {"apiVersion": version, "kind": kind, "metadata": {"name": "r", "namespace": "default"}, "spec": {"replicas": 1, "selector": selector, "template": template}}
        cluster.kubectl("create", "-f", "-", input=json.dumps(made))
    until(lambda: cluster.pods("by=controller", "default"), "the other controller makes its pod")
    expect(not cluster.pods("by=set", "default"), "a ReplicaSet got its pod from a controller that is off")


def test_each_profile_of_the_scheduler_places_its_pods(cluster):
    def pod(name, scheduler):
        spec = {"schedulerName": scheduler, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "9999"]}]}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        cluster.kubectl("create", "-f", "-", input=json.dumps(made))

    def state(name):
        found = cluster.get("pod", "-n", "default", name)
        conditions = found["status"].get("conditions", [])
        return found["spec"].get("nodeName"), " ".join(one.get("message", "") for one in conditions if one["type"] == "PodScheduled")

    node = cluster.get("node")["items"][0]["metadata"]["name"]
    pod("ours", "default-scheduler")
    pod("elsewhere", "elsewhere")
    until(lambda: state("ours")[0] == node, "the default profile places its pod")
    until(lambda: "1 node(s) didn't match scheduler-enforced node affinity" in state("elsewhere")[1], "the added affinity refuses the node")
    cluster.kubectl("label", "node", node, "place=elsewhere")
    until(lambda: state("elsewhere")[0] == node, "the added affinity lets the node be")
    cluster.kubectl("taint", "node", node, "only=others:NoSchedule")
    pod("careful", "default-scheduler")
    pod("careless", "careless")
    until(lambda: state("careless")[0] == node, "the profile without taints places its pod")
    until(lambda: "untolerated taint {only: others}" in state("careful")[1], "the default profile looks at taints")
    cluster.kubectl("taint", "node", node, "only-")
    until(lambda: state("careful")[0] == node, "the taint is gone")


def test_feature_gates_of_the_api_are_switched(cluster):
    def made(kind, version, spec):
        asked = {"apiVersion": version, "kind": kind, "metadata": {"name": "gated", "namespace": "default"}, "spec": spec}
        done = cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(asked), check=False)
        expect(done.returncode == 0, f"{kind}: {done.stderr}")
        return json.loads(done.stdout)["spec"]

    containers = [{"name": "c", "image": IMAGE}]
    job = made("Job", "batch/v1", {"managedBy": "example.com/x", "template": {"spec": {"restartPolicy": "Never", "containers": containers}}})
    expect("managedBy" not in job, f"the field of a feature that is off is there: {job}")
    metric = {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1"}}}
    target = {"kind": "Deployment", "name": "d"}
    scaler = made("HorizontalPodAutoscaler", "autoscaling/v2", {"minReplicas": 0, "maxReplicas": 2, "scaleTargetRef": target, "metrics": [metric]})
    expect(scaler["minReplicas"] == 0, scaler)
    pod = made("Pod", "v1", {"containers": containers, "dnsConfig": {"searches": ["_tcp.example.com", "."]}})
    expect(pod["dnsConfig"]["searches"] == ["_tcp.example.com", "."], pod)
    path = "/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    told = cluster.kubectl("get", "--raw", path, check=False).stderr
    expect("unless the WatchList feature gate is enabled" in told, told)


def test_one_warning_names_what_does_nothing(cluster):
    told = [line for line in cluster.log_lines() if "do nothing in k3rs" in line]
    expect(len(told) == 1, told)
    for part in (
        "--kubelet-arg: oom-score-adj;", "fields of the kubelet's configuration: syncFrequency", "--kube-scheduler-arg: leader-elect;", "fields of the scheduler's configuration: parallelism;",
        "--kube-controller-manager-arg: leader-elect, feature-gates=AllAlpha=true;", "--kube-proxy-arg: masquerade-all", "--kube-apiserver-arg: feature-gates=ImageVolume=true",
    ):
        expect(part in told[0], f"{part} is not in {told[0]}")
    expect(not re.search("max-pods|maxPods|controllers=|JobManagedBy|WatchList", told[0]), told[0])


def refused(cluster, flag, words):
    done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args(), flag]), env=cluster.env, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    expect(done.returncode == 1 and words in said, f"wanted {words}: {done.returncode} {said[-600:]}")


def test_what_upstream_refuses_ends_the_start(cluster):
    extender = cluster.dir / "wrong-extender.yaml"
    extender.write_text(SCHEDULER + "extenders: [{urlPrefix: 'http://127.0.0.1:1', prioritizeVerb: p}]\n")
    wrong = cluster.dir / "wrong.yaml"
    wrong.write_text(SCHEDULER.replace("- schedulerName: careless", "- schedulerName: elsewhere"))
    for flag, words in (
        (f"--kube-scheduler-arg=config={extender}", "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"),
        (f"--kube-scheduler-arg=config={wrong}", 'profiles[2].schedulerName: Duplicate value: "profiles[1].schedulerName"'),
        ("--kubelet-arg=max-pod=5", "kubelet: unknown flag: --max-pod"),
        ("--kubelet-arg=max-pods=x", 'invalid argument "x" for "--max-pods" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        ("--kube-scheduler-arg=feature-gates=Nonsense=true", "unrecognized feature gate: Nonsense"),
        ("--kube-controller-manager-arg=controllers=nonsense", '"nonsense" is not in the list of known controllers'),
        ("--kube-cloud-controller-manager-arg=max-pods=1", "kube-cloud-controller-manager: unknown flag: --max-pods"),
        ("--kube-proxy-arg=conntrack-min=few", 'for "--conntrack-min" flag'),
    ):
        refused(cluster, flag, words)


# Lets every pod go everywhere but those with a label, until a file is there.
EXTENDER = r"""
class Answers(Base):
    def do_POST(self):
        asked = json.loads(self.body())
        waits = "waits" in asked["Pod"]["metadata"].get("labels", {}) and not os.path.exists(f"{DIR}/allowed")
        names = asked["NodeNames"]
        self.answer(200, {"NodeNames": [] if waits else names, "FailedNodes": {name: "the extender says no" for name in names} if waits else {}})
"""


def test_an_extender_is_asked(cluster):
    extender, config = Https(cluster, "extender", 18888, EXTENDER), cluster.dir / "extender.yaml"
    config.write_text(
        SCHEDULER + "extenders: [{urlPrefix: 'https://127.0.0.1:18888/x', filterVerb: filter, nodeCacheCapable: true, "
        f"enableHTTPS: true, tlsConfig: {{caFile: '{extender.cert}'}}}}]\n"
    )  # fmt: skip

    def pod(name, **labels):
        spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "9999"]}]}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": spec}
        cluster.kubectl("create", "-f", "-", input=json.dumps(made))

    def state(name):
        found = cluster.get("pod", "-n", "default", name)
        conditions = found["status"].get("conditions", [])
        return bool(found["spec"].get("nodeName")), " ".join(f'{one.get("reason", "")}: {one.get("message", "")}' for one in conditions if one["type"] == "PodScheduled")

    cluster.stop()
    cluster.args.append(f"--kube-scheduler-arg=config={config}")
    try:
        # Before anybody is there who would answer.
        cluster.start()
        pod("early")
        until(lambda: "SchedulerError" in state("early")[1], "the extender is missed")
        extender.start()
        until(lambda: state("early")[0], "the extender is asked again")
        pod("waiting", waits="yes")
        pod("going")
        until(lambda: state("going")[0], "the extender lets a pod go")
        until(lambda: "Unschedulable: 0/1 nodes are available: 1 the extender says no" in state("waiting")[1], "the extender's reason shows")
        (extender.dir / "allowed").touch()
        node = cluster.get("node")["items"][0]["metadata"]["name"]
        cluster.kubectl("label", "node", node, "news=yes")
        until(lambda: state("waiting")[0], "the extender changed its mind")
    finally:
        extender.stop()


def test_a_kernel_that_is_set_otherwise_has_no_node(cluster):
    wanted = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1, "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}
    actual = {name: int(pathlib.Path("/proc/sys", name).read_text()) for name in wanted}
    wrong = [f"invalid kernel flag: {name}, expected value: {value}, actual value: {actual[name]}" for name, value in wanted.items() if actual[name] != value]
    other = Cluster(cluster.binary, args=["--protect-kernel-defaults"])

    def ready():
        found = other.get("nodes")["items"]
        told = [c for node in found for c in node.get("status", {}).get("conditions", []) if c["type"] == "Ready"]
        return told and told[0]

    try:
        other.start(wait=False)
        other.wait_up(60)
        if wrong:
            told = until(lambda: (ready() or {}).get("status") == "False" and ready(), "the Node says why", 60)
            expect(all(words in told["message"] for words in wrong), f"{told} lacks some of {wrong}")
        else:
            until(lambda: (ready() or {}).get("status") == "True", "the node is Ready", 60)
    finally:
        other.close()
