"""Who one is: roles do not grow by harmless looks, nodes reach what is theirs, and nobody is told little."""

import json
import subprocess
import sys

from cluster import expect, until

EVE = ("--as", "eve")
NODE = ("--as", "system:node:node1", "--as-group", "system:nodes")
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-view"


def refused(cluster, why, *args, input=None):
    done = cluster.kubectl(*args, check=False, input=input)
    said = done.stdout + done.stderr
    expect(done.returncode != 0 and why in said, f"kubectl {' '.join(args)}: wanted {why!r}, got {done.returncode}: {said}")


def applied(cluster, *objects, args=()):
    return cluster.kubectl("create", *args, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def binding(name, role, user):
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }


def test_labels_do_not_escalate(cluster):
    """cluster-admin gathered into `view` by who may write roles and has little."""
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "clusterrolebindings", "roles", "rolebindings"], "verbs": ["get", "list", "create", "update", "patch", "delete"]}]
    applied(
        cluster,
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "escr"}, "rules": rules},
        binding("escr", "escr", "eve"),
        binding("escview", "view", "eve"),
    )
    why = "is attempting to grant RBAC permissions not currently held"
    refused(cluster, why, "label", "clusterrole", "cluster-admin", f"{AGGREGATE}=true", *EVE)
    refused(cluster, why, "annotate", "clusterrole", "cluster-admin", "a=b", *EVE)
    whole = cluster.get("clusterrole", "cluster-admin")
    whole["metadata"]["labels"][AGGREGATE] = "true"
    whole["metadata"].pop("managedFields", None)
    refused(cluster, why, "replace", "-f", "-", *EVE, input=json.dumps(whole))
    apply = {"apiVersion": whole["apiVersion"], "kind": "ClusterRole", "metadata": {"name": "cluster-admin", "labels": {AGGREGATE: "true"}}}
    refused(cluster, why, "apply", "--server-side", "-f", "-", *EVE, input=json.dumps(apply))
    refused(cluster, why, "label", "clusterrolebinding", "cluster-admin", "a=b", *EVE)
    refused(cluster, "must have cluster-admin privileges to use the aggregationRule", "patch", "clusterrole", "view", "--type=json", "-p", '[{"op":"replace","path":"/rules","value":[]},{"op":"remove","path":"/aggregationRule"}]', *EVE)
    expect("no" == cluster.kubectl("auth", "can-i", "get", "secrets", *EVE, check=False).stdout.strip(), "eve reads secrets")
    # Her own labels are hers.
    cluster.kubectl("label", "clusterrole", "escr", "a=b", *EVE)


def mirror(cluster, **spec):
    uid = cluster.get("node", "node1")["metadata"]["uid"]
    return json.dumps({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "m", "namespace": "default", "annotations": {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "x", "kubernetes.io/config.source": "file"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": uid, "controller": True}],
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "k3rs.io/userspace:1"}], **spec},
    })


def test_mirror_pods_open_no_secrets(cluster):
    cluster.kubectl("create", "secret", "generic", "topsecret", "--from-literal=k=v")
    until(lambda: cluster.get("node", "node1"), "the node is there")
    reference = {"name": "topsecret"}
    container = lambda **more: [{"name": "c", "image": "k3rs.io/userspace:1", **more}]
    for spec in (
        {"containers": container(envFrom=[{"secretRef": reference}])},
        {"containers": container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {**reference, "key": "k"}}}])},
        {"initContainers": [{"name": "i", "image": "x", "envFrom": [{"secretRef": reference}]}]},
        {"imagePullSecrets": [reference]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": reference}]}}]},
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": reference}}]},
        {"volumes": [{"name": "v", "flexVolume": {"driver": "a/b", "secretRef": reference}}]},
        {"volumes": [{"name": "v", "azureFile": {"secretName": "topsecret", "shareName": "x"}}]},
    ):
        refused(cluster, "reference secrets", "create", "-f", "-", *NODE, input=mirror(cluster, **spec))
    refused(cluster, "reference configmaps", "create", "-f", "-", *NODE, input=mirror(cluster, containers=container(envFrom=[{"configMapRef": reference}])))
    refused(cluster, "persistentvolumeclaims", "create", "-f", "-", *NODE, input=mirror(cluster, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]))
    refused(cluster, "no relationship found", "get", "secret", "topsecret", *NODE)


def test_nodes_leave_claims_alone(cluster):
    applied(
        cluster,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": {
            "nodeName": "node1", "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "1000"]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}},
    )
    cluster.kubectl("get", "pvc", "c", *NODE)
    refused(cluster, "forbidden", "label", "pvc", "c", "a=b", *NODE)
    refused(cluster, "forbidden", "delete", "pvc", "c", "--wait=false", *NODE)
    refused(cluster, "forbidden", "patch", "pvc", "c", "--subresource=status", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}', *NODE)
    cluster.kubectl("delete", "pod", "user", "--grace-period=0", "--force", "--wait=false")
    cluster.kubectl("delete", "pvc", "c", "--wait=false")


def code(cluster, path, port=6443, *more):
    said = cluster.sh(f"curl -sk -o {cluster.dir}/answer -w '%{{http_code}}' {' '.join(more)} 'https://127.0.0.1:{port}{path}'")
    return int(said), (cluster.dir / "answer").read_text(errors="replace")


def test_nobody_is_told_little(cluster):
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose", "/version", "/cacerts", "/ping"):
        status, text = code(cluster, path)
        expect(status == 200, f"{path}: {status} {text}")
    for path in ("/", "/api", "/apis", "/api/v1", "/api/v1/namespaces", "/apis/nosuch/v1/x", "/openapi/v2", "/openapi/v3", "/metrics", "/healthzz", "/nosuch", "/.well-known/openid-configuration"):
        status, text = code(cluster, path)
        expect(status == 401, f"{path}: {status} {text}")
        said = json.loads(text)
        expect((said["kind"], said["reason"], said["message"], said["code"]) == ("Status", "Unauthorized", "Unauthorized", 401), f"{path}: {text}")
    status, _ = code(cluster, "/apis/authentication.k8s.io/v1/selfsubjectreviews", 6443, "-X", "POST", "-d", "{}")
    expect(status == 401, f"a review by nobody: {status}")
    status, _ = code(cluster, "/healthz", 6443, "-H", "'Authorization: Bearer nonsense'")
    expect(status == 401, f"a wrong token: {status}")
    until(lambda: code(cluster, "/pods", 10250)[0] == 401, "the kubelet refuses nobody with 401")
    for path in ("/healthz", "/metrics", "/runningpods/", "/exec/default/x/c", "/nosuch"):
        status, text = code(cluster, path, 10250)
        expect(status == 401, f"kubelet {path}: {status} {text}")
    # Clients go on: those who say who they are, and those who ask for the version alone.
    cluster.kubectl("version")
    cluster.kubectl("cluster-info")


# Knows the users NAME of tokens NAME-token; keeps the tokens that it was asked about.
DIRECTORY = r'''
import http.server, json, sys

class Directory(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        token = review["spec"]["token"]
        with open(sys.argv[1], "a") as asked:
            asked.write(token + "\n")
        name = token.removesuffix("-token")
        status = {"authenticated": True, "user": {"username": name, "groups": ["team"]}} if name != token else {"authenticated": False}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "status": status}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", 9444), Directory).serve_forever()
'''


def test_a_webhook_knows_tokens(cluster):
    asked, file = cluster.dir / "asked", cluster.dir / "directory.yaml"
    asked.touch()
    cluster_of, user = {"name": "c", "cluster": {"server": "http://127.0.0.1:9444/"}}, {"name": "u", "user": {}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    file.write_text(json.dumps({"kind": "Config", "clusters": [cluster_of], "users": [user], "contexts": [context], "current-context": "x"}))
    directory = subprocess.Popen(cluster.inside([sys.executable, "-c", DIRECTORY, str(asked)]))
    arguments = list(cluster.args)
    try:
        cluster.stop()
        cluster.args += [f"--kube-apiserver-arg=authentication-token-webhook-{flag}" for flag in (f"config-file={file}", "version=v1", "cache-ttl=1h")]
        cluster.start()
        applied(cluster, dict(binding("team", "view", "x"), subjects=[{"kind": "Group", "name": "team", "apiGroup": "rbac.authorization.k8s.io"}]))
        bare = ("--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify")

        def who(token):
            return cluster.kubectl("auth", "whoami", "-o", "json", f"--token={token}", *bare, check=False)

        until(lambda: who("alice-token").returncode == 0, "the webhook is asked")
        found = json.loads(who("alice-token").stdout)["status"]["userInfo"]
        expect(found["username"] == "alice" and found["groups"] == ["team", "system:authenticated"], found)
        expect(cluster.kubectl("get", "pods", "--token=alice-token", *bare).returncode == 0, "the group's binding counts")
        refused = who("nonsense")
        expect(refused.returncode != 0 and "Unauthorized" in refused.stderr or "must be logged in" in refused.stderr, refused.stderr)
        known = json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "bob-token"}})).stdout)
        expect(known["status"]["authenticated"] and known["status"]["user"]["username"] == "bob", known)
        expect(asked.read_text().split().count("alice-token") == 1, "the answer is not kept")
    finally:
        directory.kill()
        directory.wait()
        cluster.stop()
        cluster.args = arguments
        cluster.start()
