"""Keys of Secrets that change where two servers share a PostgreSQL: each has a key before one of them writes with it."""

import json
import subprocess

from cluster import expect, telling, until
from faults._databases import Postgres
from hosts import Host, Wire, node_ready

TOKEN = "a-token-of-servers"
PLAIN = "the-plain-text-of-a-secret"
FOUND = {}

with_log = telling(lambda: f"the second server says:\n{FOUND['far'].tail()}")


def command(server, *args):
    done = subprocess.run(
        server.inside([server.binary, "secrets-encrypt", *args, "--data-dir", str(server.data)]), env=server.env, capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout, done.stderr


def does(server, verb, words):
    code, said, error = command(server, verb)
    expect(code == 0 and said == words + "\n", (verb, said, error))


def refused(server, verb, words):
    code, said, error = command(server, verb)
    expect(code == 1 and words in error, (verb, said, error))


def status(server):
    code, said, error = command(server, "status", "-o", "json")
    expect(code == 0, error)
    return json.loads(said)


def make(server, name):
    server.kubectl("create", "secret", "generic", name, f"--from-literal=a={PLAIN}-{name}")


def read(server, *names):
    for name in names:
        found = server.kubectl("get", "secret", name, "-o", "go-template={{.data.a | base64decode}}").stdout
        expect(found == f"{PLAIN}-{name}", (server.data, name, found))


def newest():
    """What the database has of each Secret now, as far as it shows which key it was sealed with."""
    text = (
        "select name, encode(substring(value from 1 for 60), 'hex') from kine where deleted = 0 and id in "
        "(select max(id) from kine where name like '/registry/secrets/default/%' group by name)"
    )
    rows = [row.split("|") for row in FOUND["db"].sql(text).split()]
    return {name.rsplit("/", 1)[1]: bytes.fromhex(value).decode("latin-1") for name, value in rows}


def keys(server):
    tree = json.loads((server.data / "server" / "cred" / "encryption-config.json").read_text())
    return [key["name"] for provider in tree["resources"][0]["providers"] for part in provider.values() for key in part.get("keys", [])]


def annotation(server, node):
    return server.get("node", node)["metadata"]["annotations"].get("k3s.io/encryption-config-hash", "")


def start_far():
    FOUND["far"].server("--token", TOKEN, "--secrets-encryption", env={"K3S_DATASTORE_ENDPOINT": FOUND["db"].endpoint()})
    FOUND["far"].wait_up()


@with_log
def test_a_second_server_has_the_first_ones_key(cluster):
    far = FOUND["far"]
    make(cluster, "one")
    start_far()
    until(lambda: node_ready(far, "node2"), "node2 is Ready", 60)
    make(far, "two")
    for server in (cluster, far):
        read(server, "one", "two")
    expect(keys(cluster) == keys(far) == ["aescbckey"], (keys(cluster), keys(far)))
    until(lambda: annotation(cluster, "node1") == annotation(far, "node2") != "", "both nodes show the same", 30)
    for server in (cluster, far):
        until(lambda: status(server)["hashmatch"], "all hashes match", 30)


@with_log
def test_b_stages_go_on_when_both_have_reached_them(cluster):
    far = FOUND["far"]
    does(cluster, "prepare", "prepare completed successfully")
    expect(len(keys(far)) == 2 and keys(far) == keys(cluster), "the other server has the new key")
    expect(annotation(far, "node2").startswith("prepare-"), annotation(far, "node2"))
    # Either server may do the next step.
    does(far, "rotate", "rotate completed successfully")
    until(lambda: status(cluster)["stage"] == "rotate" and status(cluster)["hashmatch"], "the first one is there, too", 30)
    make(cluster, "three")
    make(far, "four")
    does(cluster, "reencrypt", "reencryption started")
    until(lambda: status(far)["stage"] == "reencrypt_finished" and status(far)["hashmatch"], "both are done", 30)
    expect(len(keys(far)) == 1 and keys(far) == keys(cluster), (keys(far), keys(cluster)))
    expect(all("aescbc:v1:aescbckey-2" in value for value in newest().values()) and len(newest()) == 4, newest())
    for server in (cluster, far):
        read(server, "one", "two", "three", "four")


@with_log
def test_c_all_at_once(cluster):
    far, before = FOUND["far"], keys(cluster)
    does(far, "rotate-keys", "keys rotated, reencryption finished")
    until(lambda: keys(cluster) == keys(far) and status(cluster)["hashmatch"], "both have the new key", 30)
    expect(len(keys(far)) == 1 and keys(far) != before, (before, keys(far)))
    expect(all(f"aescbc:v1:{keys(far)[0]}:" in value for value in newest().values()), newest())
    make(far, "five")
    read(cluster, "one", "five")
    does(cluster, "disable", "secrets-encryption disabled")
    make(far, "six")
    expect("k8s:enc:" not in newest()["six"] and "k8s:enc:" not in newest()["one"], newest())
    does(far, "enable", "secrets-encryption enabled")
    expect(all("k8s:enc:" in value for value in newest().values()), newest())


@with_log
def test_d_a_server_that_is_away_is_waited_for(cluster):
    far, before = FOUND["far"], keys(cluster)
    far.stop()
    # It is not known whether it will have the key: nobody writes with it, and nothing is left of it.
    refused(cluster, "rotate-keys", "hash does not match between node1 and node2")
    expect(keys(cluster) == before, keys(cluster))
    does(cluster, "prepare", "prepare completed successfully")
    refused(cluster, "rotate", "hash does not match between node1 and node2")
    state = status(cluster)
    expect(state["hashmatch"] is False and state["hasherror"] == "hash does not match between node1 and node2", state)
    code, said, _ = command(cluster, "status")
    expect("Server Encryption Hashes: hash does not match between node1 and node2\n" in said, said)
    make(cluster, "seven")
    start_far()
    until(lambda: status(far)["stage"] == "prepare" and status(far)["hashmatch"], "it has the key when it comes back", 60)
    does(cluster, "rotate", "rotate completed successfully")
    does(cluster, "reencrypt", "reencryption started")
    until(lambda: status(far)["stage"] == "reencrypt_finished" and status(far)["hashmatch"], "both are done", 30)
    far.stop()
    start_far()
    read(far, "one", "two", "three", "four", "five", "six", "seven")


@with_log
def test_e_a_restart_of_all_finds_the_keys(cluster):
    far = FOUND["far"]
    far.stop(9)
    cluster.stop(9)
    cluster.start()
    read(cluster, "one", "seven")
    # A server that lost its disk gets them with the token.
    subprocess.run(far.inside(["rm", "-rf", str(far.data / "server" / "cred")]), check=True)
    start_far()
    read(far, "one", "seven")
    expect(keys(far) == keys(cluster), (keys(far), keys(cluster)))


def prepare(cluster):
    close = cluster.close
    wire = Wire(cluster.netns)
    wire.plug(cluster.inside, "peer0", "p10")
    db = FOUND["db"] = Postgres(cluster.inside, "192.0.2.10")
    far = FOUND["far"] = Host(wire, cluster.dir, cluster.binary, "node2", 11)

    def close_all():
        far.close()
        try:
            close()
        finally:
            db.close()
            wire.close()

    cluster.close = close_all
    db.start()
    cluster.args = ["--token", TOKEN, "--secrets-encryption", "--datastore-endpoint", db.endpoint()]
