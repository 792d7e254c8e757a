"""A cloud controller of somebody else's: --disable-cloud-controller, and kubelets that wait for it."""

import json

from cluster import expect, until

EXTERNAL = "--kubelet-arg=cloud-provider=external"
UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
# With k3s's own there is nothing to wait for.
ARGS = (EXTERNAL,)


def node(cluster):
    return cluster.get("node", "node1")


def anew(cluster, *args):
    cluster.stop()
    cluster.data.rename(cluster.dir / f"data-{len(list(cluster.dir.iterdir()))}")
    cluster.args = list(args)
    cluster.start()


def test_a_by_itself_k3rs_says_what_a_node_is(cluster):
    found = node(cluster)
    expect(found["spec"]["providerID"] == "k3s://node1" and UNINITIALIZED not in found["spec"].get("taints", []), found["spec"])


def test_b_without_it_nodes_have_no_provider(cluster):
    anew(cluster, "--disable-cloud-controller")
    found = node(cluster)
    expect("providerID" not in found["spec"] and UNINITIALIZED not in found["spec"].get("taints", []), found["spec"])


def test_c_another_one_says_what_a_node_is(cluster):
    anew(cluster, "--disable-cloud-controller", EXTERNAL, "--kubelet-arg=provider-id=cloud://7")
    found = node(cluster)
    expect(found["spec"]["providerID"] == "cloud://7" and UNINITIALIZED in found["spec"]["taints"], found["spec"])
    own = [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": "node1"}]
    expect(found["status"]["addresses"] == own, found["status"]["addresses"])
    cluster.kubectl("run", "-n", "default", "waits", "--image=nowhere.invalid/none", "--image-pull-policy=Never")

    def condition():
        listed = cluster.get("pod", "-n", "default", "waits")["status"].get("conditions", [])
        return next((one.get("message", "") for one in listed if one["type"] == "PodScheduled"), "")

    until(lambda: UNINITIALIZED["key"] in condition(), "no pod is placed yet", 60)
    # As a cloud controller does it.
    said = [*own, {"type": "ExternalIP", "address": "198.51.100.7"}]
    cluster.kubectl("patch", "node", "node1", "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"addresses": said}}))
    cluster.kubectl("taint", "node", "node1", f"{UNINITIALIZED['key']}-")
    until(lambda: cluster.get("pod", "-n", "default", "waits")["spec"].get("nodeName") == "node1", "the pod is placed", 60)
    # The kubelet writes its Node at its start, and leaves that to the cloud.
    cluster.stop()
    cluster.start()
    found = node(cluster)
    expect(found["status"]["addresses"] == said and UNINITIALIZED not in found["spec"].get("taints", []), found)
