"""Snapshots of the embedded etcd in a bucket of S3: put, told, thinned out, and restored from there; whoever names the bucket."""

import base64
import hashlib
import json
import pathlib

from cluster import until
from registry import certificate

from . import _s3
from .snapshots import FAST, NAME, TOKEN, command, done, has, make, names, once, save

ARGS = ("--token", TOKEN, "--disable-agent", *FAST, "--cluster-init", "--etcd-disable-snapshots")
FOUND = {}
# What a save leaves on the server's disk is not what is looked at here.
FOLDER = ("--s3-folder", "one/cluster")


def prepare(cluster):
    FOUND["s3"] = _s3.S3(cluster, 9000)
    FOUND["s3"].start()
    FOUND["s3"].bucket("b")


def words(access="access-key", secret=_s3.KEYS["access-key"], endpoint="127.0.0.1:9000", bucket="b", prefix="--"):
    named = {"s3-endpoint": endpoint, "s3-bucket": bucket, "s3-region": _s3.REGION, "s3-access-key": access, "s3-secret-key": secret}
    return [f"{prefix}s3", f"{prefix}s3-insecure", *(f"{prefix}{name}={value}" for name, value in named.items() if value)]


def refused(cluster, why, *args, verb="save"):
    ended = command(cluster, verb, *args)
    assert ended.returncode == 1 and why in ended.stderr, ended


def in_s3(cluster, *args):
    """What `ls` shows of the bucket: sizes by name."""
    rows = done(cluster, "ls", *args).splitlines()[1:]
    return {row.split()[0]: int(row.split()[2]) for row in rows if row.split()[1].startswith("s3://")}


def in_api(cluster):
    listed = cluster.get("etcdsnapshotfiles", "-l", "etcd.k3s.cattle.io/snapshot-storage-node=s3")["items"]
    return {one["spec"]["snapshotName"]: one for one in listed}


def test_a_what_is_wrong_with_a_bucket_is_said(cluster):
    refused(cluster, "s3 configuration was not set", "--s3")
    refused(cluster, "--etcd-s3-bucket does nothing without --etcd-s3", "--s3-bucket=b")
    refused(cluster, "failed to test for existence of bucket none", *words(bucket="none"))
    refused(cluster, "invalid S3 bucket name", *words(bucket="a/b"))
    refused(cluster, "failed to test for existence of bucket b", *words(secret="x"))
    refused(cluster, "an access key goes with a secret key", *words(secret=""))
    refused(cluster, "without a scheme or path", *words(endpoint="http://127.0.0.1:9000"))
    refused(cluster, "invalid value", *words(), "--s3-timeout=soon")
    refused(cluster, 'secrets "absent" not found', "--s3", "--s3-config-secret=absent")
    refused(cluster, "failed to initialize S3 client", *words(bucket="none"), verb="ls")
    assert FOUND["s3"].objects("b") == {}
    for name in names(cluster):
        done(cluster, "delete", name)


def test_b_one_is_saved_there_and_told(cluster):
    extra = cluster.kubectl("create", "configmap", "-n", "kube-system", "k3s-etcd-snapshot-extra-metadata", "--from-literal=rack=7")
    assert extra.returncode == 0
    make(cluster, "b1")
    said = done(cluster, "save", *words(), *FOLDER)
    name, again = NAME.findall(said)
    assert name == again, said
    s3 = FOUND["s3"]
    found = s3.objects("b")
    assert sorted(found) == [f"one/cluster/.metadata/{name}", f"one/cluster/{name}"], sorted(found)
    whole = found[f"one/cluster/{name}"]
    assert hashlib.sha256(whole[:-32]).digest() == whole[-32:]
    assert json.loads(found[f"one/cluster/.metadata/{name}"]) == {"rack": "7"}
    token = hashlib.sha256(TOKEN.encode()).hexdigest()[:12]
    cluster_id = cluster.get("namespace", "kube-system")["metadata"]["uid"]
    fields = {"content-type": "application/octet-stream", "x-amz-meta-k3s-cluster-id": cluster_id, "x-amz-meta-k3s-node-name": "node1"}
    assert s3.fields("b", f"one/cluster/{name}") == {**fields, "x-amz-meta-k3s-token-hash": token}, s3.fields("b", f"one/cluster/{name}")
    assert in_s3(cluster, *words(), *FOLDER) == {name: len(whole)}
    one = in_api(cluster)[name]
    where = {"endpoint": "127.0.0.1:9000", "bucket": "b", "region": _s3.REGION, "prefix": "one/cluster", "insecure": True}
    location = f"s3://b/one/cluster/{name}"
    assert one["spec"] == {"snapshotName": name, "nodeName": "node1", "location": location, "metadata": {"rack": "7"}, "s3": where}, one["spec"]
    digest = hashlib.sha256(f"node1{location}".encode()).hexdigest()[:6]
    assert one["metadata"]["name"] == f"s3-{name}-{digest}" and one["metadata"]["annotations"]["etcd.k3s.cattle.io/snapshot-token-hash"] == token, one
    data = cluster.get("configmap", "-n", "kube-system", "k3s-etcd-snapshots")["data"]
    assert json.loads(data[f"s3-{name}"])["nodeName"] == "s3" and f"local-{name}" in data, data
    events = [event["message"] for event in cluster.get("events", "-A")["items"] if event["reason"] == "ETCDSnapshotCreated"]
    assert f"Snapshot {name} saved on S3" in events, events
    # Without --s3 nobody asks there.
    s3.asked()
    assert in_s3(cluster) == {} and s3.asked() == []


def test_c_a_session_and_a_host_with_the_buckets_name(cluster):
    FOUND["s3"].asked()
    more = words("session-key", _s3.KEYS["session-key"], endpoint="localhost:9000")
    refused(cluster, "failed to test for existence of bucket b", *more)
    more += [f"--s3-session-token={_s3.SESSION}", "--s3-bucket-lookup-type=dns"]
    name = save_there(cluster, *more, "--s3-folder=dns", "--snapshot-compress")
    assert list(FOUND["s3"].objects("b")[f"dns/{name}"][:4]) == list(b"PK\x03\x04")
    assert FOUND["s3"].fields("b", f"dns/{name}")["content-type"] == "application/zip"
    assert any(host == "b.localhost:9000" and path == f"/dns/{name}" for _, host, path in FOUND["s3"].asked())
    assert done(cluster, "delete", name, *more, "--s3-folder=dns") == f"Snapshot {name} deleted.\n" * 2
    assert not [key for key in FOUND["s3"].objects("b") if key.startswith("dns/")]


def save_there(cluster, *args):
    name, again = NAME.findall(done(cluster, "save", *args))
    assert name == again
    return name


def test_d_a_large_one_goes_in_pieces(cluster):
    # Three pieces, the last a short one.
    large = [f"large-{idx}" for idx in range(36)]
    items = [{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"x": "x" * 1_000_000}} for name in large]
    cluster.kubectl("create", "-f", "-", input=json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    s3 = FOUND["s3"]
    # Whoever keeps it may be busy for a while.
    s3.trouble(status=503, times=2, match="partNumber=2")
    name = save_there(cluster, *words(), "--s3-folder=large")
    whole = s3.objects("b")[f"large/{name}"]
    assert len(whole) > 33 << 20 and hashlib.sha256(whole[:-32]).digest() == whole[-32:], len(whole)
    assert s3.fields("b", f"large/{name}")["x-amz-meta-k3s-node-name"] == "node1"
    assert in_s3(cluster, *words(), "--s3-folder=large") == {name: len(whole)} and s3.begun() == []
    # What does not come to an end leaves nothing there, and stays here.
    s3.trouble(status=403, times=1, match="partNumber=2")
    ended = command(cluster, "save", "--name=broken", *words(), "--s3-folder=large")
    assert ended.returncode == 1 and "is on this server, but not in S3" in ended.stderr and "Trouble: it was ordered" in ended.stderr, ended
    assert s3.begun() == [] and in_s3(cluster, *words(), "--s3-folder=large") == {name: len(whole)}
    assert [one for one in names(cluster) if one.startswith("broken-node1-")]
    cluster.kubectl("delete", "configmap", *large)
    return f"{len(whole)} bytes"


def test_e_they_are_deleted_and_thinned_out(cluster):
    s3 = FOUND["s3"]
    more = [*words(), "--s3-folder=thin"]
    old = [f"thin-node{idx}-170000000{idx}" for idx in range(5)]
    root = s3.bucket("b") / "thin"
    (root / ".metadata").mkdir(parents=True)
    for name in [*old, "no snapshot's/name", ".hidden"]:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        (s3.dir / "fields" / f"b-thin%{name.replace('/', '%')}").write_text("{}")
    newest = save_there(cluster, "--name=thin", *more)
    assert sorted(in_s3(cluster, *more)) == sorted([*old, newest]), "what is saved by hand drives nothing out"
    assert "thin-node3-1700000003" in in_api(cluster)
    said = done(cluster, "prune", "--name=thin", "--s3-retention=2", "--snapshot-retention=7", *more)
    assert said == "".join(f"Snapshot {name} deleted.\n" for name in old[:4]), said
    assert sorted(in_s3(cluster, *more)) == sorted([old[4], newest])
    assert done(cluster, "delete", newest, "nothing", *more) == f"Snapshot {newest} deleted.\n" * 2
    assert list(in_s3(cluster, *more)) == [old[4]] and newest not in names(cluster)
    left = sorted(key for key in s3.objects("b") if key.startswith("thin/"))
    assert left == ["thin/.hidden", "thin/no snapshot's/name", f"thin/{old[4]}"], left
    refused(cluster, "path traversal not allowed", "../x", *more, verb="delete")
    until(lambda: list(in_api(cluster)) == [old[4]], "the API tells of this folder now", 60)


def test_f_a_secret_says_where(cluster):
    cert, key = certificate(pathlib.Path(cluster.dir), "s3", "TRUE")
    FOUND["tls"] = tls = _s3.S3(cluster, 9001, (cert, key))
    tls.start()
    tls.bucket("safe")
    cluster.kubectl("create", "configmap", "-n", "kube-system", "authorities", f"--from-file=x={cert}")
    said = {"endpoint": "127.0.0.1:9001", "bucket": "safe", "region": _s3.REGION, "access-key": "access-key", "secret-key": _s3.KEYS["access-key"], "folder": ""}

    def tell(**more):
        data = {f"etcd-s3-{name.replace('_', '-')}": value for name, value in {**said, **more}.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "where", "namespace": "kube-system"}, "type": "etcd.k3s.cattle.io/s3-config-secret", "stringData": data}
        cluster.kubectl("replace", "--force", "-f", "-", input=json.dumps(secret))

    more = ["--s3", "--s3-config-secret=where"]
    tell()
    refused(cluster, "failed to test for existence of bucket safe", *more)
    tell(endpoint_ca="/etc/passwd")
    refused(cluster, "etcd-s3-endpoint-ca is no certificate", *more)
    for trust in ({"endpoint_ca_name": "authorities"}, {"endpoint_ca": cert.read_text()}, {"skip_ssl_verify": "true"}):
        tell(**trust)
        name = save_there(cluster, *more)
        assert name in tls.objects("safe")
        done(cluster, "delete", name, *more)
    # Flags that say more than the Secret's name are heard instead of it.
    flags = [word for word in words(endpoint="127.0.0.1:9001", bucket="safe") if word != "--s3-insecure"]
    refused(cluster, "failed to test for existence of bucket safe", *flags, "--s3-config-secret=where")
    name = save_there(cluster, *flags, f"--s3-endpoint-ca={cert}")
    assert [one["spec"]["s3"]["endpointCA"] for one in in_api(cluster).values()] == [base64.b64encode(cert.read_bytes() + b"\n").decode()]
    done(cluster, "delete", name, *flags, f"--s3-endpoint-ca={base64.b64encode(cert.read_bytes()).decode()}")
    tls.stop()


def test_g_they_are_taken_on_time_and_so_many_kept(cluster):
    s3 = FOUND["s3"]
    cluster.stop()
    # A server that was configured in a file; its keys come by the environment.
    cluster.args = [*ARGS[:-1], "--etcd-snapshot-schedule-cron=@every 1s", "--etcd-snapshot-retention=4", "--etcd-snapshot-name=timed"]
    config = pathlib.Path(cluster.env["K3RS_ETC_DIR"]) / "k3s" / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    lines = ["etcd-s3: true", "etcd-s3-endpoint: 127.0.0.1:9000", "etcd-s3-insecure: true", "etcd-s3-bucket: b", f"etcd-s3-region: {_s3.REGION}"]
    config.write_text("\n".join([*lines, "etcd-s3-folder: timed", "etcd-s3-retention: 2", ""]))
    cluster.env.update(AWS_ACCESS_KEY_ID="access-key", AWS_SECRET_ACCESS_KEY=_s3.KEYS["access-key"])
    cluster.start()
    seen = set()

    def enough():
        seen.update(key for key in s3.objects("b") if key.startswith("timed/timed-node1-"))
        return len(seen) >= 4

    until(enough, "some are there", 90, interval=0.1)
    cluster.stop()
    there = [key for key in s3.objects("b") if key.startswith("timed/timed-node1-")]
    # One more if it was stopped between the newest and the oldest.
    assert 2 <= len(there) <= 3, there
    here = [name for name in names(cluster) if name.startswith("timed-")]
    assert 4 <= len(here) <= 5, here
    cluster.args = list(ARGS)
    cluster.start()
    # The command reads the same file.
    assert sorted(in_s3(cluster)) == sorted(key.removeprefix("timed/") for key in there)
    for name in {*here, *(key.removeprefix("timed/") for key in there)}:
        done(cluster, "delete", name)
    assert in_s3(cluster) == {} and in_api(cluster) == {}


def test_h_a_new_server_begins_with_what_is_there(cluster):
    """All that it has is the bucket and the token."""
    make(cluster, "h1")
    name = save_there(cluster, "--snapshot-compress")
    make(cluster, "h2")
    cluster.stop()
    old = cluster.dir / "old"
    cluster.data.rename(old)
    code, said = once(cluster, "--cluster-reset", "--cluster-reset-restore-path=nothing")
    assert code == 1 and "the specified key does not exist" in said, said
    code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={name}")
    assert code == 0 and f"S3 download complete for {cluster.data}/server/db/snapshots/{name}" in said, said
    assert "Managed etcd cluster membership has been reset" in said, said
    assert (cluster.data / "server/db/snapshots" / name).read_bytes() == (old / "server/db/snapshots" / name).read_bytes()
    cluster.args = list(ARGS)
    cluster.start()
    assert has(cluster, "b1") and has(cluster, "h1") and not has(cluster, "h2")
    assert name in names(cluster) and name in in_s3(cluster)
    FOUND["s3"].stop()


def test_i_a_bucket_that_is_out_of_reach_costs_no_snapshot(cluster):
    """What is saved stays here, and the command says that it is not there."""
    ended = command(cluster, "save", "--name=alone", timeout=120)
    assert ended.returncode == 1 and "is on this server, but not in S3" in ended.stderr, ended
    assert [name for name in names(cluster) if name.startswith("alone-node1-")]
    assert save(cluster, "--name=plain", "--s3=false").startswith("plain-node1-")
