"""HelmCharts: fetched from everywhere, installed, upgraded, failed and removed, and recorded as Helm does."""

import base64
import json

from cluster import expect, until

from ._charts import ANSWERS, WORDS, chart, push, put, released
from ._https import Https
from .api import same

NS = "kube-system"
CREDENTIALS = {"username": "alice", "password": "correct horse"}

HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-%(name)s
  annotations: {helm.sh/hook: "%(events)s", helm.sh/hook-weight: "%(weight)s", helm.sh/hook-delete-policy: "%(policy)s"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, {{ .Values.%(name)s | default "exit 0" | quote }}]}]
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.charts.example.com}
spec:
  group: charts.example.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
"""

THING = """
apiVersion: charts.example.com/v1
kind: Thing
metadata: {name: {{ .Release.Name }}}
spec: {word: {{ .Values.word | quote }}{{ if .Values.more }}, more: 1{{ end }}}
"""


def encoded(archive):
    return base64.b64encode(archive).decode()


def helm_chart(name, **spec):
    return {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "metadata": {"name": name, "namespace": NS}, "spec": {"targetNamespace": "default", **spec}}


def config(name, **spec):
    return {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChartConfig", "metadata": {"name": name, "namespace": NS}, "spec": spec}


def apply(cluster, *trees):
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": trees}))


def complete(cluster, name):
    """As scripts wait."""
    until(lambda: cluster.kubectl("get", "job", "-n", NS, f"helm-install-{name}", check=False).returncode == 0, f"the Job of {name}", 60)
    cluster.kubectl("wait", "-n", NS, "--for=condition=complete", f"job/helm-install-{name}", "--timeout=90s", timeout=120)


def data(cluster, name, namespace="default"):
    done = cluster.kubectl("get", "configmap", "-n", namespace, name, "-o", "json", check=False)
    return json.loads(done.stdout)["data"] if done.returncode == 0 else None


def until_data(cluster, name, wanted, namespace="default"):
    until(lambda: (data(cluster, name, namespace) or {}).items() >= wanted.items(), f"{name} says {wanted}, not {data(cluster, name, namespace)}", 90)


def records(cluster, name, namespace="default"):
    items = cluster.get("secrets", "-n", namespace, "-l", f"owner=helm,name={name}")["items"]
    return sorted(items, key=lambda item: int(item["metadata"]["labels"]["version"]))


def until_recorded(cluster, name, wanted):
    """The states of the revisions, the oldest first."""

    def states():
        return [item["metadata"]["labels"]["status"] for item in records(cluster, name)]

    until(lambda: states() == wanted, f"{name} is {wanted}, not {states()}", 90)


def events(cluster, name, kind="HelmChart"):
    field = f"--field-selector=involvedObject.kind={kind},involvedObject.name={name}"
    return [(event["type"], event["reason"], event["message"]) for event in cluster.get("events", "-n", NS, field)["items"]]


def until_told(cluster, name, reason, words, kind="HelmChart"):
    def told():
        return any(its == reason and words in said for _, its, said in events(cluster, name, kind))

    until(told, f"{reason} with {words!r} is told about {name}", 90)


def removed(cluster, name):
    cluster.kubectl("delete", "helmchart", "-n", NS, name, "--timeout=90s", timeout=120)
    same(records(cluster, name), [], "records")


def served(cluster):
    """A repository and a registry on the node's loopback."""
    return Https(cluster, "charts", 8443, ANSWERS)


def test_installed_upgraded_and_removed(cluster):
    cluster.kubectl("wait", "--for=condition=established", "crd/helmcharts.helm.cattle.io", "crd/helmchartconfigs.helm.cattle.io", "--timeout=60s", timeout=90)
    apply(cluster, helm_chart("one", chartContent=encoded(chart())))
    complete(cluster, "one")
    same(data(cluster, "one-words"), {"word": "first", "revision": "1", "chart": "1.0.0"}, "the object")
    tree = cluster.get("configmap", "one-words")
    same(tree["metadata"]["labels"], {"app.kubernetes.io/managed-by": "Helm"}, "labels")
    same(tree["metadata"]["annotations"], {"meta.helm.sh/release-name": "one", "meta.helm.sh/release-namespace": "default"}, "annotations")
    (secret,) = records(cluster, "one")
    same((secret["metadata"]["name"], secret["type"]), ("sh.helm.release.v1.one.v1", "helm.sh/release.v1"), "the record's object")
    labels = secret["metadata"]["labels"]
    same((labels["status"], labels["owner"], labels["name"]), ("deployed", "helm", "one"), "its labels")
    record = released(secret)
    same((record["info"]["status"], record["info"]["description"], record["version"]), ("deployed", "Install complete", 1), "the record")
    same(record["chart"]["metadata"]["appVersion"], "7", "the chart in it")
    expect("# Source: demo/templates/words.yaml" in record["manifest"], record["manifest"])
    found = cluster.get("helmchart", "-n", NS, "one")
    same(found["metadata"]["annotations"]["helmcharts.cattle.io/managed-by"], "helm-controller", "claimed")
    same(found["metadata"]["finalizers"], ["wrangler.cattle.io/on-helm-chart-remove"], "finalizers")
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    same((conditions, found["status"]["jobName"]), ({"JobCreated": "True", "Failed": "False"}, "helm-install-one"), "status")
    same(cluster.kubectl("get", "pods", "-n", NS, "-l", "helmcharts.helm.cattle.io/chart=one", "-o", "name").stdout, "", "pods")
    expect(any(reason == "ApplyJob" for _, reason, _ in events(cluster, "one")), "no event")
    table = cluster.kubectl("get", "hc", "-n", NS, "one").stdout.split("\n")[0].split()
    same(table, ["NAME", "REPO", "CHART", "VERSION", "TARGETNAMESPACE", "BOOTSTRAP", "FAILED"], "columns")
    # What others write beside it stays; what the chart says comes back.
    cluster.kubectl("patch", "configmap", "one-words", "-p", json.dumps({"data": {"own": "kept", "word": "changed"}}))
    apply(cluster, helm_chart("one", chartContent=encoded(chart("1.1.0")), valuesContent="word: second"))
    until_data(cluster, "one-words", {"word": "second", "revision": "2", "chart": "1.1.0", "own": "kept"})
    until_recorded(cluster, "one", ["superseded", "deployed"])
    complete(cluster, "one")
    removed(cluster, "one")
    same(data(cluster, "one-words"), None, "the object")
    same(cluster.kubectl("get", "job", "-n", NS, "-l", "helmcharts.helm.cattle.io/chart=one", "-o", "name").stdout, "", "jobs")


def test_values_have_their_order(cluster):
    templates = {"values": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: order}\ndata: {{ .Values.v | toYaml | nindent 2 }}\n"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "order-values", "namespace": NS}, "stringData": {"a": "v: {c: secret, d: secret}", "b": "v: {d: later}"}}
    spec = {
        "valuesContent": 'v: {a: content, b: content, c: content, d: content, e: content, f: content}',
        "values": {"v": {"b": "values", "c": "values"}},
        "valuesSecrets": [{"name": "order-values", "keys": ["a", "b"]}],
        "set": {"v.f": "set,text", "v.g": 5},
    }
    templates["values"] = templates["values"].replace("{{ .Values.v | toYaml | nindent 2 }}", '\n{{- range $k, $v := .Values.v }}\n  {{ $k }}: {{ $v | toString | quote }}\n{{- end }}')
    apply(cluster, config("order", valuesContent="v: {e: config, f: config}"), secret, helm_chart("order", chartContent=encoded(chart(templates=templates)), **spec))
    wanted = {"a": "content", "b": "values", "c": "secret", "d": "later", "e": "config", "f": "set,text", "g": "5"}
    complete(cluster, "order")
    same(data(cluster, "order"), wanted, "values")
    # Each of them has it upgraded.
    apply(cluster, config("order", values={"v": {"e": "again"}}))
    until_data(cluster, "order", {"e": "again"})
    cluster.kubectl("patch", "secret", "-n", NS, "order-values", "-p", json.dumps({"stringData": {"b": "v: {d: changed}"}}))
    until_data(cluster, "order", {"d": "changed"})
    cluster.kubectl("delete", "helmchartconfig", "-n", NS, "order")
    until_data(cluster, "order", {"e": "content"})
    removed(cluster, "order")


def test_definitions_and_hooks(cluster):
    templates = {"words": WORDS, "thing": THING}
    for name, events_, weight, policy in (
        ("first", "pre-install,pre-upgrade", "-1", "before-hook-creation"),
        ("second", "pre-install", "5", "hook-succeeded"),
        ("last", "post-delete", "0", "before-hook-creation"),
    ):
        templates[name] = HOOK % {"name": name, "events": events_, "weight": weight, "policy": policy}
    archive = encoded(chart(templates=templates, files={"crds/things.yaml": CRD}))
    apply(cluster, helm_chart("hooked", chartContent=archive, values={"more": True}))
    complete(cluster, "hooked")
    same(cluster.get("thing", "hooked")["spec"], {"word": "first", "more": 1}, "the custom object")
    first = cluster.get("job", "hooked-first")
    same(first["status"]["succeeded"], 1, "the first hook's Job")
    expect("NotFound" in cluster.kubectl("get", "job", "hooked-second", check=False).stderr, "a hook that succeeded is there")
    runs = {hook["name"]: hook["last_run"]["phase"] for hook in released(records(cluster, "hooked")[0])["hooks"]}
    same(runs, {"hooked-first": "Succeeded", "hooked-second": "Succeeded", "hooked-last": ""}, "how hooks ran")
    # A hook that is there gives way to the new one; what a custom object no longer says goes.
    apply(cluster, helm_chart("hooked", chartContent=archive, values={"word": "second"}))
    until_recorded(cluster, "hooked", ["superseded", "deployed"])
    same(cluster.get("thing", "hooked")["spec"], {"word": "second"}, "the custom object")
    expect(cluster.get("job", "hooked-first")["metadata"]["uid"] != first["metadata"]["uid"], "the hook was not made anew")
    removed(cluster, "hooked")
    expect("NotFound" in cluster.kubectl("get", "thing", "hooked", check=False).stderr, "the custom object is there")
    same(cluster.get("job", "hooked-last")["status"]["succeeded"], 1, "the hook of the end")
    cluster.kubectl("get", "crd", "things.charts.example.com")
    cluster.kubectl("delete", "job", "hooked-first", "hooked-last")


def test_what_fails_is_told_and_installed_again(cluster):
    templates = {"words": WORDS, "check": HOOK % {"name": "check", "events": "pre-install", "weight": "0", "policy": "before-hook-creation"}}
    archive = encoded(chart(templates=templates))
    apply(cluster, helm_chart("sick", chartContent=archive, values={"check": "exit 3"}, failurePolicy="abort"))
    until_told(cluster, "sick", "JobFailed", "failed pre-install: job sick-check failed: BackoffLimitExceeded")
    cluster.kubectl("wait", "-n", NS, "--for=condition=failed", "job/helm-install-sick", "--timeout=90s", timeout=120)
    conditions = {c["type"]: c["status"] for c in cluster.get("helmchart", "-n", NS, "sick")["status"]["conditions"]}
    same(conditions["Failed"], "True", "the condition")
    until_recorded(cluster, "sick", ["failed"])
    same(data(cluster, "sick-words"), None, "an object of what was not installed")
    # By the other policy it goes and comes again.
    apply(cluster, helm_chart("sick", chartContent=archive, values={"check": "exit 0"}))
    complete(cluster, "sick")
    until_recorded(cluster, "sick", ["deployed"])
    same(data(cluster, "sick-words")["revision"], "1", "the revision")
    removed(cluster, "sick")
    cluster.kubectl("delete", "job", "sick-check")


def test_what_cannot_be_rendered_leaves_no_release(cluster):
    apply(cluster, helm_chart("wrong", chartContent=encoded(chart(templates={"a": '{{ fail "not today" }}'})), backOffLimit=0))
    until_told(cluster, "wrong", "JobFailed", "not today")
    cluster.kubectl("wait", "-n", NS, "--for=condition=failed", "job/helm-install-wrong", "--timeout=90s", timeout=120)
    same(records(cluster, "wrong"), [], "records")
    apply(cluster, helm_chart("wrong", chartContent=encoded(b"no archive"), backOffLimit=0))
    until_told(cluster, "wrong", "JobFailed", "gzip")
    apply(cluster, helm_chart("wrong", chartContent=encoded(chart(templates={"a": "apiVersion: no.such/v1\nkind: Nothing\nmetadata: {name: a}\n"})), backOffLimit=0))
    until_told(cluster, "wrong", "JobFailed", 'no matches for kind "Nothing" in version "no.such/v1"')
    removed(cluster, "wrong")


def test_what_is_anothers_is_not_taken(cluster):
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-words", "namespace": "default"}, "data": {"word": "mine"}}
    apply(cluster, mine)
    archive = encoded(chart())
    apply(cluster, helm_chart("taken", chartContent=archive))
    words = 'Unable to continue with install: ConfigMap "taken-words" in namespace "default" exists and cannot be imported into the current release: invalid ownership metadata'
    until_told(cluster, "taken", "JobFailed", words)
    same(data(cluster, "taken-words"), {"word": "mine"}, "what was there")
    apply(cluster, helm_chart("taken", chartContent=archive, takeOwnership=True))
    complete(cluster, "taken")
    same(data(cluster, "taken-words")["word"], "first", "what was taken")
    removed(cluster, "taken")


def test_kept_objects_and_configmap_records(cluster):
    keep = WORDS.replace("-words}", "-kept, annotations: {helm.sh/resource-policy: keep}}")
    spec = {"targetNamespace": "made", "createNamespace": True, "driver": "configmap"}
    apply(cluster, helm_chart("kept", chartContent=encoded(chart(templates={"words": WORDS, "kept": keep})), **spec))
    complete(cluster, "kept")
    same(cluster.get("namespace", "made")["metadata"]["labels"]["name"], "made", "the namespace")
    found = cluster.get("configmaps", "-n", "made", "-l", "owner=helm")["items"]
    same([item["metadata"]["name"] for item in found], ["sh.helm.release.v1.kept.v1"], "records")
    # What a new version lacks goes, but for what is to be kept.
    other = WORDS.replace("-words", "-other")
    apply(cluster, helm_chart("kept", chartContent=encoded(chart(templates={"other": other})), **spec))
    until_data(cluster, "kept-other", {"word": "first"}, "made")
    until(lambda: data(cluster, "kept-words", "made") is None, "what is gone from the chart is gone", 60)
    complete(cluster, "kept")
    cluster.kubectl("delete", "helmchart", "-n", NS, "kept", "--timeout=90s", timeout=120)
    same(cluster.get("configmaps", "-n", "made", "-l", "owner=helm")["items"], [], "records")
    same((data(cluster, "kept-other", "made"), data(cluster, "kept-kept", "made")["word"]), (None, "first"), "what was kept")
    cluster.kubectl("delete", "namespace", "made")


def test_from_a_repository(cluster):
    with served(cluster) as server:
        index = "apiVersion: v1\nentries:\n  demo:\n"
        for version in ("1.0.0", "2.0.0-rc.1", "1.2.0"):
            put(server, f"charts/demo-{version}.tgz", chart(version))
            index += f"  - version: {version}\n    urls: [demo-{version}.tgz]\n"
        put(server, "charts/index.yaml", index.encode())
        for version in ("1.0.0", "1.2.0"):
            put(server, f"private/demo-{version}.tgz", chart(version))
        put(server, "private/index.yaml", index.encode())
        ca = server.cert.read_text()
        base = "https://127.0.0.1:8443"
        trusting = {"chart": "demo", "repoCA": ca}
        # Nobody is believed who is not vouched for.
        apply(cluster, helm_chart("repo", chart="demo", repo=f"{base}/charts"))
        until_told(cluster, "repo", "JobFailed", "certificate")
        apply(cluster, helm_chart("repo", repo=f"{base}/charts", **trusting))
        complete(cluster, "repo")
        same(data(cluster, "repo-words")["chart"], "1.2.0", "the newest")
        apply(cluster, helm_chart("repo", repo=f"{base}/charts/", version=">=2.0.0-0", **trusting))
        until_data(cluster, "repo-words", {"chart": "2.0.0-rc.1"})
        apply(cluster, helm_chart("repo", repo=f"{base}/moved", version="1.0.0", **trusting))
        until_data(cluster, "repo-words", {"chart": "1.0.0"})
        server.asked()
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "metadata": {"name": "login", "namespace": NS}, "stringData": CREDENTIALS}
        map_ = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "repo-ca", "namespace": NS}, "data": {"ca.crt": ca}}
        apply(cluster, secret, map_)
        apply(cluster, helm_chart("repo", chart="demo", repo=f"{base}/private", repoCAConfigMap={"name": "repo-ca"}, authSecret={"name": "login"}))
        until_data(cluster, "repo-words", {"chart": "1.2.0"})
        same(server.asked(), [["/private/index.yaml", "Basic"], ["/private/demo-1.2.0.tgz", "Basic"]], "asked")
        apply(cluster, helm_chart("repo", chart=f"{base}/charts/demo-1.0.0.tgz", repoCA=ca))
        until_data(cluster, "repo-words", {"chart": "1.0.0"})
        # Where a stranger leads is not this machine's other servers.
        apply(cluster, helm_chart("repo", chart=f"{base}/away/x.tgz", repoCA=ca))
        until_told(cluster, "repo", "JobFailed", "127.0.0.2:6443")
        apply(cluster, helm_chart("repo", chart="nothing", repo=f"{base}/charts", repoCA=ca))
        until_told(cluster, "repo", "JobFailed", 'chart "nothing" matching any version not found')
        removed(cluster, "repo")


def test_from_a_registry(cluster):
    with served(cluster) as server:
        for version in ("1.0.0", "1.1.0+build", "2.0.0-rc.1"):
            push(server, "team/demo", version, chart(version))
        login = base64.b64encode(b"alice:correct horse").decode()
        auths = {"auths": {"127.0.0.1:8443": {"auth": login}}}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": {"name": "docker", "namespace": NS}, "stringData": {".dockerconfigjson": json.dumps(auths)}}
        apply(cluster, secret)
        spec = {"chart": "oci://127.0.0.1:8443/team/demo", "repoCA": server.cert.read_text(), "dockerRegistrySecret": {"name": "docker"}}
        apply(cluster, helm_chart("oci", **spec))
        complete(cluster, "oci")
        same(data(cluster, "oci-words")["chart"], "1.1.0+build", "the newest")
        apply(cluster, helm_chart("oci", **spec, version="~1.0"))
        until_data(cluster, "oci-words", {"chart": "1.0.0"})
        apply(cluster, helm_chart("oci", **spec, version="2.0.0-rc.1"))
        until_data(cluster, "oci-words", {"chart": "2.0.0-rc.1"})
        # A registry that gives something else than its manifest says is not believed.
        for blob in (server.dir / "www/v2/team/demo/blobs").iterdir():
            blob.write_bytes(chart("6.6.6"))
        apply(cluster, helm_chart("oci", **spec, version="1.0.0"))
        until_told(cluster, "oci", "JobFailed", "what was received has digest")
        removed(cluster, "oci")


def test_charts_that_the_server_keeps(cluster):
    path = cluster.data / "server/static/charts/own-1.0.0.tgz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chart())
    apply(cluster, helm_chart("own", chart="https://%{KUBERNETES_API}%/static/charts/own-1.0.0.tgz"))
    complete(cluster, "own")
    same(data(cluster, "own-words")["word"], "first", "the object")
    apply(cluster, helm_chart("own", chart="https://%{KUBERNETES_API}%/static/../tls/server-ca.key"))
    until_told(cluster, "own", "JobFailed", "this server has no file")
    removed(cluster, "own")


def test_the_same_work_is_not_done_again(cluster):
    apply(cluster, helm_chart("still", chartContent=encoded(chart())))
    complete(cluster, "still")
    cluster.stop()
    cluster.start()
    # One that comes later is done, so this one was looked at, too.
    apply(cluster, helm_chart("after", chartContent=encoded(chart())))
    complete(cluster, "after")
    until_recorded(cluster, "still", ["deployed"])
    removed(cluster, "after")
    removed(cluster, "still")


def test_values_of_what_is_no_chart_are_named(cluster):
    # The ingress is off in these tests, so that another packaged component stands for it.
    apply(cluster, config("coredns", valuesContent="service: {clusterIP: 1.2.3.4}"))
    until_told(cluster, "coredns", "ValuesNotUsed", "service.clusterIP", "HelmChartConfig")
    cluster.kubectl("delete", "helmchartconfig", "-n", NS, "coredns")


def test_charts_of_others_are_left_alone(cluster):
    tree = helm_chart("foreign", chartContent=encoded(chart()))
    tree["metadata"]["annotations"] = {"helmcharts.cattle.io/managed-by": "somebody"}
    unmanaged = helm_chart("unmanaged", chartContent=encoded(chart()))
    unmanaged["metadata"]["annotations"] = {"helmcharts.helm.cattle.io/unmanaged": "true"}
    apply(cluster, tree, unmanaged, helm_chart("last", chartContent=encoded(chart())))
    complete(cluster, "last")
    for name in ("foreign", "unmanaged"):
        same(data(cluster, f"{name}-words"), None, name)
        cluster.kubectl("delete", "helmchart", "-n", NS, name, "--timeout=30s")
    removed(cluster, "last")


def test_without_the_controller(cluster):
    apply(cluster, helm_chart("stays", chartContent=encoded(chart())))
    complete(cluster, "stays")
    cluster.stop()
    cluster.args = ["--disable-helm-controller"]
    try:
        cluster.start()
        same(data(cluster, "stays-words")["word"], "first", "what was installed")
    finally:
        cluster.stop()
        cluster.args = []
        cluster.start()
    removed(cluster, "stays")
