"""Gateway API through the packaged ingress: from a client on the node's wire to endpoints behind routes, and what statuses say."""

import json

from cluster import expect, until
from faults import ingress
from faults.ingress import ADDRESS, FOUND, NS, apply, ask, code, delete, secret, service, told, wait_code

GROUP = "gateway.networking.k8s.io/v1"


def prepare(cluster):
    ingress.prepare(cluster)


def tree(kind, name, spec, namespace=NS, group=GROUP):
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def gateway(name, *listeners):
    return tree("Gateway", name, {"gatewayClassName": "traefik", "listeners": list(listeners)})


def listener(name, host=None, port=80, protocol="HTTP", **more):
    return {"name": name, "port": port, "protocol": protocol, **({"hostname": host} if host else {}), **more}


def route(name, hosts, *rules, parent="front", namespace=NS):
    return tree("HTTPRoute", name, {"parentRefs": [{"name": parent, "namespace": NS}], "hostnames": hosts, "rules": list(rules)}, namespace)


def rule(*backends, path="/", kind="PathPrefix", **more):
    to = [{"name": one.split("*")[0], "port": 80, "weight": int((one + "*1").split("*")[1])} for one in backends]
    return {"matches": [{"path": {"type": kind, "value": path}}], "backendRefs": to, **more}


def conditions(of):
    """What stands in conditions: `!` before what is not so."""
    return {("" if one["status"] == "True" else "!") + one["type"]: one["reason"] for one in of.get("conditions", [])}


def stands(cluster, kind, name, part, **wanted):
    """Waits until conditions have these reasons, with the object's generation."""
    wanted = {key.replace("no_", "!"): reason for key, reason in wanted.items()}

    def so():
        found = cluster.get(kind, "-n", NS, name)
        of = part(found.get("status", {}))
        fresh = all(one["observedGeneration"] == found["metadata"]["generation"] for one in of.get("conditions", []))
        return fresh and wanted.items() <= conditions(of).items()

    until(so, f"{kind} {name} stands at {wanted}: {part(cluster.get(kind, '-n', NS, name).get('status', {}))}", 60)


def parent(status):
    return (status.get("parents") or [{}])[0]


def test_a_class_makes_it_serve(cluster):
    ingress.test_it_is_there_without_being_asked_for_and_may_nothing(cluster)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/httproutes.gateway.networking.k8s.io", "crd/gatewayclasses.gateway.networking.k8s.io")
    apply(cluster, gateway("front", listener("http")), route("first", ["first.test"], rule("a")))
    expect("parents" not in cluster.get("httproute", "-n", NS, "first").get("status", {}), "nobody speaks without a class")
    apply(cluster, {"apiVersion": GROUP, "kind": "GatewayClass", "metadata": {"name": "traefik"}, "spec": {"controllerName": "traefik.io/gateway-controller"}})
    wait_code(cluster, 200, "first.test")
    until(lambda: conditions(cluster.get("gatewayclass", "traefik").get("status", {})) == {"Accepted": "Accepted"}, "the class is accepted", 60)
    stands(cluster, "gateway", "front", lambda status: status, Accepted="Accepted", Programmed="Programmed")
    stands(cluster, "httproute", "first", parent, Accepted="Accepted", ResolvedRefs="ResolvedRefs")
    status = cluster.get("gateway", "-n", NS, "front")["status"]
    expect(status["addresses"] == [{"type": "IPAddress", "value": ADDRESS}], status)
    expect([one["attachedRoutes"] for one in status["listeners"]] == [1], status)


def test_matches_filters_and_weights(cluster):
    modify = {"set": [{"name": "X-Set", "value": "1"}], "add": [{"name": "X-Add", "value": "2"}], "remove": ["X-Gone"]}
    fields = [{"type": "RequestHeaderModifier", "requestHeaderModifier": modify}, {"type": "ResponseHeaderModifier", "responseHeaderModifier": modify}]
    elsewhere = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}, "statusCode": 301}}
    other = {"type": "URLRewrite", "urlRewrite": {"hostname": "in.test", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    exact = rule("b", path="/exact", kind="Exact")
    exact["matches"].append({"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "X-Version", "value": "two"}]})
    exact["matches"].append({"method": "DELETE"})
    apply(
        cluster,
        route(
            "rules", ["*.rules.test"], rule("a"), exact, rule("a*3", "b*1", "none*0", path="/shared"), rule("b", path="/fields", filters=fields),
            rule(path="/old", filters=[elsewhere]), rule("b", path="/rewritten", filters=[other]), rule("none", path="/none"), rule("missing", path="/missing"),
        ),
    )
    host = "deep.x.rules.test"
    wait_code(cluster, 200, host)
    for path, more, port in (
        ("/", {}, 9001), ("/exact", {}, 9002), ("/exact/", {}, 9001), ("/exactly", {}, 9001), ("/", {"headers": {"X-Version": "two"}}, 9002),
        ("/", {"headers": {"X-Version": "three"}}, 9001), ("/", {"method": "DELETE"}, 9002),
    ):
        expect(told(cluster, host, path, **more)["port"] == port, f"{path} {more} goes to {port}")
    expect(code(cluster, "rules.test") == 404, "the name below which all are is not one of them")
    ports = [told(cluster, host, "/shared")["port"] for _ in range(40)]
    expect(ports.count(9001) == 30 and ports.count(9002) == 10, f"shares of three and one: {ports}")
    status, answered, body = ask(cluster, host, "/fields", headers={"X-Gone": "1", "X-Set": "0", "X-Add": "0"})
    sent = json.loads(body)["headers"]
    expect(["x-set", "1"] in sent and "x-gone" not in dict(sent), sent)
    expect([value for name, value in sent if name == "x-add"] == ["0", "2"], sent)
    expect((answered.get("x-set"), answered.get("x-add")) == ("1", "2"), answered)
    status, answered, _ = ask(cluster, host, "/old/page?q=1")
    expect((status, answered["location"]) == (301, f"https://{host}/new/page?q=1"), answered)
    seen = told(cluster, host, "/rewritten/page?q=1")
    expect((seen["target"], seen["fields"]["host"]) == ("/page?q=1", "in.test"), seen)
    expect((code(cluster, host, "/none"), code(cluster, host, "/missing")) == (503, 500), "nobody is there, and there is no such thing")
    stands(cluster, "httproute", "rules", parent, Accepted="Accepted", no_ResolvedRefs="BackendNotFound")


def test_copies_and_time_limits(cluster):
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "b", "port": 80}}}
    # `/wait` at an endpoint says that it was asked, and is not answered.
    apply(cluster, route("copies", ["copies.test"], rule("a", path="/", filters=[mirror]), rule("a", path="/wait", timeouts={"request": "300ms"})))
    wait_code(cluster, 200, "copies.test")
    body = "x" * 50_000
    seen = told(cluster, "copies.test", "/", method="POST", body=body)
    expect((seen["port"], seen["body"]) == (9001, body), "a copy takes nothing away")
    expect(code(cluster, "copies.test", "/wait") == 504, "time is up")
    expect(FOUND["endpoints"].stdout.readline() == "waits\n", "the endpoint was asked")


def test_tls_by_listener(cluster):
    theirs = secret(cluster, "shown", "whatever.test")
    refs = {"tls": {"certificateRefs": [{"name": "shown"}]}}
    apply(cluster, gateway("secure", listener("tls", "*.tls.test", 443, "HTTPS", **refs), listener("none", "none.test", 443, "HTTPS", tls={"certificateRefs": [{"name": "no"}]})))
    apply(cluster, route("secure", [], rule("a"), parent="secure"))
    wait_code(cluster, 200, "a.b.tls.test", port=443)
    import ssl

    with ingress.connect(cluster, 443) as stream:
        shown = ssl._create_unverified_context().wrap_socket(stream, server_hostname="a.b.tls.test").getpeercert(binary_form=True)
    expect(shown == theirs, "the listener's certificate, whatever names it has")
    expect((code(cluster, "a.b.tls.test"), code(cluster, "none.test", port=443)) == (404, 404), "only there, and only with a certificate")
    stands(cluster, "gateway", "secure", lambda status: (status.get("listeners") or [{}, {}])[1], no_ResolvedRefs="InvalidCertificateRef", no_Programmed="Invalid")


def test_tls_is_passed_on_by_name(cluster):
    with ingress.talkers(cluster) as theirs:
        backend = {"backendRefs": [{"name": "tls", "port": 80}]}
        spec = {"parentRefs": [{"name": "pass"}], "hostnames": ["a.pass.test"], "rules": [backend]}
        apply(cluster, gateway("pass", listener("pass", "*.pass.test", 443, "TLS", tls={"mode": "Passthrough"})))
        apply(cluster, tree("TLSRoute", "pass", spec, group="gateway.networking.k8s.io/v1alpha2"))
        until(lambda: ingress.talk(cluster, "a.pass.test") == (ingress.SAID, theirs), "the endpoint ends TLS", 60)
        stands(cluster, "tlsroute", "pass", parent, Accepted="Accepted", ResolvedRefs="ResolvedRefs")
        stands(cluster, "gateway", "pass", lambda status: (status.get("listeners") or [{}])[0], Programmed="Programmed")
        delete(cluster, "tlsroute/pass", "gateway/pass")


def test_tls_of_connections_ends_here(cluster):
    ours = secret(cluster, "ends", "whatever.test")
    refs = {"tls": {"mode": "Terminate", "certificateRefs": [{"name": "ends"}]}}
    shared = listener("requests", "web.ends.test", 443, "HTTPS", tls={"certificateRefs": [{"name": "ends"}]})
    with ingress.talkers(cluster):
        backend = {"backendRefs": [{"name": "first", "port": 80}]}
        spec = {"parentRefs": [{"name": "ends", "sectionName": "ends"}], "hostnames": ["*.ends.test"], "rules": [backend]}
        apply(cluster, gateway("ends", listener("ends", "*.ends.test", 443, "TLS", **refs), listener("none", "none.test", 443, "TLS"), shared))
        apply(cluster, tree("TLSRoute", "ends", spec, group="gateway.networking.k8s.io/v1alpha2"), route("ends", [], rule("a"), parent="ends"))
        until(lambda: ingress.talk(cluster, "a.ends.test") == (b"hello\n" + ingress.SAID, ours), "TLS ends here, with the listener's certificate", 60)
        stands(cluster, "tlsroute", "ends", parent, Accepted="Accepted", ResolvedRefs="ResolvedRefs")
        stands(cluster, "gateway", "ends", lambda status: (status.get("listeners") or [{}])[0], Programmed="Programmed")
        stands(cluster, "gateway", "ends", lambda status: (status.get("listeners") or [{}, {}])[1], no_ResolvedRefs="InvalidCertificateRef", no_Programmed="Invalid")
        # A listener that means a name more exactly has it, though it speaks another protocol.
        wait_code(cluster, 200, "web.ends.test", port=443)
        delete(cluster, "tlsroute/ends", "httproute/ends", "gateway/ends")


def test_others_are_asked_and_what_goes_is_gone(cluster):
    cluster.kubectl("create", "namespace", "far")
    backend = {"backendRefs": [{"name": "far", "namespace": "far", "port": 80}]}
    apply(cluster, *({**one, "metadata": {**one["metadata"], "namespace": "far"}} for one in service("far", [9003])), route("far", ["far.test"], backend), route("stranger", ["stranger.test"], rule("far"), namespace="far"))
    stands(cluster, "httproute", "far", parent, Accepted="Accepted", no_ResolvedRefs="RefNotPermitted")
    wait_code(cluster, 500, "far.test")
    grant = {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": NS}], "to": [{"group": "", "kind": "Service"}]}
    apply(cluster, tree("ReferenceGrant", "grant", grant, "far", "gateway.networking.k8s.io/v1beta1"))
    wait_code(cluster, 200, "far.test")
    stands(cluster, "httproute", "far", parent, Accepted="Accepted", ResolvedRefs="ResolvedRefs")
    expect(code(cluster, "stranger.test") == 404, "routes of other namespaces are not taken unasked")
    chosen = {"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "far"}}}}}
    apply(cluster, gateway("front", listener("http", **chosen), listener("odd", port=81, **chosen)))
    wait_code(cluster, 200, "stranger.test")
    wait_code(cluster, 404, "first.test")
    stands(cluster, "httproute", "first", parent, no_Accepted="NotAllowedByListeners")
    stands(cluster, "gateway", "front", lambda status: status, Accepted="ListenersNotValid", Programmed="Programmed")
    stands(cluster, "gateway", "front", lambda status: (status.get("listeners") or [{}, {}])[1], no_Accepted="PortUnavailable")
    delete(cluster, "gateway/front")
    wait_code(cluster, 404, "stranger.test")
    until(lambda: not cluster.get("httproute", "-n", "far", "stranger")["status"]["parents"], "of a Gateway that is gone nothing is said", 60)
    cluster.kubectl("delete", "gatewayclass", "traefik")
    wait_code(cluster, 404, "a.b.tls.test", port=443)
