"""Commands, flags and messages: what is not there is refused by name, and what cannot work says so at once."""

import os
import subprocess

from cluster import HERE, until

START = False


def k3rs(cluster, *args, env=None, timeout=15, user=None):
    return subprocess.run(
        cluster.inside([cluster.binary, *args]), env=dict(cluster.env, **(env or {})), capture_output=True, text=True, timeout=timeout, user=user
    )


def test_commands_that_are_not_there_say_so(cluster):
    done = k3rs(cluster, "nonsense")
    assert done.returncode == 1 and 'unknown command "nonsense"' in done.stderr, done
    link = cluster.dir / "kubectl"
    link.symlink_to(cluster.binary)
    env = dict(cluster.env, KUBECONFIG=str(cluster.dir / "none"))
    done = subprocess.run([link, "get", "--raw", "/x", "-s", "http://127.0.0.1:1"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"), done


def test_help_and_version_where_people_look_for_them(cluster):
    version = k3rs(cluster, "--version").stdout
    for args in (("version",), ("server", "--version"), ("uninstall", "--version"), ("ctr", "--version"), ("agent", "--version"), ("token", "--version")):
        done = k3rs(cluster, *args)
        assert (done.returncode, done.stdout) == (0, version), (args, done)
    text = k3rs(cluster, "server", "--help").stdout
    assert k3rs(cluster, "help", "server").stdout == text and "NETWORKING:" in text
    assert "--debug VALUE" not in text and "--data-dir, -d VALUE" in text and "default 6443" in text
    assert max(map(len, text.splitlines())) < 120
    assert "--dry-run" in k3rs(cluster, "help", "uninstall").stdout
    assert "etcd-snapshot" in k3rs(cluster, "help").stdout


def test_flags_that_cannot_work_end_at_once(cluster):
    data = ["--data-dir", str(cluster.data)]
    for args, words in [
        (["--node-label", "=x"], 'read --node-label "=x": key ""'),
        (["--node-label", "a"], "want key=value"),
        (["--node-label", "a b=c"], 'key "a b"'),
        (["--node-label", "node-role.kubernetes.io/worker=x"], "is reserved"),
        (["--node-taint", "=x:NoSchedule"], 'key ""'),
        (["--node-taint", "a=b:Never"], "want NoSchedule, PreferNoSchedule, NoExecute"),
        (["--disable-etcd"], "invalid flag use; --server is required with --disable-etcd"),
        (["--disable-apiserver", "--cluster-init"], "invalid flag use; --disable-controller-manager and --disable-scheduler are required with --disable-apiserver"),
        (["--disable-apiserver", "--disable-controller-manager", "--disable-scheduler"], "invalid flag use; --cluster-init or --server is required with --disable-apiserver"),
        (["--disable-apiserver", "--datastore-endpoint", "http://127.0.0.1:1"], "invalid flag use; cannot use --disable-apiserver with --datastore-endpoint"),
        (["--debug=perhaps"], "invalid boolean value"),
    ]:
        done = k3rs(cluster, "server", *data, *args)
        assert done.returncode == 1 and words in done.stderr, (args, done)
    for args, words in [
        (["--disable", "traefik"], "flag provided but not defined: --disable"),
        (["--token", "x"], "--server is required"),
        (["--server", "https://x"], "--token is required"),
        (["--server", "http://x", "--token", "x"], "only https:// URLs are supported, invalid scheme: http://x"),
        (["--server", "https://x", "--token", "K10abc::node:x"], "the CA hash is not 64 hex digits"),
    ]:
        done = k3rs(cluster, "agent", *data, *args)
        assert done.returncode == 1 and words in done.stderr, (args, done)
    assert not cluster.data.exists(), "nothing was made"


def test_a_start_without_root_says_so(cluster):
    # The directory of the test is root's alone.
    binary = f"/tmp/k3rs-rootless-{os.getpid()}"
    subprocess.run(["install", "-m", "0755", cluster.binary, binary], check=True)
    try:
        for command in ("server", "uninstall"):
            done = subprocess.run(
                [binary, command, "--data-dir", str(cluster.data)], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=10, user=65534
            )
            assert done.returncode == 1 and f"{command} must run as root" in done.stderr, done
    finally:
        os.unlink(binary)


def test_a_cold_build_says_what_it_does_and_how_long(cluster):
    """And `make run` says it before it builds, the profile that is built soonest; `make release` before the one that is small."""
    say = lambda path: subprocess.run([HERE / "run.sh", "--building", path], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, timeout=10, check=True).stdout
    cold = say(cluster.dir / "nothing")
    cores = len(os.sched_getaffinity(0))
    assert f"some {-(-7 // cores) + 1} minutes on this machine's {cores} cores" in cold and "from source" in cold and "The first time" in cold, cold
    assert "Building what changed" in say(cluster.binary)
    make = lambda goal: subprocess.run(["make", "-n", goal, f"RELEASE={cluster.dir}/nothing"], cwd=HERE.parent, capture_output=True, text=True, timeout=30, check=True).stdout
    run = make("run")
    assert 0 < run.index("run.sh --building") < run.index("cargo build --profile quick") < run.index("run.sh target/"), run
    release = make("release")
    assert 0 < release.index("about 6 minutes on two cores") < release.index("cargo build --release"), release


def test_the_etc_directory_moves_the_configuration(cluster):
    """And `false` for what is not there passes, from the command line, the environment and a file."""
    etc = cluster.dir / "etc" / "k3s"
    (etc / "config.yaml.d").mkdir(parents=True)
    (etc / "config.yaml").write_text("node-label: [from=file]\ndisable-etcd: false\nselinux: false\n")
    (etc / "config.yaml.d" / "10.yaml").write_text("node-label+: [and=dropin]\n")
    cluster.args = ["--secrets-encryption=false", "--etcd-expose-metrics=false"]
    cluster.env["K3S_CLUSTER_RESET"] = "false"
    cluster.start()
    until(lambda: cluster.get("nodes")["items"], "the node is registered")
    labels = cluster.get("nodes")["items"][0]["metadata"]["labels"]
    assert (labels.get("from"), labels.get("and")) == ("file", "dropin"), labels
    empty = [line for line in cluster.log_lines() if "Pod :" in line or "Node :" in line or "pod /" in line or " /:" in line]
    assert not empty, empty
