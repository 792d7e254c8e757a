"""The pod-security.kubernetes.io labels of a namespace hold: refused, warned of, told."""

import json

from cluster import Failure, until

NS = "guarded"


def expect(condition, message):
    if not condition:
        raise Failure(message)


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
