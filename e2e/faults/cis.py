"""The CIS benchmark for k3s by what a node does: kube-bench reads k3s's flags from its log, and here there are none to read.

The numbers are those of kube-bench's cfg/k3s-cis-1.9; docs/security.md has the table.
"""

import subprocess

from cluster import Failure, until

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"

# What the hardening guide of k3s asks for beside the defaults: each is taken, and none is in the warning of what does nothing.
HARDENED = [
    "--secrets-encryption",
    "--kube-apiserver-arg=enable-admission-plugins=NodeRestriction,AlwaysPullImages,DenyServiceExternalIPs",
    "--kube-apiserver-arg=audit-log-maxage=30",
    "--kube-apiserver-arg=audit-log-maxbackup=10",
    "--kube-apiserver-arg=audit-log-maxsize=100",
    "--kube-controller-manager-arg=terminated-pod-gc-threshold=10",
    "--kubelet-arg=pod-max-pids=4096",
]
START = False


def prepare(cluster):
    policy = cluster.dir / "policy.yaml"
    policy.write_text(POLICY)
    cluster.args = [
        *HARDENED,
        f"--kube-apiserver-arg=audit-policy-file={policy}",
        f"--kube-apiserver-arg=audit-log-path={cluster.dir}/audit.log",
    ]


def answer(cluster, url, *more):
    """The status that a stranger gets."""
    done = cluster.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' {' '.join(more)} {url}", check=False)
    return done.strip()


def test_hardening_is_taken(cluster):
    """1.2.3 to 1.2.20, 1.3.1, 3.2.1, 4.2.13: the flags do something."""
    cluster.start()
    ignored = [line for line in cluster.log_lines() if "that do nothing" in line]
    assert not ignored, ignored
    until(lambda: (cluster.dir / "audit.log").stat().st_size > 0, "the audit log is written")


def test_files_are_roots_alone(cluster):
    """1.1.9 to 1.1.21, 4.1.3 to 4.1.8: keys, certificates and kubeconfigs are for root alone, and so are the folders above them."""
    wrong, n = [], 0
    for folder in ("server", "agent"):
        top = cluster.data / folder
        assert top.stat().st_mode & 0o077 == 0, top
        for path in top.rglob("*"):
            if path.suffix in (".crt", ".key", ".kubeconfig", ".db", ".json") or path.parent.name in ("cred", "tls") and path.is_file():
                n += 1
                status = path.stat()
                if status.st_mode & 0o177 or status.st_uid or status.st_gid:
                    wrong.append((str(path), oct(status.st_mode)))
    assert not wrong and n > 30, (n, wrong)
    assert (cluster.dir / "kubeconfig").stat().st_mode & 0o777 == 0o600


def test_strangers_get_nothing(cluster):
    """1.2.1, 1.2.6, 1.3.2, 1.4.1, 4.2.1, 4.2.2: nobody is anonymous, and there are no profiles to read."""
    for path in ("api", "apis", "api/v1/nodes", "metrics", "debug/pprof/", "openapi/v2"):
        assert answer(cluster, f"https://127.0.0.1:6443/{path}") == "401", path
    for path in ("pods", "metrics", "stats/summary", "logs/", "configz", "debug/pprof/", "exec/a/b/c"):
        assert answer(cluster, f"https://127.0.0.1:10250/{path}") in ("401", "404"), path
    assert cluster.kubectl("get", "--raw", "/debug/pprof/", check=False).returncode != 0


def test_who_has_no_right_is_refused(cluster):
    """1.2.7, 1.2.8, 1.2.14, 1.2.21: Node and RBAC decide, and a token's account has to be there still."""
    cluster.kubectl("create", "serviceaccount", "nobody", "-n", "default")
    token = cluster.kubectl("create", "token", "nobody", "-n", "default").stdout.strip()
    bearer = f"-H 'Authorization: Bearer {token}'"
    assert answer(cluster, "https://127.0.0.1:6443/api/v1/secrets", bearer) == "403"
    cluster.kubectl("delete", "serviceaccount", "nobody", "-n", "default")
    until(lambda: answer(cluster, "https://127.0.0.1:6443/api/v1/secrets", bearer) == "401", "the token of an account that is gone is none")


def test_no_other_ports_are_open(cluster):
    """1.3.7, 1.4.2, 4.2.4, 4.3.1: no read-only port, and none of the controller manager's, the scheduler's or the proxy's."""
    ports = {line.split()[3].rsplit(":", 1)[1] for line in cluster.sh("ss -Hltn").splitlines() if "127.0.0.1" not in line and "[::1]" not in line}
    assert {"6443", "10250"} <= ports and not ports & {"10255", "10257", "10259", "10249", "10256", "10248"}, ports


def test_weak_encryption_is_refused(cluster):
    """1.2.24, 1.2.29, 4.2.9, 4.2.12: TLS 1.2 and 1.3, and of 1.2 only what has forward secrecy and authenticates."""
    for port in (6443, 10250):
        assert answer(cluster, f"https://127.0.0.1:{port}/", "--tls-max 1.1", "--ciphers DEFAULT@SECLEVEL=0") == "000", port
        for cipher in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-DES-CBC3-SHA"):
            assert answer(cluster, f"https://127.0.0.1:{port}/", "--tls-max 1.2", f"--ciphers {cipher}@SECLEVEL=0") == "000", (port, cipher)
        assert answer(cluster, f"https://127.0.0.1:{port}/", "--tls-max 1.2", "--ciphers ECDHE-ECDSA-AES128-GCM-SHA256") in ("401", "404"), port


def test_tokens_in_files_are_refused(cluster):
    """1.2.2: and by name."""
    done = subprocess.run(
        cluster.inside([cluster.binary, "server", "--data-dir", str(cluster.dir / "other"), "--kube-apiserver-arg=token-auth-file=/x"]),
        env=cluster.env, capture_output=True, text=True, timeout=30,
    )
    if done.returncode != 1 or "token-auth-file" not in done.stderr:
        raise Failure(f"{done}")


def test_pods_are_kept_from_each_other(cluster):
    """5.1.1, 5.1.3, 5.2, 5.3.1: one binding of cluster-admin, and policies of pods and networks that are enforced."""
    admins = [it["metadata"]["name"] for it in cluster.get("clusterrolebindings")["items"] if it["roleRef"]["name"] == "cluster-admin"]
    assert admins == ["cluster-admin"], admins
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    done = cluster.kubectl("run", "a", "-n", "strict", "--image=k3rs.io/userspace:1", check=False)
    assert done.returncode == 1 and "violates PodSecurity" in done.stderr, done
