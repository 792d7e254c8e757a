"""The packaged ingress: from a client on the node's wire, through the load balancer, to endpoints behind Ingresses."""

import base64
import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading

from cluster import Failure, expect, run, until

NS = "front"
ADDRESS = "192.0.2.10"
FOUND = {}
PREFIX = "traefik.ingress.kubernetes.io/"

# Servers on the node, one a port: each says who it is and what it was asked, or does as the path says.
ENDPOINTS = r'''
import json, socket, sys, threading

def head(file):
    first = file.readline().decode().split()
    if len(first) != 3:
        return None
    headers = []
    while (line := file.readline().strip()):
        name, value = line.decode().split(":", 1)
        headers.append([name.lower(), value.strip()])
    return first, headers

FLAKY = {}

def serve(connection, port, released):
    file = connection.makefile("rb")
    while (asked := head(file)):
        (method, target, _), headers = asked
        fields = dict(headers)
        body = file.read(int(fields.get("content-length", 0))) if "transfer-encoding" not in fields else b"chunked"
        if fields.get("upgrade") == "echo":
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            while (data := connection.recv(4096)):
                connection.sendall(data)
            return
        if target.startswith("/break"):
            return connection.close()
        if target.startswith("/flaky"):
            FLAKY[target] = FLAKY.get(target, 0) + 1
            if FLAKY[target] % 3:
                return connection.close()
        if target.startswith("/status/"):
            code = target.split("/")[2]
            asked = json.dumps(dict(headers))
            text = b"y" * 4000 if target.endswith("/long") else b"page " + asked.encode()
            connection.sendall(b"HTTP/1.1 %s Some\r\nContent-Type: text/plain\r\nX-User: jane\r\nX-Other: no\r\nSet-Cookie: session=1\r\nLocation: /login\r\nContent-Length: %d\r\n\r\n%s" % (code.encode(), len(text), text))
            continue
        if target.startswith("/wait"):
            print("waits", flush=True)
            released.wait()
        answer = json.dumps({"port": port, "method": method, "target": target, "headers": headers, "body": body.decode()}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

def serve_one(connection, port, released):
    # Closed in so many words: whoever accepts holds it, too, until the next one comes.
    try:
        serve(connection, port, released)
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        connection.close()

def listen(port, released):
    listener = socket.create_server(("192.0.2.10", port))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_one, args=(connection, port, released), daemon=True).start()

released = threading.Event()
for port in (9001, 9002, 9003):
    threading.Thread(target=listen, args=(port, released), daemon=True).start()
print("listens", flush=True)
for line in sys.stdin:
    released.set()
'''


def prepare(cluster):
    cluster.ingress = True
    close = cluster.close

    def close_all():
        if FOUND.get("endpoints"):
            FOUND["endpoints"].kill()
            FOUND["endpoints"].wait()
        close()

    cluster.close = close_all


def inside(cluster):
    """This process, in the node's network, for as long as it is held."""

    class Inside:
        def __enter__(self):
            self.before = open("/proc/self/ns/net")
            with open(f"/run/netns/{cluster.netns}") as there:
                setns(there.fileno())

        def __exit__(self, *_):
            setns(self.before.fileno())
            self.before.close()

    return Inside()


def setns(fd):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def connect(cluster, port=80):
    try:
        with inside(cluster):
            return socket.create_connection((ADDRESS, port), timeout=30)
    except OSError as error:
        # Who waits tries again.
        raise Failure(f"{ADDRESS}:{port}: {error!r}") from error


def ask(cluster, host, path="/", port=80, method="GET", headers=None, body=None):
    """A status, the answer's fields, and its body."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.sock = connect(cluster, port)
    try:
        if port == 443:
            context = ssl._create_unverified_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host or None)
        connection.request(method, path, body=body, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"{method} {host}{path}: {error!r}") from error
    finally:
        connection.close()


def code(*args, **more):
    return ask(*args, **more)[0]


def wait_code(cluster, want, host, path="/", **more):
    until(lambda: code(cluster, host, path, **more) == want, f"{host}{path} is answered {want} (it is {code(cluster, host, path, **more)})", 60)


def told(cluster, *args, **more):
    """What an endpoint says that it was asked."""
    status, _, body = ask(cluster, *args, **more)
    expect(status == 200, f"{args} {more}: {status} {body}")
    tree = json.loads(body)
    tree["fields"] = dict(tree["headers"])
    return tree


def apply(cluster, *trees):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(trees)})
    return cluster.kubectl("apply", "-f", "-", input=text)


def service(name, ports, annotations=None, port_name="http", protocol="TCP"):
    """A Service whose endpoints are servers on the node."""
    meta = {"name": name, "namespace": NS}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "annotations": annotations or {}}, "spec": {"ports": [{"name": port_name, "port": 80, "protocol": protocol}]}}
    # One address can be in one slice with one port only.
    for port in ports:
        yield {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{name}-{port}", "namespace": NS, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}], "ports": [{"name": port_name, "port": port, "protocol": protocol}],
        }


def ingress(name, *rules, annotations=None, default=None, tls=None, **spec):
    """Rules are `HOST KIND PATH SERVICE`."""
    backend = lambda service: {"service": {"name": service, "port": {"number": 80}}}
    tree = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": NS, "annotations": annotations or {}}, "spec": dict(spec)}
    if rules:
        tree["spec"]["rules"] = []
    for rule in rules:
        host, kind, path, target = rule.split()
        one = {"http": {"paths": [{"path": path, "pathType": kind, "backend": backend(target)}]}}
        tree["spec"]["rules"].append(one if host == "-" else {"host": host, **one})
    if default:
        tree["spec"]["defaultBackend"] = backend(default)
    if tls:
        tree["spec"]["tls"] = [{"secretName": tls}]
    return tree


def certificate(cluster, name, host):
    """The files of a key and of its certificate."""
    directory = pathlib.Path(cluster.dir) / f"cert-{name}"
    directory.mkdir(exist_ok=True)
    key, cert = directory / "tls.key", directory / "tls.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(cert)])
    return key, cert


def secret(cluster, name, host):
    key, cert = certificate(cluster, name, host)
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in (key, cert)}
    apply(cluster, {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name, "namespace": NS}, "data": data})
    return ssl.PEM_cert_to_DER_cert(cert.read_text())


def delete(cluster, *names):
    cluster.kubectl("delete", "-n", NS, "--wait=false", *names)


def pods(cluster):
    return [pod for pod in cluster.get("pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=traefik")["items"] if "deletionTimestamp" not in pod["metadata"]]


def pid(cluster):
    """The ingress's process."""
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if directory.joinpath("cmdline").read_bytes().startswith(b"/k3rs\0ingress\0") and cluster.cgroup in directory.joinpath("cgroup").read_text():
                return directory.name
        except OSError:
            # It ended just now.
            continue
    raise Failure("the ingress does not run")


def status(one, field):
    return re.search(rf"^{field}:\s+(\S+)", pathlib.Path(f"/proc/{one}/status").read_text(), re.M)[1]


def test_it_is_there_without_being_asked_for_and_may_nothing(cluster):
    until(lambda: cluster.get("deploy", "-n", "kube-system", "traefik")["status"].get("readyReplicas") == 1, "the ingress is ready", 90)
    until(lambda: code(cluster, "") == 404, "it answers at the node's port 80", 60)
    expect(ask(cluster, "")[2] == "404 page not found\n", "Traefik's words")
    (one,) = pods(cluster)
    expect(one["spec"]["containers"][0]["image"] == "k3rs.io/ingress:1", one["spec"])
    process = pid(cluster)
    expect((status(process, "Uid"), status(process, "CapEff"), status(process, "Seccomp"), status(process, "NoNewPrivs")) == ("65532", "0" * 16, "2", "1"), pathlib.Path(f"/proc/{process}/status").read_text())
    # The program is the node's own, and its root holds nothing else that it could write.
    mounts = pathlib.Path(f"/proc/{process}/mountinfo").read_text()
    root = next(line for line in mounts.splitlines() if line.split()[4] == "/")
    expect(root.split()[5].startswith("ro"), root)
    same = lambda path: (pathlib.Path(path).stat().st_dev, pathlib.Path(path).stat().st_ino)
    expect(same(f"/proc/{process}/root/k3rs") == same(cluster.binary), "no copy of the program")
    expect(cluster.get("ingressclass", "traefik")["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true", "its class is the default")
    FOUND["endpoints"] = subprocess.Popen(cluster.inside([sys.executable, "-c", ENDPOINTS]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    expect(FOUND["endpoints"].stdout.readline() == "listens\n", "the endpoints listen")
    cluster.kubectl("create", "namespace", NS)
    apply(cluster, *service("a", [9001]), *service("b", [9002]), *service("all", [9001, 9002, 9003]), *service("none", []))
    return f"RSS {int(status(process, 'VmRSS')) >> 10} MiB, of which {status(process, 'RssAnon')} KiB its own"


def test_hosts_and_paths_and_what_is_left_over(cluster):
    apply(
        cluster,
        ingress("hosts", "*.foo.test Prefix / a", "bar.foo.test Prefix / b"),
        ingress("paths", "x.test Prefix /aaa/bbb a", "x.test Exact /foo b", "x.test Prefix /foo a", "x.test ImplementationSpecific /imp b"),
    )
    wait_code(cluster, 200, "x.test", "/foo")
    wait_code(cluster, 200, "bar.foo.test")
    for host, path, port in (
        ("one.foo.test", "/", 9001), ("bar.foo.test", "/x", 9002), ("BAR.foo.test:80", "/", 9002), ("foo.test", "/", 404), ("a.b.foo.test", "/", 404),
        ("x.test", "/foo", 9002), ("x.test", "/foo/", 9001), ("x.test", "/foobar", 404), ("x.test", "/FOO", 404), ("x.test", "/aaa/bbb/", 9001), ("x.test", "/aaa", 404),
        ("x.test", "/imperial", 9002), ("x.test", "/aaa/x/../bbb", 9001), ("x.test", "//aaa/%62bb", 9001), ("x.test", "/foo/../aaa/bbb", 9001), ("x.test", "/foo%2Fx", 404),
    ):
        answer, _, body = ask(cluster, host, path)
        found = json.loads(body)["port"] if answer == 200 else answer
        expect(found == port, f"{host}{path}: {found}, not {port}")
    expect(told(cluster, "x.test", "/aaa/./%62bb?q=//%41")["target"] == "/aaa/bbb?q=//%41", "the endpoint sees the path that was looked up")
    apply(cluster, ingress("rest", default="b"))
    wait_code(cluster, 200, "nobody.test")
    delete(cluster, "ingress/rest", "ingress/hosts")
    wait_code(cluster, 404, "nobody.test")
    wait_code(cluster, 404, "bar.foo.test")
    until(lambda: cluster.get("ingress", "-n", NS, "paths")["status"]["loadBalancer"].get("ingress", [{}])[0].get("ip") == ADDRESS, "the Ingress says where it is", 60)


def test_only_its_own_classes(cluster):
    apply(cluster, {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "other"}, "spec": {"controller": "example.org/other"}})
    apply(cluster, ingress("other", "other.test Prefix / a", ingressClassName="other"))
    apply(cluster, ingress("old", "old.test Prefix / a", annotations={"kubernetes.io/ingress.class": "traefik"}))
    apply(cluster, ingress("named", "named.test Prefix / a", ingressClassName="traefik"))
    wait_code(cluster, 200, "old.test")
    wait_code(cluster, 200, "named.test")
    expect(code(cluster, "other.test") == 404, "another controller's Ingress is served")
    expect("ingress" not in cluster.get("ingress", "-n", NS, "other").get("status", {}).get("loadBalancer", {}), "and has a status")


def test_annotations(cluster):
    own = lambda **more: {PREFIX + name.replace("_", "."): value for name, value in more.items()}
    apply(
        cluster,
        ingress("secure", "secure.test Prefix / a", annotations=own(router_entrypoints="websecure", router_tls="true")),
        ingress("first", "prio.test Prefix / b", annotations=own(router_priority="500")),
        ingress("second", "prio.test Prefix /longer/path a"),
        *service("sticky", [9001, 9002, 9003], own(service_sticky_cookie="true", service_sticky_cookie_name="bound", service_sticky_cookie_httponly="true")),
        ingress("sticky", "sticky.test Prefix / sticky"),
        *service("own-host", [9001], own(service_passhostheader="false")),
        ingress("own-host", "own-host.test Prefix / own-host"),
    )
    wait_code(cluster, 200, "secure.test", port=443)
    expect(code(cluster, "secure.test") == 404, "what is for websecure is not on web")
    wait_code(cluster, 200, "prio.test", "/longer/path")
    until(lambda: told(cluster, "prio.test", "/longer/path")["port"] == 9002, "a priority beats a longer rule", 60)
    until(lambda: "bound=" in ask(cluster, "sticky.test")[1].get("set-cookie", ""), "a cookie binds", 60)
    _, fields, body = ask(cluster, "sticky.test")
    cookie, port = fields["set-cookie"], json.loads(body)["port"]
    expect("HttpOnly" in cookie, cookie)
    ports = {told(cluster, "sticky.test", headers={"Cookie": cookie.split(";")[0]})["port"] for _ in range(8)}
    expect(ports == {port}, f"{ports} are not {port}")
    until(lambda: told(cluster, "own-host.test")["fields"]["host"] == f"{ADDRESS}:9001", "the endpoint's own host is sent", 60)


def test_fields_that_tell_where_a_request_came_from(cluster):
    lies = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Real-Ip": "1.2.3.4", "X_Forwarded_For": "1.2.3.4", "Connection": "X-Secret, X-Forwarded-For", "X-Secret": "1"}
    tree = told(cluster, "x.test", "/foo", headers=lies)
    fields = tree["fields"]
    expect("1.2.3.4" not in json.dumps(tree) and "x-secret" not in fields, tree)
    expect((fields["x-forwarded-proto"], fields["x-forwarded-port"], fields["x-forwarded-host"], fields["host"]) == ("http", "80", "x.test", "x.test"), tree)
    expect(fields["x-forwarded-for"] == fields["x-real-ip"], tree)
    expect(fields["x-forwarded-server"].startswith("traefik-"), tree)
    expect(told(cluster, "x.test", "/foo", port=443)["fields"]["x-forwarded-proto"] == "https", "over TLS")
    _, answered, _ = ask(cluster, "x.test", "/foo")
    expect("x-hop" not in {name.lower() for name in answered}, answered)
    tree = told(cluster, "x.test", "/foo", method="POST", body=b"a" * 100_000)
    expect(tree["body"] == "a" * 100_000 and tree["method"] == "POST", "a body passes")


def test_http2_and_upgrades(cluster):
    curl = lambda *args: cluster.sh("curl -sk -o /dev/null -w '%{http_version} %{response_code}' " + " ".join(args))
    expect(curl("--http2", "--resolve", f"x.test:443:{ADDRESS}", "https://x.test/foo") == "2 200", "HTTP/2 over TLS")
    expect(curl("--http1.1", "--resolve", f"x.test:443:{ADDRESS}", "https://x.test/foo") == "1.1 200", "HTTP/1.1 over TLS")
    expect(curl("--http2-prior-knowledge", "--resolve", f"x.test:80:{ADDRESS}", "http://x.test/foo") == "2 200", "HTTP/2 with prior knowledge")
    with connect(cluster) as stream:
        stream.sendall(b"GET /foo HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
        file = stream.makefile("rb")
        expect(file.readline().split()[1] == b"101", "it is upgraded")
        while file.readline().strip():
            pass
        expect(file.read(5) == b"early", "what came early passes")
        stream.sendall(b"later")
        expect(file.read(5) == b"later", "both ways")
    # What would be spoken inside is nobody's to route.
    tree = told(cluster, "x.test", "/foo", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"})
    expect("upgrade" not in tree["fields"] and "http2-settings" not in tree["fields"], tree)


def peer_certificate(cluster, name):
    context = ssl._create_unverified_context()
    try:
        with context.wrap_socket(connect(cluster, 443), server_hostname=name) as stream:
            return stream.getpeercert(binary_form=True)
    except OSError as error:
        raise Failure(f"a handshake as {name}: {error!r}") from error


def test_certificates_by_name_and_new_ones_without_a_break(cluster):
    first = secret(cluster, "shop", "shop.test")
    many = secret(cluster, "many", "*.many.test")
    apply(cluster, ingress("shop", "shop.test Prefix / a", tls="shop"), ingress("many", "one.many.test Prefix / a", tls="many"))
    until(lambda: peer_certificate(cluster, "shop.test") == first, "its certificate is shown", 60)
    until(lambda: peer_certificate(cluster, "one.many.test") == many, "one for many names", 60)
    default = peer_certificate(cluster, "unknown.test")
    text = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"], input=default, capture_output=True).stdout.decode()
    expect("TRAEFIK DEFAULT CERT" in text, text)
    expect(peer_certificate(cluster, "two.one.many.test") == default, "a wildcard is one label")
    context = ssl._create_unverified_context()
    with context.wrap_socket(connect(cluster, 443), server_hostname="shop.test") as stream:
        file = stream.makefile("rb")

        def again():
            stream.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            expect(file.readline().split()[1] == b"200", "it is answered")
            length = 0
            while line := file.readline().strip():
                length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
            file.read(length)

        again()
        second = secret(cluster, "shop", "shop.test")
        until(lambda: peer_certificate(cluster, "shop.test") == second, "the new certificate is shown", 60)
        again()


def events(cluster, name):
    found = cluster.get("events", "-n", NS, "--field-selector", f"involvedObject.name={name}")["items"]
    return {event["reason"]: event["message"] for event in found}


def test_what_cannot_be_done_is_told_where_it_was_asked_for(cluster):
    apply(
        cluster,
        ingress("lost", "lost.test Prefix / nowhere", tls="nothing"),
        ingress("guarded", "guarded.test Prefix / a", annotations={PREFIX + "router.middlewares": f"{NS}-auth@kubernetescrd"}),
        ingress("empty", "empty.test Prefix / none"),
    )
    until(lambda: {"BackendNotFound", "SecretNotFound"} <= set(events(cluster, "lost")), "an Event says what is missing", 60)
    until(lambda: "MiddlewareNotFound" in events(cluster, "guarded"), "and which middleware is", 60)
    expect(code(cluster, "guarded.test") == 404, "nothing is served without its guard")
    wait_code(cluster, 503, "empty.test")
    expect(ask(cluster, "empty.test")[2] == "no available server\n", "Traefik's words")
    expect(code(cluster, "lost.test") == 404, "no route")
    # It is there as soon as it is made.
    apply(cluster, *service("nowhere", [9003]))
    wait_code(cluster, 200, "lost.test")


def test_endpoints_take_turns_and_broken_ones_are_told(cluster):
    apply(cluster, ingress("all", "all.test Prefix / all"))
    wait_code(cluster, 200, "all.test")
    until(lambda: {told(cluster, "all.test")["port"] for _ in range(9)} == {9001, 9002, 9003}, "all endpoints are asked", 60)
    expect(code(cluster, "all.test", "/break") == 502, "one that breaks off is 502")
    # One that takes no connection is passed over: nobody saw the request.
    apply(cluster, *service("all", [9001, 9002, 9004]), ingress("dead", "dead.test Prefix / dead"), *service("dead", [9004]))
    wait_code(cluster, 502, "dead.test")
    expect(ask(cluster, "dead.test")[2] == "Bad Gateway", "Traefik's words")
    codes = [code(cluster, "all.test") for _ in range(12)]
    expect(codes == [200] * 12, codes)


def custom(kind, name, **spec):
    return {"apiVersion": "traefik.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": NS}, "spec": spec}


def route(name, match, *middlewares, services=("a",), **more):
    to = [{"name": service, "port": 80} if isinstance(service, str) else service for service in services]
    one = {"match": match, "kind": "Rule", "services": to, "middlewares": [{"name": middleware} for middleware in middlewares], **more}
    return custom("IngressRoute", name, routes=[one])


def test_traefiks_own_kinds(cluster):
    users = base64.b64encode(b"jane:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/\n").decode()
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": NS}, "data": {"users": users}},
        custom("Middleware", "strip", stripPrefix={"prefixes": ["/api"]}),
        custom("Middleware", "fields", headers={"customRequestHeaders": {"X-Own": "yes", "X-Gone": ""}, "customResponseHeaders": {"X-Answer": "yes"}}),
        custom("Middleware", "login", basicAuth={"secret": "users"}),
        custom("Middleware", "to-https", redirectScheme={"scheme": "https", "permanent": True}),
        custom("Middleware", "others", ipAllowList={"sourceRange": ["198.51.100.0/24"]}),
        custom("Middleware", "slowly", rateLimit={"average": 1, "period": "1h", "burst": 2}),
        custom("Middleware", "chained", chain={"middlewares": [{"name": "strip"}, {"name": "fields"}]}),
        custom("Middleware", "unheard-of", plugin={"x": {}}),
        route("api", "Host(`route.test`) && PathPrefix(`/api`)", "chained"),
        route("method", "Host(`route.test`) && Method(`DELETE`) && !Path(`/api`)", services=("b",)),
        route("login", "Host(`login.test`)", "login"),
        route("others", "Host(`others.test`)", "others"),
        route("slowly", "Host(`slowly.test`)", "slowly"),
        route("shares", "Host(`shares.test`)", services=({"name": "a", "port": 80, "weight": 3}, {"name": "b", "port": 80, "weight": 1})),
        route("unheard-of", "Host(`unheard.test`)", "unheard-of"),
        route("wrong", "Host(`wrong.test`"),
        ingress("https-only", "https-only.test Prefix / a", annotations={PREFIX + "router.middlewares": f"{NS}-to-https@kubernetescrd"}),
    )
    wait_code(cluster, 200, "route.test", "/api/x")
    tree = told(cluster, "route.test", "/api/x?y", headers={"X-Gone": "1", "X-Forwarded-Prefix": "/lie"})
    expect((tree["target"], tree["fields"].get("x-own"), tree["fields"]["x-forwarded-prefix"]) == ("/x?y", "yes", "/api") and "x-gone" not in tree["fields"], tree)
    expect(ask(cluster, "route.test", "/api/x")[1].get("x-answer") == "yes", "an answer's field")
    wait_code(cluster, 200, "route.test", "/z", method="DELETE")
    expect(told(cluster, "route.test", "/z", method="DELETE")["port"] == 9002, "by method")
    wait_code(cluster, 401, "login.test")
    login = lambda text: code(cluster, "login.test", headers={"Authorization": "Basic " + base64.b64encode(text).decode()})
    expect([login(b"jane:test"), login(b"jane:wrong"), login(b"john:test"), login(b"")] == [200, 401, 401, 401], "passwords are compared")
    wait_code(cluster, 403, "others.test")
    until(lambda: code(cluster, "slowly.test") == 429, "a rate is limited", 60)
    wait_code(cluster, 200, "shares.test")
    ports = [told(cluster, "shares.test")["port"] for _ in range(40)]
    expect(ports.count(9001) == 30, f"three of four: {ports.count(9001)} of 40")
    wait_code(cluster, 301, "https-only.test")
    expect(ask(cluster, "https-only.test", "/a?b")[1]["location"] == "https://https-only.test/a?b", "it leads to https")
    expect(code(cluster, "https-only.test", port=443) == 200, "and there it is served")
    until(lambda: "InvalidRoute" in events(cluster, "unheard-of"), "what is not supported is told", 60)
    until(lambda: "InvalidRoute" in events(cluster, "wrong"), "what cannot be read is told", 60)
    expect((code(cluster, "unheard.test"), code(cluster, "wrong.test")) == (404, 404), "and not served")


def test_middlewares_that_ask_others_and_look_at_bodies(cluster):
    auth = lambda code, **more: {"address": f"http://{ADDRESS}:9002/status/{code}", "authResponseHeaders": ["X-User"], "addAuthCookiesToResponse": ["session"], **more}
    apply(
        cluster,
        custom("Middleware", "may", forwardAuth=auth(200)),
        custom("Middleware", "may-not", forwardAuth=auth(401)),
        custom("Middleware", "nobody", forwardAuth={"address": f"http://{ADDRESS}:9004/"}),
        custom("Middleware", "again", retry={"attempts": 3, "initialInterval": "10ms"}),
        custom("Middleware", "small", compress={"excludedContentTypes": ["application/json"]}),
        custom("Middleware", "bounded", buffering={"maxRequestBodyBytes": 1000}),
        custom("Middleware", "pages", errors={"status": ["500-599"], "statusRewrites": {"503": 410}, "query": "/status/200/{originalStatus}", "service": {"name": "b", "port": 80}}),
        custom("Middleware", "broken", circuitBreaker={"expression": "NetworkErrorRatio() > 0.5", "fallbackDuration": "1h"}),
        route("broken", "Host(`broken.test`)", "broken"),
        custom("TraefikService", "copied", mirroring={"name": "a", "port": 80, "mirrors": [{"name": "b", "port": 80, "percent": 100}]}),
        route("may", "Host(`may.test`)", "may"),
        route("may-not", "Host(`may-not.test`)", "may-not"),
        route("nobody", "Host(`nobody-asked.test`)", "nobody"),
        route("again", "Host(`again.test`)", "again"),
        route("once", "Host(`once.test`)"),
        route("small", "Host(`small.test`)", "small"),
        route("bounded", "Host(`bounded.test`)", "bounded"),
        route("pages", "Host(`pages.test`)", "pages", services=("none",)),
        route("copied", "Host(`copied.test`)", services=({"name": "copied", "kind": "TraefikService"},)),
    )
    wait_code(cluster, 200, "may.test")
    tree = told(cluster, "may.test", "/x", headers={"X-User": "root", "X-Other": "mine"})
    expect((tree["port"], tree["fields"]["x-user"], tree["fields"]["x-other"]) == (9001, "jane", "mine"), tree)
    expect(ask(cluster, "may.test")[1]["set-cookie"] == "session=1", "a cookie of who was asked")
    wait_code(cluster, 401, "may-not.test")
    _, fields, body = ask(cluster, "may-not.test", "/x?y", method="POST", body=b"secret", headers={"X-Own": "1", "X-Forwarded-Uri": "/lie"})
    asked = json.loads(body.removeprefix("page "))
    expect((asked["x-forwarded-method"], asked["x-forwarded-uri"], asked["x-forwarded-host"], asked["x-own"]) == ("POST", "/x?y", "may-not.test", "1"), asked)
    expect(fields["location"] == f"http://{ADDRESS}:9002/login" and "content-length" not in asked, fields)
    wait_code(cluster, 500, "nobody-asked.test")
    wait_code(cluster, 200, "once.test")
    wait_code(cluster, 200, "again.test")
    expect(code(cluster, "once.test", "/flaky/once", method="POST", body=b"x") == 502, "nobody tries again who was not told to")
    expect(told(cluster, "again.test", "/flaky/again", method="POST", body=b"some")["body"] == "some", "the third time it is answered")
    gzip = {"Accept-Encoding": "gzip"}
    wait_code(cluster, 200, "small.test")
    connection = http.client.HTTPConnection(ADDRESS, 80, timeout=30)
    connection.sock = connect(cluster)
    connection.request("GET", "/status/200/long", headers={"Host": "small.test", **gzip})
    answer = connection.getresponse()
    packed = answer.read()
    connection.close()
    expect(answer.getheader("content-encoding") == "gzip" and len(packed) < 200, f"{answer.getheaders()}: {len(packed)} bytes")
    import gzip as unpacker

    expect(unpacker.decompress(packed) == b"y" * 4000, "and is what was sent")
    expect("content-encoding" not in {name.lower() for name in ask(cluster, "small.test", "/status/200/long")[1]}, "who does not take it does not get it")
    expect("content-encoding" not in {name.lower() for name in ask(cluster, "small.test", headers=gzip)[1]}, "nor is it done to what is excluded")
    wait_code(cluster, 200, "bounded.test")
    expect([code(cluster, "bounded.test", method="POST", body=b"x" * size) for size in (1000, 1001)] == [200, 413], "bodies may be so large")
    wait_code(cluster, 410, "pages.test")
    expect(ask(cluster, "pages.test")[2].startswith("page "), "a page in place of an error")
    wait_code(cluster, 200, "broken.test")
    until(lambda: code(cluster, "broken.test", "/break") == 503, "it trips", 60)
    expect(code(cluster, "broken.test") == 503, "and nobody passes")
    wait_code(cluster, 200, "copied.test")
    expect(told(cluster, "copied.test", method="POST", body=b"x" * 5000)["port"] == 9001, "the answer is the first one's")


def test_a_certificate_for_all_other_names(cluster):
    shown = secret(cluster, "others", "others.test")
    before = peer_certificate(cluster, "no.such.name.test")
    apply(cluster, custom("TLSStore", "default", defaultCertificate={"secretName": "others"}))
    until(lambda: peer_certificate(cluster, "no.such.name.test") == shown, "the store's certificate is shown", 60)
    expect(peer_certificate(cluster, "shop.test") != shown, "who has one of its own keeps it")
    delete(cluster, "tlsstore/default")
    until(lambda: peer_certificate(cluster, "no.such.name.test") == before, "the generated one is shown again", 60)


# Servers on the node that speak no HTTP: one over TLS, one that speaks first, and one that waits for a header that tells
# who connects. Each sends back what it gets.
TALKERS = r'''
import socket, ssl, sys, threading

def serve(connection, port, context):
    try:
        if port == 9011:
            connection.sendall(b"hello\n")
        if port == 9012:
            line = b""
            while not line.endswith(b"\r\n"):
                line += connection.recv(1)
            connection.sendall(line)
        if port == 9010:
            connection = context.wrap_socket(connection, server_side=True)
        while (data := connection.recv(4096)):
            connection.sendall(data)
    except OSError:
        pass
    finally:
        connection.close()

def listen(listener, port, context):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, port, context), daemon=True).start()

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[1])
for port in (9010, 9011, 9012):
    listener = socket.create_server(("192.0.2.10", port))
    threading.Thread(target=listen, args=(listener, port, context), daemon=True).start()
print("listens", flush=True)
sys.stdin.read()
'''


def route_tcp(name, match, to, middlewares=(), entry="websecure", tls=None, **service):
    one = {"match": match, "services": [{"name": to, "port": 80, **service}], "middlewares": [{"name": middleware} for middleware in middlewares]}
    return custom("IngressRouteTCP", name, entryPoints=[entry], routes=[one], **({"tls": tls} if tls is not None else {}))


SAID = b"ping\r\n\r\n"


def talk(cluster, name):
    """What comes back over TLS for a name, and whose certificate was shown."""
    stream = connect(cluster, 443)
    try:
        with ssl._create_unverified_context().wrap_socket(stream, server_hostname=name) as stream:
            shown = stream.getpeercert(binary_form=True)
            stream.sendall(SAID)
            found = b""
            # Who takes it for a request says so, and ends.
            while SAID not in found and (part := stream.recv(4096)):
                found += part
            return found, shown
    except OSError as error:
        raise Failure(f"{name}: {error!r}") from error
    finally:
        stream.close()


def first_line(cluster, port, source):
    """The first line that comes back where a proxy says whose connection it is, and nothing more is said."""
    with connect(cluster, port) as stream:
        try:
            stream.sendall(f"PROXY TCP4 {source} 192.0.2.10 4711 {port}\r\n".encode())
            return stream.makefile("rb").readline()
        except OSError as error:
            raise Failure(f"{port}: {error!r}") from error


def is_refused(cluster, name):
    try:
        talk(cluster, name)
        return False
    except Failure:
        return True


@contextlib.contextmanager
def talkers(cluster):
    """Those servers, for as long as it is held: the certificate of the one that speaks TLS, for `db.test`."""
    key, cert = certificate(cluster, "talker", "db.test")
    servers = subprocess.Popen(cluster.inside([sys.executable, "-c", TALKERS, str(key), str(cert)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        expect(servers.stdout.readline() == "listens\n", "the servers listen")
        apply(cluster, *service("tls", [9010]), *service("first", [9011]), *service("told", [9012]))
        yield ssl.PEM_cert_to_DER_cert(cert.read_text())
    finally:
        servers.kill()
        servers.wait()


def test_connections_that_are_passed_on(cluster):
    with talkers(cluster) as theirs:
        ended = secret(cluster, "ended", "ended.test")
        apply(
            cluster,
            custom("MiddlewareTCP", "others", ipAllowList={"sourceRange": ["198.51.100.0/24"]}),
            route_tcp("db", "HostSNI(`db.test`)", "tls", tls={"passthrough": True}),
            route_tcp("ended", "HostSNI(`ended.test`)", "told", tls={"secretName": "ended"}, proxyProtocol={"version": 1}),
            route_tcp("closed", "HostSNI(`closed.test`)", "tls", ["others"], tls={"passthrough": True}),
            route_tcp("lost", "HostSNI(`lost.test`)", "tls", ["nothing"], tls={"passthrough": True}),
            route_tcp("wrong", "HostSNI(`wrong.test`)", "tls"),
        )
        until(lambda: talk(cluster, "db.test") == (SAID, theirs), "its TLS is passed on", 60)
        until(lambda: talk(cluster, "ended.test")[1] == ended, "TLS ends here", 60)
        line = rb"PROXY TCP4 [0-9.]+ [0-9.]+ [0-9]+ [0-9]+\r\n" + SAID
        until(lambda: re.fullmatch(line, talk(cluster, "ended.test")[0]), "the endpoint is told who connects", 60)
        until(lambda: is_refused(cluster, "closed.test"), "who is not let in hears nothing", 60)
        expect(code(cluster, "x.test", "/foo", port=443) == 200, "requests are served beside them")
        until(lambda: "InvalidRoute" in events(cluster, "lost") and "InvalidRoute" in events(cluster, "wrong"), "what is not served is told", 60)
        # As long as a route for all names is there, those of requests stay theirs.
        apply(cluster, route_tcp("rest", "HostSNI(`*`)", "first", tls={}))
        until(lambda: talk(cluster, "any.test")[0] == b"hello\n" + SAID, "whatever nobody else has a name for", 60)
        expect(code(cluster, "x.test", "/foo", port=443) == 200, "what has a name for requests is served")
        delete(cluster, *(f"ingressroutetcp/{name}" for name in ("db", "ended", "closed", "lost", "wrong", "rest")))
        until(lambda: code(cluster, "db.test", port=443) == 404, "and nothing of it is left", 60)


def test_tls_by_options(cluster):
    roots, user = certificate(cluster, "roots", "roots.test"), certificate(cluster, "user", "user.test")
    request, signed, use = (user[0].with_name(name) for name in ("user.csr", "signed.crt", "use"))
    use.write_text("extendedKeyUsage=clientAuth\n")
    run(["openssl", "req", "-new", "-key", str(user[0]), "-subj", "/CN=jane", "-out", str(request)])
    run(["openssl", "x509", "-req", "-in", str(request), "-CA", str(roots[1]), "-CAkey", str(roots[0]), "-CAcreateserial", "-days", "30", "-extfile", str(use), "-out", str(signed)])
    options = lambda name: {PREFIX + "router.tls.options": f"{NS}-{name}@kubernetescrd"}
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "roots", "namespace": NS}, "data": {"ca.crt": base64.b64encode(roots[1].read_bytes()).decode()}},
        custom("TLSOption", "modern", minVersion="VersionTLS13", cipherSuites=["TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]),
        custom("TLSOption", "known", clientAuth={"secretNames": ["roots"], "clientAuthType": "RequireAndVerifyClientCert"}),
        ingress("modern", "modern.test Prefix / a", annotations=options("modern")),
        ingress("known", "known.test Prefix / a", annotations=options("known")),
        ingress("usual", "usual.test Prefix / a"),
    )
    asked = lambda host: f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    def answer(name, host=None, **more):
        """The status of a request on a connection for `name`; 0 if there is no connection."""
        stream = connect(cluster, 443)
        context = ssl._create_unverified_context()
        context.maximum_version = more.get("maximum", ssl.TLSVersion.TLSv1_3)
        if more.get("certificate"):
            context.load_cert_chain(*map(str, more["certificate"]))
        try:
            with context.wrap_socket(stream, server_hostname=name) as stream:
                stream.sendall(asked(host or name))
                return int((stream.recv(4096).split() + [b"0", b"0"])[1])
        except OSError:
            return 0
        finally:
            stream.close()

    old = {"maximum": ssl.TLSVersion.TLSv1_2}
    until(lambda: answer("modern.test") == 200 and answer("modern.test", **old) == 0, "TLS 1.2 is not spoken", 60)
    until(lambda: answer("usual.test", **old) == 200, "but with others", 60)
    until(lambda: "RC4" in events(cluster, "modern").get("Unsupported", ""), "what there is not is told", 60)
    until(lambda: answer("known.test", certificate=(signed, user[0])) == 200, "who shows a certificate is served", 60)
    expect(answer("known.test") == 0, "and nobody else")
    expect(answer("known.test", certificate=(user[1], user[0])) == 0, "nor who vouches for himself")
    # Another name's connection is no way around it.
    expect(answer("usual.test", "known.test") == 421, "a request for another host than the connection's")
    expect(answer("usual.test") == 200, "its own host is served")
    delete(cluster, "ing/modern", "ing/known", "tlsoption/modern", "tlsoption/known")
    # Whoever asked for more than the usual and does not get it is not served with the usual.
    apply(cluster, custom("TLSOption", "default", minVersion="VersionTLS99"))
    until(lambda: answer("usual.test") == 0, "default options with an error let nobody in", 60)
    until(lambda: "DefaultOptionsInvalid" in events(cluster, "default"), "and that is told", 60)
    delete(cluster, "tlsoption/default")
    until(lambda: answer("usual.test") == 200, "without them it is as before", 60)


def raw(cluster, data):
    """The statuses that come back for these bytes, until the end of the connection."""
    with connect(cluster) as stream:
        stream.sendall(data)
        found = b""
        while part := stream.recv(65536):
            found += part
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", found)]


def test_what_no_client_should_send(cluster):
    for name, data, want in (
        ("two lengths", b"POST /foo HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", [400]),
        ("length and chunks", b"POST /foo HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /foo HTTP/1.1\r\nHost: x.test\r\n\r\n", [400]),
        ("chunks in disguise", b"POST /foo HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", [501]),
        ("two hosts", b"GET /foo HTTP/1.1\r\nHost: x.test\r\nHost: y.test\r\n\r\n", [400]),
        ("no host", b"GET /foo HTTP/1.1\r\n\r\n", [400]),
        ("a field without a name", b"GET /foo HTTP/1.1\r\nHost: x.test\r\n: x\r\n\r\n", [400]),
        ("a space before the colon", b"GET /foo HTTP/1.1\r\nHost: x.test\r\nContent-Length : 5\r\n\r\nabcde", [400]),
        ("a bad escape", b"GET /%zz HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n", [400]),
        ("a head without end", b"GET /foo HTTP/1.1\r\nHost: x.test\r\nX: " + b"a" * (70 << 10), [431]),
        ("a tunnel", b"CONNECT 10.43.0.1:443 HTTP/1.1\r\nHost: 10.43.0.1:443\r\nConnection: close\r\n\r\n", [405]),
    ):
        found = raw(cluster, data)
        expect(found == want, f"{name}: {found}, not {want}")
    expect(code(cluster, "x.test", "/foo") == 200, "and it serves on")


def test_many_idle_connections_cost_little(cluster):
    process = pid(cluster)
    before = int(status(process, "RssAnon"))
    held = []
    try:
        for _ in range(1000):
            held.append(connect(cluster))
        for stream in held:
            stream.sendall(b"GET /nothing HTTP/1.1\r\nHost: idle.test\r\n\r\n")
        for stream in held:
            expect(stream.recv(4096).startswith(b"HTTP/1.1 404"), "each is answered")
        after = int(status(process, "RssAnon"))
        expect(code(cluster, "x.test", "/foo") == 200, "and others are served")
    finally:
        for stream in held:
            stream.close()
    each = (after - before) / len(held)
    expect(each < 16, f"an idle connection takes {each:.1f} KiB")
    return f"{each:.1f} KiB each"


def test_metrics_by_traefiks_names(cluster):
    (one,) = pods(cluster)
    code(cluster, "x.test", "/foo")
    scrape = lambda: cluster.sh(f"curl -s http://{one['status']['podIP']}:9100/metrics")
    until(lambda: re.search(r'traefik_service_requests_total\{code="200",method="GET",protocol="http",service="front-b-80"\} [1-9]', scrape()), "requests are counted by service", 60)
    text = scrape()
    for line in (
        r'traefik_entrypoint_requests_total\{code="404",method="GET",protocol="http",entrypoint="web"\} [1-9]',
        r'traefik_entrypoint_request_duration_seconds_bucket\{code="200",method="GET",protocol="http",entrypoint="web",le="0.1"\} [1-9]',
        r'traefik_open_connections\{entrypoint="web",protocol="TCP"\} ',
        r"traefik_config_reloads_total [1-9]",
        r'traefik_tls_certs_not_after\{cn="shop.test",sans="shop.test",serial="',
    ):
        expect(re.search(line, text), f"{line} is not in\n{text}")
    expect(cluster.sh(f"curl -s -o /dev/null -w '%{{response_code}}' http://{one['status']['podIP']}:8080/ping") == "200", "it is alive")


def test_a_pod_that_ends_finishes_what_it_began_and_nobody_waits(cluster):
    apply(cluster, ingress("all", "all.test Prefix / a"))
    (before,) = pods(cluster)
    answered = []
    waiting = threading.Thread(target=lambda: answered.append(code(cluster, "all.test", "/wait")), daemon=True)
    waiting.start()
    expect(FOUND["endpoints"].stdout.readline() == "waits\n", "the request is at the endpoint")
    stop, codes = threading.Event(), []

    def keep_asking():
        while not stop.wait(0.02):
            try:
                codes.append(code(cluster, "x.test", "/foo"))
            except Failure as error:
                codes.append(str(error))

    asking = threading.Thread(target=keep_asking, daemon=True)
    asking.start()
    try:
        cluster.kubectl("rollout", "restart", "-n", "kube-system", "deploy/traefik")
        until(lambda: any(pod["metadata"]["name"] != before["metadata"]["name"] and pod["status"]["containerStatuses"][0]["ready"] for pod in pods(cluster)), "another pod takes over", 90)
        until(lambda: len(pods(cluster)) == 1 and pods(cluster)[0]["metadata"]["name"] != before["metadata"]["name"], "the first one is told to end", 60)
        FOUND["endpoints"].stdin.write("on\n")
        FOUND["endpoints"].stdin.flush()
        waiting.join(60)
        until(lambda: before["metadata"]["name"] not in [pod["metadata"]["name"] for pod in cluster.get("pods", "-n", "kube-system")["items"]], "it has ended", 90)
    finally:
        stop.set()
    asking.join(60)
    expect(answered == [200], f"what was under way: {answered}")
    expect(set(codes) == {200}, f"of {len(codes)}: {[code for code in codes if code != 200]}")
    return f"{len(codes)} requests meanwhile"


# Each says which one it is, and what it heard.
ECHOES = r'''
import socket, sys, threading

def serve(own, port):
    while True:
        data, client = own.recvfrom(65535)
        own.sendto(b"%d %s" % (port, data), client)

for port in (9021, 9022):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("192.0.2.10", port))
    threading.Thread(target=serve, args=(own, port), daemon=True).start()
print("listens", flush=True)
sys.stdin.read()
'''


def sender(cluster):
    with inside(cluster):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def echo(cluster, own, text=b"x", wait=5):
    """Which endpoint answers at the entry point of datagrams; 0 if none does in time."""
    own.settimeout(wait)
    try:
        own.sendto(text, (ADDRESS, 8887))
        while True:
            port, said = own.recv(65535).split(b" ", 1)
            if said == text:
                return int(port)
    except OSError:
        return 0


def echo_anew(cluster, **more):
    with sender(cluster) as own:
        return echo(cluster, own, **more)


def route_udp(name, *services, **more):
    return custom("IngressRouteUDP", name, routes=[{"services": [{"name": name, "port": 80, "weight": weight} for name, weight in services]}], **more)


def datagrams(cluster):
    """The entry point `talk` of UDP leads to the one route that has it."""
    servers = subprocess.Popen(cluster.inside([sys.executable, "-c", ECHOES]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        expect(servers.stdout.readline() == "listens\n", "the servers listen")
        udp = {"port_name": "udp", "protocol": "UDP"}
        apply(cluster, *service("talk-one", [9021], **udp), *service("talk-other", [9022], **udp), *service("talk-both", [9021, 9022], **udp))
        apply(cluster, route_udp("talk", ("talk-one", 1), ("talk-other", 0)))
        until(lambda: echo_anew(cluster) == 9021, "a datagram comes back", 60)
        expect(echo_anew(cluster, text=b"y" * 30_000) in (0, 9021), "a large one, too, or it is lost")
        apply(cluster, route_udp("talk", ("talk-one", 0), ("talk-other", 3)))
        until(lambda: echo_anew(cluster) == 9022, "weights count", 60)
        apply(cluster, route_udp("talk", ("talk-both", 1)))
        until(lambda: {echo_anew(cluster), echo_anew(cluster)} == {9021, 9022}, "sessions are shared out", 60)
        with sender(cluster) as own:
            until(lambda: echo(cluster, own) != 0, "it is answered", 60)
            # Sessions last for an hour here; what is lost is said again.
            found = {echo(cluster, own) for _ in range(8)} - {0}
            expect(len(found) == 1, f"one session is with one endpoint: {found}")
            (port,) = found
            # An endpoint that is gone from the Service has no session any more.
            delete(cluster, f"endpointslice/talk-both-{port}")
            until(lambda: echo(cluster, own) not in (0, port), "the session is with another endpoint", 60)
        (one,) = pods(cluster)
        scrape = lambda: cluster.sh(f"curl -s http://{one['status']['podIP']}:9100/metrics")
        until(lambda: re.search(r'traefik_open_connections\{entrypoint="talk",protocol="UDP"\} [1-9]', scrape()), "sessions are counted", 60)
        apply(cluster, route_udp("wrong", ("talk-both", 1), entryPoints=["web"]), route_udp("zz-late", ("talk-both", 1)))
        until(lambda: "EntryPointNotFound" in events(cluster, "wrong") and "InvalidRoute" in events(cluster, "zz-late"), "what is not served is told", 60)
        delete(cluster, "ingressrouteudp/talk", "ingressrouteudp/wrong", "ingressrouteudp/zz-late")
        until(lambda: echo_anew(cluster, wait=2) == 0, "and nothing of it is left", 60)
    finally:
        servers.kill()
        servers.wait()


def test_values_of_a_helm_chart_config_count(cluster):
    apply(cluster, ingress("valued", "valued.test Prefix / a"))
    wait_code(cluster, 200, "valued.test")
    values = {
        "ports": {
            "web": {"redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}},
            "mine": {"port": 8005, "exposedPort": 8885, "expose": {"default": True}, "protocol": "TCP"},
            "raw": {"port": 8006, "exposedPort": 8886, "expose": {"default": True}, "protocol": "TCP", "proxyProtocol": {"insecure": True}},
            "talk": {"port": 8007, "exposedPort": 8887, "expose": {"default": True}, "protocol": "UDP"},
        },
        "service": {"annotations": {"test.example.com/asked": "yes"}},
        "additionalArguments": ["--experimental.plugins.x=y", "--entryPoints.talk.udp.timeout=1h"],
        "image": {"tag": "v3"},
    }
    meta = {"name": "traefik", "namespace": "kube-system"}
    apply(cluster, {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChartConfig", "metadata": meta, "spec": {"valuesContent": json.dumps(values)}})
    wait_code(cluster, 301, "valued.test")
    # What has an entry point of its own is served there, and nowhere else.
    apply(cluster, custom("IngressRoute", "mine", entryPoints=["mine"], routes=[{"match": "PathPrefix(`/mine`)", "services": [{"name": "a", "port": 80}]}]))
    wait_code(cluster, 200, "any.test", "/mine", port=8885)
    expect(code(cluster, "any.test", "/mine", port=443) == 404, "not at the others")
    with talkers(cluster):
        apply(
            cluster,
            route_tcp("raw-all", "HostSNI(`*`)", "first", entry="raw"),
            route_tcp("raw-some", "HostSNI(`*`) && ClientIP(`198.51.100.0/24`)", "told", entry="raw", proxyProtocol={"version": 1}),
        )
        until(lambda: first_line(cluster, 8886, "203.0.113.9") == b"hello\n", "a server that speaks first is heard", 60)
        until(lambda: first_line(cluster, 8886, "198.51.100.7").startswith(b"PROXY TCP4 198.51.100.7 "), "what one proxy says is told on", 60)
        delete(cluster, "ingressroutetcp/raw-all", "ingressroutetcp/raw-some")
    datagrams(cluster)
    annotations = lambda: cluster.get("svc", "-n", "kube-system", "traefik")["metadata"]["annotations"]
    until(lambda: annotations().get("test.example.com/asked") == "yes", "the Service has its annotation", 60)

    def told_of():
        found = cluster.get("events", "-n", "kube-system", "--field-selector", "involvedObject.kind=HelmChartConfig")["items"]
        return [event["message"] for event in found if event["reason"] == "ValuesNotUsed"]

    until(lambda: any(message.endswith(": additionalArguments.--experimental.plugins.x=y, image.tag") for message in told_of()), f"what has no effect is named: {told_of()}", 60)
    # A start with the same values changes nothing: what comes after the ingress in the directory is applied after it.
    generation = lambda: cluster.get("deploy", "-n", "kube-system", "traefik")["metadata"]["generation"]
    before = generation()
    cluster.stop(signal.SIGTERM)
    marker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after-the-ingress", "namespace": NS}}
    (cluster.data / "server/manifests/zz-after.yaml").write_text(json.dumps(marker))
    cluster.start()
    until(lambda: cluster.get("configmap", "-n", NS, "after-the-ingress"), "the manifests are applied", 90)
    expect(generation() == before, "the same values are no news")
    cluster.kubectl("delete", "helmchartconfig", "-n", "kube-system", "traefik")
    wait_code(cluster, 200, "valued.test")
    until(lambda: "test.example.com/asked" not in annotations(), "and the Service is as before", 60)


def test_disabled_it_leaves_nothing(cluster):
    cluster.stop(signal.SIGTERM)
    cluster.ingress = False
    cluster.start()
    kinds = "deploy,svc,sa,ingressclass,clusterrole,clusterrolebinding"
    until(lambda: "traefik" not in cluster.kubectl("get", kinds, "-n", "kube-system", "-o", "name").stdout, "its objects are gone", 90)
    until(lambda: not cluster.get("pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=traefik")["items"], "and its pod", 90)
