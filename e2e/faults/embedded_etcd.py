"""Three servers with an etcd that each runs itself: they join one another, survive the death of one, and let one go."""

import json
import pathlib
import signal
import subprocess
import time

from cluster import telling, until
from hosts import Host, Wire, endpoints, node_ready

TOKEN = "a-token-of-servers"
FIRST, SECOND, THIRD = "192.0.2.10", "192.0.2.11", "192.0.2.12"
NAMES = {FIRST: "node1", SECOND: "node2", THIRD: "node3"}
# A fifth of what etcd has by default here, so that the test waits less for elections.
FAST = ("--etcd-arg", "--heartbeat-interval=100", "--etcd-arg", "election-timeout=1000")
URL = f"https://{FIRST}:6443"
FOUND = {}


def say():
    return "\n".join(f"{host.name} says:\n{host.tail()}" for host in FOUND["hosts"])


with_log = telling(say)


def tls(data, name):
    return data / "server" / "tls" / "etcd" / name


def db_info(server, user="server", password=TOKEN):
    """Code and body of the answer to who asks for the members."""
    body, code = server.sh(f"curl -s -k -u {user}:{password} -w ' %{{http_code}}' https://127.0.0.1:6443/db/info").rsplit(" ", 1)
    return code, body


def members(server):
    """Address, and whether it votes, of each member."""
    code, body = db_info(server)
    assert code == "200", (code, body)
    return {one["peerURLs"][0].split("//")[1].split(":")[0]: not one.get("isLearner") for one in json.loads(body)["members"]}


def create(server, name, timeout="3s"):
    made = server.kubectl("create", "configmap", "-n", "default", name, "--from-literal=a=1", f"--request-timeout={timeout}", check=False, timeout=30)
    return made.returncode == 0


def shows(server, name):
    """What was acknowledged is there; only that nothing is said is no answer, while etcd has no leader."""
    answers = []

    def answered():
        got = server.kubectl("get", "configmap", "-n", "default", name, "--request-timeout=5s", check=False, timeout=30)
        if got.returncode == 0 or "NotFound" in got.stderr:
            answers.append(got.returncode == 0)
        return answers

    until(answered, "it answers", 60)
    assert answers[0], f"{server} does not show {name}"


def are_members(server, *addresses):
    """These vote, and there are no others."""
    wanted = dict.fromkeys(addresses, True)
    until(lambda: members(server) == wanted, f"{addresses} are the members", 60)


def join(host, *more):
    host.server("--token", TOKEN, "--server", URL, *FAST, *more)


def etcds(data):
    """Processes of the etcd with this data directory."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"--config-file={data}/server/db/etcd/config".encode() in words:
            found.append(int(entry.parent.name))
    return found


def test_a_server_with_a_file_of_its_own_becomes_a_cluster_of_one(cluster):
    """What it has goes with it, once."""
    cluster.kubectl("create", "configmap", "-n", "default", "a1", "--from-literal=a=1")
    uid = cluster.get("node", "node1")["metadata"]["uid"]
    keys = [path for path in (cluster.data / "server" / "tls").glob("*-ca.key")]
    before = [path.read_bytes() for path in keys]
    cluster.stop()
    cluster.args = ["--token", TOKEN, "--cluster-init", *FAST]
    cluster.start()
    assert [path.read_bytes() for path in keys] == before and len(keys) >= 3
    shows(cluster, "a1")
    assert cluster.get("node", "node1")["metadata"]["uid"] == uid
    database = cluster.data / "server" / "db"
    assert not (database / "state.db").exists() and (database / "state.db.migrated").exists(), list(database.iterdir())
    are_members(cluster, FIRST)
    (pid,) = etcds(cluster.data)
    for directory in (cluster.data / "server" / "db" / "etcd", cluster.data / "server" / "tls" / "etcd"):
        assert directory.stat().st_mode & 0o777 == 0o700, directory
    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    assert TOKEN.encode() not in environment and b"K3RS" not in environment, environment
    for user, password, code in (("node", TOKEN, "403"), ("server", "x", "401"), ("x", TOKEN, "401")):
        assert db_info(cluster, user, password)[0] == code, (user, password)
    resident = [line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return f"etcd has {int(resident[0].split()[1]) // 1024} MiB"


def test_b_who_may_not_join_is_told_why(cluster):
    second = FOUND["hosts"][0]
    second.server("--server", URL)
    second.ended("K3S_TOKEN is required to join a cluster")
    second.server("--server", URL, "--token", "another")
    second.ended("not authorized")
    second.server("--server", URL, "--token", f"K10{'0' * 64}::server:{TOKEN}")
    second.ended("token CA hash does not match the Cluster CA certificate hash")
    join(second, "--cluster-cidr", "10.99.0.0/16")
    second.ended("critical configuration value mismatch between servers: cluster-cidr")
    are_members(cluster, FIRST)


@with_log
def test_c_others_join(cluster):
    second, third = FOUND["hosts"]
    join(second)
    until(lambda: second.alive() and "Adding member node2-" in second.tail(10_000), "it is about to be a member", 60, interval=0.02)
    # What was begun is gone on with: the member may be there, a learner that has not started.
    second.stop(signal.SIGKILL)
    since = time.monotonic()
    join(second)
    second.wait_up()
    took = time.monotonic() - since
    # The third asks the first, too, which is as good as the second.
    join(third)
    third.wait_up()
    are_members(cluster, FIRST, SECOND, THIRD)
    for host in (second, third):
        for name in ("server-ca.crt", "peer-ca.key"):
            assert tls(host.data, name).read_bytes() == tls(cluster.data, name).read_bytes(), name
    for name in NAMES.values():
        until(lambda: node_ready(cluster, name), f"{name} is Ready", 60)
    until(lambda: endpoints(cluster) == sorted(NAMES), "all servers are told", 60)

    def told(name, address):
        metadata = cluster.get("node", name)["metadata"]
        annotations = metadata["annotations"]
        return (
            metadata["labels"].get("node-role.kubernetes.io/etcd") == "true"
            and annotations.get("etcd.k3s.cattle.io/node-address") == address
            and annotations.get("etcd.k3s.cattle.io/node-name", "").startswith(f"{name}-")
            and metadata.get("finalizers")
        )

    for address, name in NAMES.items():
        until(lambda: told(name, address), f"{name} is told to be a member", 60)
    return f"the second answers after {took:.1f} s"


@with_log
def test_d_what_one_acknowledges_the_others_show(cluster):
    servers = [cluster, *FOUND["hosts"]]
    for idx, server in enumerate(servers):
        until(lambda: create(server, f"c{idx}"), "it is written", 60)
        for other in servers:
            shows(other, f"c{idx}")


@with_log
def test_e_an_etcd_that_dies_is_started_again(cluster):
    second = FOUND["hosts"][0]
    (pid,) = etcds(second.data)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    until(lambda: etcds(second.data) not in ([], [pid]), "it is there again", 60, interval=0.05)
    until(lambda: create(second, "again"), "writes go on", 60)
    assert second.alive()
    shows(cluster, "again")


@with_log
def test_f_whose_node_is_deleted_is_a_member_no_more(cluster):
    second, third = FOUND["hosts"]
    since = time.monotonic()
    cluster.kubectl("delete", "node", "node3", "--timeout=60s")
    are_members(cluster, FIRST, SECOND)
    third.ended("this node has been removed from the cluster please restart k3rs to rejoin the cluster")
    took = time.monotonic() - since
    until(lambda: create(cluster, "g1"), "the others write on", 60)
    shows(second, "g1")
    # Without a word it does not come back, and above all begins no cluster of its own.
    third.server("--token", TOKEN, "--cluster-init")
    third.ended("give it --server and --token to join again")
    return f"gone after {took:.1f} s"


@with_log
def test_g_it_may_join_again(cluster):
    third = FOUND["hosts"][1]
    join(third)
    third.wait_up()
    are_members(cluster, FIRST, SECOND, THIRD)
    shows(third, "g1")
    assert len(list((third.data / "server" / "db").glob("etcd-backup-*"))) == 1
    until(lambda: node_ready(cluster, "node3"), "its node is back", 60)


def leads(server):
    """Whether the server's etcd leads the others."""
    metrics = subprocess.run(server.inside(["curl", "-s", "http://127.0.0.1:2381/metrics"]), capture_output=True, text=True, timeout=30).stdout
    return "\netcd_server_is_leader 1\n" in metrics


@with_log
def test_h_the_leader_dies_and_the_others_write_on(cluster):
    servers = [cluster, *FOUND["hosts"]]
    until(lambda: any(leads(server) for server in servers), "one of them leads", 60)
    dies = next(server for server in servers if leads(server))
    others = [server for server in servers if server is not dies]
    dies.stop(signal.SIGKILL)
    killed = time.monotonic()
    for idx, server in enumerate(others):
        until(lambda: create(server, f"h{idx}"), "writes go on", 60, interval=0.05)
    took = time.monotonic() - killed
    until(lambda: not etcds(dies.data), "its etcd is not left behind", 60)
    # It needs nobody's help to come back, nor a flag.
    if dies is cluster:
        cluster.args = ["--token", TOKEN, *FAST]
        cluster.start(wait=False)
    else:
        dies.server("--token", TOKEN, *FAST)
    dies.wait_up(60)
    shows(dies, "h0")
    until(lambda: create(dies, "back"), "it writes again", 60)
    shows(others[0], "back")
    are_members(others[0], FIRST, SECOND, THIRD)
    return f"written {took:.1f} s after the leader's death"


@with_log
def test_i_all_die_and_come_back_together(cluster):
    """Each needs another one to begin with, whatever the server that it joined once does."""
    servers = [cluster, *FOUND["hosts"]]
    until(lambda: create(cluster, "i0"), "it is written", 60)
    for server in servers:
        server.stop(signal.SIGKILL)
    for host in FOUND["hosts"]:
        join(host)
    for host in FOUND["hosts"]:
        # Two are enough, and the one that they joined is not there yet.
        host.wait_up(60)
        shows(host, "i0")
    cluster.args = ["--token", TOKEN, *FAST]
    cluster.start(wait=False)
    cluster.wait_up(60)
    shows(cluster, "i0")


@with_log
def test_j_a_stopped_server_stops_its_etcd_and_a_reset_leaves_it_alone(cluster):
    second, third = FOUND["hosts"]
    third.stop()
    second.stop()
    assert not etcds(second.data) and not etcds(third.data)
    assert "Stopped" in second.tail()
    cluster.stop(signal.SIGKILL)
    second.server("--token", TOKEN, "--cluster-reset")
    code = second.process.wait(60)
    assert code == 0 and "Managed etcd cluster membership has been reset" in second.tail(), (code, second.tail())
    second.server("--token", TOKEN, "--cluster-reset")
    second.ended("Managed etcd cluster membership was previously reset")
    second.server("--token", TOKEN, *FAST)
    second.wait_up()
    until(lambda: create(second, "j1"), "it writes alone", 60)
    shows(second, "g1")


def prepare(cluster):
    close = cluster.close
    wire = Wire(cluster.netns)
    wire.plug(cluster.inside, "peer0", "p10")
    hosts = FOUND["hosts"] = [Host(wire, cluster.dir, cluster.binary, NAMES[address], int(address.split(".")[3])) for address in (SECOND, THIRD)]

    def close_all():
        for host in hosts:
            host.close()
        close()
        wire.close()

    cluster.close = close_all
    cluster.args = ["--token", TOKEN]
