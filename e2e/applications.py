"""Applications as people run them, of Debian's packages and in the shapes of their public charts: applications.py BINARY [NAME...].

Each is asked what its user would see, through the ingress, and again after parts of it were killed. They take minutes and
downloads of a hundred megabytes, so they are a verb of their own.
"""

import base64
import hashlib
import html
import http.client
import json
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

import images
from cluster import Cluster, Failure, expect, until
from faults import ingress

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a shell script in an image needs.
SHELL = ["dash", "coreutils", "grep", "sed", "libselinux1", "libpcre2-8-0", "libacl1", "libattr1", "libgmp10", "libssl3"]


def closure(*packages):
    """These packages and what they depend on, as for an empty machine."""
    with tempfile.NamedTemporaryFile() as nothing:
        asked = ["apt-get", "-o", f"Dir::State::status={nothing.name}", "-s", "install", "--no-install-recommends", *packages]
        said = subprocess.run(asked, capture_output=True, text=True)
    expect(said.returncode == 0, said.stderr)
    return [line.split()[1] for line in said.stdout.splitlines() if line.startswith("Inst ")]


def image(directory, name, packages, more=None):
    """An archive `NAME.tar` of the image `docker.io/e2e/NAME:1`."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-image-"))
    try:
        root = images.unpack(work, sorted(set(packages)))
        for linked in ("bin", "sbin", "lib", "lib64"):
            merge(root, linked)
        (root / "bin/sh").unlink(missing_ok=True)
        if (root / "usr/bin/dash").exists():
            (root / "usr/bin/sh").unlink(missing_ok=True)
            (root / "usr/bin/sh").symlink_to("dash")
        if more:
            more(root)
        images.archive(root, directory / f"{name}.tar", f"docker.io/e2e/{name}:1", {"Env": [PATH], "Cmd": ["sleep", "infinity"]})
    finally:
        shutil.rmtree(work)


def merge(root, name):
    """As on every Debian: /bin is /usr/bin, and so on."""
    own, target = root / name, root / "usr" / name
    if own.is_symlink():
        return
    target.mkdir(parents=True, exist_ok=True)
    if own.is_dir():
        subprocess.run(["cp", "-a", f"{own}/.", str(target)], check=True)
        shutil.rmtree(own)
    own.symlink_to(f"usr/{name}")


def tree(kind, name, namespace, version="v1", **more):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **more}


def workload(kind, name, namespace, container, volumes=(), **spec):
    """A Deployment or StatefulSet of one container, with its Service."""
    labels = {"app.kubernetes.io/name": name}
    pod = {"containers": [{"name": name, "image": f"docker.io/e2e/{name}:1", "imagePullPolicy": "Never", **container}], "volumes": list(volumes), "terminationGracePeriodSeconds": 20}
    pod.update(spec.pop("pod", {}))
    one = tree(kind, name, namespace, "apps/v1", spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}, **spec})
    ports = [{"name": port["name"], "port": port["containerPort"], "targetPort": port["name"]} for port in container["ports"]]
    return [one, tree("Service", name, namespace, spec={"selector": labels, "ports": ports})]


def ready(cluster, namespace, *names):
    for name in names:
        def is_ready():
            found = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/name={name}")["items"]
            found = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
            return found and all(one["ready"] for pod in found for one in pod.get("status", {}).get("containerStatuses", [{"ready": False}]))

        try:
            until(is_ready, f"{namespace}/{name} is ready", 300)
        except Failure as error:
            logs = cluster.kubectl("logs", "-n", namespace, "-l", f"app.kubernetes.io/name={name}", "--tail=30", check=False)
            shown = cluster.kubectl("describe", "pods", "-n", namespace, "-l", f"app.kubernetes.io/name={name}", check=False)
            raise Failure(f"{error}\n{logs.stdout}{logs.stderr}\n{shown.stdout[-4000:]}") from error


def kill(cluster, namespace, name):
    """Deletes its pod; another one takes its place."""
    label = f"app.kubernetes.io/name={name}"
    before = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", namespace, "-l", label)["items"]}
    cluster.kubectl("delete", "pods", "-n", namespace, "-l", label, timeout=120)
    until(lambda: {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", namespace, "-l", label)["items"]} - before, f"another {name} begins", 120)
    ready(cluster, namespace, name)


def certificate(cluster, name, namespace, host):
    key, cert = ingress.certificate(cluster, name, host)
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in (key, cert)}
    ingress.apply(cluster, tree("Secret", name, namespace, type="kubernetes.io/tls", data=data))
    return cert


class Browser:
    """Asks over TLS as a browser would: checks the certificate, keeps cookies."""

    def __init__(self, cluster, host, cert):
        self.cluster, self.host, self.cookies = cluster, host, {}
        self.context = ssl.create_default_context(cafile=str(cert))

    def ask(self, path, form=None, headers=None):
        headers = {"Host": self.host, **(headers or {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPSConnection(self.host, 443, timeout=60)
        try:
            connection.sock = self.context.wrap_socket(ingress.connect(self.cluster, 443), server_hostname=self.host)
            connection.request("POST" if form is not None else "GET", path, body=body, headers=headers)
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    cookie, _, text = value.split(";")[0].partition("=")
                    self.cookies[cookie] = text
            return answer.status, answer.getheader("location") or "", answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.host}{path}: {error!r}") from error
        finally:
            connection.close()

    def shows(self, path, words, timeout=120):
        """Waits until a page has these words."""
        last = {}

        def there():
            last["page"] = self.ask(path)
            return last["page"][0] == 200 and words in html.unescape(last["page"][2])

        try:
            until(there, f"{self.host}{path} shows {words!r}", timeout, interval=1)
        except Failure as error:
            raise Failure(f"{error}: {str(last.get('page'))[:2000]}") from error
        return last["page"][2]


# --- A blog and its database.

BLOG_CONFIG = """<?php
if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') { $_SERVER['HTTPS'] = 'on'; }
define('DB_NAME', getenv('DB_NAME'));
define('DB_USER', getenv('DB_USER'));
define('DB_PASSWORD', getenv('DB_PASSWORD'));
define('DB_HOST', 'mariadb');
define('WP_CONTENT_DIR', '/usr/share/wordpress/wp-content');
define('WP_DEFAULT_THEME', 'twentytwentyone');
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
"""
DATABASE = """
if [ ! -e /data/is-whole ]; then
  mariadb-install-db --no-defaults --datadir=/data --auth-root-authentication-method=normal --skip-test-db || exit
  touch /data/is-whole
fi
exec mariadbd --no-defaults --datadir=/data --socket=/tmp/socket --bind-address=0.0.0.0 --init-file=/setup/setup.sql --innodb-buffer-pool-size=32M
"""


def blog_images(directory):
    image(directory, "mariadb", closure("mariadb-server-core", "mariadb-client-core", "mariadb-common") + SHELL + ["hostname", "gawk", "mawk", "findutils", "debianutils"])
    php = closure("php8.2-cli", "php8.2-mysql", "php8.2-xml")
    files = [name for name in closure("wordpress", "php8.2-cli") if name.startswith(("wordpress", "php-", "libjs-", "libphp-", "ca-certificates", "tinymce"))]

    def extensions(root):
        # What the packages' scripts would have switched on.
        switched = root / "etc/php/8.2/cli/conf.d"
        switched.mkdir(parents=True, exist_ok=True)
        for number, name in ((10, "mysqlnd"), (20, "mysqli"), (15, "xml"), (20, "dom"), (20, "tokenizer"), (20, "ctype")):
            (switched / f"{number}-{name}.ini").write_text(f"extension={name}.so\n")

    image(directory, "wordpress", [*php, *files, "wordpress-theme-twentytwentyone", *SHELL], extensions)


def blog(cluster):
    ns = "blog"
    cluster.kubectl("create", "namespace", ns)
    cert = certificate(cluster, "blog-tls", ns, "blog.test")
    # A line is a statement.
    setup = "CREATE DATABASE IF NOT EXISTS blog;\nCREATE USER IF NOT EXISTS 'blog'@'%' IDENTIFIED BY 'secret-of-the-blog';\nGRANT ALL ON blog.* TO 'blog'@'%';\n"
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    database = {
        "command": ["sh", "-c", DATABASE], "ports": [{"name": "mysql", "containerPort": 3306}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "setup", "mountPath": "/setup"}, {"name": "tmp", "mountPath": "/tmp"}],
        "readinessProbe": {"tcpSocket": {"port": "mysql"}, "periodSeconds": 2},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    env = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "blog", "key": name}}} for name in ("DB_NAME", "DB_USER", "DB_PASSWORD")]
    web = {
        "command": ["php8.2", "-S", "0.0.0.0:8080", "-t", "/usr/share/wordpress"], "ports": [{"name": "http", "containerPort": 8080}], "env": [*env, {"name": "PHP_CLI_SERVER_WORKERS", "value": "4"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/wordpress"}],
        "readinessProbe": {"httpGet": {"path": "/wp-login.php", "port": "http", "httpHeaders": [{"name": "Host", "value": "blog.test"}]}, "periodSeconds": 2, "timeoutSeconds": 10},
    }
    owner = {"securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999, "runAsNonRoot": True}}
    ingress.apply(
        cluster,
        tree("Secret", "blog", ns, stringData={"DB_NAME": "blog", "DB_USER": "blog", "DB_PASSWORD": "secret-of-the-blog", "setup.sql": setup}),
        tree("ConfigMap", "blog", ns, data={"config-blog.test.php": BLOG_CONFIG}),
        *workload(
            "StatefulSet", "mariadb", ns, database, [{"name": "setup", "secret": {"secretName": "blog", "items": [{"key": "setup.sql", "path": "setup.sql"}]}}, {"name": "tmp", "emptyDir": {}}],
            serviceName="mariadb", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": asked}], pod=owner,
        ),
        *workload("Deployment", "wordpress", ns, web, [{"name": "config", "configMap": {"name": "blog"}}]),
        tree("Ingress", "blog", ns, "networking.k8s.io/v1", spec={"rules": [{"host": "blog.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "wordpress", "port": {"name": "http"}}}}]}}], "tls": [{"hosts": ["blog.test"], "secretName": "blog-tls"}]}),
    )
    ready(cluster, ns, "mariadb")
    ready(cluster, ns, "wordpress")
    user = Browser(cluster, "blog.test", cert)
    until(lambda: user.ask("/wp-admin/install.php")[0] == 200, "the installer answers", 120)
    form = {"weblog_title": "A blog on k3rs", "user_name": "jane", "admin_password": "a-long-password-of-janes", "admin_password2": "a-long-password-of-janes", "pw_weak": "1", "admin_email": "jane@blog.test", "Submit": "Install", "language": ""}
    status, _, page = user.ask("/wp-admin/install.php?step=2", form)
    expect(status == 200 and "Success" in page, f"{status} {page[:1500]}")
    user.shows("/", "A blog on k3rs")
    user.ask("/wp-login.php")
    status, location, page = user.ask("/wp-login.php", {"log": "jane", "pwd": "a-long-password-of-janes", "wp-submit": "Log In", "testcookie": "1", "redirect_to": "/wp-admin/"})
    expect(status == 302 and "wp-admin" in location, f"a login leads to the desk: {status} {location} {page[:500]}")
    form = user.shows("/wp-admin/options-general.php", "A blog on k3rs")
    nonce = re.search(r'name="_wpnonce" value="([0-9a-f]+)"', form)
    expect(nonce, "the desk has a form")
    changed = {"option_page": "general", "action": "update", "_wpnonce": nonce[1], "blogname": "Renamed by jane", "blogdescription": "", "admin_email": "jane@blog.test"}
    status, _, page = user.ask("/wp-admin/options.php", changed)
    expect(status == 302, f"it is saved: {status} {page[:500]}")
    user.shows("/", "Renamed by jane")
    # What was written outlives each pod.
    kill(cluster, ns, "mariadb")
    user.shows("/", "Renamed by jane")
    kill(cluster, ns, "wordpress")
    user.shows("/wp-admin/options-general.php", "Renamed by jane")
    claim = cluster.get("pvc", "-n", ns, "data-mariadb-0")
    expect(claim["status"]["phase"] == "Bound", claim)


# --- Dashboards over what is measured. Debian's Prometheus is built without the discovery of Kubernetes: it asks DNS.

SCRAPE = """
global: {scrape_interval: 5s, scrape_timeout: 4s}
scrape_configs:
- job_name: apiserver
  scheme: https
  static_configs: [{targets: ["kubernetes.default.svc:443"]}]
  tls_config: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}
  bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
- job_name: kubelet
  scheme: https
  static_configs: [{targets: ["192.0.2.10:10250"]}]
  tls_config: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt, insecure_skip_verify: true}
  bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
- job_name: cadvisor
  scheme: https
  metrics_path: /metrics/cadvisor
  static_configs: [{targets: ["192.0.2.10:10250"]}]
  tls_config: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt, insecure_skip_verify: true}
  bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
- job_name: ingress
  dns_sd_configs: [{names: [traefik-metrics.kube-system.svc.cluster.local], type: A, port: 9100, refresh_interval: 5s}]
"""
# Panels of the dashboards that people import, one query each.
PANELS = {
    "Targets down": 'count(up == 0) or vector(0)',
    "Nodes": 'count(kubelet_node_name)',
    "Running pods": 'sum(kubelet_running_pods)',
    "Requests by verb": 'sum by (verb) (rate(apiserver_request_total[1m]))',
    "99th percentile": 'histogram_quantile(0.99, sum by (le) (rate(apiserver_request_duration_seconds_bucket[1m])))',
    "CPU by namespace": 'sum by (namespace) (rate(container_cpu_usage_seconds_total{namespace!=""}[1m]))',
    "Memory by pod": 'sum by (pod) (container_memory_working_set_bytes{container!="", pod!=""})',
    "Received": 'sum(rate(container_network_receive_bytes_total[1m]))',
    "Ingress requests": 'sum by (code) (rate(traefik_entrypoint_requests_total[1m]))',
}
DASHBOARD = r'''
import html, json, os, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PANELS = json.load(open("/config/panels.json"))

def query(text):
    url = "http://prometheus:9090/api/v1/query?" + urllib.parse.urlencode({"query": text})
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]["result"]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/api/health":
            text = "ok"
        else:
            rows = []
            for title, wanted in PANELS.items():
                for series in query(wanted):
                    labels = ",".join(f"{k}={v}" for k, v in sorted(series["metric"].items()))
                    rows.append(f"<tr><td>{title}</td><td>{html.escape(labels)}</td><td>{series['value'][1]}</td></tr>")
            text = "<h1>Cluster</h1><table>" + "\n".join(rows) + "</table>"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("", 3000), Handler).serve_forever()
'''


def dashboard_images(directory):
    image(directory, "prometheus", ["prometheus", "libc6"])
    image(directory, "grafana", closure("python3") + SHELL)


def dashboards(cluster):
    ns = "monitoring"
    cluster.kubectl("create", "namespace", ns)
    cert = certificate(cluster, "grafana-tls", ns, "grafana.test")
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metrics", "/metrics/cadvisor"], "verbs": ["get"]},
    ]
    rbac = "rbac.authorization.k8s.io/v1"
    prometheus = {
        "command": ["prometheus", "--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data", "--web.listen-address=:9090"], "ports": [{"name": "web", "containerPort": 9090}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}], "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "web"}, "periodSeconds": 2},
    }
    grafana = {
        "command": ["python3", "/config/dashboard.py"], "ports": [{"name": "web", "containerPort": 3000}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}], "readinessProbe": {"httpGet": {"path": "/api/health", "port": "web"}, "periodSeconds": 2},
    }
    config = [{"name": "config", "configMap": {"name": "monitoring"}}]
    ingress.apply(
        cluster,
        tree("ServiceAccount", "prometheus", ns),
        tree("Service", "traefik-metrics", "kube-system", spec={"clusterIP": "None", "selector": {"app.kubernetes.io/name": "traefik"}, "ports": [{"name": "metrics", "port": 9100}]}),
        tree("ClusterRole", "prometheus", None, rbac, rules=rules),
        tree("ClusterRoleBinding", "prometheus", None, rbac, roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus"}, subjects=[{"kind": "ServiceAccount", "name": "prometheus", "namespace": ns}]),
        tree("ConfigMap", "monitoring", ns, data={"prometheus.yml": SCRAPE, "panels.json": json.dumps(PANELS), "dashboard.py": DASHBOARD}),
        tree("PersistentVolumeClaim", "prometheus", ns, spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        *workload("Deployment", "prometheus", ns, prometheus, [*config, {"name": "data", "persistentVolumeClaim": {"claimName": "prometheus"}}], strategy={"type": "Recreate"}, pod={"serviceAccountName": "prometheus", "securityContext": {"runAsUser": 65534, "fsGroup": 65534}}),
        *workload("Deployment", "grafana", ns, grafana, config),
        tree("Secret", "viewers", ns, stringData={"users": "jane:{SHA}" + base64.b64encode(hashlib.sha1(b"dashboard").digest()).decode()}),
        tree("Middleware", "viewers", ns, "traefik.io/v1alpha1", spec={"basicAuth": {"secret": "viewers"}}),
        tree("IngressRoute", "grafana", ns, "traefik.io/v1alpha1", spec={"entryPoints": ["websecure"], "routes": [{"match": "Host(`grafana.test`)", "kind": "Rule", "services": [{"name": "grafana", "port": "web"}], "middlewares": [{"name": "viewers"}]}], "tls": {"secretName": "grafana-tls"}}),
    )
    ready(cluster, ns, "prometheus", "grafana")
    stranger, user = Browser(cluster, "grafana.test", cert), Browser(cluster, "grafana.test", cert)
    until(lambda: stranger.ask("/")[0] == 401, "strangers see nothing", 120)
    headers = {"Authorization": "Basic " + base64.b64encode(b"jane:dashboard").decode()}
    last = {}

    def rows():
        status, _, last["page"] = user.ask("/", headers=headers)
        expect(status == 200, f"{status} {last['page'][:500]}")
        found = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", last["page"])
        return {title: [(labels, float(value)) for name, labels, value in found if name == title] for title in PANELS}

    def complete():
        last["rows"] = rows()
        numbers = lambda title: [value for _, value in last["rows"][title] if value == value]
        return all(numbers(title) for title in PANELS) and numbers("Targets down") == [0.0]

    try:
        until(complete, "each panel shows something, and no target is down", 240, interval=2)
    except Failure as error:
        targets = cluster.sh(f"curl -s http://{cluster.get('svc', '-n', ns, 'prometheus')['spec']['clusterIP']}:9090/api/v1/targets?state=active")
        down = [(one["scrapePool"], one["scrapeUrl"], one["lastError"]) for one in json.loads(targets)["data"]["activeTargets"] if one["health"] != "up"]
        raise Failure(f"{error}: empty {[title for title, found in last['rows'].items() if not found]}, down {down}") from error
    shown = last["rows"]
    expect(shown["Nodes"][0][1] == 1, shown["Nodes"])
    pods = len(cluster.get("pods", "-A", "--field-selector=status.phase=Running")["items"])
    expect(abs(shown["Running pods"][0][1] - pods) <= 1, f"{shown['Running pods']} are {pods}")
    expect(any("pod=prometheus-" in labels and value > 1 << 20 for labels, value in shown["Memory by pod"]), shown["Memory by pod"])
    expect({"namespace=kube-system", f"namespace={ns}"} <= {labels for labels, _ in shown["CPU by namespace"]}, shown["CPU by namespace"])
    kill(cluster, ns, "prometheus")
    until(complete, "and again after it was killed", 240, interval=2)


# --- Sensors, a broker, a flow over what they say.

BROKER = "listener 1883\nallow_anonymous false\npassword_file /config/users\npersistence true\npersistence_location /data/\n"
FLOW = r'''
import html, json, socket, struct, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN = {}

def text(value):
    return struct.pack(">H", len(value)) + value

def packet(kind, body):
    return bytes([kind, len(body)]) + body

def listen():
    own = socket.create_connection(("mosquitto", 1883), timeout=60)
    own.sendall(packet(0x10, text(b"MQTT") + b"\x04\xc2" + struct.pack(">H", 30) + text(b"flow") + text(b"gateway") + text(b"of-the-gateway")))
    file = own.makefile("rb")
    assert file.read(4) == b"\x20\x02\x00\x00"
    own.sendall(packet(0x82, b"\x00\x01" + text(b"sensors/#") + b"\x00"))

    def ping():
        while True:
            time.sleep(10)
            own.sendall(b"\xc0\x00")

    threading.Thread(target=ping, daemon=True).start()
    while kind := file.read(1):
        length = file.read(1)[0]
        body = file.read(length)
        if kind[0] >> 4 == 3:
            n, = struct.unpack(">H", body[:2])
            SEEN[body[2:2 + n].decode()] = body[2 + n:].decode()

def keep_listening():
    while True:
        try:
            listen()
        except (OSError, AssertionError, IndexError) as error:
            print("broker:", error, flush=True)
        time.sleep(1)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("<h1>Flow</h1>" + "".join(f"<p>{html.escape(k)} is {html.escape(v)}</p>" for k, v in sorted(SEEN.items()))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

threading.Thread(target=keep_listening, daemon=True).start()
ThreadingHTTPServer(("", 1880), Handler).serve_forever()
'''


def gateway_images(directory):
    image(directory, "mosquitto", closure("mosquitto") + SHELL)
    image(directory, "nodered", closure("python3") + SHELL)


def publish(cluster, cert, topic, value, user=b"sensor", password=b"of-the-sensor"):
    """As a sensor out there: over TLS, by the broker's name, with a password."""
    def text(value):
        return struct.pack(">H", len(value)) + value

    context = ssl.create_default_context(cafile=str(cert))
    try:
        with context.wrap_socket(ingress.connect(cluster, 443), server_hostname="mqtt.test") as own:
            own.settimeout(30)
            hello = text(b"MQTT") + b"\x04\xc2" + struct.pack(">H", 30) + text(b"s1") + text(user) + text(password)
            own.sendall(bytes([0x10, len(hello)]) + hello)
            said = own.recv(4)
            if said != b"\x20\x02\x00\x00":
                return said
            # At least once, so that the broker says that it has it; kept for who asks later.
            body = text(topic) + b"\x00\x07" + value
            own.sendall(bytes([0x33, len(body)]) + body)
            expect(own.recv(4) == b"\x40\x02\x00\x07", "the broker has it")
            own.sendall(b"\xe0\x00")
            return b"sent"
    except OSError as error:
        raise Failure(f"publish: {error!r}") from error


def gateway(cluster):
    ns = "gateway"
    cluster.kubectl("create", "namespace", ns)
    flow_cert, broker_cert = certificate(cluster, "flow-tls", ns, "flow.test"), certificate(cluster, "mqtt-tls", ns, "mqtt.test")
    # The image's own tool makes the passwords, in an init container.
    passwords = "cp /given/* /config/; touch /config/users; chmod 0700 /config/users; mosquitto_passwd -b /config/users gateway of-the-gateway; mosquitto_passwd -b /config/users sensor of-the-sensor"
    broker = {
        "command": ["mosquitto", "-c", "/config/mosquitto.conf"], "ports": [{"name": "mqtt", "containerPort": 1883}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}], "readinessProbe": {"tcpSocket": {"port": "mqtt"}, "periodSeconds": 2},
    }
    init = {"name": "passwords", "image": "docker.io/e2e/mosquitto:1", "imagePullPolicy": "Never", "command": ["sh", "-ec", passwords], "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "given", "mountPath": "/given"}]}
    flow = {
        "command": ["python3", "-u", "/flow/flow.py"], "ports": [{"name": "http", "containerPort": 1880}], "volumeMounts": [{"name": "flow", "mountPath": "/flow"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 2},
    }
    given = [{"name": "config", "emptyDir": {}}, {"name": "given", "configMap": {"name": "gateway", "items": [{"key": "mosquitto.conf", "path": "mosquitto.conf"}]}}]
    route = lambda match, service, port: {"match": match, "services": [{"name": service, "port": port}]}
    ingress.apply(
        cluster,
        tree("ConfigMap", "gateway", ns, data={"mosquitto.conf": BROKER, "flow.py": FLOW}),
        *workload(
            "StatefulSet", "mosquitto", ns, broker, given, serviceName="mosquitto", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}}],
            pod={"initContainers": [init], "securityContext": {"runAsUser": 1883, "runAsGroup": 1883, "fsGroup": 1883}},
        ),
        *workload("Deployment", "nodered", ns, flow, [{"name": "flow", "configMap": {"name": "gateway"}}]),
        tree("Ingress", "flow", ns, "networking.k8s.io/v1", spec={"ingressClassName": "traefik", "rules": [{"host": "flow.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "nodered", "port": {"number": 1880}}}}]}}], "tls": [{"secretName": "flow-tls"}]}),
        tree("IngressRouteTCP", "mqtt", ns, "traefik.io/v1alpha1", spec={"entryPoints": ["websecure"], "routes": [route("HostSNI(`mqtt.test`)", "mosquitto", 1883)], "tls": {"secretName": "mqtt-tls"}}),
    )
    ready(cluster, ns, "mosquitto", "nodered")
    user = Browser(cluster, "flow.test", flow_cert)
    user.shows("/", "Flow")
    until(lambda: publish(cluster, broker_cert, b"sensors/roof", b"21 degrees") == b"sent", "a sensor is heard", 120)
    expect(publish(cluster, broker_cert, b"sensors/roof", b"0", password=b"guessed")[:2] == b"\x20\x02", "who guesses is turned away")
    user.shows("/", "sensors/roof is 21 degrees")
    # The broker keeps what is retained, and the flow finds it again.
    kill(cluster, ns, "mosquitto")
    kill(cluster, ns, "nodered")
    user.shows("/", "sensors/roof is 21 degrees")
    until(lambda: publish(cluster, broker_cert, b"sensors/cellar", b"9 degrees") == b"sent", "and the next", 120)
    user.shows("/", "sensors/cellar is 9 degrees")


ALL = {"blog": (blog_images, blog), "dashboards": (dashboard_images, dashboards), "gateway": (gateway_images, gateway)}


def main():
    names = sys.argv[2:] or list(ALL)
    cluster = Cluster(sys.argv[1])
    cluster.ingress = True
    failed = 0
    try:
        directory = cluster.data / "agent/images"
        directory.mkdir(parents=True)
        for name in names:
            ALL[name][0](directory)
        cluster.start()
        until(lambda: cluster.get("deploy", "-n", "kube-system", "traefik")["status"].get("readyReplicas") == 1, "the ingress is ready", 120)
        for name in names:
            started = time.monotonic()
            try:
                ALL[name][1](cluster)
                print(f"ok    {name:20} {time.monotonic() - started:6.1f} s", flush=True)
            except Exception as error:
                failed += 1
                why = str(error) if isinstance(error, Failure) else traceback.format_exc()
                print(f"FAIL  {name:20} {time.monotonic() - started:6.1f} s\n{why}\n--- k3rs says:\n{cluster.tail()}", flush=True)
    finally:
        cluster.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
