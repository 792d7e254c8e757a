"""cert-manager as its users have it: its chart by Helm, its three programs in pods, its webhooks in the way of each request."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import pathlib

import images
from cluster import Failure, expect, until
from peers import built, go_program, run, wants

MODULE = "github.com/cert-manager/cert-manager"
PROGRAMS = ("controller", "webhook", "cainjector")
NAMESPACE = "cert-manager"
WAIT_SECS = 120

ISSUERS = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: own, namespace: certs}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: root, namespace: certs}
spec:
  isCA: true
  commonName: root
  secretName: root
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: own, kind: Issuer}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: ca, namespace: certs}
spec: {ca: {secretName: root}}
"""

# Its `renewBefore` makes it due ten seconds after each issue.
LEAF = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: leaf, namespace: certs}
spec:
  dnsNames: [leaf.example]
  secretName: leaf
  duration: 1h
  renewBefore: 59m50s
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef: {name: ca, kind: Issuer}
"""

WITHOUT_NAMES = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: bad, namespace: certs}
spec: {secretName: bad, issuerRef: {name: ca, kind: Issuer}}
"""


def load_images(cluster, program):
    """An image for each of the programs, of the one file; the user is a number, as `runAsNonRoot` wants it."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        root = work / "root"
        (root / "tmp").mkdir(parents=True)
        shutil.copy(program, root / "cert-manager")
        for name in PROGRAMS:
            archive = work / f"{name}.tar"
            images.archive(root, archive, f"docker.io/interop/{name}:v1", {"Entrypoint": ["/cert-manager", name], "User": "1000"})
            command = cluster.inside([cluster.binary, "ctr", "images", "import", archive])
            subprocess.run(command, env={**cluster.env, "K3S_DATA_DIR": str(cluster.data)}, check=True, capture_output=True)


def chart(cluster, place):
    """Its chart as a release has it: the version filled in and the definitions among the templates."""
    found = subprocess.run(["go", "list", "-mod=mod", "-m", "-f", "{{.Dir}} {{.Version}}", MODULE], cwd=place, check=True, capture_output=True, text=True)
    module, version = found.stdout.split()
    module, chart = pathlib.Path(module), cluster.dir / "cert-manager"
    shutil.copytree(module / "deploy/charts/cert-manager", chart, copy_function=shutil.copyfile)
    for path in [chart, *chart.rglob("*")]:  # the module cache is read-only
        path.chmod(0o755 if path.is_dir() else 0o644)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: cert-manager\nversion: {version}\nappVersion: {version}\n")
    for definition in (module / "deploy/crds").glob("crd-*.yaml"):
        shutil.copyfile(definition, chart / "templates" / definition.name)
    return chart


def certificate(cluster, name):
    return cluster.get("certificate", name, "-n", "certs")


def ready(cluster, kind, name):
    conditions = cluster.get(kind, name, "-n", "certs").get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def until_ready(cluster, kind, name):
    until(lambda: ready(cluster, kind, name), f"{kind} {name} is Ready", WAIT_SECS)


def issued(cluster):
    """The leaf's secret, once its chain is good."""
    data = cluster.get("secret", "leaf", "-n", "certs")["data"]
    with tempfile.TemporaryDirectory() as work:
        for name in ("ca.crt", "tls.crt"):
            (pathlib.Path(work) / name).write_bytes(base64.b64decode(data[name]))
        verify = ["openssl", "verify", "-verify_hostname", "leaf.example", "-CAfile", "ca.crt", "tls.crt"]
        done = subprocess.run(verify, cwd=work, capture_output=True, text=True)
        expect(done.returncode == 0, f"the chain: {done.stdout}{done.stderr}")
    return data


def settings():
    yield from ("crds.enabled=true", "crds.keep=false", "startupapicheck.enabled=false")
    for name, prefix in zip(PROGRAMS, ("", "webhook.", "cainjector.")):
        yield from (f"{prefix}image.repository=docker.io/interop/{name}", f"{prefix}image.tag=v1", f"{prefix}image.pullPolicy=Never")


def installed(cluster, helm, place):
    command = [helm, "install", "cert-manager", str(chart(cluster, place)), "-n", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"]
    for setting in settings():
        command += ["--set", setting]
    run(cluster, command)


def uninstalled(cluster, helm):
    run(cluster, [helm, "uninstall", "cert-manager", "-n", NAMESPACE, "--wait", "--timeout", "120s"])
    gone = lambda: not cluster.kubectl("get", "crd", "-o", "name").stdout.count("cert-manager.io")
    until(gone, "its definitions are gone", WAIT_SECS)


def checked(cluster):
    """Issuers and certificates, a renewal, and what the webhook refuses."""
    cluster.kubectl("create", "namespace", "certs")
    # The webhook is believed only when the injector has told the server its CA.
    until(lambda: cluster.kubectl("apply", "-f", "-", input=ISSUERS, check=False).returncode == 0, "the webhook lets issuers in", WAIT_SECS)
    for configuration in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
        hook = cluster.get(configuration, "cert-manager-webhook")["webhooks"][0]
        expect(hook["clientConfig"].get("caBundle"), f"no CA in the {configuration}")
    until_ready(cluster, "issuer", "own")
    until_ready(cluster, "certificate", "root")
    until_ready(cluster, "issuer", "ca")
    refused = cluster.kubectl("apply", "-f", "-", input=WITHOUT_NAMES, check=False)
    expect(refused.returncode == 1 and 'admission webhook "webhook.cert-manager.io" denied the request' in refused.stderr, f"not refused: {refused.stderr}")
    cluster.kubectl("apply", "-f", "-", input=LEAF)
    until_ready(cluster, "certificate", "leaf")
    first = issued(cluster)
    until(lambda: certificate(cluster, "leaf")["status"].get("revision", 0) >= 2 and ready(cluster, "certificate", "leaf"), "the leaf is renewed", WAIT_SECS)
    expect(issued(cluster)["tls.crt"] != first["tls.crt"], "the same certificate after a renewal")
    # A secret that somebody deletes comes back. It goes on being renewed meanwhile, so its uid is what tells.
    uid = cluster.get("secret", "leaf", "-n", "certs")["metadata"]["uid"]
    cluster.kubectl("delete", "secret", "leaf", "-n", "certs")
    until(lambda: cluster.get("secret", "leaf", "-n", "certs")["metadata"]["uid"] != uid and issued(cluster), "the secret is made again", WAIT_SECS)
    # The mutating webhook says who asked.
    requests = cluster.get("certificaterequests", "-n", "certs")["items"]
    expect({one["spec"].get("username") for one in requests} == {"system:serviceaccount:cert-manager:cert-manager"}, "who asked for them is not told")
    columns = cluster.kubectl("get", "certificate", "root", "-n", "certs").stdout.split()
    expect(columns[:4] == ["NAME", "READY", "SECRET", "AGE"], f"columns {columns}")
    explained = cluster.kubectl("explain", "certificate.spec.privateKey.rotationPolicy").stdout
    expect("RotationPolicy" in explained, f"explained as {explained}")
    cluster.kubectl("delete", "namespace", "certs", "--timeout=60s")


def cert_manager(cluster):
    """Installed by its chart: issuers, certificates, a renewal, a refusal; and uninstalled."""
    wants("openssl", "go")
    helm = built("helm", "helm.sh/helm/v3/cmd/helm@v3.18.4")
    program, place = go_program("cert-manager", ["cert-manager/go.mod", "cert-manager/main.go"], CGO_ENABLED="0")
    load_images(cluster, program)
    try:
        installed(cluster, helm, place)
        checked(cluster)
        uninstalled(cluster, helm)
    except Failure as error:
        raise Failure(f"{error}\n--- {said(cluster)}") from error
    return "install by helm, issuers, certificates, renewal, webhooks, uninstall"


def said(cluster):
    """What its pods are like and say."""
    asked = [("get", "pods,certificates,certificaterequests,events", "-A")]
    asked += [("logs", "-n", NAMESPACE, "--tail=15", "-l", f"app.kubernetes.io/name={app}") for app in ("cert-manager", "webhook", "cainjector")]
    texts = []
    for words in asked:
        with contextlib.suppress(subprocess.TimeoutExpired, json.JSONDecodeError):
            done = cluster.kubectl(*words, check=False)
            texts.append(done.stdout + done.stderr)
    return "\n".join(texts)
