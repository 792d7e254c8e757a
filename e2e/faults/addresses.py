"""Service addresses: what a user writes into a Service takes nothing from the node and from other Services."""

import json
import re
import subprocess

from cluster import until

NS = "addresses"
NODE = "192.0.2.10"


def prepare(cluster):
    # A second address of the machine, which no flag and no Node object names.
    cluster.sh("ip addr add 198.51.100.7/32 dev eth0")


def spoof(cluster, name, spec, ports, ingress=()):
    """A Service of every kind that a user could make; the API may refuse parts of it, and that is fine."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": f"p{p}", "port": p, "targetPort": 8080} for p in ports], **spec},
    }
    done = cluster.kubectl("create", "-f", "-", input=json.dumps(service), check=False)
    if done.returncode:
        return False
    if ingress:
        status = {"status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}}}
        cluster.kubectl("patch", "service", "-n", NS, name, "--subresource=status", "--type=merge", "-p", json.dumps(status), check=False)
    return True


def get(cluster, url, pod=False):
    """What a client sees at an address: the page's text, or '' where nobody answers."""
    if pod:
        done = cluster.kubectl("exec", "-n", NS, "client", "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False)
    else:
        done = subprocess.run(cluster.inside(["curl", "-sk", "--max-time", "3", url]), capture_output=True, text=True)
    return done.stdout


def rules(cluster):
    return cluster.sh("nft list table inet k3rs")


def elements(cluster, kind):
    found = re.findall(rf"map {kind}4 \{{(.*?)\n\t\}}", rules(cluster), re.S)
    return found[0] if found else ""


def test_a_service_takes_nothing_that_is_not_its_own(cluster):
    cluster.kubectl("create", "namespace", NS)
    pods = "".join(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, 'mkdir /tmp/w; echo {name} > /tmp/w/index.html; echo {name} > /tmp/w/version; exec httpd -f -p 8080 -h /tmp/w']
    ports: [{ports}]
---"""
        for name, ports in (("web", ""), ("client", ""), ("hosted", "{containerPort: 8080, hostPort: 8181}"))
    )
    cluster.apply(pods, NS)
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod", "--all", "--timeout=60s", timeout=70)
    # The address of another Service, which must go on answering.
    cluster.kubectl("expose", "-n", NS, "pod/hosted", "--name=other", "--port=80", "--target-port=8080")
    other = cluster.get("service", "-n", NS, "other")["spec"]["clusterIP"]
    hosted = cluster.get("pod", "-n", NS, "hosted")["status"]["podIP"]
    # Good ones show when the rules are there, and that what is right still works.
    assert spoof(cluster, "good", {"externalIPs": ["203.0.113.9", NODE, "198.51.100.7"]}, [80, 8080])
    until(lambda: "web" in get(cluster, f"http://{NODE}/"), "an external address that is the node's answers on a free port")
    assert "web" in get(cluster, "http://203.0.113.9/", pod=True)
    assert "web" in get(cluster, "http://198.51.100.7:8080/", pod=True)
    every = [NODE, "198.51.100.7", "127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", other, hosted, "10.43.0.1", "10.43.0.10", "10.42.0.1"]
    theirs = [6443, 10250, 10248, 10053, 53, 443, 80, 8080, 8181, 30080, 32767]
    for idx, address in enumerate(every):
        spoof(cluster, f"external{idx}", {"externalIPs": [address]}, theirs)
        spoof(cluster, f"empty{idx}", {"externalIPs": [address], "selector": {"app": "none"}}, theirs)
        balanced = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"], "allocateLoadBalancerNodePorts": False}
        spoof(cluster, f"balanced{idx}", balanced, theirs, [address])
    cluster.kubectl("expose", "-n", NS, "pod/web", "--name=last", "--port=80", "--target-port=8080")
    last = cluster.get("service", "-n", NS, "last")["spec"]["clusterIP"]
    until(lambda: "web" in get(cluster, f"http://{last}/"), "the rules are made")
    for kind in ("external", "refused", "firewall", "services"):
        there = elements(cluster, kind)
        for address in every[2:7]:
            assert f"\t{address} ." not in there and f" {address} ." not in there, f"{kind}: {address}\n{there}"
    for address in (NODE, "198.51.100.7"):
        for pod in (False, True):
            assert "gitVersion" in get(cluster, f"https://{address}:6443/version", pod) or pod, f"the API on {address}, from a pod: {pod}"
            assert "web" not in get(cluster, f"http://{address}:6443/version", pod)
            assert get(cluster, f"http://{address}:8181/", pod) == "hosted\n", f"another pod's host port on {address}, from a pod: {pod}"
            assert get(cluster, f"http://{address}:30080/", pod) == "", "an unused node port"
        assert get(cluster, f"https://{address}:10250/healthz") != ""
    assert get(cluster, f"http://{other}/", pod=True) == "hosted\n", "another Service's address"
    assert get(cluster, f"http://{hosted}:8080/", pod=True) == "hosted\n", "another pod's address"
    assert "web" not in get(cluster, "http://169.254.169.254/", pod=True)
    assert get(cluster, "http://127.0.0.1:10248/healthz") == "ok"
    looked_up = cluster.kubectl("exec", "-n", NS, "client", "--", "nslookup", "kubernetes.default.svc.cluster.local").stdout
    assert "10.43.0.1" in looked_up, looked_up


def test_a_pod_takes_no_port_of_the_node(cluster):
    """A host port is a Service's sibling: it is made of the same rules."""
    cluster.apply(
        """
apiVersion: v1
kind: Pod
metadata: {name: thief}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, 'exec httpd -f -p 8080 -h /tmp']
    ports: [{containerPort: 8080, hostPort: 6443}, {containerPort: 8080, hostPort: 10250}, {containerPort: 8080, hostPort: 8282}]
""",
        NS,
    )
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/thief", "--timeout=30s")
    until(lambda: "404" in get(cluster, f"http://{NODE}:8282/"), "its free host port answers")
    assert "gitVersion" in get(cluster, f"https://{NODE}:6443/version")
    assert "gitVersion" in get(cluster, "https://127.0.0.1:6443/version")


def test_slices_lead_to_no_special_address(cluster):
    """A user's EndpointSlice must not make the node send to its own loopback or to a metadata service."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "inside", "namespace": NS}, "spec": {"ports": [{"name": "h", "port": 80}]}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(service))
    for idx, address in enumerate(("127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1")):
        for kind in ("slice", "endpoints"):
            body = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"inside-{idx}", "namespace": NS, "labels": {"kubernetes.io/service-name": "inside"}},
                "addressType": "IPv4",
                "ports": [{"name": "h", "port": 10248}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            }
            if kind == "endpoints":
                body = {
                    "apiVersion": "v1",
                    "kind": "Endpoints",
                    "metadata": {"name": "inside", "namespace": NS},
                    "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "h", "port": 10248}]}],
                }
            cluster.kubectl("apply", "-f", "-", input=json.dumps(body), check=False)
    address = cluster.get("service", "-n", NS, "inside")["spec"]["clusterIP"]
    assert get(cluster, f"http://{address}/healthz", pod=True) == ""
    assert get(cluster, f"http://{address}/healthz") == ""
    assert f"{address} ." not in elements(cluster, "endpoints")
