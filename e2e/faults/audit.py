"""The audit log: what a policy wants told of real requests, and a policy that is wrong."""

import gzip
import json
import os
import subprocess

from cluster import expect, until
from faults._https import Https, refused_start

POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: [system:apiserver, system:kube-scheduler, system:kube-controller-manager]
- level: None
  resources: [{group: coordination.k8s.io, resources: [leases]}]
- level: None
  nonResourceURLs: ["/healthz*", "/readyz*", "/openapi*", "/version"]
- level: Metadata
  omitStages: [RequestReceived]
  resources: [{group: "", resources: [secrets]}]
- level: Request
  verbs: [patch]
  resources: [{group: "", resources: [configmaps]}]
- level: RequestResponse
  resources: [{group: "", resources: [configmaps], resourceNames: [loud, ""]}]
- level: Metadata
"""

POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "9999"]}]},
}


def log_of(cluster):
    return cluster.data / "server" / "logs" / "audit.log"


def prepare(cluster):
    policy = cluster.dir / "audit-policy.yaml"
    policy.write_text(POLICY)
    cluster.args += [f"--kube-apiserver-arg=audit-policy-file={policy}", f"--kube-apiserver-arg=audit-log-path={log_of(cluster)}"]


def events(cluster, **wanted):
    """Events in whose fields these values are; a dot is `__`."""
    found = []
    # The last line may be on its way.
    for line in log_of(cluster).read_bytes().rpartition(b"\n")[0].splitlines():
        event = json.loads(line)
        if all(at(event, field) == value for field, value in wanted.items()):
            found.append(event)
    return found


def at(event, field):
    for part in field.split("__"):
        event = event.get(part, {}) if isinstance(event, dict) else {}
    return event if event != {} else None


def stages(cluster, **wanted):
    return [event["stage"] for event in events(cluster, **wanted)]


def test_levels_and_stages(cluster):
    expect(log_of(cluster).stat().st_mode & 0o7777 == 0o600, "others may read the audit log")
    cluster.kubectl("create", "secret", "generic", "s", "--from-literal=a=hush-hush")
    cluster.kubectl("get", "secret", "s", "-o", "yaml")
    cluster.kubectl("create", "configmap", "loud", "--from-literal=a=very-loud")
    cluster.kubectl("get", "configmap", "loud")
    cluster.kubectl("label", "configmap", "loud", "color=red")
    cluster.kubectl("get", "configmap", "missing", check=False)
    cluster.kubectl("delete", "configmap", "loud")
    text = log_of(cluster).read_text()
    expect("hush-hush" not in text and "aHVzaC1odXNo" not in text and "managedFields" not in text, "a secret, or managed fields, in the log")
    found = events(cluster, objectRef__resource="secrets", verb="create", user__username="system:admin")
    expect([event["stage"] for event in found] == ["ResponseComplete"], found)
    expect(found[0]["objectRef"] == {"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"}, found)
    expect(found[0]["responseStatus"] == {"metadata": {}, "code": 201}, found)
    expect(found[0]["userAgent"].startswith("kubectl") and found[0]["annotations"]["authorization.k8s.io/decision"] == "allow", found)
    create = events(cluster, objectRef__resource="configmaps", verb="create", user__username="system:admin")
    expect([event["stage"] for event in create] == ["RequestReceived", "ResponseComplete"], create)
    expect(create[0]["auditID"] == create[1]["auditID"] and "requestObject" not in create[0], create)
    expect(create[1]["requestObject"]["data"] == create[1]["responseObject"]["data"] == {"a": "very-loud"}, create)
    table = events(cluster, objectRef__name="loud", verb="get", stage="ResponseComplete")[0]
    expect(table["responseObject"]["kind"] == "Table" and "requestObject" not in table, table)
    patch = events(cluster, objectRef__name="loud", verb="patch", stage="ResponseComplete")[0]
    expect(patch["requestObject"] == {"metadata": {"labels": {"color": "red"}}} and "responseObject" not in patch, patch)
    missing = events(cluster, objectRef__name="missing", stage="ResponseComplete")[0]
    expect(missing["responseStatus"]["reason"] == "NotFound" and missing["responseStatus"]["code"] == 404, missing)
    delete = events(cluster, objectRef__name="loud", verb="delete", stage="ResponseComplete")[0]
    expect(delete["requestObject"]["propagationPolicy"] == "Background" and delete["responseStatus"]["status"] == "Success", delete)
    expect(not events(cluster, user__username="system:apiserver") and not events(cluster, objectRef__resource="leases"), "what no rule wants is told")


def test_exec_logs_and_watches_have_a_beginning_and_an_end(cluster):
    cluster.kubectl("create", "-f", "-", input=json.dumps(POD))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s", timeout=90)
    expect(cluster.kubectl("exec", "p", "--", "echo", "hello").stdout == "hello\n", "exec")
    cluster.kubectl("logs", "p")
    three = ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    for subresource, code in (("exec", 101), ("log", 200)):
        until(lambda: stages(cluster, objectRef__subresource=subresource, objectRef__name="p") == three, f"the end of {subresource} is told")
        last = events(cluster, objectRef__subresource=subresource, objectRef__name="p")[-1]
        expect(last["responseStatus"]["code"] == code, last)
    expect("command=echo" in events(cluster, objectRef__subresource="exec")[0]["requestURI"], "which command it was")
    watching = subprocess.Popen(cluster.inside([cluster.kubectl_path, "get", "pods", "--watch"]), env=cluster.env, stdout=subprocess.PIPE, text=True)
    try:
        expect(watching.stdout.readline().startswith("NAME"), "it watches")
        of_watch = {"verb": "watch", "objectRef__resource": "pods", "objectRef__namespace": "default", "objectRef__name": None, "user__username": "system:admin"}
        until(lambda: stages(cluster, **of_watch) == three[:2], "a watch begins")
    finally:
        watching.kill()
        watching.wait()
    until(lambda: stages(cluster, **of_watch) == three, "a watch ends")
    # The node's own components are in the log as others are.
    until(lambda: events(cluster, user__username="system:node:node1", objectRef__subresource="status", objectRef__name="p"), "the kubelet writes its status")
    cluster.kubectl("delete", "pod", "p", "--wait=false")


def test_who_asks_for_whom_and_by_which_id(cluster):
    refused = cluster.kubectl("get", "nodes", "--as=eve", "--as-group=team", check=False)
    expect(refused.returncode != 0, "eve sees nodes")
    eve = events(cluster, impersonatedUser__username="eve", objectRef__resource="nodes")
    expect(eve and eve[-1]["user"]["username"] == "system:admin" and "team" in eve[-1]["impersonatedUser"]["groups"], eve)
    expect(eve[-1]["annotations"]["authorization.k8s.io/decision"] == "forbid" and eve[-1]["responseStatus"]["code"] == 403, eve)
    token = cluster.kubectl("create", "token", "default").stdout.strip()
    curl = "curl -sk -D - -o /dev/null -H 'Audit-ID: my-own-id' -H 'X-Forwarded-For: 192.0.2.7'"
    for path, auth, code in (("/api/v1/nodes", token, "403"), ("/api/v1/nodes", "nonsense", "401")):
        said = cluster.sh(f"{curl} -H 'Authorization: Bearer {auth}' https://127.0.0.1:6443{path}")
        expect(f" {code}" in said.splitlines()[0] and "audit-id: my-own-id" in said.lower(), said)
    found = events(cluster, auditID="my-own-id")
    expect([event["stage"] for event in found] == ["RequestReceived", "ResponseComplete", "ResponseStarted"], found)
    expect(found[1]["user"]["username"] == "system:serviceaccount:default:default" and found[1]["sourceIPs"] == ["192.0.2.7", "127.0.0.1"], found)
    expect(found[2]["responseStatus"] == {"metadata": {}, "message": "Authentication failed, attempted: bearer", "code": 401} and found[2]["user"] == {}, found)
    metrics = cluster.kubectl("get", "--raw", "/metrics").stdout
    counted = [line for line in metrics.splitlines() if line.startswith("apiserver_audit_event_total ")]
    expect(counted and int(counted[0].split()[1]) > 20 and 'apiserver_audit_error_total{plugin="log"} 0' in metrics, counted)


def test_a_log_is_put_aside_at_its_size(cluster):
    cluster.stop()
    arguments = list(cluster.args)
    cluster.args += [f"--kube-apiserver-arg=audit-log-{flag}" for flag in ("maxsize=1", "maxbackup=2", "compress=true", "mode=batch")]
    cluster.start()
    directory = log_of(cluster).parent
    data = {"a": "x" * 400_000}
    cluster.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "loud"}, "data": data}))

    def old():
        return sorted(path.name for path in directory.iterdir() if path.name.startswith("audit-"))

    for _ in range(8):
        cluster.kubectl("get", "configmap", "loud", "-o", "json")
    until(lambda: len(old()) == 2 and all(name.endswith(".log.gz") for name in old()), "two old logs, compressed")
    lines = gzip.decompress((directory / old()[0]).read_bytes()).splitlines()
    expect(all(json.loads(line)["kind"] == "Event" for line in lines), "whole lines")
    expect(log_of(cluster).stat().st_size <= 1 << 20, "it is larger than it may be")
    cluster.stop()
    cluster.args = arguments
    cluster.start()


def test_a_wrong_policy_ends_the_start(cluster):
    cluster.stop()
    arguments, policy = list(cluster.args), cluster.dir / "audit-policy.yaml"
    kept = policy.read_text()
    for text, words in (
        (kept.replace("level: Request\n", "level: All\n"), f'loading audit policy file: rules[4].level: Unsupported value: "All": supported values: "None", "Metadata", "Request", "RequestResponse": from file {policy}'),
        ("rules: [", f"from file {policy}"),
        (None, f'loading audit policy file: failed to read file path "{policy}"'),
    ):
        policy.unlink(missing_ok=True)
        if text:
            policy.write_text(text)
        done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args()]), env=cluster.env, capture_output=True, text=True, timeout=60)
        expect(done.returncode == 1 and words in done.stdout + done.stderr, (words, (done.stdout + done.stderr)[-900:]))
    policy.write_text(kept)
    cluster.args = [arg for arg in arguments if "audit-policy-file" not in arg]
    before = os.path.getsize(log_of(cluster))
    cluster.start()
    expect(os.path.getsize(log_of(cluster)) == before, "without a policy nothing is told")
    cluster.stop()
    cluster.args = arguments
    cluster.start()


# Keeps the events that it is sent; answers 503 while there is a file `down`.
COLLECTOR = r'''
class Answers(Base):
    def do_POST(self):
        events = json.loads(self.body())
        if os.path.exists(f"{DIR}/down"):
            return self.answer(503, {})
        self.note(events)
        self.answer(200, {})
'''


def test_a_webhook_is_sent_events_and_asked_again(cluster):
    cluster.stop()
    arguments = list(cluster.args)
    with Https(cluster, "collector", 9447, COLLECTOR) as collector:
        down = collector.dir / "down"
        options = (
            f"config-file={collector.kubeconfig('/events')}", "initial-backoff=300ms", "batch-max-size=50", "batch-max-wait=1s", "batch-throttle-qps=20",
            "truncate-enabled", "truncate-max-event-size=4096",
        )  # fmt: skip
        cluster.args += [f"--kube-apiserver-arg=audit-webhook-{option}" for option in options]
        cluster.start()
        seen = []

        def sent(name):
            """The events about an object."""
            seen.extend(collector.asked())
            return [event for events in seen for event in events["items"] if (event.get("objectRef") or {}).get("name") == name]

        cluster.kubectl("create", "configmap", "large", f"--from-literal=a={'x' * 8000}")
        until(lambda: sent("large"), "the event is sent")
        expect(all(events["kind"] == "EventList" and events["apiVersion"] == "audit.k8s.io/v1" for events in seen), "they are lists")
        told = [event for event in sent("large") if event["stage"] == "ResponseComplete"]
        expect(told and "requestObject" not in told[0] and told[0]["annotations"]["audit.k8s.io/truncated"] == "true", told)
        whole = [event for event in events(cluster, objectRef__name="large", verb="create", stage="ResponseComplete") if "responseObject" in event]
        expect(whole and whole[-1]["responseObject"]["data"]["a"] == "x" * 8000, "the log has all of it")
        # What could not be sent is sent later.
        down.touch()
        cluster.kubectl("delete", "configmap", "large")
        cluster.kubectl("create", "configmap", "quiet")
        until(lambda: "503" in cluster.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' -d '{{}}' https://127.0.0.1:{collector.port}/"), "it is down")
        down.unlink()
        until(lambda: sent("quiet"), "what was not sent is sent again", timeout=60)
        # The end of the server waits for no batch to fill.
        cluster.kubectl("create", "configmap", "last")
        cluster.stop()
        expect(sent("last"), "the last events are lost")
    cluster.args = arguments
    cluster.start()
    cluster.kubectl("delete", "configmap", "quiet", "last")
    cluster.stop()
    for option, words in (
        ("mode=loud", 'invalid audit webhook mode loud, allowed modes are "batch,blocking,blocking-strict"'),
        ("batch-throttle-burst=0", "invalid audit batch webhook throttle burst 0, must be a positive number"),
        ("version=v1", 'invalid group version, allowed versions are ["audit.k8s.io/v1"]'),
    ):
        refused_start(cluster, arguments, ["audit-webhook-config-file=/nowhere", f"audit-webhook-{option}"], words)
    refused_start(cluster, arguments, ["audit-webhook-config-file=/nowhere"], "initializing audit webhook: ")
    cluster.args = arguments
    cluster.start()
