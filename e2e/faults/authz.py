"""Who may do what, decided by others: webhooks by flags and by a file, in order, with conditions, failing, and read again."""

import json

from cluster import expect, until
from faults._https import Https, refused_start, restarted

ARGS = ["--disable-agent"]
START = False
PORT = 9445

# Allows what the path's last word says; keeps what it was asked.
JUDGE = r'''
class Answers(Base):
    def do_POST(self):
        review = json.loads(self.body())
        spec = review["spec"]
        self.note({"path": self.path, "version": review["apiVersion"], "spec": spec})
        resource = spec.get("resourceAttributes", {}).get("resource", "")
        name = spec.get("user", "")
        status = {"allowed": False, "reason": f"{self.path} has no opinion"}
        if name.startswith("good"):
            status = {"allowed": True, "reason": f"{self.path} likes {name}"}
        if name.startswith("bad") or resource == "secrets":
            status = {"allowed": False, "denied": True, "reason": f"{self.path} hates {name}"}
        if name.startswith("lost"):
            return self.answer(503, {})
        self.answer(201, {"apiVersion": review["apiVersion"], "kind": review["kind"], "status": status})
'''


def may(cluster, user, verb="list", resource="configmaps"):
    """What a review says of somebody."""
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": {"verb": verb, "version": "v1", "resource": resource, "namespace": "default"}},
    }
    return json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review)).stdout)["status"]


def tried(cluster, user, resource="configmaps"):
    done = cluster.kubectl("get", resource, "-n", "default", "--as", user, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_webhook_decides_after_roles(cluster):
    with Https(cluster, "judge", PORT, JUDGE) as judge:
        flags = ["authorization-mode=Node,RBAC,Webhook", f"authorization-webhook-config-file={judge.kubeconfig('/judge')}", "authorization-webhook-cache-unauthorized-ttl=1h"]
        restarted(cluster, ARGS, flags)
        code, said = tried(cluster, "good")
        expect(code == 0, said)
        told = may(cluster, "good")
        expect(told == {"allowed": True, "reason": "/judge likes good"}, told)
        lists = [asked for asked in judge.asked() if asked["spec"].get("user") == "good" and asked["spec"].get("resourceAttributes", {}).get("resource") == "configmaps"]
        expect(all(asked["version"] == "authorization.k8s.io/v1beta1" and asked["spec"]["group"] == ["system:authenticated"] for asked in lists), lists)
        expect(len(lists) == 1, f"the answer is not kept: {lists}")
        code, said = tried(cluster, "nobody")
        expect(code != 0 and 'User "nobody" cannot list resource "configmaps" in API group "" in the namespace "default": /judge has no opinion' in said, said)
        told = may(cluster, "bad")
        expect(told == {"allowed": False, "denied": True, "reason": "/judge hates bad"}, told)
        # Administrators are asked about by nobody.
        judge.asked()
        cluster.kubectl("get", "secrets", "-A")
        expect(not [asked for asked in judge.asked() if "system:masters" in asked["spec"].get("group", [])], "an administrator was asked about")
        judge.stop()
        told = may(cluster, "good")
        expect(told["allowed"], f"an answer that is kept: {told}")
        told = may(cluster, "good2")
        expect(not told["allowed"] and "denied" not in told and told["evaluationError"], told)
        code, said = tried(cluster, "good3")
        expect(code != 0 and "Internal Server Error" in said, said)
    cluster.stop()


def test_a_file_names_authorizers_and_is_read_again(cluster):
    with Https(cluster, "judges", PORT, JUDGE) as judge:
        file = cluster.dir / "authorization.yaml"

        def webhook(name, policy, *conditions):
            connection = {"type": "KubeConfigFile", "kubeConfigFile": str(judge.kubeconfig(f"/{name}"))}
            own = {"timeout": "10s", "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": policy, "connectionInfo": connection}
            return {"type": "Webhook", "name": name, "webhook": {**own, "matchConditions": [{"expression": text} for text in conditions]}}

        def write(*authorizers):
            tree = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthorizationConfiguration", "authorizers": list(authorizers)}
            file.write_text(json.dumps(tree))

        node, rbac = {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}
        first = webhook("first", "Deny", "has(request.resourceAttributes)", "request.resourceAttributes.resource == 'secrets'")
        second = webhook("second", "NoOpinion", "request.user != 'good-but-skipped'", "!request.user.startsWith('system:')")
        write(first, node, rbac, second)
        restarted(cluster, ARGS, [f"authorization-config={file}"])
        told = may(cluster, "good")
        expect(told == {"allowed": True, "reason": "/second likes good"}, told)
        told = may(cluster, "good", resource="secrets")
        expect(told == {"allowed": False, "denied": True, "reason": "/first hates good"}, told)
        told = may(cluster, "lost", resource="secrets")
        expect(told["denied"] and told["evaluationError"], f"failurePolicy Deny: {told}")
        told = may(cluster, "lost")
        expect("denied" not in told and told["evaluationError"], f"failurePolicy NoOpinion: {told}")
        told = may(cluster, "good-but-skipped")
        expect(told == {"allowed": False}, told)
        expect(all(asked["version"] == "authorization.k8s.io/v1" for asked in judge.asked()), "the version")
        # What is wrong changes nothing, and is told.
        write(second, node)
        until(lambda: any("missing required types: [RBAC]" in line for line in cluster.log_lines()), "the refusal is logged")
        expect(may(cluster, "good", resource="secrets").get("denied"), "a wrong file counts")
        write(second, node, rbac, {"type": "AlwaysDeny", "name": "alwaysdeny"})
        until(lambda: may(cluster, "good-but-skipped") == {"allowed": False, "reason": "Everything is forbidden."}, "the file is read again")
        told = may(cluster, "bad")
        expect(told.get("denied"), told)
    cluster.stop()


def test_what_cannot_be_is_refused_by_name(cluster):
    file = cluster.dir / "wrong.yaml"
    file.write_text(json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": [{"type": "Webhook", "name": "w", "webhook": {"timeout": "1m"}}]}))
    for arguments, why in (
        (["authorization-mode=Node,Magic"], 'authorization-mode "Magic" is not a valid mode'),
        (["authorization-mode=ABAC"], "authorization-mode ABAC is not supported by this version of k3rs yet"),
        (["authorization-mode=Webhook"], "authorization-mode Webhook's authorization config file not passed"),
        (["authorization-policy-file=/x"], "--kube-apiserver-arg=authorization-policy-file is not supported by this version of k3rs yet"),
        (["authorization-mode=RBAC", f"authorization-config={file}"], "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"),
        ([f"authorization-config={file}"], "authorizers[0].timeout: Invalid value: \"1m\": must be > 0s and <= 30s"),
    ):
        refused_start(cluster, ARGS, arguments, why)
