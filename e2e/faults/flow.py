"""Priority and fairness: a client that asks for everything at once is held to its level, and nobody else notices."""

import json
import subprocess
import sys
import time

from cluster import expect, until

# So few that one is the small level's own.
ARGS = ("--kube-apiserver-arg=max-requests-inflight=20", "--kube-apiserver-arg=max-mutating-requests-inflight=10")

LEVEL = """
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: small}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 1
    lendablePercent: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Queue, queuing: {queues: 1, handSize: 1, queueLengthLimit: 1}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: greedy}
spec:
  priorityLevelConfiguration: {name: small}
  matchingPrecedence: 50
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: greedy, namespace: default}}]
    resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"], clusterScope: true}]
"""

# Many clients with a connection each, which ask at the same time again and again; what they were answered, as JSON.
GREEDY = """
import collections, http.client, json, ssl, sys, threading, time
token, path, clients, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
answers, headers, lock = collections.Counter(), {}, threading.Lock()
begin = threading.Barrier(clients)

def ask():
    conn = http.client.HTTPSConnection("127.0.0.1", 6443, context=ssl._create_unverified_context(), timeout=60)
    conn.connect()
    begin.wait()
    for _ in range(rounds):
        conn.request("GET", path, headers={"authorization": "Bearer " + token})
        answer = conn.getresponse()
        answer.read()
        with lock:
            answers[answer.status] += 1
            headers[answer.status] = dict(answer.getheaders())

threads = [threading.Thread(target=ask) for _ in range(clients)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([answers, headers]))
"""


def greedy(cluster, token, clients, rounds):
    command = [sys.executable, "-c", GREEDY, token, "/api/v1/namespaces/default/configmaps", str(clients), str(rounds)]
    return subprocess.Popen(cluster.inside(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    out, err = process.communicate(timeout=180)
    expect(process.returncode == 0, err)
    return json.loads(out)


def test_a_greedy_client_is_held_to_its_level(cluster):
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account")
    for name in ("greedy", "modest"):
        cluster.kubectl("create", "serviceaccount", name, "-n", "default")
        cluster.kubectl("create", "rolebinding", name, "-n", "default", "--clusterrole=view", f"--serviceaccount=default:{name}")
    # A list that takes a moment.
    maps = {"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{n}", "namespace": "default"}, "data": {"text": "x" * 3000}} for n in range(600)]}
    cluster.kubectl("create", "-f", "-", input=json.dumps(maps))
    cluster.kubectl("apply", "-f", "-", input=LEVEL)
    uid = lambda kind, name: cluster.get(kind, name)["metadata"]["uid"]
    schema, level = uid("flowschema", "greedy"), uid("prioritylevelconfiguration", "small")
    condition = until(lambda: cluster.get("flowschema", "greedy")["status"]["conditions"][0], "the schema's condition")
    expect(condition["status"] == "False", f"dangling: {condition}")
    token = {name: cluster.kubectl("create", "token", name, "-n", "default").stdout.strip() for name in ("greedy", "modest")}
    own = lambda: lower(ended(greedy(cluster, token["greedy"], 1, 1))[1]["200"])["x-kubernetes-pf-flowschema-uid"]
    until(lambda: own() == schema, "its requests are of its schema")
    # One is worked on, one waits; the rest is refused.
    process = greedy(cluster, token["greedy"], 40, 10)
    slowest = 0
    while process.poll() is None:
        began = time.monotonic()
        answers, _ = ended(greedy(cluster, token["modest"], 1, 1))
        slowest = max(slowest, time.monotonic() - began)
        expect(answers == {"200": 1}, f"the modest one: {answers}")
    answers, headers = ended(process)
    expect(set(answers) == {"200", "429"} and answers["429"] >= 40, f"the greedy one: {answers}")
    told = lower(headers["429"])
    expect(told.get("retry-after") == "1" and told.get("x-kubernetes-pf-prioritylevel-uid") == level, str(told))
    metrics = cluster.kubectl("get", "--raw", "/metrics").stdout
    line = 'apiserver_flowcontrol_rejected_requests_total{flow_schema="greedy",priority_level="small",reason="queue-full"} '
    counted = [it for it in metrics.splitlines() if it.startswith(line)]
    # On a machine that is slow enough some wait in vain instead.
    expect(counted and 0 < int(counted[0].rpartition(" ")[2]) <= answers["429"], f"{counted} of {answers}")
    return f"{answers}, the other's slowest answer with its client's start {slowest:.1f} s"


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def test_what_is_mandatory_comes_back_and_is_held_to(cluster):
    cluster.kubectl("delete", "flowschema", "global-default")
    until(lambda: cluster.get("flowschema", "global-default"), "what is suggested comes back")
    changed = cluster.kubectl("patch", "prioritylevelconfiguration", "catch-all", "--type=merge", "-p", '{"spec":{"limited":{"nominalConcurrencyShares":9}}}', check=False)
    expect("must equal the fixed value" in changed.stderr, changed.stderr)
    dump = cluster.kubectl("get", "--raw", "/debug/api_priority_and_fairness/dump_priority_levels").stdout
    expect(dump.startswith("PriorityLevelName, ActiveQueues, ") and "\nsmall, 0, true, false, 0, 0, " in dump, dump)
