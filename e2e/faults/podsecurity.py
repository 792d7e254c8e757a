"""The pod-security.kubernetes.io labels of a namespace hold: refused, warned of, told."""

import json
import subprocess

from cluster import expect, until

NS = "guarded"


def pod(name, **spec):
    container = {"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "1000"], **spec.pop("container", {})}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}})


def label(cluster, *labels, check=True):
    return cluster.kubectl("label", "--overwrite", "namespace", NS, *(f"pod-security.kubernetes.io/{one}" for one in labels), check=check)


def create(cluster, manifest):
    done = cluster.kubectl("create", "-f", "-", input=manifest, check=False)
    return done.returncode, done.stdout + done.stderr


def refused(cluster, manifest, *words):
    code, said = create(cluster, manifest)
    expect(code != 0 and all(word in said for word in words), f"wanted {words}: {code} {said}")


def test_baseline_and_restricted_are_enforced(cluster):
    cluster.kubectl("create", "namespace", NS)
    code, said = create(cluster, pod("before", hostPID=True))
    expect(code == 0, said)
    said = label(cluster, "enforce=baseline").stderr
    expect('existing pods in namespace "guarded" violate the new PodSecurity enforce level "baseline:latest"' in said and "before: host namespaces" in said, said)
    violates = 'violates PodSecurity "baseline:latest"'
    for name, spec, words in (
        ("net", {"hostNetwork": True}, "host namespaces (hostNetwork=true)"),
        ("path", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
        ("port", {"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}}, 'hostPort (container "c" uses hostPort 80)'),
        ("priv", {"container": {"securityContext": {"privileged": True}}}, 'privileged (container "c" must not set securityContext.privileged=true)'),
        ("caps", {"container": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}}, 'must not include "SYS_ADMIN"'),
        ("seccomp", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, 'pod must not set securityContext.seccompProfile.type to "Unconfined"'),
        ("init", {"initContainers": [{"name": "i", "image": "x", "securityContext": {"privileged": True}}]}, 'container "i" must not set'),
    ):
        refused(cluster, pod(name, **spec), f'pods "{name}" is forbidden: {violates}', words)
    label(cluster, "enforce=restricted", "enforce-version=v1.32")
    refused(
        cluster, pod("bare"), 'violates PodSecurity "restricted:v1.32": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])', 'runAsNonRoot != true', 'seccompProfile (pod or container "c" must set',
    )
    good = {"runAsNonRoot": True, "runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    code, said = create(cluster, pod("good", container={"securityContext": good}))
    expect(code == 0 and "Warning" not in said, said)
    until(lambda: cluster.get("pod", "-n", NS, "good")["status"]["phase"] == "Running", "the restricted pod runs")
    debug = cluster.kubectl("debug", "-n", NS, "good", "--image=k3rs.io/userspace:1", "--profile=sysadmin", "--", "true", check=False)
    expect(debug.returncode != 0 and "violates PodSecurity" in debug.stderr, f"debug: {debug.stdout}{debug.stderr}")


def test_templates_are_warned_of_and_their_pods_refused(cluster):
    container = {"name": "c", "image": "k3rs.io/userspace:1"}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": NS}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}}}
    code, said = create(cluster, json.dumps(deployment))
    expect(code == 0 and 'Warning: would violate PodSecurity "restricted:v1.32": allowPrivilegeEscalation' in said, said)
    until(lambda: any("violates PodSecurity" in condition.get("message", "") for condition in cluster.get("deployment", "-n", NS, "d")["status"].get("conditions", [])), "the deployment says why it has no pods")


def test_wrong_labels_are_refused(cluster):
    for one, why in (("enforce=strict", "must be one of privileged, baseline, restricted"), ("warn-version=1.32", 'must be "latest" or "v1.x"')):
        done = label(cluster, one, check=False)
        expect(done.returncode != 0 and why in done.stderr, f"{one}: {done.stdout}{done.stderr}")


def fails_to_start(cluster, flag):
    done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args(), flag]), env=cluster.env, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_a_configuration_file_sets_defaults_and_exemptions(cluster):
    """Upstream's AdmissionConfiguration with a PodSecurityConfiguration; what is wrong in it ends the start."""
    file = cluster.dir / "psa.yaml"
    text = (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n"
        "    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n"
        "    defaults: {enforce: baseline, enforce-version: v1.31, warn: restricted}\n"
        "    exemptions: {namespaces: [kube-system, exempt], usernames: [system:admin-of-pods]}\n"
    )
    flag = f"--kube-apiserver-arg=admission-control-config-file={file}"
    cluster.stop()
    for wrong, words in (
        (text.replace("enforce: baseline", "enforce: base"), "enforce: must be one of privileged, baseline, restricted"),
        (text.replace("usernames:", "users:"), 'strict decoding error: unknown field "exemptions.users"'),
        (None, "unable to read admission control configuration from"),
    ):
        file.unlink(missing_ok=True)
        if wrong:
            file.write_text(wrong)
        code, said = fails_to_start(cluster, flag)
        expect(code == 1 and words in said, f"wanted {words}: {code} {said[-600:]}")
    for arg, words in (("etcd-prefixes=/x", "kube-apiserver: unknown flag: --etcd-prefixes"), ("enable-admission-plugins=Foo", 'enable-admission-plugins plugin "Foo" is unknown')):
        code, said = fails_to_start(cluster, f"--kube-apiserver-arg={arg}")
        expect(code == 1 and words in said, f"wanted {words}: {code} {said[-600:]}")
    file.write_text(text)
    cluster.args.append(flag)
    cluster.start()
    said = cluster.kubectl("create", "namespace", "plain").stderr
    expect(said == "", said)
    manifest = pod("p", hostPID=True).replace(f'"{NS}"', '"plain"')
    refused(cluster, manifest, 'violates PodSecurity "baseline:v1.31": host namespaces (hostPID=true)')
    code, said = create(cluster, pod("q").replace(f'"{NS}"', '"plain"'))
    expect(code == 0 and 'Warning: would violate PodSecurity "restricted:latest"' in said, said)
    cluster.kubectl("create", "namespace", "exempt")
    code, said = create(cluster, pod("p", hostPID=True).replace(f'"{NS}"', '"exempt"'))
    expect(code == 0 and "Warning" not in said, said)
    said = cluster.kubectl("label", "namespace", "exempt", "pod-security.kubernetes.io/enforce=restricted").stderr
    expect('namespace "exempt" is exempt from Pod Security, and the policy (enforce=restricted:v1.31) will be ignored' in said, said)
    cluster.stop()
    cluster.args.remove(flag)
    cluster.start()
