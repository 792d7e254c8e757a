"""An etcd as the datastore: what a server keeps in it is where etcd's own clients look, and both outlive the other's end."""

import base64
import json
import subprocess

from cluster import expect, until
from faults._databases import Etcd

ARGS = ["--disable-agent"]


def prepare(cluster):
    close = cluster.close
    etcd = cluster.etcd = Etcd(cluster.inside, "127.0.0.1")

    def close_all():
        try:
            close()
        finally:
            etcd.close()

    cluster.close = close_all
    etcd.start()
    cluster.args += ["--datastore-endpoint", etcd.endpoint()]


def ask(cluster, method, **message):
    """A call of etcd's own JSON gateway."""
    command = ["curl", "-s", "-m", "5", "-X", "POST", f"{cluster.etcd.endpoint()}/v3/{method}", "-d", json.dumps(message)]
    return json.loads(subprocess.run(cluster.inside(command), capture_output=True, text=True, timeout=20).stdout or "{}")


def code(text):
    return base64.b64encode(text.encode()).decode()


def keys(cluster, prefix):
    """The keys below a prefix, with what etcd says of each."""
    found = ask(cluster, "kv/range", key=code(prefix), range_end=code(prefix[:-1] + chr(ord(prefix[-1]) + 1)))
    return {base64.b64decode(kv["key"]).decode(): kv for kv in found.get("kvs", [])}


def version(cluster, name):
    return cluster.get("configmap", name)["metadata"]["resourceVersion"]


def test_objects_lie_where_kube_apiserver_has_them(cluster):
    cluster.kubectl("create", "configmap", "one", "--from-literal=a=b")
    kv = keys(cluster, "/registry/configmaps/default/")["/registry/configmaps/default/one"]
    value = base64.b64decode(kv["value"])
    expect(value.startswith(b"k8s\0") and b"ConfigMap" in value, f"not protobuf: {value[:40]!r}")
    expect(kv["mod_revision"] == version(cluster, "one"), f"{kv} but {version(cluster, 'one')}")
    # What somebody else writes or deletes is an event like any other.
    name = code("/registry/configmaps/default/one")
    ask(cluster, "kv/deleterange", key=name)
    until(lambda: cluster.kubectl("get", "configmap", "one", check=False).returncode, "the object is gone")
    ask(cluster, "kv/put", key=name, value=kv["value"])
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
    cluster.etcd.stop()
    refused = cluster.kubectl("create", "configmap", "two", "--request-timeout=20s", check=False, timeout=40)
    expect(refused.returncode, "a write without a datastore was acknowledged")
    cluster.etcd.start()
    until(lambda: cluster.kubectl("create", "configmap", "three", check=False).returncode == 0, "writes go on")
    expect(version(cluster, "one") == before, "an object changed meanwhile")
    expect("/registry/configmaps/default/three" in keys(cluster, "/registry/configmaps/default/"), "it is not in the etcd")


def test_a_server_that_comes_back_finds_everything(cluster):
    before = {name: version(cluster, name) for name in ("one", "three", "large")}
    cluster.stop()
    cluster.etcd.stop()
    cluster.etcd.start()
    cluster.start()
    found = {name: version(cluster, name) for name in before}
    expect(found == before, f"{found}, not {before}")
    books = keys(cluster, "/k3rs/log/")
    expect(books, "no token of an append is in the etcd")
    raw = cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/configmaps").stdout
    expect("k3rs/log" not in raw, "books of the log are shown")
