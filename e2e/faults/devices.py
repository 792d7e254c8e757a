"""Device plugins: they register, tell how their devices are, and pods get those; monitors see who has which."""

import pathlib
import threading

from cluster import expect, until
from faults._grpc import Grpc, fields
from faults._plugins import Plugin
from faults.pods import container, create, pod, ready, remove, status

# By numbers of the options: PreStartContainer is called, a preference is asked for.
STARTS, PREFERS = 1, 2


def root(cluster):
    return pathlib.Path(cluster.env["K3RS_KUBELET_DIR"])


def socket_of(cluster, directory="device-plugins"):
    path = root(cluster) / directory / "kubelet.sock"
    until(path.is_socket, f"{path}")
    return path


def offered(cluster, resource):
    """Capacity and what of it may be given away, as the Node says."""
    told = cluster.get("node", "node1")["status"]
    return told["capacity"].get(resource), told["allocatable"].get(resource)


def plugin(cluster, resource, devices, options=()):
    socket_of(cluster)
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account")
    made = Plugin(root(cluster), resource, devices, options)
    expect(made.register() == 0, "the kubelet takes it")
    amount = (str(len(devices)), str(sum(devices.values())))
    until(lambda: offered(cluster, resource) == amount, f"the Node has {amount} of {resource}")
    return made


def wanting(name, resource, n=1, command="exec sleep 1000", **spec):
    one = container("c", command, resources={"limits": {resource: str(n)}})
    return pod(name, one, **{"restartPolicy": "Never", **spec})


def run_in(cluster, name, command):
    return cluster.kubectl("exec", "-n", "default", name, "--", "sh", "-c", command).stdout.strip()


def resources(cluster):
    """Pairs of pod and device, as the pod resources API tells."""
    client = Grpc(socket_of(cluster, "pod-resources"))
    try:
        got, answer = client.unary("/v1.PodResourcesLister/List", b"")
        expect(got == 0, f"status {got}")
        refused, _ = client.unary("/v1.PodResourcesLister/Get", b"")
        expect(refused == 12, f"Get is not on, and answers {refused}")
    finally:
        client.close()
    found = []
    for one in fields(answer).get(1, []):
        told = fields(one)
        for held in [fields(it) for it in told.get(3, [])]:
            for device in [fields(it) for it in held.get(2, [])]:
                found += [(told[1][0].decode(), device[1][0].decode(), id.decode()) for id in device[2]]
    return found


def test_pods_get_what_they_ask_for(cluster):
    resource = "e2e.k3rs.io/given"
    one = plugin(cluster, resource, {"a": True, "b": True}, (STARTS,))
    create(cluster, wanting("first", resource))
    until(lambda: ready(cluster, "first"), "the first runs", 60)
    expect(one.allocated == [["a"]] and one.started == [["a"]], f"{one.allocated} {one.started}")
    expect(run_in(cluster, "first", "echo $DEVICE_IDS; head -c 3 /dev/e2e | wc -c; ls /plugin") == "a\n3\n" + "\n".join(sorted(["kubelet.sock", *[p.name for p in (root(cluster) / "device-plugins").iterdir() if p.name != "kubelet.sock"]])), "its environment, device and mount")
    create(cluster, wanting("second", resource))
    until(lambda: ready(cluster, "second"), "the second runs", 60)
    expect(set(resources(cluster)) == {("first", resource, "a"), ("second", resource, "b")}, f"{resources(cluster)}")
    create(cluster, wanting("third", resource))
    why = lambda: [c.get("message", "") for c in status(cluster, "third").get("conditions", []) if c["type"] == "PodScheduled"]
    until(lambda: any(f"Insufficient {resource}" in text for text in why()), "the third finds no node")
    remove(cluster, "pod/first")
    until(lambda: ready(cluster, "third"), "it gets what the first had", 60)
    expect(run_in(cluster, "third", "echo $DEVICE_IDS") == "a", f"{one.allocated}")
    remove(cluster, "pod/second", "pod/third")


def test_ill_devices_are_not_given_away(cluster):
    resource = "e2e.k3rs.io/ill"
    one = plugin(cluster, resource, {"a": True, "b": True})
    one.set(a=False)
    until(lambda: offered(cluster, resource) == ("2", "1"), "one is ill")
    create(cluster, wanting("healthy", resource))
    until(lambda: ready(cluster, "healthy"), "the other is given", 60)
    expect(one.allocated == [["b"]], f"{one.allocated}")
    one.close()
    until(lambda: offered(cluster, resource) == ("2", "0"), "its plugin is gone")
    expect(ready(cluster, "healthy"), "who has a device keeps it")
    remove(cluster, "pod/healthy")


def test_a_restart_gives_nothing_away_twice(cluster):
    resource = "e2e.k3rs.io/restart"
    one = plugin(cluster, resource, {"a": True, "b": True})
    create(cluster, wanting("before", resource))
    until(lambda: ready(cluster, "before"), "a pod runs", 60)
    path = socket_of(cluster)
    # The number of a file that is gone is given to the next.
    was = path.stat().st_ctime_ns
    cluster.stop()
    cluster.start()
    until(lambda: path.is_socket() and path.stat().st_ctime_ns != was, "the socket is a new one")
    expect(not (path.parent / one.name).exists(), "the plugin sees that it is to register again")
    until(lambda: offered(cluster, resource) == ("0", "0"), "until then there are none")
    one.open()
    expect(one.register() == 0, "it registers again")
    until(lambda: offered(cluster, resource) == ("2", "2"), "it is there again")
    create(cluster, wanting("after", resource))
    until(lambda: ready(cluster, "after"), "another pod runs", 60)
    expect(one.allocated == [["a"], ["b"]] and ready(cluster, "before"), f"{one.allocated}")
    remove(cluster, "pod/before", "pod/after")


def test_a_plugin_has_its_say(cluster):
    resource = "e2e.k3rs.io/say"
    one = plugin(cluster, resource, {"a": True, "b": True, "c": True}, (PREFERS,))
    one.prefers = ["c"]
    create(cluster, wanting("preferred", resource))
    until(lambda: ready(cluster, "preferred"), "a pod runs", 60)
    expect(one.allocated == [["c"]], f"{one.allocated}")
    one.refusal = "not today"
    create(cluster, wanting("refused", resource))
    failed = lambda: status(cluster, "refused").get("reason") == "UnexpectedAdmissionError" and status(cluster, "refused")
    told = until(failed, "the pod is refused")
    expect("Pod was rejected: Allocate failed due to rpc error: " in told["message"] and "not today, which is unexpected" in told["message"], told["message"])
    expect(told["phase"] == "Failed", f"{told}")
    remove(cluster, "pod/preferred", "pod/refused")


def test_a_plugin_that_hangs_stops_nobody_else(cluster):
    resource = "e2e.k3rs.io/hang"
    one = plugin(cluster, resource, {"a": True})
    one.hang = threading.Event()
    try:
        create(cluster, wanting("hangs", resource), pod("others", container("c", "exec sleep 1000")))
        until(lambda: ready(cluster, "others"), "a pod without devices runs", 60)
        expect(not ready(cluster, "hangs"), "the other waits for its plugin")
    finally:
        one.hang.set()
    until(lambda: ready(cluster, "hangs"), "once it answers, that runs too", 60)
    remove(cluster, "pod/hangs", "pod/others")


def test_init_containers_leave_their_devices(cluster):
    resource = "e2e.k3rs.io/init"
    one = plugin(cluster, resource, {"a": True})
    limits = {"limits": {resource: "1"}}
    made = pod("init", container("c", "exec sleep 1000", resources=limits), initContainers=[container("i", 'test "$DEVICE_IDS" = a', resources=limits)])
    create(cluster, made)
    until(lambda: ready(cluster, "init"), "the pod runs with one device", 60)
    expect(one.allocated == [["a"], ["a"]], f"{one.allocated}")
    remove(cluster, "pod/init")


def test_what_is_no_plugin_is_refused(cluster):
    one = plugin(cluster, "e2e.k3rs.io/plain", {"a": True})
    for wrong in ({"version": "v1alpha"}, {"resource": "cpu"}, {"resource": "kubernetes.io/x"}, {"endpoint": "../x.sock"}, {"endpoint": "."}):
        expect(one.register(**wrong) == 2, f"{wrong} is refused")
    mode = socket_of(cluster).stat().st_mode & 0o777
    expect(mode == 0o600, f"only root may connect, not {mode:o}")
    # What is no message ends the following, and nothing else.
    connection, stream = one.watchers[0]
    connection.send(stream, b"\x0a\xff\xff")
    until(lambda: offered(cluster, "e2e.k3rs.io/plain") == ("1", "0"), "its devices are ill")
    expect(one.register() == 0, "it may come again")
    until(lambda: offered(cluster, "e2e.k3rs.io/plain") == ("1", "1"), "and is believed")
