"""Encryption of Secrets at rest: what the disk holds, and how keys come and go."""

import json
import subprocess

from cluster import expect, until

ARGS = ["--disable-agent", "--secrets-encryption"]
PLAIN = "the-plain-text-of-a-secret"


def command(cluster, *args):
    done = subprocess.run(
        cluster.inside([cluster.binary, "secrets-encrypt", *args, "--data-dir", str(cluster.data)]), env=cluster.env, capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout, done.stderr


def on_disk(cluster, text):
    files = [path for path in (cluster.data / "server" / "db").iterdir() if path.name.startswith("state.db")]
    return any(text.encode() in path.read_bytes() for path in files)


def make(cluster, name):
    cluster.kubectl("create", "secret", "generic", name, f"--from-literal=a={PLAIN}-{name}")


def read(cluster, name):
    return cluster.kubectl("get", "secret", name, "-o", "go-template={{.data.a | base64decode}}").stdout


def status(cluster):
    code, said, error = command(cluster, "status", "-o", "json")
    expect(code == 0, error)
    return json.loads(said)


def test_keys_come_and_go_and_the_disk_never_holds_the_text(cluster):
    for name in ("one", "two"):
        make(cluster, name)
    expect(on_disk(cluster, "k8s:enc:aescbc:v1:aescbckey:") and not on_disk(cluster, PLAIN), "the datastore is not encrypted")
    code, said, _ = command(cluster, "status")
    expect(code == 0 and "Encryption Status: Enabled\nCurrent Rotation Stage: start\n" in said and " *      AES-CBC   aescbckey\n" in said, said)
    code, _, error = command(cluster, "rotate")
    expect(code == 1 and "incorrect stage: start found on node" in error, error)
    for verb, words in (("prepare", "prepare completed successfully"), ("rotate", "rotate completed successfully"), ("reencrypt", "reencryption started")):
        code, said, error = command(cluster, verb)
        expect(code == 0 and said == words + "\n", (verb, said, error))
    until(lambda: status(cluster)["stage"] == "reencrypt_finished", "the secrets are encrypted with the new key")
    state = status(cluster)
    expect(state["activekey"].startswith("AES-CBC aescbckey-") and "inactivekeys" not in state, state)
    expect(not on_disk(cluster, "aescbc:v1:aescbckey:") and on_disk(cluster, "aescbc:v1:aescbckey-2"), "something is left that the old key reads")
    code, said, error = command(cluster, "rotate-keys")
    expect(code == 0 and said == "keys rotated, reencryption finished\n", error)
    cluster.stop()
    cluster.start()
    expect(read(cluster, "one") == PLAIN + "-one" and not on_disk(cluster, PLAIN), "a restart")
    code, said, error = command(cluster, "disable")
    expect(code == 0 and said == "secrets-encryption disabled\n" and status(cluster)["enable"] is False, error)
    expect(on_disk(cluster, PLAIN) and not on_disk(cluster, "k8s:enc:"), "it was disabled")
    code, said, error = command(cluster, "enable")
    expect(code == 0 and said == "secrets-encryption enabled\n", error)
    expect(not on_disk(cluster, PLAIN) and read(cluster, "two") == PLAIN + "-two", "it was enabled again")


def test_a_lost_key_ends_the_start_by_its_name_and_nothing_is_lost(cluster):
    make(cluster, "kept")
    cluster.stop()
    arguments, file = cluster.args, cluster.dir / "encryption.yaml"
    own = (cluster.data / "server" / "cred" / "encryption-config.json").read_text()
    other = own.replace('"secret":"', '"secret":"AAAA')
    for text, extra, words in (
        (None, [], "which the encryption configuration does not have for it"),
        (own.replace('"aescbckey', '"renamed'), [f"--kube-apiserver-arg=encryption-provider-config={file}"], "it was encrypted with the key"),
        (other, [f"--kube-apiserver-arg=encryption-provider-config={file}"], "secret is not of the expected length, got 35"),
    ):
        if text:
            file.write_text(text)
        cluster.args = [arg for arg in arguments if arg != "--secrets-encryption"] + extra
        done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args()]), env=cluster.env, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        expect(done.returncode == 1 and words in said, (words, said[-900:]))
    # What is lost comes back from the datastore, with the token.
    file_of_k3s = cluster.data / "server" / "cred" / "encryption-config.json"
    file_of_k3s.unlink()
    cluster.args = arguments
    cluster.start()
    expect(file_of_k3s.read_text() == own and read(cluster, "kept") == PLAIN + "-kept", "the keys came back")
    cluster.stop()
    # k3s's file is an administrator's file like any other, and is read again when it changes.
    file.write_text(own)
    cluster.args = [arg for arg in arguments if arg != "--secrets-encryption"] + [
        f"--kube-apiserver-arg=encryption-provider-config={file}",
        "--kube-apiserver-arg=encryption-provider-config-automatic-reload=true",
    ]
    cluster.start()
    expect(read(cluster, "kept") == PLAIN + "-kept", "the secret is there")
    tree = json.loads(own)
    key = {"name": "second", "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
    tree["resources"][0]["providers"].insert(0, {"secretbox": {"keys": [key]}})
    file.write_text(json.dumps(tree))
    # By its name: k3s's own file was read again, too, in the test before.
    until(lambda: any(f"Reloaded encryption config {file}" in line for line in cluster.log_lines()), "the configuration is read again")
    make(cluster, "later")
    expect(on_disk(cluster, "k8s:enc:secretbox:v1:second:") and not on_disk(cluster, PLAIN), "the new provider writes")
