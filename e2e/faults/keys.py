"""The keys of a cluster change: token, certificates and authorities, on one server and where others share the datastore."""

import json
import os
import signal
import subprocess

from cluster import telling, until
from faults.embedded_etcd import etcds
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


def tls(data, name):
    return (data / "server" / "tls" / name).read_bytes()


def test_b_certificates_are_looked_at_and_made_anew(cluster):
    text = k3rs(cluster, "certificate", "check").stdout.splitlines()
    assert text[0] == "Server detected, checking agent and server certificates", text
    assert any(line.startswith("client-admin.crt: certificate system:admin (ClientAuth) is ok, expires at ") for line in text), text
    table = k3rs(cluster, "certificate", "check", "--output", "table", "--service", "api-server").stdout.splitlines()
    assert table[1].split("  ")[0] == "FILENAME" and {line.split()[0] for line in table[3:]} == {"client-kube-apiserver.crt", "serving-kube-apiserver.crt"}, table
    found = json.loads(k3rs(cluster, "certificate", "check", "-o", "json").stdout)["Certificates"]
    assert {one["Status"] for one in found} == {"OK"} and len(found) > 20, found
    for args, words in ((("check", "--service", "x"), "service x is not recognized"), (("check", "-o", "x"), "invalid output format x"), (("rotate-ca",), 'Required flag "path" not set')):
        done = k3rs(cluster, "certificate", *args)
        assert done.returncode == 1 and words in done.stderr, done
    cluster.stop()
    names = ("client-admin.crt", "client-scheduler.crt", "serving-kube-apiserver.crt", "server-ca.crt", "client-kubelet.key")
    before = {name: tls(cluster.data, name) for name in names}

    def changed():
        return {name for name in names if tls(cluster.data, name) != before[name]}

    done = k3rs(cluster, "certificate", "rotate", "--service", "admin")
    assert done.returncode == 0 and "Rotating certificates for admin\nSuccessfully backed up certificates to " in done.stdout, done
    backup = done.stdout.split("backed up certificates to ")[1].split(",")[0]
    assert (cluster.data / "server" / backup / "client-admin.crt").read_bytes() == before["client-admin.crt"]
    cluster.start()
    assert changed() == {"client-admin.crt"} and has(cluster, "a1")
    cluster.stop()
    done = k3rs(cluster, "certificate", "rotate")
    assert done.returncode == 0 and "Server detected, rotating agent and server certificates" in done.stdout, done
    cluster.start()
    assert changed() == {*names} - {"server-ca.crt"} and has(cluster, "a1")


def run(command, **more):
    return subprocess.run(command, shell=True, check=True, capture_output=True, **more)


def new_authorities(into, data, names):
    """New ones, each signed by the old one, which is left in the bundle as its root."""
    for name in names:
        new, old = into / "tls" / name, data / "server" / "tls" / name
        new.parent.mkdir(parents=True, exist_ok=True)
        run(f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {new}.key")
        run(f"openssl req -new -key {new}.key -subj /CN=new-{new.name} -out {new}.csr")
        (into / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\nsubjectKeyIdentifier=hash\n")
        run(f"openssl x509 -req -in {new}.csr -CA {old}.crt -CAkey {old}.key -CAcreateserial -CAserial {into}/serial -days 3650 -extfile {into}/ca.ext -out {new}.crt")
        with open(f"{new}.crt", "ab") as bundle:
            bundle.write(open(f"{old}.crt", "rb").read())


AUTHORITIES = ("server-ca", "client-ca", "request-header-ca")


def test_c_new_authorities_come_with_the_next_start(cluster):
    strange = cluster.dir / "strange"
    (strange / "tls").mkdir(parents=True)
    run(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=strange -keyout {strange}/tls/server-ca.key -out {strange}/tls/server-ca.crt")
    done = k3rs(cluster, "certificate", "rotate-ca", "--path", str(strange))
    assert done.returncode == 1 and "failed to validate new CA certificates and keys: ServerCA: new CA bundle contains only a single certificate" in done.stderr, done
    new = cluster.dir / "new"
    new_authorities(new, cluster.data, AUTHORITIES)
    service = new / "tls" / "service.key"
    run(f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {service}")
    done = k3rs(cluster, "certificate", "rotate-ca", "--path", str(new))
    assert done.returncode == 1 and "ServiceKey: old ServiceAccount signing key not in new ServiceAccount key list" in done.stderr, done
    service.write_bytes(service.read_bytes() + tls(cluster.data, "service.current.key"))
    token_before = cluster.kubectl("create", "token", "default", "-n", "default").stdout.strip()
    before = tls(cluster.data, "server-ca.crt")
    done = k3rs(cluster, "certificate", "rotate-ca", "--path", str(new))
    assert done.returncode == 0 and done.stdout == "certificates saved to datastore\n", done
    assert tls(cluster.data, "server-ca.crt") == before, "until the next start nothing changes"
    cluster.stop()
    cluster.start()
    for name in AUTHORITIES:
        assert tls(cluster.data, f"{name}.crt") == (new / "tls" / f"{name}.crt").read_bytes(), name
    assert has(cluster, "a1") and not (cluster.data / "server" / "rotated").exists()
    # Whoever believes the old one believes what is shown now.
    old = cluster.dir / "old-ca.crt"
    old.write_bytes(before)
    ask = "curl -s -o /dev/null -w '%{http_code}' -H 'authorization: Bearer {token}' --cacert {old} https://127.0.0.1:6443/api".replace("{old}", str(old))
    assert cluster.sh(ask.replace("{token}", token_before)) in ("200", "403"), "a token of before is good"
    # They are in the datastore.
    cluster.stop()
    key = cluster.data / "server" / "tls" / "client-ca.key"
    key.unlink()
    cluster.start()
    assert key.read_bytes() == (new / "tls" / "client-ca.key").read_bytes()
    assert k3rs(cluster, "certificate", "rotate-ca", "--path", str(new)).returncode == 1, "there is nothing new any more"


@telling(say)
def test_d_the_other_servers_need_the_new_one(cluster):
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


@telling(say)
def test_e_each_server_takes_new_authorities(cluster):
    """Those of the etcd, too, which both run."""
    second = FOUND["second"]
    new = cluster.dir / "newer"
    names = (*AUTHORITIES, "etcd/server-ca", "etcd/peer-ca")
    new_authorities(new, cluster.data, names)
    done = k3rs(cluster, "certificate", "rotate-ca", "--path", str(new))
    assert done.returncode == 0, done
    cluster.stop()
    cluster.args = ["--disable-agent", *FAST]
    cluster.start(wait=False)
    cluster.wait_up(60)
    second.stop()
    second.server("--disable-agent", *FAST)
    second.ended("authorities of the embedded etcd were replaced: start k3rs again")
    second.server("--disable-agent", *FAST)
    second.wait_up()
    for server in (cluster, second):
        for name in names:
            assert tls(server.data, f"{name}.crt") == (new / "tls" / f"{name}.crt").read_bytes(), (server, name)
    make(second, "e1")
    until(lambda: has(cluster, "e1"), "the first has what the second wrote", 60)
    # Now neither knows anything but the new ones.
    cluster.stop()
    cluster.start(wait=False)
    cluster.wait_up(60)
    assert has(cluster, "e1")


def test_f_what_runs_on_knows_its_etcd_by_the_renewed_certificate(cluster):
    """After two thirds of a year certificates are made anew; the etcd's clients show them from then on."""
    FOUND["second"].stop()
    # Alone it could not even say that it goes.
    cluster.stop(signal.SIGKILL)
    shift = cluster.dir / "shift"
    shift.write_text("0")
    cluster.env["K3RS_CLOCK_SHIFT_FILE"] = str(shift)
    cluster.args = ["--disable-agent", "--cluster-reset"]
    cluster.start(wait=False)
    assert cluster.process.wait(60) == 0, cluster.tail()
    cluster.args = ["--disable-agent", *FAST]
    cluster.start(wait=False)
    cluster.wait_up(60)
    before = tls(cluster.data, "etcd/client.crt")
    said = (cluster.dir / "k3rs.log").stat().st_size
    shift.write_text(str(260 * 86400))
    until(lambda: tls(cluster.data, "etcd/client.crt") != before, "it is made anew", 60)
    until(lambda: b"Renewed the serving certificates" in cluster.said_since(said), "all are", 60)
    (pid,) = etcds(cluster.data)
    os.kill(pid, signal.SIGKILL)
    until(lambda: etcds(cluster.data) not in ([], [pid]), "etcd is there again", 60, interval=0.05)

    def writes():
        made = cluster.kubectl("create", "configmap", "-n", "default", "f1", "--from-literal=a=1", "--request-timeout=5s", check=False)
        return made.returncode == 0 or "AlreadyExists" in made.stderr

    until(writes, "it writes with a new connection", 60)


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
