"""Proxies connect to pods and nodes of the cluster, not to what trusts the place where the server stands."""

import json

from cluster import expect, until

OWN = "192.0.2.10"


def raw(cluster, path):
    done = cluster.kubectl("get", "--raw", path, check=False)
    return done.returncode, done.stdout + done.stderr


def not_proxied(cluster, path, why):
    status, said = raw(cluster, path)
    expect(status != 0 and why in said, f"{path}: wanted {why!r}, got {status}: {said}")


def create(cluster, *objects):
    for one in objects:
        cluster.kubectl("create", "-f", "-", input=json.dumps(one))


def endpoints(ip, port, **address):
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "ssrf"}, "subsets": [{"addresses": [{"ip": ip, **address}], "ports": [{"name": "p", "port": port}]}]}


def test_endpoints_need_a_pod_that_vouches(cluster):
    create(cluster, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ssrf"}, "spec": {"ports": [{"name": "p", "port": 80}]}})
    for ip in ("127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.000.000.001"):
        done = cluster.kubectl("create", "-f", "-", check=False, input=json.dumps(endpoints(ip, 10248)))
        expect(done.returncode != 0 and "subsets[0].addresses[0].ip" in done.stderr, f"endpoint {ip}: {done.stdout}{done.stderr}")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "front"}, "spec": {
        "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sh", "-c", "mkdir /www; echo front >/www/index.html; exec busybox httpd -f -p 8080 -h /www"], "ports": [{"containerPort": 8080}]}]}}
    create(cluster, pod, endpoints(OWN, 6443))
    why = "no endpoints available for service"
    service = "/api/v1/namespaces/default/services/ssrf:p/proxy/healthz"
    not_proxied(cluster, service, why)
    not_proxied(cluster, service.replace("ssrf", "https:ssrf"), why)
    until(lambda: cluster.get("pod", "front")["status"].get("podIP"), "the pod has an address")
    until(lambda: raw(cluster, "/api/v1/namespaces/default/pods/front:8080/proxy/")[1].strip() == "front", "the pod is proxied to")
    address = cluster.get("pod", "front")["status"]["podIP"]
    vouched = {"targetRef": {"kind": "Pod", "namespace": "default", "name": "front"}}
    for wrong in (
        endpoints(address, 8080),
        endpoints(OWN, 6443, **vouched),
        endpoints("10.42.0.1", 10250, **vouched),
        endpoints(address, 8080, targetRef={**vouched["targetRef"], "namespace": "kube-system"}),
        endpoints(address, 8080, targetRef={**vouched["targetRef"], "name": "nobody"}),
    ):
        cluster.kubectl("replace", "-f", "-", input=json.dumps(wrong))
        not_proxied(cluster, service, why)
    cluster.kubectl("replace", "-f", "-", input=json.dumps(endpoints(address, 8080, **vouched)))
    said = raw(cluster, "/api/v1/namespaces/default/services/ssrf:p/proxy/")
    expect(said[1].strip() == "front", f"the service is not proxied to: {said}")


def test_a_pods_status_opens_nothing(cluster):
    # Of a node without a kubelet, so that nobody corrects what it says; without the node the pod would be collected after 40 s.
    create(cluster, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}})
    create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "liar"}, "spec": {"nodeName": "other", "containers": [{"name": "c", "image": "x"}]}})
    for ip in ("127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1", OWN, "10.42.0.1", "10.43.0.1"):
        status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
        cluster.kubectl("patch", "pod", "liar", "--subresource=status", "--type=merge", "-p", json.dumps(status))
        for port in (10248, 6443, 10250):
            for scheme in ("", "https:"):
                not_proxied(cluster, f"/api/v1/namespaces/default/pods/{scheme}liar:{port}/proxy/healthz", "address not allowed")
    cluster.kubectl("delete", "pod", "liar", "--grace-period=0", "--force")
    cluster.kubectl("delete", "node", "other")


def test_a_nodes_status_opens_nothing(cluster):
    create(cluster, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "liar"}})
    for ip in ("127.0.0.1", "169.254.169.254", "::1", "localhost", OWN):
        status = {"status": {"addresses": [{"type": "InternalIP", "address": ip}]}}
        cluster.kubectl("patch", "node", "liar", "--subresource=status", "--type=merge", "-p", json.dumps(status))
        not_proxied(cluster, "/api/v1/nodes/liar:10248/proxy/healthz", "address not allowed")
        not_proxied(cluster, "/api/v1/nodes/https:liar:6443/proxy/version", "address not allowed")
    cluster.kubectl("delete", "node", "liar")
    not_proxied(cluster, "/api/v1/nodes/https:node1:6443/proxy/version", "address not allowed")
    for path in ("/api/v1/nodes/node1/proxy/healthz", "/api/v1/nodes/node1:10250/proxy/healthz", "/api/v1/nodes/https:node1:10250/proxy/healthz"):
        status, said = raw(cluster, path)
        expect(status == 0 and said.strip() == "ok", f"{path}: {said}")


def test_pods_of_the_host_network_are_proxied_to(cluster):
    create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"}, "spec": {"hostNetwork": True, "containers": [{
        "name": "c", "image": "k3rs.io/userspace:1", "command": ["sh", "-c", "mkdir /www; echo host >/www/index.html; exec busybox httpd -f -p 8099 -h /www"]}]}})
    until(lambda: raw(cluster, "/api/v1/namespaces/default/pods/host:8099/proxy/")[1].strip() == "host", "the pod is proxied to")
    # Not to the server's own ports, though they are at the pod's address.
    for port in (6443, 10250):
        not_proxied(cluster, f"/api/v1/namespaces/default/pods/https:host:{port}/proxy/version", "address not allowed")


def test_credentials_stay_here(cluster):
    """What the caller says about itself is not passed on."""
    show = "while :; do printf 'HTTP/1.0 204 No Content\\r\\n\\r\\n' | nc -l -p 8080; done"
    create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"}, "spec": {"containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sh", "-c", show]}]}})
    token = cluster.kubectl("create", "token", "default").stdout.strip()
    cluster.kubectl("create", "clusterrolebinding", "default-admin", "--clusterrole=cluster-admin", "--serviceaccount=default:default")
    url = "https://127.0.0.1:6443/api/v1/namespaces/default/pods/echo:8080/proxy/"
    ask = f"curl -sk -m 3 -H 'Authorization: Bearer {token}' -H 'Impersonate-User: jane' -H 'Impersonate-Group: system:masters' -H 'X-Remote-User: x' -H 'X-Mine: kept' {url}"


    def heard():
        cluster.sh(ask, check=False)
        text = cluster.kubectl("logs", "echo").stdout.lower()
        return text if "x-mine: kept" in text else ""

    said = until(heard, "the pod shows what it heard")
    for word in ("authorization", "impersonate", "x-remote", token.lower()):
        expect(word not in said, f"{word} was passed on: {said}")
    cluster.kubectl("delete", "clusterrolebinding", "default-admin")
