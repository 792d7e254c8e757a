"""Who manages which field: every object says so, also those that programs make, which keep it in another form at rest."""

import json

from cluster import expect, until

THINGS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: managed}
spec:
  selector: {matchLabels: {app: managed}}
  template:
    metadata: {labels: {app: managed, "app.kubernetes.io/name": managed}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000"], ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: managed}
spec: {selector: {app: managed}, ports: [{port: 80}]}
"""

# Of what nobody writes a field that is managed (service accounts), nothing is said.
KINDS = ("pods", "replicasets", "deployments", "endpoints", "endpointslices", "events", "leases", "nodes", "namespaces", "configmaps", "services")

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {containers: [{name: c, image: "k3rs.io/other:1"}]}
"""


def absent(fields, value, path=""):
    """The paths of a set that lead to nothing in an object."""
    found = []
    for element, below in fields.items():
        if element == ".":
            continue
        form, name = element[0], element[2:]
        if form == "f":
            inner = value.get(name) if isinstance(value, dict) else None
        elif form == "k":
            keys = json.loads(name)
            inner = next((item for item in value or [] if all(item.get(key) == of for key, of in keys.items())), None)
        else:
            inner = json.loads(name) if json.loads(name) in (value or []) else None
        if inner is None:
            found.append(f"{path}{element}")
        elif below:
            found += absent(below, inner, f"{path}{element} ")
    return found


def managers(thing):
    return {(m["manager"], m.get("subresource", "")): m for m in thing["metadata"].get("managedFields", [])}


def shown(cluster, kind, *args):
    return json.loads(cluster.kubectl("get", kind, "--show-managed-fields", "-o", "json", *args).stdout)


def pod(cluster):
    found = shown(cluster, "pods", "-l", "app=managed")["items"]
    return found[0] if found and ("kubelet", "status") in managers(found[0]) and found[0]["status"].get("podIP") else None


def test_every_object_names_its_managers(cluster):
    cluster.kubectl("create", "-f", "-", input=THINGS)
    cluster.kubectl("wait", "--for=condition=Available", "deploy/managed", "--timeout=60s")
    for kind in KINDS:
        things = until(lambda: shown(cluster, kind, "-A")["items"], f"there are {kind}", 30)
        for thing in things:
            name = f"{kind} {thing['metadata']['name']}"
            entries = thing["metadata"].get("managedFields")
            expect(entries, f"{name} has no managers")
            for entry in entries:
                of = {key: entry[key] for key in entry if key not in ("fieldsV1", "time")}
                expect(set(entry) - {"subresource"} == {"manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1"}, f"{name}: {of}")
                lost = absent(entry["fieldsV1"], thing)
                expect(not lost, f"{name}: {of} manages what is not there: {lost}")


def test_programs_have_their_names(cluster):
    own = managers(until(lambda: pod(cluster), "the pod has its address", 60))
    made = own["kube-controller-manager", ""]["fieldsV1"]
    expect(made["f:metadata"]["f:labels"] == {".": {}, "f:app": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}}, made["f:metadata"])
    ports = made["f:spec"]["f:containers"]['k:{"name":"c"}']["f:ports"]
    expect(ports == {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}}}, ports)
    # As upstream, a binding is nobody's, and what admission adds neither.
    expect("f:nodeName" not in made["f:spec"] and "f:tolerations" not in made["f:spec"], made["f:spec"])
    ready = own["kubelet", "status"]["fieldsV1"]["f:status"]["f:conditions"]['k:{"type":"Ready"}']
    expect(ready.keys() >= {".", "f:status", "f:type"}, ready)
    expect(all(m["operation"] == "Update" for m in own.values()), own.keys())
    slices = shown(cluster, "endpointslices", "-l", "kubernetes.io/service-name=managed")["items"]
    expect([list(managers(it)) for it in slices] == [[("kube-controller-manager", "")]], slices)
    events = shown(cluster, "events", "--field-selector", "reason=Scheduled")["items"]
    expect(events and all(("kube-scheduler", "") in managers(it) for it in events), events)


def test_conflicts_name_who_manages(cluster):
    name = pod(cluster)["metadata"]["name"]
    refused = cluster.kubectl("apply", "--server-side", "-f", "-", input=POD % name, check=False)
    wanted = 'Apply failed with 1 conflict: conflict with "kube-controller-manager" using v1: .spec.containers[name="c"].image'
    expect(wanted in refused.stderr, refused.stderr)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=POD % name)
    own = managers(pod(cluster))
    taken = own["kubectl", ""]["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    left = own["kube-controller-manager", ""]["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    expect(own["kubectl", ""]["operation"] == "Apply" and "f:image" in taken and "f:image" not in left, own)


def test_managers_outlive_a_restart(cluster):
    def all_of(kind):
        return {it["metadata"]["uid"]: (it["metadata"]["resourceVersion"], it["metadata"]["managedFields"]) for it in shown(cluster, kind)["items"]}

    # What was written meanwhile has another revision.
    before = {kind: all_of(kind) for kind in ("pods", "replicasets", "endpointslices")}
    cluster.stop()
    cluster.start()
    n_same = 0
    for kind, things in before.items():
        now = all_of(kind)
        for uid, (revision, fields) in things.items():
            if uid in now and now[uid][0] == revision:
                n_same += 1
                expect(now[uid][1] == fields, f"{kind}: {fields} became {now[uid][1]}")
    expect(n_same > 0, "nothing stayed as it was")
    cluster.kubectl("delete", "deploy,service", "managed", "--wait=false")
