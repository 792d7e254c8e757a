"""Network policies: what they forbid does not pass, not for a moment, and what they allow does."""

import json
import subprocess

from cluster import expect, until

NS = "policy"
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, "mkdir /www; echo web >/www/index.html; busybox httpd -p 8080 -h /www; busybox httpd -p 8081 -h /www; while :; do busybox nc -l -p 9000 -e cat; done"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "100000"], securityContext: {capabilities: {add: [NET_ADMIN]}}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""


def policy(cluster, name, **spec):
    done = cluster.kubectl("apply", "-n", NS, "-f", "-", input=json.dumps({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}))
    expect("Warning" not in done.stderr, done.stderr)


def without_policies(cluster):
    cluster.kubectl("delete", "networkpolicy", "-n", NS, "--all")
    reaches(cluster, address(cluster, "web"))


def inside(cluster, pod, command):
    return cluster.kubectl("exec", "-n", NS, pod, "--", "sh", "-c", command, check=False).stdout


def address(cluster, pod):
    return cluster.get("pod", "-n", NS, pod)["status"]["podIP"]


def gets(cluster, host, port, pod):
    return inside(cluster, pod, f"timeout 2 wget -q -O - http://{host}:{port}/").strip() == "web"


def reaches(cluster, host, port=8080, pod="client"):
    until(lambda: gets(cluster, host, port, pod), f"{pod} reaches {host}:{port}")


def is_kept_from(cluster, host, port=8080, pod="client"):
    until(lambda: not gets(cluster, host, port, pod), f"{pod} is kept from {host}:{port}")


def from_node(cluster, host):
    done = subprocess.run(cluster.inside(["curl", "-s", "--max-time", "5", f"http://{host}:8080/"]), capture_output=True, text=True)
    return done.stdout.strip() == "web"


def test_pods_are_shut_and_opened_by_labels_and_ports(cluster):
    cluster.kubectl("create", "namespace", NS)
    cluster.apply(PODS, NS)
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod", "--all")
    web, service = address(cluster, "web"), cluster.get("service", "-n", NS, "web")["spec"]["clusterIP"]
    reaches(cluster, web)
    policy(cluster, "deny", podSelector={})
    is_kept_from(cluster, web)
    is_kept_from(cluster, service, 80)
    expect(from_node(cluster, web), "the node does not reach its own pod")
    reaches(cluster, web, pod="web")
    reaches(cluster, service, 80, pod="web")
    friend = {"podSelector": {"matchLabels": {"friend": "yes"}}}
    policy(cluster, "friends", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [friend], "ports": [{"port": "http"}]}])
    is_kept_from(cluster, web)
    cluster.kubectl("label", "pod", "-n", NS, "client", "friend=yes")
    reaches(cluster, web)
    reaches(cluster, service, 80)
    expect(not gets(cluster, web, 8081, "client"), "a port that is not named is open")
    policy(cluster, "friends", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [friend], "ports": [{"port": 8081, "endPort": 8090}]}])
    reaches(cluster, web, 8081)
    expect(not gets(cluster, web, 8080, "client"), "a port that is not in the range is open")
    cluster.kubectl("label", "pod", "-n", NS, "client", "friend-")
    is_kept_from(cluster, web, 8081)
    expect(cluster.get("pod", "-n", NS, "web")["status"]["containerStatuses"][0]["ready"], "probes do not pass")
    without_policies(cluster)


def test_what_goes_out_is_judged_by_blocks_and_namespaces(cluster):
    web = address(cluster, "web")
    client = {"matchLabels": {"app": "client"}}
    outgoing = lambda *peers: policy(cluster, "out", podSelector=client, policyTypes=["Egress"], egress=[{"to": list(peers)}] if peers else [])
    outgoing()
    is_kept_from(cluster, web)
    outgoing({"ipBlock": {"cidr": "10.42.0.0/16", "except": [f"{web}/32"]}})
    is_kept_from(cluster, web)
    outgoing({"ipBlock": {"cidr": f"{web}/32"}})
    reaches(cluster, web)
    outgoing({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})
    is_kept_from(cluster, web)
    outgoing({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NS}}, "podSelector": {"matchLabels": {"app": "web"}}})
    reaches(cluster, web)
    without_policies(cluster)


def test_nobody_sends_in_anothers_name(cluster):
    web, other = address(cluster, "web"), "10.42.0.200"
    route = lambda verb, source: inside(cluster, "client", f"ip address {verb} {other}/32 dev eth0; ip route replace 10.42.0.0/24 dev eth0 src {source}")
    route("add", other)
    reaches(cluster, web)
    policy(cluster, "in", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [{"ipBlock": {"cidr": f"{other}/32"}}]}])
    is_kept_from(cluster, web)
    route("del", address(cluster, "client"))
    policy(cluster, "in", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [{"ipBlock": {"cidr": "10.42.0.0/16"}}]}])
    reaches(cluster, web)
    without_policies(cluster)


def test_a_connection_whose_permission_goes_ends(cluster):
    web = address(cluster, "web")
    talk = f"(while sleep 0.1; do echo x; done | busybox nc {web} 9000 >/tmp/said; echo over >/tmp/over) >/dev/null 2>&1 &"
    inside(cluster, "client", f"rm -f /tmp/over /tmp/said; {talk}")
    said = lambda: int(inside(cluster, "client", "wc -c </tmp/said").strip() or 0)
    until(lambda: said() > 10, "they talk")
    policy(cluster, "deny", podSelector={"matchLabels": {"app": "web"}})
    until(lambda: inside(cluster, "client", "cat /tmp/over").strip() == "over", "the connection ends")
    without_policies(cluster)


def test_pods_start_under_their_policies(cluster):
    web = address(cluster, "web")
    # A policy that takes pods of another label, so that the pods' own are new to everybody.
    policy(cluster, "out", podSelector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["eager"]}]}, policyTypes=["Egress"])
    eager = "".join(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: eager-{n}, labels: {{app: {"eager" if n < 6 else "free"}}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "for n in 1 2 3 4 5 6; do timeout 2 wget -q -O - http://{web}:8080/ && exit 0; done; exit 1"]}}]
---"""
        for n in range(8)
    )
    cluster.apply(eager, NS)
    ended = lambda: [cluster.get("pod", "-n", NS, f"eager-{n}")["status"]["phase"] for n in range(8)]
    phases = until(lambda: (lambda now: now if all(phase in ("Succeeded", "Failed") for phase in now) else None)(ended()), "the pods end", timeout=90)
    expect(phases == ["Failed"] * 6 + ["Succeeded"] * 2, f"who reached the pod: {phases}")
    cluster.kubectl("delete", "pod", "-n", NS, *[f"eager-{n}" for n in range(8)], "--wait=false")
    without_policies(cluster)
