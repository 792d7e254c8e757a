"""Kinds beyond the workloads' own: served with upstream's defaults, rules, columns, conversions and subresources."""

import base64
import json
import subprocess

from cluster import Failure, until

from .api import ask

OBJECTS = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: one, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}
  maxReplicas: 5
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
  - {type: External, external: {metric: {name: e}, target: {type: Value, value: "7"}}}
  behavior: {scaleUp: {policies: [{type: Pods, value: 2, periodSeconds: 60}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: one, namespace: default}
spec:
  ingressClassName: one
  tls: [{hosts: [a.example.com], secretName: t}]
  rules: [{host: "*.example.com", http: {paths: [{path: /x, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: one}
spec: {controller: example.com/c, parameters: {apiGroup: g.example.com, kind: K, name: "n"}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one, namespace: default}
spec: {podSelector: {matchLabels: {app: a}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: d.example.com}
spec: {tokenRequests: [{audience: a, expirationSeconds: 600}]}
---
apiVersion: storage.k8s.io/v1
kind: CSINode
metadata: {name: one}
spec: {drivers: [{name: d.example.com, nodeID: n1, topologyKeys: [zone], allocatable: {count: 5}}]}
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: one, namespace: default}
storageClassName: slow
capacity: 10Gi
---
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: one}
spec: {attacher: d.example.com, nodeName: "n", source: {persistentVolumeName: pv}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: one}
handler: runc
overhead: {podFixed: {memory: 10Mi}}
scheduling: {nodeSelector: {a: b}, tolerations: [{key: k, operator: Exists}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.one.example.com}
spec: {group: one.example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 10, insecureSkipTLSVerify: true, service: {name: s, namespace: default}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: one}
spec: {priorityLevelConfiguration: {name: one}, rules: [{subjects: [{kind: User, user: {name: u}}], nonResourceRules: [{verbs: [get], nonResourceURLs: [/x]}]}]}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: one}
spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}
"""

# What `kubectl get` prints of each but its name and age.
ROWS = {
    "hpa": ["Deployment/d", "cpu: <unknown>/60%, <unknown>/7", "1", "5", "0"],
    "ing": ["one", "*.example.com", "80, 443"],
    "ingressclasses": ["example.com/c", "K.g.example.com/n"],
    "netpol": ["app=a"],
    "csidrivers": ["true", "false", "false", "a", "false", "Persistent"],
    "csinodes": ["1"],
    "csistoragecapacities": [],
    "volumeattachments": ["d.example.com", "pv", "n", "false"],
    "runtimeclasses": ["runc"],
    "apiservices/v1.one.example.com": ["default/s"],
    "flowschemas/one": ["one", "1000", "<none>"],
    "prioritylevelconfigurations/one": ["Limited", "30", "64", "8", "50"],
}


def test_objects_are_kept_printed_and_removed(cluster):
    kubectl = lambda *args, **more: cluster.kubectl(*args, **more)
    kubectl("apply", "-f", "-", input=OBJECTS)
    for what, wanted in ROWS.items():
        printed = kubectl("get", what, "--no-headers").stdout
        for word in wanted:
            if word not in printed:
                raise Failure(f"{what}: no {word!r} in {printed!r}")
    defaults = {
        "hpa/one": "{.spec.minReplicas} {.spec.behavior.scaleDown.selectPolicy}=1 Max",
        "ingressclass/one": "{.spec.parameters.scope}=Cluster",
        "netpol/one": "{.spec.policyTypes} {.spec.egress[0].ports[0].protocol}=[\"Ingress\",\"Egress\"] TCP",
        "csidriver/d.example.com": "{.spec.fsGroupPolicy} {.spec.volumeLifecycleModes}=ReadWriteOnceWithFSType [\"Persistent\"]",
        "apiservice/v1.one.example.com": "{.spec.service.port}=443",
        "flowschema/one": "{.spec.matchingPrecedence}=1000",
        "prioritylevelconfiguration/one": "{.spec.limited.nominalConcurrencyShares} {.metadata.generation}=30 1",
    }
    for what, both in defaults.items():
        path, wanted = both.split("=", 1)
        found = kubectl("get", what, "-o", f"jsonpath={path}").stdout
        if found != wanted:
            raise Failure(f"{what}: {found!r}, not {wanted!r}")
    until(lambda: "False (ServiceNotFound)" in kubectl("get", "apiservice", "v1.one.example.com", "--no-headers").stdout, "the aggregator has looked")
    kubectl("apply", "-f", "-", input=OBJECTS)
    kubectl("delete", "-f", "-", input=OBJECTS)


def test_an_autoscaler_is_the_same_in_both_versions(cluster):
    path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
    v1 = {"metadata": {"name": "both"}, "spec": {"maxReplicas": 4, "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}}
    made, v2, status, gone = ask(
        cluster,
        {"method": "POST", "path": path.format("v1"), "body": v1},
        {"path": path.format("v2") + "/both"},
        {"path": path.format("v1") + "/both/status"},
        {"method": "DELETE", "path": path.format("v1") + "/both"},
    )
    if [made["code"], v2["code"], status["code"], gone["code"]] != [201, 200, 200, 200]:
        raise Failure(f"{made} {v2} {status} {gone}")
    target = json.loads(v2["text"])["spec"]["metrics"][0]["resource"]["target"]
    if target != {"type": "Utilization", "averageUtilization": 70}:
        raise Failure(v2["text"])
    if json.loads(status["text"])["spec"]["minReplicas"] != 1:
        raise Failure(status["text"])


def test_a_signing_request_names_who_asked_and_is_approved_in_one_way(cluster):
    key = cluster.dir / "asked.pem"
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-subj", "/CN=alice"],
        capture_output=True, check=True,
    )
    spec = {"request": base64.b64encode(made.stdout).decode(), "signerName": "example.com/own", "usages": ["client auth"], "username": "forged"}
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    body = {"metadata": {"name": "asked"}, "spec": spec, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    approved = {"type": "Approved", "status": "True", "reason": "Test"}
    created, broken, early = ask(
        cluster,
        {"method": "POST", "path": path, "body": body},
        {"method": "POST", "path": path, "body": {"metadata": {"name": "broken"}, "spec": dict(spec, request="eA==")}},
        {"method": "PATCH", "path": path + "/asked/status", "headers": {"Content-Type": "application/merge-patch+json"}, "body": {"status": {"conditions": [approved]}}},
    )
    tree = json.loads(created["text"])
    if created["code"] != 201 or tree["spec"]["username"] != "system:admin" or tree["status"]:
        raise Failure(created["text"])
    if broken["code"] != 422 or "PEM block type must be CERTIFICATE REQUEST" not in broken["text"]:
        raise Failure(broken["text"])
    if early["code"] != 422 or "updates may not add a condition of type" not in early["text"]:
        raise Failure(early["text"])
    cluster.kubectl("certificate", "approve", "asked")
    printed = cluster.kubectl("get", "csr", "asked", "--no-headers").stdout.split()
    if printed[0] != "asked" or printed[2:] != ["example.com/own", "system:admin", "<none>", "Approved"]:
        raise Failure(str(printed))
    (denied,) = ask(
        cluster,
        {"method": "PATCH", "path": path + "/asked/approval", "headers": {"Content-Type": "application/merge-patch+json"}, "body": {"status": {"conditions": [approved, {"type": "Denied", "status": "True"}]}}},
    )
    if denied["code"] != 422 or "mutually exclusive" not in denied["text"]:
        raise Failure(denied["text"])
    cluster.kubectl("delete", "csr", "asked")


def test_the_clusters_own_signer_makes_a_client_that_the_server_knows(cluster):
    key, cert = cluster.dir / "bob.key", cluster.dir / "bob.crt"
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-subj", "/O=testers/CN=bob"], capture_output=True, check=True
    )
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {"request": base64.b64encode(made.stdout).decode(), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "expirationSeconds": 3600}
    masters = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key) + ".m", "-subj", "/O=system:masters/CN=x"],
        capture_output=True, check=True,
    )
    refused, wrong, made = ask(
        cluster,
        {"method": "POST", "path": path, "body": {"metadata": {"name": "masters"}, "spec": dict(spec, request=base64.b64encode(masters.stdout).decode())}},
        {"method": "POST", "path": path, "body": {"metadata": {"name": "wrong"}, "spec": dict(spec, usages=["server auth"])}},
        {"method": "POST", "path": path, "body": {"metadata": {"name": "bob"}, "spec": spec}},
    )
    if refused["code"] != 403 or "system:masters group is not allowed" not in refused["text"]:
        raise Failure(refused["text"])
    if [wrong["code"], made["code"]] != [201, 201]:
        raise Failure(f"{wrong} {made}")
    cluster.kubectl("certificate", "approve", "bob", "wrong")
    issued = until(lambda: cluster.get("csr", "bob")["status"].get("certificate"), "a certificate for bob")
    failed = until(lambda: [c for c in cluster.get("csr", "wrong")["status"]["conditions"] if c["type"] == "Failed"], "a failed request")
    if failed[0]["message"] != "invalid usage for client certificate: server auth":
        raise Failure(str(failed))
    cert.write_bytes(base64.b64decode(issued))
    ends = subprocess.run(["openssl", "x509", "-in", str(cert), "-noout", "-checkend", "3700"], capture_output=True, text=True)
    if ends.returncode == 0:
        raise Failure("valid for longer than was asked")
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json").stdout)
    config["users"][0]["user"] = {"client-certificate": str(cert), "client-key": str(key)}
    (cluster.dir / "bob.kubeconfig").write_text(json.dumps(config))
    whoami = cluster.kubectl("auth", "whoami", "-o", "json", "--kubeconfig", str(cluster.dir / "bob.kubeconfig")).stdout
    user = json.loads(whoami)["status"]["userInfo"]
    if user["username"] != "bob" or "testers" not in user["groups"]:
        raise Failure(whoami)
    cluster.kubectl("delete", "csr", "bob", "wrong")


def test_ingresses_and_pods_get_what_their_classes_say(cluster):
    classes = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: chosen, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}
spec: {controller: example.com/c}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: heavy}
handler: heavy
overhead: {podFixed: {memory: 10Mi}}
scheduling: {nodeSelector: {kind: heavy}, tolerations: [{key: heavy, operator: Exists}]}
"""
    cluster.kubectl("apply", "-f", "-", input=classes)
    ingress = {"metadata": {"name": "d"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}
    pod = {"metadata": {"name": "p"}, "spec": {"runtimeClassName": "heavy", "containers": [{"name": "c", "image": "i"}]}}
    missing = {"metadata": {"name": "p"}, "spec": dict(pod["spec"], runtimeClassName="none")}
    conflict = {"metadata": {"name": "p"}, "spec": dict(pod["spec"], nodeSelector={"kind": "light"})}
    made, heavy, none, clash = ask(
        cluster,
        {"method": "POST", "path": "/apis/networking.k8s.io/v1/namespaces/default/ingresses?dryRun=All", "body": ingress},
        *({"method": "POST", "path": "/api/v1/namespaces/default/pods?dryRun=All", "body": body} for body in (pod, missing, conflict)),
    )
    cluster.kubectl("delete", "-f", "-", input=classes)
    if json.loads(made["text"])["spec"].get("ingressClassName") != "chosen":
        raise Failure(made["text"])
    spec = json.loads(heavy["text"])["spec"]
    if spec.get("overhead") != {"memory": "10Mi"} or spec.get("nodeSelector") != {"kind": "heavy"} or {"key": "heavy", "operator": "Exists"} not in spec["tolerations"]:
        raise Failure(heavy["text"])
    if none["code"] != 403 or 'RuntimeClass "none" not found' not in json.loads(none["text"])["message"]:
        raise Failure(none["text"])
    if clash["code"] != 403 or "conflict: runtimeClass.scheduling.nodeSelector[kind] = heavy" not in json.loads(clash["text"])["message"]:
        raise Failure(clash["text"])


def test_flow_schemas_and_api_services_are_there_and_come_back(cluster):
    until(lambda: "False" in cluster.kubectl("get", "flowschema", "probes", "--no-headers").stdout, "a schema that names a level that exists")
    cluster.kubectl("delete", "flowschema", "catch-all", "--wait=false")
    until(lambda: cluster.get("flowschema", "catch-all")["spec"]["matchingPrecedence"] == 10000, "the mandatory schema again")
    (changed,) = ask(cluster, {
        "method": "PATCH", "path": "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "headers": {"Content-Type": "application/merge-patch+json"}, "body": {"spec": {"matchingPrecedence": 77}},
    })
    if changed["code"] != 422 or "must equal the fixed value" not in changed["text"]:
        raise Failure(changed["text"])
    for name in ("v1.", "v1.apps", "v2.autoscaling"):
        until(lambda: "Local" in cluster.kubectl("get", "apiservice", name, "--no-headers").stdout, name)


def test_an_api_service_comes_and_goes_with_a_definition(cluster):
    definition = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.kinds.example.com}
spec:
  group: kinds.example.com
  scope: Namespaced
  names: {plural: things, kind: Thing}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
"""
    cluster.kubectl("create", "-f", "-", input=definition)
    found = until(lambda: cluster.get("apiservice", "v1.kinds.example.com"), "an APIService of the definition's group")
    if found["spec"]["groupPriorityMinimum"] != 1000 or found["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"] != "true":
        raise Failure(str(found))
    cluster.kubectl("delete", "crd", "things.kinds.example.com")
    until(lambda: cluster.kubectl("get", "apiservice", "v1.kinds.example.com", check=False).returncode != 0, "no APIService of it any more")


def test_components_say_that_they_are_healthy(cluster):
    printed = cluster.kubectl("get", "cs", "--no-headers")
    names = sorted(line.split()[0] for line in printed.stdout.splitlines() if "Healthy" in line)
    if names != ["controller-manager", "etcd-0", "scheduler"] or "deprecated" not in printed.stderr:
        raise Failure(f"{printed.stdout} {printed.stderr}")


def test_what_nothing_acts_on_is_told_where_it_is_missed(cluster):
    objects = """
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: told.example.com}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: default}
spec:
  os: {name: windows}
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "k3rs.io/userspace:1", command: [sleep, "1000"]}]
"""
    told = cluster.kubectl("create", "-f", "-", input=objects)
    # As a stock server, which has no warning for them.
    if told.stderr:
        raise Failure(told.stderr)
    status = lambda path: cluster.kubectl("get", "pod", "elsewhere", "-o", f"jsonpath={{.status.{path}}}").stdout
    until(lambda: status("reason") == "PodOSNotSupported", "a pod for another system is refused")
    if status("phase") != "Failed" or "OS field doesn't match node OS" not in status("message"):
        raise Failure(status("message"))
    cluster.kubectl("delete", "csidriver/told.example.com", "pod/elsewhere", "--wait=false")


def test_usage_of_nodes_and_pods_is_told_when_it_is_asked_for(cluster):
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: spins, namespace: default, labels: {spins: "yes"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: busy, image: "k3rs.io/userspace:1", command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 200m}}}
  - {name: idle, image: "k3rs.io/userspace:1", command: [sleep, "1000"]}
"""
    cluster.kubectl("create", "-f", "-", input=pod)
    # What begins between two samples is not known for ten seconds.
    cluster.kubectl("wait", "--for=condition=Ready", "pod/spins")
    top = lambda *args: cluster.kubectl("top", *args, "--no-headers", check=False).stdout.split()
    words = until(lambda: top("pod", "-l", "spins=yes", "-A", "--containers", "--sort-by=cpu"), "the pod's usage is known")
    if words[2] != "busy" or words[7] != "idle" or not 50 <= int(words[3].removesuffix("m")) <= 250 or int(words[8].removesuffix("m")) > 20:
        raise Failure(str(words))
    words = top("node")
    if int(words[1].removesuffix("m")) < 50 or not words[3].endswith("Mi"):
        raise Failure(str(words))
    printed = cluster.kubectl("get", "podmetrics", "-l", "spins=yes").stdout.split()
    if printed[:5] != ["NAME", "CPU", "MEMORY", "WINDOW", "spins"]:
        raise Failure(str(printed))
    cluster.kubectl("delete", "pod", "spins", "--wait=false")
