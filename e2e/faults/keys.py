"""The keys of a cluster change: the servers' token, on one server and where others share the datastore."""

import subprocess

from cluster import telling, until
from hosts import Host, Wire

OLD, NEW = "the-old-token", "the-new-token"
FIRST, SECOND = "192.0.2.10", "192.0.2.11"
# Elections that a test does not wait for.
FAST = ("--etcd-arg", "heartbeat-interval=100", "--etcd-arg", "election-timeout=1000")
ARGS = ("--token", OLD, "--disable-agent")
URL = f"https://{FIRST}:6443"
FOUND = {}


def say():
    return f"{FOUND['second'].name} says:\n{FOUND['second'].tail()}"


def k3rs(cluster, *args):
    words = [cluster.binary, *args, "--data-dir", str(cluster.data)]
    return subprocess.run(cluster.inside(words), env=cluster.env, capture_output=True, text=True, timeout=60)


def code(cluster, user, password):
    """What the supervisor answers who joins with it."""
    return cluster.sh(f"curl -s -k -u {user}:{password} -o /dev/null -w '%{{http_code}}' https://127.0.0.1:6443/v1-k3s/config")


def token(cluster):
    return (cluster.data / "server" / "token").read_text().strip()


def make(server, name):
    server.kubectl("create", "configmap", "-n", "default", name, "--from-literal=a=1")


def has(server, name):
    return server.kubectl("get", "configmap", "-n", "default", name, check=False).returncode == 0


def ended(cluster, words):
    cluster.start(wait=False)
    assert cluster.process.wait(60) == 1 and words in cluster.tail(), cluster.tail()


def test_a_token_that_is_rotated_is_the_only_one(cluster):
    make(cluster, "a1")
    whole = token(cluster)
    assert whole.endswith(f"::server:{OLD}")
    for args, words in ((("--token", "x"), "not authorized"), (("--new-token", "a,b"), "has characters that no token has"), (("--new-token", OLD), "is the old one")):
        done = k3rs(cluster, "token", "rotate", *args)
        assert done.returncode == 1 and words in done.stderr, done
    assert code(cluster, "server", OLD) == "200" and code(cluster, "server", NEW) == "401"
    done = k3rs(cluster, "token", "rotate", "--new-token", NEW)
    assert done.returncode == 0 and done.stdout.endswith("Token rotated, restart k3rs nodes with new token\n") and "keep a record of the old token" in done.stdout, done
    assert token(cluster) == whole.removesuffix(OLD) + NEW
    for user in ("server", "node"):
        assert code(cluster, user, OLD) == "401" and code(cluster, user, NEW) == "200", user
    cluster.stop()
    ended(cluster, "--token does not match the token of the cluster")
    cluster.args = ["--disable-agent"]
    cluster.start()
    assert has(cluster, "a1") and token(cluster).endswith(f"::server:{NEW}")
    # The keys of the cluster are there under the new token alone.
    cluster.stop()
    key = cluster.data / "server" / "tls" / "client-ca.key"
    kept = key.read_bytes()
    key.unlink()
    cluster.start()
    assert key.read_bytes() == kept and has(cluster, "a1")
    done = k3rs(cluster, "token", "rotate")
    made = token(cluster).rsplit(":", 1)[1]
    assert done.returncode == 0 and len(made) == 32 and code(cluster, "server", made) == "200", done
    assert k3rs(cluster, "token", "rotate", "--new-token", OLD).returncode == 0


@telling(say)
def test_b_the_other_servers_need_the_new_one(cluster):
    second = FOUND["second"]
    cluster.stop()
    cluster.args = [*ARGS, "--cluster-init", *FAST]
    cluster.start()
    second.server("--token", OLD, "--server", URL, "--disable-agent", *FAST)
    second.wait_up()
    done = k3rs(cluster, "token", "rotate", "--token", token(cluster), "--new-token", NEW)
    assert done.returncode == 0, done
    assert code(cluster, "node", NEW) == "200"
    # It goes on as it is until it is started again.
    make(second, "b1")
    second.stop()
    second.server("--token", OLD, "--disable-agent", *FAST)
    second.ended("bootstrap data already found and encrypted with different token")
    second.server("--token", NEW, "--disable-agent", *FAST)
    second.wait_up()
    assert (second.data / "server" / "token").read_text() == token(cluster) + "\n"
    until(lambda: has(cluster, "b1") and has(second, "b1"), "both have what the other wrote", 60)
    second.stop()
    second.server("--disable-agent", *FAST)
    second.wait_up()


def prepare(cluster):
    close = cluster.close
    wire = Wire(cluster.netns)
    wire.plug(cluster.inside, "peer0", "p10")
    second = FOUND["second"] = Host(wire, cluster.dir, cluster.binary, "node2", int(SECOND.split(".")[3]))

    def close_all():
        second.close()
        close()
        wire.close()

    cluster.close = close_all
