"""API aggregation: a real HTTPS server behind an APIService is told who asks, streams, changes protocols and goes away."""

import base64
import json
import subprocess

from cluster import expect, until

from .webhooks import OWN, Webhooks

GROUP = "wardle.example.com"
FLUNDERS = f"/apis/{GROUP}/v1/namespaces/default/flunders"

# Believes front proxies only, and says what it was asked.
SERVER = r'''
import http.server, json, socket, ssl, sys, time
directory, port = sys.argv[1], int(sys.argv[2])
GROUP = "/apis/wardle.example.com/v1"

class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def answer(self, tree, code=200, **headers):
        body = json.dumps(tree).encode()
        self.send_response(code)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = self.path.split("?")[0]
        proxy = dict(pair[0] for pair in self.connection.getpeercert()["subject"])["commonName"]
        if path == GROUP:
            flunders = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list", "watch"], "shortNames": ["fl"]}
            return self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP[6:], "resources": [flunders]})
        if path == "/openapi/v3":
            return self.answer({"paths": {GROUP[1:]: {"serverRelativeURL": f"/openapi/v3{GROUP}?hash=5EED"}, "apis/apps/v1": {"serverRelativeURL": "/evil"}}})
        if path.endswith("/moved"):
            return self.answer({}, 302, location="https://elsewhere.example/")
        if path.endswith("/shell"):
            self.send_response(101)
            self.send_header("connection", "upgrade")
            self.send_header("upgrade", self.headers["upgrade"])
            self.end_headers()
            self.wfile.write(self.rfile.readline().upper())
            self.close_connection = True
            return
        if "watch=" in self.path:
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for name in ("one", "two"):
                line = json.dumps({"type": "ADDED", "object": {"kind": "Flunder", "apiVersion": GROUP[6:], "metadata": {"name": name}}}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(0.2)
            return self.wfile.write(b"0\r\n\r\n")
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        self.answer({"kind": "Asked", "path": self.path, "proxy": proxy, "headers": headers, "metadata": {"name": "asked"}})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(json.loads(body), 201)

socket.getfqdn = str  # HTTPServer asks DNS for the name of its address, and waits where nobody answers
server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/server.crt", f"{directory}/server.key")
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(f"{directory}/proxies.crt")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
'''


class Aggregated(Webhooks):
    """The other server, as the Service default/hook, for which there is a certificate."""

    script, port = SERVER, 9444


def condition(cluster):
    conditions = cluster.get("apiservice", f"v1.{GROUP}").get("status", {}).get("conditions", [{}])
    return conditions[0].get("reason"), conditions[0].get("message")


def api(cluster, *arguments):
    """Asks over HTTPS as the administrator, with curl."""
    config = cluster.kubectl("config", "view", "--raw", "-o", "json").stdout
    user = json.loads(config)["users"][0]["user"]
    for name in ("client-certificate-data", "client-key-data"):
        (cluster.dir / name).write_bytes(base64.b64decode(user[name]))
    command = ["curl", "-sk", "--cert", str(cluster.dir / "client-certificate-data"), "--key", str(cluster.dir / "client-key-data"), *arguments]
    return subprocess.run(cluster.inside(command), capture_output=True, timeout=30, check=True).stdout.decode()


def test_another_server_serves_its_group(cluster):
    other = Aggregated(cluster)
    try:
        data = cluster.get("configmap", "-n", "kube-system", "extension-apiserver-authentication")["data"]
        (other.dir / "proxies.crt").write_text(data["requestheader-client-ca-file"])
        other.start()
        served_by_another(cluster, other)
    finally:
        other.stop()
        subprocess.run(["rm", "-rf", str(other.dir)], check=True)
        cluster.kubectl("delete", "apiservice", f"v1.{GROUP}", check=False)


def served_by_another(cluster, other):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443, "targetPort": other.port}]}}
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hook"}, "subsets": [{"addresses": [{"ip": OWN}], "ports": [{"port": other.port}]}]}
    spec = {"group": GROUP, "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10, "caBundle": other.ca, "service": {"namespace": "default", "name": "hook"}}
    service_of = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{GROUP}"}, "spec": spec}
    for one in (service, endpoints, service_of):
        cluster.kubectl("create", "-f", "-", input=json.dumps(one))
    until(lambda: condition(cluster) == ("Passed", "all checks passed"), "the other server is found")

    url = f"https://127.0.0.1:6443{FLUNDERS}"
    forged = ["-H", "x-remote-user: forged", "-H", "x-remote-extra-a: b", "-H", "authorization: Basic x", "-H", "connection: x-remote-user, x-remote-group"]
    asked = json.loads(api(cluster, *forged, f"{url}/a%20b/c/d/e?x=1&x=2"))
    expect(asked["path"] == f"{FLUNDERS}/a%20b/c/d/e?x=1&x=2" and asked["proxy"] == "system:auth-proxy", f"it was asked {asked}")
    expect(json.loads(api(cluster, f"{url}/a%2Fb"))["code"] == 404, "a name that another server could read as two is passed on")
    said = [pair for pair in asked["headers"] if pair[0].startswith("x-remote-") or pair[0] == "authorization"]
    credential = said.pop()
    expect(credential[0] == "x-remote-extra-authentication.kubernetes.io%2fcredential-id", f"the last word is {credential}")
    expect(said == [["x-remote-user", "system:admin"], ["x-remote-group", "system:masters"], ["x-remote-group", "system:authenticated"]], f"it was told {said}")
    expect(["host", "hook.default.svc"] in [[name, value.split(":")[0]] for name, value in asked["headers"]], f"headers {asked['headers']}")

    body = json.dumps({"kind": "Flunder", "metadata": {"name": "f"}})
    expect(json.loads(api(cluster, "-d", body, url)) == json.loads(body), "what is posted arrives")
    lines = api(cluster, f"{url}?watch=true").splitlines()
    expect([json.loads(line)["object"]["metadata"]["name"] for line in lines] == ["one", "two"], f"watched {lines}")
    expect("attempted to redirect" in api(cluster, f"{url}/moved"), "a redirect is passed on")
    speak = f"GET {FLUNDERS}/x/shell HTTP/1.1\r\nhost: k\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\r\nhello\n"
    certificate = ["-cert", str(cluster.dir / "client-certificate-data"), "-key", str(cluster.dir / "client-key-data")]
    command = ["timeout", "10", "openssl", "s_client", "-quiet", "-connect", "127.0.0.1:6443", *certificate]
    spoken = subprocess.run(cluster.inside(command), input=speak.encode(), capture_output=True).stdout.decode()
    expect("101" in spoken.split("\n")[0] and spoken.endswith("HELLO\n"), f"another protocol: {spoken}")
    # Of HTTP/2 in the clear the caller could go on in the server's name.
    refused = api(cluster, "--http1.1", "-H", "connection: upgrade", "-H", "upgrade: h2c", f"{url}/x/shell")
    expect("unsupported protocol" in refused, f"h2c: {refused}")

    refused = cluster.kubectl("get", "--raw", FLUNDERS, "--as", "jane", check=False)
    expect(refused.returncode != 0 and "forbidden" in refused.stderr.lower(), f"jane may ask: {refused.stdout}{refused.stderr}")
    cluster.kubectl("create", "role", "flunders", "--verb=get,list", f"--resource=flunders.{GROUP}")
    cluster.kubectl("create", "rolebinding", "flunders", "--role=flunders", "--user=jane")
    asked = json.loads(until(lambda: cluster.kubectl("get", "--raw", FLUNDERS, "--as", "jane", check=False).stdout, "jane may ask"))
    expect(["x-remote-user", "jane"] in asked["headers"], f"jane came as {asked['headers']}")

    expect("Flunder" in cluster.kubectl("api-resources", "--api-group", GROUP).stdout, "kubectl knows the resource")
    index = json.loads(cluster.kubectl("get", "--raw", "/openapi/v3").stdout)["paths"]
    expect(index[f"apis/{GROUP}/v1"]["serverRelativeURL"].endswith("?hash=5EED") and "evil" not in json.dumps(index), f"the index of documents: {index}")

    # It goes away: only what it serves is gone. A change of its endpoints has it asked again at once.
    other.stop()
    cluster.kubectl("annotate", "endpoints", "hook", "looked=at")
    until(lambda: condition(cluster)[0] == "FailedDiscoveryCheck", "it is missed")
    expect(api(cluster, "-w", "%{http_code}", url) == "service unavailable\n503", "it is asked all the same")
    cluster.kubectl("create", "namespace", "brief")
    cluster.kubectl("delete", "namespace", "brief", timeout=30)
