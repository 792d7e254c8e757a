"""DNS: name servers with faults behind cluster DNS, small clients before it, and names that exist without records."""

import json
import pathlib
import subprocess
import sys

from cluster import Failure, until

# It measures how long answers take.
ALONE = True

HERE = pathlib.Path(__file__).resolve().parent
NS = "dns"
GOOD, NO_EDNS, SILENT, UDP_ONLY = "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"
ARGS = []
NO_NAME = 3


def prepare(cluster):
    for address in (GOOD, NO_EDNS, SILENT, UDP_ONLY):
        cluster.sh(f"ip addr add {address}/32 dev lo")
    resolv_conf(cluster, SILENT, NO_EDNS)
    cluster.args += ["--resolv-conf", str(cluster.dir / "resolv.conf")]
    served = [f"{GOOD}=good", f"{NO_EDNS}=noedns", f"{SILENT}=silent", f"{UDP_ONLY}=udponly"]
    # It ends when this process does.
    subprocess.Popen(cluster.inside([sys.executable, str(HERE / "_dns.py"), "serve", str(cluster.dir / "asked"), *served]))


def resolv_conf(cluster, *servers):
    (cluster.dir / "resolv.conf").write_text("".join(f"nameserver {server}\n" for server in servers))


def ask(cluster, name, kind="A", edns=0, tcp=False, timeout=10):
    done = subprocess.run(
        cluster.inside([sys.executable, str(HERE / "_dns.py"), "ask", "10.43.0.10", name, kind, str(edns), "tcp" if tcp else "udp", str(timeout)]),
        capture_output=True, text=True, timeout=20,
    )
    if done.returncode != 0:
        raise Failure(done.stderr)
    answer = json.loads(done.stdout)
    assert answer["ok"], answer
    return answer


def asked(cluster):
    path = cluster.dir / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_a_silent_and_an_old_name_server(cluster):
    """The first server is silent, the second knows no EDNS: only the first question pays for that."""
    # A question that came before the rules of the service is lost: it is asked again, as resolvers do.
    until(lambda: ask(cluster, "kubernetes.default.svc.cluster.local", timeout=1)["answers"], "cluster DNS answers", 20)
    first = ask(cluster, "first.example.test")
    assert [r[3] for r in first["answers"]] == ["10.9.9.3"], first
    for idx in range(8):
        later = ask(cluster, f"later{idx}.example.test")
        assert [r[3] for r in later["answers"]] == ["10.9.9.3"] and later["seconds"] < 0.5, later
    # The old one is not bothered with EDNS again.
    lines = [line for line in asked(cluster) if line.startswith("noedns") and ".example.test" in line]
    assert [line for line in lines if "later" in line and "opt=1" in line] == [], lines
    # Larger than its 512 bytes: over TCP, and then cut for the client.
    cut = ask(cluster, "big.60.example.test")
    assert (len(cut["answers"]), cut["cut"], cut["additional"]) == (29, True, []), cut
    ports = {line.rsplit("=", 1)[1] for line in asked(cluster) if "later" in line and "noedns" in line}
    # The kernel draws each anew; in one of a thousand runs it draws one of the eight again.
    assert len(ports) >= 7, f"each question has a port of its own: {ports}"
    return f"first answer after {first['seconds']:.2f} s"


def test_answers_are_cut_between_records(cluster):
    resolv_conf(cluster, GOOD)
    until(lambda: ask(cluster, "who.example.test", "TXT")["answers"][0][3] == "good", "the new file is read", 20)
    for name, edns, tcp, answers, cut in [
        ("big.60.example.test", 0, False, 29, True),
        ("big.29.example.test", 0, False, 29, False),
        ("big.60.example.test", 1232, False, 60, False),
        ("big.60.example.test", 0, True, 60, False),
        ("big.900.example.test", 0, True, 900, False),
        ("big.900.example.test", 1232, False, 73, True),
        ("big.900.example.test", 0, False, 29, True),
        ("BIG.60.example.TEST", 0, False, 29, True),
        ("chain.example.test", 1232, False, 38, False),
    ]:
        answer = ask(cluster, name, edns=edns, tcp=tcp)
        what = f"{name} edns={edns} tcp={tcp}: {len(answer['answers'])} cut={answer['cut']} bytes={answer['bytes']}"
        assert (len(answer["answers"]), answer["cut"]) == (answers, cut), what
        assert answer["asked"] == name, "the client's spelling"
        assert len([r for r in answer["additional"] if r[1] == 41]) == (1 if edns else 0), what
        assert tcp or answer["bytes"] <= max(512, edns), what
    chain = ask(cluster, "chain.example.test")
    assert chain["cut"] and len(chain["answers"]) > 10, chain
    mail = ask(cluster, "mail.example.test", "MX")
    assert mail["answers"][0][3] == "mx.mail.example.test", mail
    nothing = ask(cluster, "nx.example.test")
    assert (nothing["code"], nothing["answers"], nothing["authority"][0][1]) == (NO_NAME, [], 6), nothing
    # Without TCP behind it, a part is more than nothing.
    resolv_conf(cluster, UDP_ONLY)
    until(lambda: ask(cluster, "who.example.test", "TXT")["answers"][0][3] == "udponly", "the new file is read", 20)
    part = ask(cluster, "big.200.example.test")
    assert part["cut"] and len(part["answers"]) == 10, part


def test_local_answers_are_cut_by_the_same_rule(cluster):
    cluster.kubectl("create", "namespace", NS)
    slices = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "many-1", "namespace": NS, "labels": {"kubernetes.io/service-name": "many"}},
        "ports": [{"name": "web", "port": 80}],
        "endpoints": [{"addresses": [f"192.168.7.{idx}"], "conditions": {"ready": True}} for idx in range(1, 80)],
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many", "namespace": NS}, "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 80}]}}
    alias = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias", "namespace": NS}, "spec": {"type": "ExternalName", "externalName": "mail.example.test"}}
    inner = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "inner", "namespace": NS}, "spec": {"type": "ExternalName", "externalName": f"many.{NS}.svc.cluster.local"}}
    for tree in (service, slices, alias, inner):
        cluster.kubectl("create", "-f", "-", input=json.dumps(tree))
    name = f"many.{NS}.svc.cluster.local"
    until(lambda: len(ask(cluster, name, tcp=True)["answers"]) == 79, "the names are there", 10)
    plain = ask(cluster, name)
    assert plain["cut"] and len(plain["answers"]) > 25 and plain["bytes"] <= 512 and not plain["additional"], plain
    inner = ask(cluster, f"inner.{NS}.svc.cluster.local")
    assert inner["cut"] and len(inner["answers"]) > 20, inner
    mail = ask(cluster, f"alias.{NS}.svc.cluster.local", "MX")
    assert [r[1] for r in mail["answers"]] == [5, 15], mail
    address = ask(cluster, f"Alias.{NS}.svc.cluster.local")
    assert [r[1] for r in address["answers"]] == [5, 1] and address["asked"].startswith("Alias"), address


def test_names_without_records_exist(cluster):
    """No data (code 0 and the SOA) where the name exists, no such name (3) where it does not."""
    cluster.apply(
        """
apiVersion: v1
kind: Service
metadata: {name: noports}
spec: {clusterIP: None, selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec:
  hostname: web-0
  subdomain: noports
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'k3rs.io/userspace:1', command: [sleep, '100000']}]
""",
        NS,
    )
    zone = f"{NS}.svc.cluster.local"
    until(lambda: ask(cluster, f"web-0.noports.{zone}")["answers"], "the endpoint's name is there", 40)
    for name, kind, code in [
        (f"noports.{zone}", "SRV", 0),
        (f"noports.{zone}", "AAAA", 0),
        (f"noports.{zone}", "TXT", 0),
        (f"web-0.noports.{zone}", "SRV", 0),
        (f"web-0.noports.{zone}", "AAAA", 0),
        (f"web-1.noports.{zone}", "A", NO_NAME),
        (f"_http._tcp.noports.{zone}", "SRV", NO_NAME),
        (f"plain.{zone}", "AAAA", 0),
        (f"plain.{zone}", "MX", 0),
        (f"_tcp.plain.{zone}", "SRV", 0),
        (f"_http._tcp.plain.{zone}", "A", 0),
        (f"_http._udp.plain.{zone}", "SRV", NO_NAME),
        (f"x.plain.{zone}", "A", NO_NAME),
        (f"nobody.{zone}", "SRV", NO_NAME),
        (zone, "SRV", 0),
        ("svc.cluster.local", "A", 0),
        ("cluster.local", "A", 0),
        ("nowhere.svc.cluster.local", "A", NO_NAME),
    ]:
        answer = ask(cluster, name, kind)
        assert (answer["code"], answer["answers"]) == (code, []), f"{name} {kind}: {answer}"
        assert [r[1] for r in answer["authority"]] == [6], f"{name} {kind}: {answer}"


def code_of(cluster, name, kind="A", version=0):
    """The whole code of an answer, with the part that is in its OPT record."""
    script = f"""
import struct, sys
sys.path.insert(0, {str(HERE)!r})
import socket
from _dns import TYPES, encode
query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 1) + encode({name!r}) + struct.pack(">HH", TYPES[{kind!r}], 1)
query += b"\\0" + struct.pack(">HHIH", 41, 1232, {version} << 16, 0)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
sock.sendto(query, ("10.43.0.10", 53))
data = sock.recv(65535)
# Our OPT record is the last one and has no data: its TTL begins with the upper bits of the code and the version.
print(data[-6] << 4 | data[3] & 15, data[-5], struct.unpack(">H", data[6:8])[0])
"""
    done = subprocess.run(cluster.inside([sys.executable, "-c", script]), capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_namespaces_without_services_exist(cluster):
    """As CoreDNS: a namespace is a name if it exists, whatever is in it, and pods' names are in such only."""
    cluster.kubectl("create", "namespace", "empty-one")
    for name, expected in [
        ("empty-one.svc.cluster.local", 0),
        ("empty-one.pod.cluster.local", 0),
        ("x.empty-one.svc.cluster.local", 3),
        ("1-2-3-4.empty-one.pod.cluster.local", 0),
        ("never-made.svc.cluster.local", 3),
        ("never-made.pod.cluster.local", 3),
        ("1-2-3-4.never-made.pod.cluster.local", 3),
    ]:
        until(lambda: code_of(cluster, name)[0] == expected, f"{name}: {code_of(cluster, name)}", 10)
    cluster.kubectl("delete", "namespace", "empty-one", "--wait=false")
    until(lambda: code_of(cluster, "empty-one.svc.cluster.local")[0] == 3, "the name goes with its namespace", 30)


def test_other_versions_of_edns(cluster):
    for name in ("kubernetes.default.svc.cluster.local", "example.test"):
        answer = code_of(cluster, name, version=1)
        assert answer == [16, 0, 0], f"{name}: {answer}"
    until(lambda: code_of(cluster, "kubernetes.default.svc.cluster.local") == [0, 0, 1], "version 0 is served")


def test_connections_of_one_do_not_keep_others_out(cluster):
    """An address that opens many closes its own oldest; everybody else's question is answered."""
    hog = """
import socket, sys, time
held = [socket.create_connection(("10.43.0.10", 53), source_address=("127.0.0.9", 0)) for _ in range(400)]
print("held", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(cluster.inside([sys.executable, "-c", hog]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        for _ in range(5):
            answer = ask(cluster, "kubernetes.default.svc.cluster.local", tcp=True)
            assert answer["answers"], answer
        held = int(cluster.sh("ss -Htn state established sport = :53 | wc -l"))
        assert held <= 20, f"{held} connections"
    finally:
        process.kill()
        process.wait()
