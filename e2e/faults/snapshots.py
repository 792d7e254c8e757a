"""Snapshots of the embedded etcd: taken by hand and on time, listed, thinned out, told to the cluster, and restored."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import zipfile

from cluster import until

TOKEN = "a-token-of-servers"
ARGS = ("--token", TOKEN, "--disable-agent")
# Elections that a test does not wait for.
FAST = ("--etcd-arg", "heartbeat-interval=100", "--etcd-arg", "election-timeout=1000")
NAME = re.compile(r"^Snapshot (\S+) saved\.$", re.M)


def command(cluster, *args, timeout=60):
    words = [cluster.binary, "etcd-snapshot", *args, "--data-dir", str(cluster.data)]
    return subprocess.run(cluster.inside(words), env=cluster.env, capture_output=True, text=True, timeout=timeout)


def done(cluster, *args):
    ended = command(cluster, *args)
    assert ended.returncode == 0, ended
    return ended.stdout


def save(cluster, *args):
    said = done(cluster, "save", *args)
    (name,) = NAME.findall(said)
    return name


def folder(cluster):
    return cluster.data / "server" / "db" / "snapshots"


def names(cluster):
    return sorted(path.name for path in folder(cluster).iterdir())


def objects(cluster):
    return {one["spec"]["snapshotName"]: one for one in cluster.get("etcdsnapshotfiles")["items"]}


def told(cluster):
    """What the ConfigMap says."""
    data = cluster.get("configmap", "-n", "kube-system", "k3s-etcd-snapshots").get("data") or {}
    return {one["name"]: one for one in map(json.loads, data.values())}


def are_told(cluster):
    """The cluster knows those that there are, and no others."""
    until(lambda: sorted(objects(cluster)) == names(cluster) == sorted(told(cluster)), "the cluster knows the snapshots", 60)


def make(cluster, name):
    cluster.kubectl("create", "configmap", "-n", "default", name, "--from-literal=a=1")


def has(cluster, name):
    return cluster.kubectl("get", "configmap", "-n", "default", name, check=False).returncode == 0


def start(cluster, *more):
    cluster.args = [*ARGS, *FAST, *more]
    cluster.start()


def once(cluster, *args, token=TOKEN):
    """The server with these flags, until it ends by itself: its code, and what it said."""
    said = (cluster.dir / "k3rs.log").stat().st_size
    cluster.args = ["--disable-agent", *FAST, "--token", token, *args]
    cluster.start(wait=False)
    code = cluster.process.wait(60)
    return code, cluster.said_since(said).decode(errors="replace")


def test_a_file_of_its_own_has_none(cluster):
    """k3s's words, where there is no etcd."""
    for verb in (["save"], ["ls"], ["prune"], ["delete", "x"]):
        ended = command(cluster, *verb)
        assert ended.returncode == 1 and "see server log for details" in ended.stderr and "etcd datastore disabled" in ended.stderr, ended
    assert command(cluster, "frobnicate").returncode == 1
    assert "save" in command(cluster, "--help").stdout
    cluster.stop()
    said = (cluster.dir / "k3rs.log").stat().st_size
    start(cluster, "--cluster-init", "--etcd-s3-bucket=b")
    assert b"without --etcd-s3 these flags do nothing: --etcd-s3-bucket" in cluster.said_since(said)


def test_b_one_is_saved_and_told(cluster):
    make(cluster, "b1")
    before = cluster.kubectl("create", "configmap", "-n", "kube-system", "k3s-etcd-snapshot-extra-metadata", "--from-literal=rack=7")
    assert before.returncode == 0
    name = save(cluster)
    assert re.fullmatch(r"on-demand-node1-\d{10}", name), name
    path = folder(cluster) / name
    whole = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600 and folder(cluster).stat().st_mode & 0o777 == 0o700
    assert hashlib.sha256(whole[:-32]).digest() == whole[-32:]
    assert json.loads((folder(cluster).parent / ".metadata" / name).read_text()) == {"rack": "7"}
    head, row = done(cluster, "ls").splitlines()
    assert head.split() == ["Name", "Location", "Size", "Created"], head
    assert row.split()[:3] == [name, f"file://{path}", str(len(whole))] and row.endswith("Z"), row
    listed = json.loads(done(cluster, "ls", "-o", "json"))
    assert [one["spec"]["snapshotName"] for one in listed["items"]] == [name], listed
    assert f"snapshotName: {name}\n" in done(cluster, "ls", "-o", "yaml")
    are_told(cluster)
    one = objects(cluster)[name]
    assert one["metadata"]["name"].startswith(f"local-{name}-") and one["status"]["readyToUse"] is True, one
    assert one["spec"]["nodeName"] == "node1" and one["spec"]["location"] == f"file://{path}" and one["spec"]["metadata"] == {"rack": "7"}, one
    assert one["metadata"]["annotations"]["etcd.k3s.cattle.io/snapshot-token-hash"] == hashlib.sha256(TOKEN.encode()).hexdigest()[:12], one
    assert told(cluster)[name]["size"] == len(whole) and told(cluster)[name]["status"] == "successful"
    columns = cluster.kubectl("get", "etcdsnapshotfiles").stdout.splitlines()[0].split()
    assert columns == ["NAME", "SNAPSHOTNAME", "NODE", "LOCATION", "SIZE", "CREATIONTIME"], columns
    events = cluster.get("events", "-A")["items"]
    assert any(event["reason"] == "ETCDSnapshotCreated" and event["involvedObject"]["name"] == one["metadata"]["name"] for event in events), events


def test_c_compressed_ones_are_zip_archives(cluster):
    name = save(cluster, "--name", "small", "--snapshot-compress")
    assert re.fullmatch(r"small-node1-\d{10}\.zip", name), name
    path = folder(cluster) / name
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.namelist() == [name.removesuffix(".zip")], archive.namelist()
        whole = archive.read(archive.namelist()[0])
    assert hashlib.sha256(whole[:-32]).digest() == whole[-32:]
    assert path.stat().st_size < len(whole) // 2
    are_told(cluster)
    return f"{len(whole)} bytes in {path.stat().st_size}"


def test_d_they_are_deleted_and_thinned_out(cluster):
    kept = names(cluster)
    (folder(cluster) / "thin-node1-1700000000").write_bytes(b"x")
    (folder(cluster) / "thin-node1-1700000001.zip").write_bytes(b"x")
    newest = save(cluster, "--name", "thin")
    assert len(names(cluster)) == len(kept) + 3, "what is saved by hand drives nothing out"
    assert done(cluster, "prune", "--name", "thin", "--snapshot-retention", "2") == "Snapshot thin-node1-1700000000 deleted.\n"
    assert done(cluster, "delete", "thin-node1-1700000001.zip", "nothing") == "Snapshot thin-node1-1700000001.zip deleted.\n"
    assert names(cluster) == sorted([*kept, newest])
    are_told(cluster)
    for wrong in ("../etcd/config", "/etc/passwd", ".."):
        ended = command(cluster, "delete", wrong)
        assert ended.returncode == 1 and "path traversal not allowed" in ended.stderr, ended
    assert (cluster.data / "server" / "db" / "etcd" / "config").exists()
    assert "no snapshots given for removal" in command(cluster, "delete").stderr


def test_e_only_who_has_the_servers_token_may(cluster):
    def ask(user, password, more=""):
        return cluster.sh(f"curl -s -k -u {user}:{password} -o /dev/null -w '%{{http_code}}' {more} https://127.0.0.1:6443/db/snapshot")

    body = """-d '{"operation": "list"}'"""
    for user, password, more, code in (
        ("server", TOKEN, body, "200"),
        ("node", TOKEN, body, "403"),
        ("server", "x", body, "401"),
        ("server", TOKEN, "", "405"),
        ("server", TOKEN, "-d x", "400"),
        ("server", TOKEN, "-d '{}'", "400"),
    ):
        assert ask(user, password, more) == code, (user, password, more)


def test_f_a_full_disk_is_told_and_leaves_nothing(cluster):
    small = cluster.dir / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        # The server was started before, and sees the mount as this process does.
        ended = command(cluster, "save", "--dir", str(small))
        assert ended.returncode == 1 and "finds no room" in ended.stderr, ended
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_g_they_are_taken_on_time_and_so_many_kept(cluster):
    cluster.stop()
    start(cluster, "--etcd-snapshot-schedule-cron", "@every 1s", "--etcd-snapshot-retention=2", "--etcd-snapshot-name=timed")
    seen = set()

    def enough():
        timed = [name for name in names(cluster) if name.startswith("timed-node1-")]
        seen.update(timed)
        return len(seen) >= 4

    until(enough, "some are taken", 60, interval=0.1)
    cluster.stop()
    timed = [name for name in names(cluster) if name.startswith("timed-")]
    # One more if it was stopped between the newest and the oldest.
    assert 2 <= len(timed) <= 3, timed
    start(cluster, "--etcd-disable-snapshots")
    for name in timed:
        done(cluster, "delete", name)
    are_told(cluster)


def test_h_what_was_there_then_is_there_again(cluster):
    make(cluster, "h1")
    name = save(cluster)
    make(cluster, "h2")
    cluster.stop(signal.SIGKILL)
    path = str(folder(cluster) / name)
    code, said = once(cluster, "--cluster-reset-restore-path", path)
    assert code == 1 and "--cluster-reset required with --cluster-reset-restore-path" in said, said
    damaged = cluster.dir / "damaged"
    whole = bytearray((folder(cluster) / name).read_bytes())
    whole[5000] ^= 1
    damaged.write_bytes(whole)
    for wrong, words in ((str(damaged), "is not what its digest says"), (f"{path}-none", "snapshot path does not exist")):
        code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={wrong}")
        assert code == 1 and words in said, said
    code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={path}")
    assert code == 0 and "Managed etcd cluster membership has been reset" in said, said
    db = cluster.data / "server" / "db"
    assert len(list(db.glob("etcd-old-*"))) == 1 and not list(db.glob("*restoring")), list(db.iterdir())
    code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={path}")
    assert code == 1 and "was previously reset" in said, said
    start(cluster)
    assert has(cluster, "h1") and not has(cluster, "h2") and has(cluster, "b1")
    are_told(cluster)


def test_i_a_new_server_goes_on_with_an_old_ones_compressed(cluster):
    """All that it has is the file and the token: the keys of the cluster come with it."""
    name = save(cluster, "--snapshot-compress", "--dir", str(cluster.dir / "elsewhere"))
    path = cluster.dir / "elsewhere" / name
    cluster.stop()
    old = cluster.dir / "old"
    cluster.data.rename(old)
    code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={path}", token="another")
    assert code == 1 and "no bootstrap data for this token" in said, said
    code, said = once(cluster, "--cluster-reset", f"--cluster-reset-restore-path={path}")
    assert code == 0 and "Managed etcd cluster membership has been reset" in said, said
    start(cluster)
    assert has(cluster, "h1") and not has(cluster, "h2")
    for key in ("client-ca.key", "server-ca.crt", "service.key", "etcd/peer-ca.key"):
        assert (cluster.data / "server" / "tls" / key).read_bytes() == (old / "server" / "tls" / key).read_bytes(), key
    # Its own are none yet: what the old one's disk had is not told any more.
    until(lambda: not objects(cluster), "the cluster knows that they are gone", 60)
    shutil.rmtree(old)


def test_j_another_version_takes_one_before_it_writes(cluster):
    """And says that going back to it is not one server's."""
    # Those of the schedule may come at any time.
    taken = lambda: [name for name in names(cluster) if name.startswith("before-upgrade-from-")]
    cluster.stop()
    start(cluster, "--cluster-init")
    cluster.stop()
    (cluster.data / "version").write_text("v1.32.1+k3rs1\n")
    start(cluster)
    assert [name.rpartition("-node1-")[0] for name in taken()] == ["before-upgrade-from-v1.32.1-k3rs1"], names(cluster)
    cluster.stop()
    program = cluster.dir / "previous"
    program.write_text('#!/bin/sh\necho "k3rs version v1.32.1+k3rs1"\n')
    program.chmod(0o755)
    words = [cluster.binary, "rollback", "--binary", str(program), "--data-dir", str(cluster.data)]
    ended = subprocess.run(cluster.inside(words), env=cluster.env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "--cluster-reset-restore-path" in ended.stderr and "--keep-data" in ended.stderr, ended
    start(cluster)
    assert len(taken()) == 1, "the same version takes none"
