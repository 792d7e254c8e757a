"""An etcd as the datastore: what a server keeps in it is where etcd's own clients look, and both outlive the other's end."""

import base64
import json
import os
import shutil
import subprocess

from cluster import Failure, expect, until

ENDPOINT = "http://127.0.0.1:2379"
ARGS = ["--disable-agent", "--datastore-endpoint", ENDPOINT]


class Etcd:
    def __init__(self, cluster):
        program = shutil.which("etcd")
        if not program:
            raise Failure("etcd is not installed (e2e/setup.sh test)")
        self.cluster = cluster
        # It ends with this process, however that ends.
        self.command = cluster.inside(["setpriv", "--pdeathsig", "KILL", program, "--data-dir", str(cluster.dir / "etcd")])
        self.process = None

    def start(self):
        log = open(self.cluster.dir / "etcd.log", "ab")
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cluster.dir)
        until(lambda: self.ask("maintenance/status").get("leader"), "the etcd answers", 60, interval=0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, **message):
        """A call of etcd's own JSON gateway."""
        done = self.cluster.sh(f"curl -s -m 5 -X POST {ENDPOINT}/v3/{method} -d '{json.dumps(message)}' || true")
        return json.loads(done or "{}")

    def keys(self, prefix):
        """The keys below a prefix, with what etcd says of each."""
        code = lambda text: base64.b64encode(text.encode()).decode()
        found = self.ask("kv/range", key=code(prefix), range_end=code(prefix[:-1] + chr(ord(prefix[-1]) + 1)))
        return {base64.b64decode(kv["key"]).decode(): kv for kv in found.get("kvs", [])}


def prepare(cluster):
    cluster.etcd = Etcd(cluster)
    cluster.etcd.start()


def version(cluster, name):
    return cluster.get("configmap", name)["metadata"]["resourceVersion"]


def test_objects_lie_where_kube_apiserver_has_them(cluster):
    cluster.kubectl("create", "configmap", "one", "--from-literal=a=b")
    kv = cluster.etcd.keys("/registry/configmaps/default/")["/registry/configmaps/default/one"]
    value = base64.b64decode(kv["value"])
    expect(value.startswith(b"k8s\0") and b"ConfigMap" in value, f"not protobuf: {value[:40]!r}")
    expect(kv["mod_revision"] == version(cluster, "one"), f"{kv} but {version(cluster, 'one')}")
    # What somebody else writes or deletes is an event like any other.
    name = base64.b64encode(b"/registry/configmaps/default/one").decode()
    cluster.etcd.ask("kv/deleterange", key=name)
    until(lambda: cluster.kubectl("get", "configmap", "one", check=False).returncode, "the object is gone")
    cluster.etcd.ask("kv/put", key=name, value=kv["value"])
    until(lambda: cluster.get("configmap", "one")["data"] == {"a": "b"}, "the object is back")


def test_a_value_that_is_too_large_is_refused_in_etcds_words(cluster):
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": "x" * 900_000, "b": "x" * 140_000}})
    path = cluster.dir / "large.json"
    path.write_text(body)
    cluster.kubectl("create", "-f", str(path))
    custom = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "blobs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "blobs", "singular": "blob", "kind": "Blob", "listKind": "BlobList"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
    path.write_text(json.dumps(custom))
    cluster.kubectl("create", "-f", str(path))
    cluster.kubectl("wait", "--for=condition=Established", "crd/blobs.example.com", "--timeout=30s", timeout=40)
    path.write_text(json.dumps({"apiVersion": "example.com/v1", "kind": "Blob", "metadata": {"name": "large"}, "data": "x" * 1_700_000}))
    # The kind may not be served for a moment yet.
    refused = until(lambda: (done := cluster.kubectl("create", "-f", str(path), check=False)).returncode and "no matches" not in done.stderr and done, "it is refused")
    expect("etcdserver: request is too large" in refused.stderr, refused.stderr)


def test_the_etcd_dies_and_comes_back(cluster):
    before = version(cluster, "one")
    cluster.etcd.kill()
    refused = cluster.kubectl("create", "configmap", "two", "--request-timeout=20s", check=False, timeout=40)
    expect(refused.returncode, "a write without a datastore was acknowledged")
    cluster.etcd.start()
    until(lambda: cluster.kubectl("create", "configmap", "three", check=False).returncode == 0, "writes go on")
    expect(version(cluster, "one") == before, "an object changed meanwhile")
    expect("/registry/configmaps/default/three" in cluster.etcd.keys("/registry/configmaps/default/"), "it is not in the etcd")


def test_a_server_that_comes_back_finds_everything(cluster):
    before = {name: version(cluster, name) for name in ("one", "three", "large")}
    cluster.stop()
    cluster.etcd.kill()
    cluster.etcd.start()
    cluster.start()
    found = {name: version(cluster, name) for name in before}
    expect(found == before, f"{found}, not {before}")
    books = cluster.etcd.keys("/k3rs/log/")
    expect(books, "no token of an append is in the etcd")
    raw = cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/configmaps").stdout
    expect("k3rs/log" not in raw, "books of the log are shown")
