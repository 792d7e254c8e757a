"""The API answers as upstream's does: forms, options, patches, and the rules between fields."""

import base64
import json
import subprocess
import sys
import urllib.parse

from cluster import Failure, until

# Runs in the cluster's network namespace: requests on its input, answers on its output.
ASK = """
import base64, http.client, json, os, ssl, struct, sys, time
asked = json.load(sys.stdin)
context = ssl._create_unverified_context()
context.load_cert_chain(asked["pem"])
def answer(q):
    headers = dict({"Accept": "application/json"}, **q.get("headers", {}))
    conn = http.client.HTTPSConnection(asked["host"], asked["port"], context=context, timeout=20)
    body = q.get("body")
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
        body = body if isinstance(body, str) else json.dumps(body)
    if q.get("frames"):
        headers.update({"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()})
        conn.connect()
        lines = ["GET %s HTTP/1.1" % q["path"], "Host: x"] + ["%s: %s" % h for h in headers.items()]
        conn.sock.sendall(("\\r\\n".join(lines) + "\\r\\n\\r\\n").encode())
        stream = conn.sock.makefile("rb")
        status = int(stream.readline().split()[1])
        while stream.readline().strip():
            pass
        frames = []
        while status == 101 and len(frames) < q["frames"]:
            head = stream.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                break
            n = head[1] & 127
            n = struct.unpack(">H", stream.read(2))[0] if n == 126 else struct.unpack(">Q", stream.read(8))[0] if n == 127 else n
            frames.append([head[0] & 15, stream.read(n).decode()])
        return {"code": status, "frames": frames}
    conn.request(q.get("method", "GET"), q["path"], body, headers)
    r = conn.getresponse()
    return {"code": r.status, "text": r.read().decode("utf8", "replace"), "headers": {k.lower(): v for k, v in r.getheaders()}}
json.dump([answer(q) for q in asked["requests"]], sys.stdout)
"""


def ask(cluster, *requests):
    """Answers to raw requests, in their order."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json").stdout)
    url = urllib.parse.urlparse(config["clusters"][0]["cluster"]["server"])
    user = config["users"][0]["user"]
    pem = cluster.dir / "client.pem"
    pem.write_bytes(b"\n".join(base64.b64decode(user[k]) for k in ("client-certificate-data", "client-key-data")))
    asked = {"pem": str(pem), "host": url.hostname, "port": url.port, "requests": requests}
    done = subprocess.run(cluster.inside([sys.executable, "-c", ASK]), input=json.dumps(asked), capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(done.stderr)
    return json.loads(done.stdout)


def same(got, want, what):
    if got != want:
        raise Failure(f"{what}: {got!r}, not {want!r}")


def message(answer):
    return json.loads(answer["text"]).get("message", "")


def create(path, body, **query):
    query = "&".join(f"{k}={v}" for k, v in {"dryRun": "All", **query}.items())
    return {"method": "POST", "path": f"{path}?{query}", "body": body}


def merge(path, body, type_="merge-patch"):
    return {"method": "PATCH", "path": path, "body": body, "headers": {"Content-Type": f"application/{type_}+json"}}


PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"


def prepare_pod():
    return {"metadata": {"name": "web"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
        "name": "c", "image": "k3rs.io/userspace:1",
        "command": ["sh", "-c", "echo hello; echo page >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"]}]}}


def test_documents_without_a_protobuf_form(cluster):
    accept = {"Accept": "application/vnd.kubernetes.protobuf, application/json"}
    paths = ["/", "/version", "/openapi/v3", "/openapi/v3/api/v1", "/.well-known/openid-configuration"]
    for path, answer in zip(paths, ask(cluster, *({"path": path, "headers": accept} for path in paths))):
        same((answer["code"], answer["headers"]["content-type"]), (200, "application/json"), path)
        json.loads(answer["text"])


def test_reviews_have_no_table(cluster):
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    both, only, partial = ask(cluster, *({"method": "POST", "path": path, "body": review, "headers": {"Accept": accept}} for accept in (
        f"{table},application/json", table, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")))
    same((both["code"], json.loads(both["text"])["kind"]), (201, "SelfSubjectAccessReview"), "with an alternative")
    same(only["code"], 406, "a table or nothing")
    same(json.loads(partial["text"])["kind"], "PartialObjectMetadata", "metadata")


def test_options_that_make_no_sense(cluster):
    invalid = 'DeleteOptions.meta.k8s.io "" is invalid: '
    for method, path, code, said in (
        ("GET", f"{MAPS}?resourceVersion=abc", 500, 'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax'),
        ("GET", f"{MAPS}?resourceVersion=99999999999", 504, "Timeout: Too large resource version: 99999999999, current: "),
        ("GET", f"{MAPS}?labelSelector=a%3D%3D%3Db", 400, "unable to parse requirement: found '=', expected: identifier"),
        ("GET", f"{MAPS}?fieldSelector=spec.nope%3D1", 400, '"spec.nope" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("DELETE", f"{MAPS}/x?dryRun=Some", 422, f'{invalid}dryRun: Unsupported value: []string{{"Some"}}: supported values: "All"'),
        ("DELETE", f"{MAPS}/x?propagationPolicy=Nope", 422, f'{invalid}propagationPolicy: Unsupported value: "Nope": supported values: "Foreground", "Background", "Orphan", "nil"'),
    ):
        answer = ask(cluster, {"method": method, "path": path})[0]
        same(answer["code"], code, path)
        if not message(answer).startswith(said):
            raise Failure(f"{path}: {message(answer)}")


def test_patches_that_do_not_fit(cluster):
    one = f"{MAPS}/patched"
    answers = ask(
        cluster,
        {"method": "POST", "path": MAPS, "body": {"metadata": {"name": "patched"}, "data": {"a": "b"}}},
        merge(one, [{"op": "test", "path": "/data/a", "value": "c"}], "json-patch"),
        merge(one, {"data": {"a": 1}}),
        merge(one, {"data": {"a": 1}}, "strategic-merge-patch"),
        merge(one, {"metadata": None}),
        merge(one, {}, "nothing"),
        {"method": "POST", "path": MAPS, "body": {"kind": "Wrong", "apiVersion": "v1"}},
        {"method": "DELETE", "path": one},
    )
    same([answer["code"] for answer in answers], [201, 422, 422, 422, 400, 415, 400, 200], "codes")
    same(message(answers[1]), "the server rejected our request due to an error in our request", "a failed test")
    same(json.loads(answers[2]["text"])["details"]["causes"][0]["field"], "patch", "an ill-typed patch")


def test_status_and_main_resource_keep_to_their_parts(cluster):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "parts", "labels": {"l": "1"}}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    change = {"metadata": {"labels": {"l": "2"}, "annotations": {"x": "y"}}, "spec": {"paused": True}, "status": {"observedGeneration": 99}}
    try:
        _, status, main = ask(cluster, {"method": "POST", "path": path, "body": body},
                              merge(f"{path}/parts/status?dryRun=All", change), merge(f"{path}/parts?dryRun=All", change))
        status, main = json.loads(status["text"]), json.loads(main["text"])
        same((status["metadata"]["labels"], status["metadata"]["annotations"].get("x"), status["spec"].get("paused")), ({"l": "1"}, "y", None), "through status")
        same(status["status"]["observedGeneration"], 99, "the status")
        same((main["metadata"]["labels"], main["spec"]["paused"], main["status"].get("observedGeneration") == 99), ({"l": "2"}, True, False), "through the object")
    finally:
        ask(cluster, {"method": "DELETE", "path": f"{path}/parts"})


def test_times_of_any_year(cluster):
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    for year in ("1600", "1969", "9999"):
        time = f"{year}-01-02T03:04:05.000006Z"
        made, = ask(cluster, create(path, {"metadata": {"name": "old"}, "spec": {"renewTime": time}}))
        same(made["code"], 201, year)
        same(json.loads(made["text"])["spec"]["renewTime"], time, year)


def test_events_are_selected_by_the_fields_of_their_version(cluster):
    event = {"metadata": {"name": "e1"}, "involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"}, "reason": "Tested", "type": "Warning", "reportingComponent": "e2e.test/c", "reportingInstance": "i", "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z"}
    core, events = ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events")
    ask(cluster, {"method": "POST", "path": core, "body": event})
    for path, selector, want in (
        (events, "regarding.name=x,regarding.kind=Pod,reason=Tested,type=Warning,reportingController=e2e.test/c", 1),
        (events, "regarding.name=y", 0),
        (core, "involvedObject.name=x,reportingComponent=e2e.test/c,source=e2e.test/c", 1),
        (events, "involvedObject.name=x", 400),
        (core, "regarding.name=x", 400),
    ):
        answer, = ask(cluster, {"path": f"{path}?fieldSelector={selector.replace('=', '%3D')}"})
        got = len(json.loads(answer["text"])["items"]) if answer["code"] == 200 else answer["code"]
        same(got, want, f"{path} {selector}")
    ask(cluster, {"method": "DELETE", "path": f"{core}/e1"})


def test_lists_name_their_types_once(cluster):
    for query, accept in (("", "application/json"), ("?pretty=true", "application/json"), ("", "application/yaml")):
        answer, = ask(cluster, {"path": f"/api/v1/namespaces{query}", "headers": {"Accept": accept}})
        text = answer["text"].replace('"', "").replace(" ", "")
        same((text.count("kind:"), "kind:NamespaceList" in text), (1, True), accept + query)


def test_jobs_that_contradict_themselves(cluster):
    def job(**spec):
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        return {"metadata": {"name": "j"}, "spec": {"template": template, **spec}}

    def rule(**rule):
        return job(podFailurePolicy={"rules": [rule]})

    def cron(**spec):
        return {"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}, **spec}}

    condition = [{"type": "DisruptionTarget"}]
    jobs, crons = ("/apis/batch/v1/namespaces/default/jobs", "/apis/batch/v1/namespaces/default/cronjobs")
    cases = [
        (jobs, job(), None),
        (jobs, job(backoffLimitPerIndex=1), "spec.backoffLimitPerIndex"),
        (jobs, job(maxFailedIndexes=1), "spec.maxFailedIndexes"),
        (jobs, job(completionMode="Indexed", completions=2, parallelism=100001), "spec.parallelism"),
        (jobs, job(completionMode="Indexed", completions=2, successPolicy={"rules": [{"succeededCount": 3}]}), "spec.successPolicy.rules[0].succeededCount"),
        (jobs, job(successPolicy={"rules": [{"succeededCount": 1}]}), "spec.successPolicy"),
        (jobs, job(managedBy="plain"), "spec.managedBy"),
        (jobs, rule(action="FailIndex", onPodConditions=condition), "spec.podFailurePolicy.rules[0].action"),
        (jobs, rule(action="Ignore"), "spec.podFailurePolicy.rules[0]"),
        (jobs, rule(action="Ignore", onPodConditions=condition, onExitCodes={"operator": "In", "values": [1]}), "spec.podFailurePolicy.rules[0]"),
        (jobs, rule(action="FailJob", onExitCodes={"operator": "In", "values": [2, 1]}), "spec.podFailurePolicy.rules[0].onExitCodes.values"),
        (jobs, rule(action="FailJob", onExitCodes={"operator": "In", "values": [1, 1]}), "spec.podFailurePolicy.rules[0].onExitCodes.values[1]"),
        (jobs, rule(action="FailJob", onExitCodes={"operator": "In", "values": [1], "containerName": "x"}), "spec.podFailurePolicy.rules[0].onExitCodes.containerName"),
        (crons, cron(), None),
        (crons, cron(timeZone="Europe/Berlin"), None),
        (crons, cron(timeZone="Local"), "spec.timeZone"),
        (crons, cron(timeZone="Mars/Base"), "spec.timeZone"),
        (crons, cron(timeZone=""), "spec.timeZone"),
        (crons, cron(schedule="TZ=UTC * * * * *"), "spec.schedule"),
    ]
    for (_, body, field), answer in zip(cases, ask(cluster, *(create(path, body) for path, body, _ in cases))):
        causes = json.loads(answer["text"]).get("details", {}).get("causes", []) if answer["code"] != 201 else []
        if answer["code"] != (422 if field else 201) or field and field not in [cause["field"] for cause in causes]:
            raise Failure(f"{body['spec']}: {answer['code']} {causes}, not {field}")


def test_pods_that_contradict_themselves(cluster):
    def pod(**spec):
        return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}

    def sysctl(name):
        return pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})

    cases = [
        (pod(), None),
        (pod(nodeName="node1", schedulingGates=[{"name": "a.b/c"}]), "spec.nodeName"),
        (pod(ephemeralContainers=[{"name": "e", "image": "i"}]), "spec.ephemeralContainers"),
        (pod(terminationGracePeriodSeconds=-5), None),
        (sysctl("kernel.shm_rmid_forced"), None),
        (sysctl("net/ipv4/ip_local_port_range"), None),
        (sysctl("kernel..shm"), "spec.securityContext.sysctls[0].name"),
        (sysctl("-kernel.x"), "spec.securityContext.sysctls[0].name"),
        (sysctl("kernel.x_"), "spec.securityContext.sysctls[0].name"),
    ]
    for (body, field), answer in zip(cases, ask(cluster, *(create(PODS, body) for body, _ in cases))):
        causes = json.loads(answer["text"]).get("details", {}).get("causes", []) if answer["code"] != 201 else []
        if answer["code"] != (422 if field else 201) or field and field not in [cause["field"] for cause in causes]:
            raise Failure(f"{body['spec']}: {answer['code']} {answer['text']}, not {field}")


def test_addresses_with_leading_zeros(cluster):
    body = {"metadata": {"name": "zeros"}, "spec": {"clusterIP": "010.043.000.077", "ports": [{"port": 80}]}}
    made, = ask(cluster, create("/api/v1/namespaces/default/services", body))
    same(made["code"], 201, made["text"])


def test_kinds_that_nobody_serves(cluster):
    for version in ("apps/v1", "v1"):
        done = cluster.kubectl("apply", "-f", "-", input=f"apiVersion: {version}\nkind: Deploymnet\nmetadata:\n  name: x\n", check=False)
        if done.returncode == 0 or f'no matches for kind "Deploymnet" in version "{version}"' not in done.stderr or "failed to list CRDs" in done.stderr:
            raise Failure(done.stderr)
    done = cluster.kubectl("apply", "--dry-run=server", "-f", "-", input="apiVersion: apps/v1\nkind: Deploymnet\nmetadata:\n  name: x\n", check=False)
    if "failed to list CRDs" in done.stderr:
        raise Failure(done.stderr)
    listed, = ask(cluster, {"path": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"})
    strangers = [one["metadata"]["name"] for one in json.loads(listed["text"])["items"] if not one["metadata"]["name"].endswith(".helm.cattle.io")]
    same((listed["code"], strangers), (200, []), "the definitions")


def test_streams_over_websocket_and_proxies(cluster):
    until(lambda: ask(cluster, {"path": "/api/v1/namespaces/default/serviceaccounts/default"})[0]["code"] == 200, "the service account")
    made, = ask(cluster, {"method": "POST", "path": PODS, "body": prepare_pod()})
    same(made["code"], 201, made["text"])
    try:
        until(lambda: json.loads(ask(cluster, {"path": f"{PODS}/web"})[0]["text"])["status"].get("phase") == "Running", "the pod runs", 60)
        log = {"path": f"{PODS}/web/log", "frames": 2}
        until(lambda: "hello" in ask(cluster, {"path": log["path"]})[0]["text"], "the pod's log")
        plain, binary, text = ask(cluster, log, dict(log, headers={"Sec-WebSocket-Protocol": "binary.k8s.io"}), dict(log, headers={"Sec-WebSocket-Protocol": "base64.binary.k8s.io"}))
        same((plain["code"], plain["frames"]), (101, [[2, ""], [2, "hello\n"]]), "bytes")
        same(binary["frames"], plain["frames"], "bytes by name")
        same(text["frames"], [[1, ""], [1, base64.b64encode(b"hello\n").decode()]], "base64")
        watched, = ask(cluster, {"path": f"{PODS}?watch=true&fieldSelector=metadata.name%3Dweb", "frames": 1})
        same((watched["code"], watched["frames"][0][0], json.loads(watched["frames"][0][1])["type"]), (101, 1, "ADDED"), "a watch")
        proxy = f"{PODS}/web:8080/proxy"
        get, post, options = ask(cluster, {"path": proxy}, {"method": "POST", "path": proxy, "body": "x"}, {"method": "OPTIONS", "path": proxy})
        same((get["code"], get["headers"].get("location")), (301, f"{proxy}/"), "GET without a slash")
        if post["code"] == 301:
            raise Failure("a POST without a slash is redirected")
        if "method not allowed" in options["text"].lower() and '"Status"' in options["text"]:
            raise Failure("OPTIONS does not reach the pod")
    finally:
        gone, = ask(cluster, {"method": "DELETE", "path": f"{PODS}/web?gracePeriodSeconds=-1"})
        same(gone["code"], 200, "a negative grace period")


def test_a_list_that_is_read_for_too_long_goes_on_elsewhere(cluster):
    """Upstream forgets old states after five minutes; whoever reads on then is told, and where to go on."""
    for n in range(3):
        cluster.kubectl("create", "configmap", f"page{n}", "-n", "default")
    page = lambda token="": ask(cluster, {"method": "GET", "path": f"{MAPS}?limit=1{token and '&continue='}{token}"})[0]
    token = json.loads(page()["text"])["metadata"]["continue"]
    same(page(token)["code"], 200, "a new token")
    whole = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    whole["since"] -= 301
    old = page(base64.urlsafe_b64encode(json.dumps(whole).encode()).decode().rstrip("="))
    told = json.loads(old["text"])
    same((old["code"], told["reason"]), (410, "Expired"), "an old token")
    same(page(told["metadata"]["continue"])["code"], 200, "the token of the refusal")
