"""Pods whose network is made by k3rs's own CNI plugins, under their usual names: `--flannel-backend=none` and a list of one's own."""

import json
import subprocess

from cluster import expect, until
from faults._web import serving
from faults.cni import SERVICE, reaches, ready, wait

ARGS = ["--flannel-backend=none"]

NAMES = ["bandwidth", "bridge", "firewall", "flannel", "host-local", "loopback", "portmap"]
PORT = "ports: [{containerPort: 8080, hostPort: 8088}]"


def ipam(cluster):
    # Leases lie where no other node of this machine's has its own.
    return {"type": "host-local", "dataDir": str(cluster.dir / "leases"), "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.42.0.0/24"}]]}


def chain(first):
    more = [{"type": "portmap", "capabilities": {"portMappings": True}}, {"type": "bandwidth", "capabilities": {"bandwidth": True}}]
    return {"cniVersion": "1.0.0", "name": "own", "plugins": [first, *more]}


def configure(cluster, name, tree):
    directory = cluster.data / "agent" / "etc" / "cni" / "net.d"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "new").write_text(json.dumps(tree))
    (directory / "new").rename(directory / name)


def prepare(cluster):
    bridge = {"type": "bridge", "bridge": "br-own", "isDefaultGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": {**ipam(cluster), "routes": []}}
    configure(cluster, "10-own.conflist", chain(bridge))


def leases(cluster, network="own"):
    """Who has which address, as host-local keeps it."""
    directory = cluster.dir / "leases" / network
    files = [path for path in directory.iterdir() if path.name.startswith("10.")]
    return {path.name: path.read_bytes().decode().split("\r\n") for path in files}


def tables(cluster):
    return [line.split()[-1] for line in cluster.sh("nft list tables inet").splitlines() if " cni_" in line]


def gone(cluster, pod):
    cluster.kubectl("delete", "pod", "-n", "e2e", pod, timeout=90)


def test_a_list_that_names_them_makes_pods_networks(cluster):
    links = cluster.data / "data" / "cni"
    expect(sorted(path.name for path in links.iterdir()) == NAMES, "their names are in data/cni")
    until(lambda: ready(cluster)[0] == "True", "the node is Ready", 60)
    cluster.kubectl("create", "namespace", "e2e")
    cluster.apply(serving("one", "node1", more=PORT) + SERVICE % {"name": "one"})
    cluster.apply(serving("two", "node1"))
    wait(cluster, "one")
    wait(cluster, "two")
    addresses = {name: cluster.get("pod", "-n", "e2e", name)["status"]["podIP"] for name in ("one", "two")}
    expect(set(addresses.values()) <= set(leases(cluster)), (addresses, leases(cluster)))
    expect(all(lease[1] == "eth0" for lease in leases(cluster).values()), leases(cluster))
    reaches(cluster, "two", f"http://{addresses['one']}:8080/")
    service = cluster.get("service", "-n", "e2e", "one")["spec"]["clusterIP"]
    for pod in ("two", "one"):
        reaches(cluster, pod, f"http://{service}/")
        reaches(cluster, pod, "http://one.e2e.svc.cluster.local/")
        # The pod itself among them, through the port of its host.
        reaches(cluster, pod, "http://192.0.2.10:8088/")
    for host in ("192.0.2.10", "127.0.0.1"):
        until(lambda: "hello" in cluster.sh(f"curl -s --max-time 3 http://{host}:8088/", check=False), f"the host port answers at {host}", 60)
    # It is the plugin that maps it, not the node.
    rules = [cluster.sh(f"nft list table inet {table}") for table in tables(cluster)]
    expect(sum(f"dnat ip to {addresses['one']}:8080" in text for text in rules) == 1, rules)
    expect(sum("masquerade" in text and "hostports" not in text for text in rules) == 2, rules)


def test_what_goes_gives_all_back(cluster):
    before = leases(cluster)
    address = cluster.get("pod", "-n", "e2e", "two")["status"]["podIP"]
    gone(cluster, "two")
    until(lambda: leases(cluster) == {ip: lease for ip, lease in before.items() if ip != address}, "its address is free", 60)
    until(lambda: len(tables(cluster)) == 2, "its rules are gone", 60)
    expect(cluster.sh("ip -o link show master br-own").count("veth") == 1, "its interface is gone")


def test_a_pod_is_held_to_its_bandwidth(cluster):
    if not subprocess.run(["which", "tc"], capture_output=True).stdout:
        return "skipped: there is no tc"
    limits = "annotations: {kubernetes.io/ingress-bandwidth: 8M, kubernetes.io/egress-bandwidth: 16M}"
    cluster.apply(serving("slow", "node1").replace("metadata: {", f"metadata: {{{limits}, ", 1))
    wait(cluster, "slow")
    shown = cluster.sh("tc qdisc show")
    expect("rate 8Mbit" in shown and "rate 16Mbit" in shown, shown)
    gone(cluster, "slow")
    until(lambda: "bwp" not in cluster.sh("ip -o link"), "its device is gone", 60)


def test_a_restart_finds_all_of_it_whole(cluster):
    address = cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"]
    cluster.stop(9)
    cluster.start()
    until(lambda: ready(cluster)[0] == "True", "the node is Ready again", 60)
    wait(cluster, "one")
    expect(cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"] == address, "its address stays")
    until(lambda: "hello" in cluster.sh("curl -s --max-time 3 http://192.0.2.10:8088/", check=False), "the host port answers", 60)
    expect("failed (check)" not in cluster.tail(), cluster.tail())


def test_flannel_tells_them(cluster):
    # What flannel's daemon writes.
    env = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    kept = cluster.dir / "flannel"
    more = {"subnetFile": str(cluster.dir / "subnet.env"), "dataDir": str(kept), "ipam": {"dataDir": str(cluster.dir / "leases")}}
    flannel = {"type": "flannel", "delegate": {"bridge": "br-flannel", "isDefaultGateway": True, "hairpinMode": True}, **more}
    configure(cluster, "05-flannel.conflist", {**chain(flannel), "name": "cbr0"})
    cluster.apply(serving("three", "node1"))
    why = "failed to load flannel 'subnet.env' file"

    def said():
        events = cluster.get("events", "-n", "e2e", "--field-selector", "involvedObject.name=three")["items"]
        return any(why in event["message"] for event in events)

    until(said, "the pod says what is missing", 60)
    (cluster.dir / "subnet.env").write_text(env)
    wait(cluster, "three")
    address = cluster.get("pod", "-n", "e2e", "three")["status"]["podIP"]
    expect(address.startswith("10.42.7.") and address in leases(cluster, "cbr0"), leases(cluster, "cbr0"))
    expect("mtu 1450" in cluster.kubectl("exec", "-n", "e2e", "three", "--", "ip", "link", "show", "eth0").stdout, "its MTU is flannel's")
    one = cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"]
    reaches(cluster, "three", f"http://{one}:8080/")
    # The daemon may be gone when the pod goes.
    (cluster.dir / "subnet.env").unlink()
    gone(cluster, "three")
    until(lambda: leases(cluster, "cbr0") == {} and list(kept.iterdir()) == [], "all of it is given back", 60)


def test_zz_nothing_is_left(cluster):
    cluster.stop()
    command = [cluster.binary, "uninstall", "--data-dir", str(cluster.data)]
    done = subprocess.run(cluster.inside(command), env=cluster.env, capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(leases(cluster) == {} and tables(cluster) == [], (leases(cluster), tables(cluster)))
    left = cluster.sh("ip -o link")
    expect(": veth" not in left, left)
