"""Admission webhooks: a real HTTPS server, asked by URL and by Service, changes, refuses, hangs and goes away."""

import base64
import json
import os
import pathlib
import signal
import subprocess
import time

from cluster import expect, until

OWN = "192.0.2.10"
PORT = 9443

# Answers by path; keeps what it was asked as lines of JSON.
SERVER = r'''
import base64, http.server, json, socket, ssl, sys, time
directory, port = sys.argv[1], int(sys.argv[2])

class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = review["request"]
        path = self.path.split("?")[0]
        with open(f"{directory}/asked", "a") as asked:
            asked.write(json.dumps({"path": self.path, "host": self.headers["host"], "request": request}) + "\n")
        response = {"uid": request["uid"], "allowed": True, "warnings": ["webhook was here"]}
        if path == "/convert":
            response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": request["objects"]}
            for tree in response["convertedObjects"]:
                tree["apiVersion"] = request["desiredAPIVersion"]
                if tree["apiVersion"].endswith("v2"):
                    tree["host"], tree["port"] = tree.pop("hostPort").split(":")
                else:
                    tree["hostPort"] = tree.pop("host") + ":" + tree.pop("port")
        data = (request.get("object") or {}).get("data") or {}
        if path == "/slow":
            time.sleep(5)
        if path == "/mutate" and "mutation-start" in data:
            patch = [{"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}]
            response.update(patchType="JSONPatch", patch=base64.b64encode(json.dumps(patch).encode()).decode())
        if path == "/deny" and data.get("webhook-e2e-test") == "disallow":
            response.update(allowed=False, status={"reason": "the configmap contains unwanted key and value"})
        if path == "/attach":
            response.update(allowed=False, status={"message": "attaching to pod 'to-be-attached-pod' is not allowed"})
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

socket.getfqdn = str  # HTTPServer asks DNS for the name of its address, and waits where nobody answers
server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/server.crt", f"{directory}/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
'''


class Webhooks:
    """The webhook server in the node's network, with an authority of its own."""

    script, port = SERVER, PORT

    def __init__(self, cluster):
        self.cluster = cluster
        self.dir = pathlib.Path(cluster.dir) / "webhooks"
        self.dir.mkdir()
        (self.dir / "names").write_text(f"subjectAltName=DNS:hook.default.svc,IP:{OWN}\n")
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        for command in (
            f"{make} -subj /CN=ca -keyout ca.key -out ca.crt",
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=hook -keyout server.key -out server.csr",
            "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
        ):
            done = subprocess.run(command.split(), cwd=self.dir, capture_output=True, text=True)
            expect(done.returncode == 0, f"{command}: {done.stderr}")
        self.ca = base64.b64encode((self.dir / "ca.crt").read_bytes()).decode()
        self.process = None

    def start(self):
        command = ["python3", "-c", self.script, str(self.dir), str(self.port)]
        self.process = subprocess.Popen(self.cluster.inside(command), start_new_session=True)
        until(lambda: self.cluster.sh(f"ss -ltn | grep :{self.port}", check=False), "the webhook server listens")

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def asked(self):
        path = self.dir / "asked"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        path.unlink()
        return [json.loads(line) for line in lines]

    def hook(self, path, service=False, **change):
        where = {"service": {"namespace": "default", "name": "hook", "path": path}} if service else {"url": f"https://{OWN}:{PORT}{path}"}
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": {**where, "caBundle": self.ca},
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "admissionReviewVersions": ["v1", "v1beta1"],
            "sideEffects": "None",
            **change,
        }


def configure(cluster, kind, *hooks):
    tree = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "e2e"}, "webhooks": list(hooks)}
    cluster.kubectl("create", "-f", "-", input=json.dumps(tree))


def remove(cluster):
    cluster.kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")


def with_webhooks(test):
    """Runs a test with a webhook server that ends with it."""

    def run(cluster):
        webhooks = Webhooks(cluster)
        try:
            webhooks.start()
            return test(cluster, webhooks)
        finally:
            webhooks.stop()
            subprocess.run(["rm", "-rf", str(webhooks.dir)], check=True)
            remove(cluster)

    run.__name__ = test.__name__
    return run


def create(cluster, name, *data, check=True):
    literals = [f"--from-literal={pair}" for pair in data]
    return cluster.kubectl("create", "configmap", name, *literals, check=check)


@with_webhooks
def test_objects_are_changed_and_refused_by_url(cluster, webhooks):
    configure(cluster, "MutatingWebhookConfiguration", webhooks.hook("/mutate"))
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/deny"))
    done = create(cluster, "mutated", "mutation-start=yes")
    expect("Warning: webhook was here" in done.stderr, f"no warning: {done.stderr}")
    data = cluster.get("configmap", "mutated")["data"]
    expect(data == {"mutation-start": "yes", "mutation-stage-1": "yes"}, f"data: {data}")
    refused = create(cluster, "refused", "webhook-e2e-test=disallow", check=False)
    wanted = 'admission webhook "deny.example.com" denied the request: the configmap contains unwanted key and value'
    expect(wanted in refused.stderr, f"not refused: {refused.stdout}{refused.stderr}")
    for patch in ("merge", "strategic"):
        done = cluster.kubectl("patch", "configmap", "mutated", "--type", patch, "-p", '{"data":{"webhook-e2e-test":"disallow"}}', check=False)
        expect(wanted in done.stderr, f"patch {patch}: {done.stdout}{done.stderr}")
    # Controllers may write ConfigMaps, too.
    asked = [one["request"]["operation"] for one in webhooks.asked() if one["request"]["name"] in ("mutated", "refused")]
    expect(asked.count("CREATE") == 4 and asked.count("UPDATE") == 4, f"asked: {asked}")


@with_webhooks
def test_a_service_is_found_without_the_nodes_network(cluster, webhooks):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443}]}}
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hook"}, "subsets": [{"addresses": [{"ip": OWN}], "ports": [{"name": "https", "port": PORT}]}]}
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/deny", service=True))
    refused = create(cluster, "early", "a=b", check=False).stderr
    expect('failed calling webhook "deny.example.com": failed to call webhook: Post "https://hook.default.svc:443/deny?timeout=10s": service "hook" not found' in refused, refused)
    for one in (service, endpoints):
        cluster.kubectl("create", "-f", "-", input=json.dumps(one))
    create(cluster, "late", "a=b")
    asked = webhooks.asked()
    expect(len(asked) == 1 and asked[0]["host"] == "hook.default.svc:443" and asked[0]["path"] == "/deny?timeout=10s", f"asked: {asked}")
    cluster.kubectl("delete", "service,endpoints", "hook", "--ignore-not-found")


@with_webhooks
def test_a_webhook_that_hangs_or_is_gone(cluster, webhooks):
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/slow", timeoutSeconds=1))
    started = time.monotonic()
    refused = create(cluster, "hanging", "a=b", check=False).stderr
    took = time.monotonic() - started
    expect('failed calling webhook "slow.example.com"' in refused and "context deadline exceeded" in refused, refused)
    expect(took < 4, f"a second is a second: {took:.1f} s")
    remove(cluster)
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/deny"))
    create(cluster, "there", "a=b")
    webhooks.stop()
    refused = create(cluster, "gone", "a=b", check=False).stderr
    wanted = f'Internal error occurred: failed calling webhook "deny.example.com": failed to call webhook: Post "https://{OWN}:{PORT}/deny?timeout=10s": connect to {OWN}:{PORT}: '
    expect(wanted in refused, refused)
    webhooks.start()
    create(cluster, "back", "a=b")
    remove(cluster)
    webhooks.stop()
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/deny", failurePolicy="Ignore"))
    create(cluster, "ignored", "a=b")


@with_webhooks
def test_attaching_is_denied(cluster, webhooks):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "to-be-attached-pod"}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "1000"], "stdin": True}]}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod))
    until(lambda: cluster.get("pod", "to-be-attached-pod")["status"].get("phase") == "Running", "the pod runs")
    rules = [{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]}]
    configure(cluster, "ValidatingWebhookConfiguration", webhooks.hook("/attach", rules=rules))
    done = cluster.kubectl("attach", "to-be-attached-pod", "-i", "-c=c", check=False, input="")
    expect("attaching to pod 'to-be-attached-pod' is not allowed" in done.stderr, f"{done.stdout}{done.stderr}")
    asked = webhooks.asked()
    expect(asked and asked[0]["request"]["object"]["container"] == "c", f"asked: {asked}")
    cluster.kubectl("exec", "to-be-attached-pod", "--", "true")
    cluster.kubectl("delete", "pod", "to-be-attached-pod")


@with_webhooks
def test_webhooks_cannot_keep_their_own_configuration(cluster, webhooks):
    webhooks.stop()
    everything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        configure(cluster, kind, webhooks.hook("/deny", rules=everything))
    expect(create(cluster, "blocked", "a=b", check=False).returncode != 0, "everything is refused")
    remove(cluster)
    create(cluster, "free", "a=b")
    cluster.kubectl("explain", "mutatingwebhookconfigurations.webhooks.rules")
    listed = cluster.kubectl("get", "validatingwebhookconfigurations", check=False)
    expect("No resources found" in listed.stdout + listed.stderr, listed.stdout)
