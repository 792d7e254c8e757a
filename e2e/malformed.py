"""What is no request, asked of a stock kube-apiserver and of k3rs: malformed.py --stock URL,TOKEN --ours KUBECONFIG --out FILE.

Bodies that are broken or of another kind, media types that nobody has, queries that mean nothing, methods and paths that
do not go together. Code, media type, warnings and body of both answers are compared, with names that a server chooses
left out. Prints how many are the same; FILE says what differs.
"""

import argparse
import base64
import http.client
import json
import os
import re
import ssl
import tempfile

import yaml

BASE = "/api/v1/namespaces/default/configmaps"
OLD = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"wold"},"data":{"a":"b"}}'
NEW = OLD.replace("wold", "wnew")
JSON = "application/json"
PATCHES = ["merge-patch+json", "json-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"]


def config_map(metadata, rest=""):
    return '{"apiVersion":"v1","kind":"ConfigMap","metadata":%s%s}' % (metadata, rest)


BODIES = [
    *["", "{", '{"a":,}', "[]", "5", '"x"', "null", "true", "{}", "k8s", "k8s\x00\x0a\x02", "\x00\x01", "<xml/>"],
    *['{"kind":"ConfigMap"}', '{"apiVersion":"v1"}', '{"apiVersion":"v1","kind":5}', '{"apiVersion":1,"kind":"ConfigMap"}'],
    *['{"apiVersion":"v1","kind":"%s","metadata":{"name":"a"}}' % kind for kind in ("Pod", "configmap", "Secret", "Foo")],
    *['{"apiVersion":"%s","kind":"ConfigMap"}' % version for version in ("v2", "apps/v1", "a/b/c", "meta.k8s.io/v1", "")],
    *['{"apiVersion":"v1","kind":"%s"}' % kind for kind in ("List", "ConfigMapList", "DeleteOptions", "Status")],
    *[OLD + "x", OLD + " " + NEW, config_map("[]"), config_map('{"name":"a",}'), config_map('{"name":"wc"}', ',"data":{"a":1}')],
    *[config_map('{"name":"wd"}', ',"data":null,"extra":{}'), config_map('{"name":"we","labels":{"a":"b","a":"c"}}')],
    *[config_map('{"name":"wg","generateName":"x"}'), '{"apiVersion":"v1","kind":"ConfigMap","METADATA":{"name":"wf"}}'],
]
TYPES = ["text/plain", "application/xml", "application/json; charset=utf-8", "application/json;charset", "*/*", "application/*", "garbage"]
TYPES += ["application/json, text/plain", "application/cbor", "application/merge-patch+json", "APPLICATION/JSON", "application/yaml; x=y"]
ACCEPTS = ["text/plain", "*/*", "application/*", "text/*", "garbage", "", "application/json;pretty=1", "image/png, */*;q=0.1"]
ACCEPTS += ["application/json;as=%s;v=%s;g=meta.k8s.io" % it for it in (("Table", "v1"), ("Table", "v2"), ("Foo", "v1"))]
LOOKS = [BASE + "/wold", BASE + "?labelSelector=x=y", BASE + "/nosuch", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/nosuch"]
LOOKS += ["/apis/nosuch.io/v1", "/apis/apps", "/healthz"]
LISTS = ["limit=x", "limit=-1", "limit=99999999999999999999", "continue=x", "resourceVersion=x", "resourceVersion=-1"]
LISTS += ["resourceVersion=0&resourceVersionMatch=Exact", "resourceVersionMatch=Exact", "resourceVersionMatch=Foo&resourceVersion=1"]
LISTS += ["timeoutSeconds=x", "watch=1&sendInitialEvents=true&timeoutSeconds=1", "sendInitialEvents=true", "unknown=1", "watch=0"]
SELECTORS = ["a=b=c", ",", "!", "a in", "a in ()", "a>1", "a>b", "A!@", "==", "a,,b", "a notin (b"]
FIELDS = ["x", "x=y", "metadata.name", "metadata.name=a,metadata.name=b"]
QUERIES = ["dryRun=x", "dryRun=All&dryRun=x", "dryRun=", "fieldValidation=x", "fieldValidation=", "fieldManager=" + "a" * 129]
QUERIES += ["propagationPolicy=x", "gracePeriodSeconds=x"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "FOO"]
PATHS = ["/api", "/api/v1", "/api/v2", "/api/v1/nosuch", "/api/v1/namespaces/default/nosuch", BASE + "/wold/", "/apis/apps/v1"]
PATHS += ["/api/v1/namespaces/default/pods/x/log", "/api/v1/namespaces/default/pods/x/nosuch", "/apis", "/apis/apps", "/apis/apps/v2"]
PATHS += ["/apis/nosuch", "/healthz", "/readyz/x", "/livez/ping", "/metrics/x", "/version", "/openapi/v3/nosuch", "/logs", "/foo/bar"]
PATHS += ["/openid/v1/jwks", "/api/v1/configmaps?limit=1&labelSelector=no%3Dsuch", "/apis/apps/v1/deployments/x"]


def cases():
    """Method, path, body and headers of each question."""
    for body in BODIES:
        for media in (JSON, "application/yaml", "application/vnd.kubernetes.protobuf", None):
            yield "POST", BASE + "?dryRun=All", body, {"Content-Type": media} if media else {}
        for media in PATCHES:
            yield "PATCH", BASE + "/wold?fieldManager=m&dryRun=All", body, {"Content-Type": "application/" + media}
        yield "PUT", BASE + "/wold?dryRun=All", body, {"Content-Type": JSON}
        yield "DELETE", BASE + "/wold?dryRun=All", body, {"Content-Type": JSON}
        yield "DELETE", BASE + "?labelSelector=no=such", body, {"Content-Type": JSON}
    for media in TYPES:
        yield "POST", BASE + "?dryRun=All", NEW, {"Content-Type": media}
        yield "PUT", BASE + "/wold?dryRun=All", OLD, {"Content-Type": media}
        yield "PATCH", BASE + "/wold?dryRun=All", "{}", {"Content-Type": media}
        yield "DELETE", BASE + "/wold?dryRun=All", "{}", {"Content-Type": media}
    for accept in ACCEPTS:
        for path in LOOKS:
            yield "GET", path, None, {"Accept": accept}
    for query in LISTS:
        yield "GET", BASE + "?labelSelector=no%3Dsuch&" + query, None, {}
    for name, texts in (("labelSelector", SELECTORS), ("fieldSelector", FIELDS)):
        for text in texts:
            yield "GET", f"{BASE}?{name}={''.join(f'%{byte:02x}' for byte in text.encode())}", None, {}
    for query in QUERIES:
        yield "POST", BASE + "?" + query, NEW, {"Content-Type": JSON}
        yield "PUT", BASE + "/wold?" + query, OLD, {"Content-Type": JSON}
        yield "PATCH", BASE + "/wold?" + query, '{"data":{"z":"y"}}', {"Content-Type": "application/merge-patch+json"}
        yield "DELETE", BASE + "/wnone?" + query, None, {}
    for method in METHODS:
        for path in PATHS:
            body = "{}" if method in ("POST", "PUT", "PATCH") else None
            yield method, path, body, {"Content-Type": JSON} if body else {}


class Server:
    def __init__(self, url, headers, certificate=None):
        self.host, self.headers = url.split("//")[1], headers
        self.context = ssl._create_unverified_context()
        if certificate:
            self.context.load_cert_chain(*certificate)

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPSConnection(self.host, context=self.context, timeout=20)
        try:
            body = None if body is None else body.encode("latin1")
            connection.request(method, path, body=body, headers={**self.headers, **(headers or {})})
            answer = connection.getresponse()
            warnings = [value for name, value in answer.getheaders() if name.lower() == "warning"]
            return answer.status, answer.getheader("content-type"), warnings, plain(answer.read(1 << 20))
        except (OSError, http.client.HTTPException) as why:
            return 0, None, [], repr(why)
        finally:
            connection.close()

    def renew(self):
        """The object that is asked about, as it was, also where nobody carries finalizers out."""
        merge = {"Content-Type": "application/merge-patch+json"}
        for name in ("wnew", "wold"):
            code, _, _, body = self.ask("GET", f"{BASE}/{name}")
            if code == 200 and (name == "wnew" or "deletionTimestamp" in body):
                self.ask("DELETE", f"{BASE}/{name}")
                self.ask("PATCH", f"{BASE}/{name}", '{"metadata":{"finalizers":null}}', merge)
        if self.ask("PUT", BASE + "/wold", OLD, {"Content-Type": JSON})[0] == 404:
            self.ask("POST", BASE, OLD, {"Content-Type": JSON})


def plain(body):
    """A body without what each server chooses, in one order."""
    text = body.decode(errors="replace")
    text = re.sub(r'(\\*"(?:uid|resourceVersion|creationTimestamp|time|continue)\\*":\\*")[^"\\]*', r"\1X", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\d{4}-\d\d-\d\dT[\d:]+Z", "X", text)
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text.strip()


def ours_of(kubeconfig, directory):
    tree = yaml.safe_load(open(kubeconfig))
    user, files = tree["users"][0]["user"], []
    for name in ("client-certificate-data", "client-key-data"):
        files.append(os.path.join(directory, name))
        with open(os.open(files[-1], os.O_CREAT | os.O_WRONLY, 0o600), "wb") as out:
            out.write(base64.b64decode(user[name]))
    return Server(tree["clusters"][0]["cluster"]["server"], {}, files)


def main():
    flags = argparse.ArgumentParser()
    for name in ("stock", "ours", "out"):
        flags.add_argument("--" + name, required=True)
    given = flags.parse_args()
    url, token = given.stock.split(",")
    stock, n, differing = Server(url, {"Authorization": "Bearer " + token}), 0, []
    with tempfile.TemporaryDirectory() as directory:
        ours = ours_of(given.ours, directory)
        for method, path, body, headers in cases():
            n += 1
            sides = []
            for server in (stock, ours):
                if path.startswith(BASE):
                    server.renew()
                answer = server.ask(method, path, body, headers)
                # What is in a document of all that is served is apidiff's to compare.
                is_document = answer[0] == 200 and path.startswith(("/api", "/version", "/openid")) and not path.startswith(BASE)
                sides.append((*answer[:3], "") if is_document or method == "HEAD" else answer)
            if sides[0] != sides[1]:
                differing.append(f"- `{method} {path} {headers} {body!r}`\n  - stock: {sides[0]}\n  - k3rs: {sides[1]}\n")
    with open(given.out, "w") as out:
        out.write("".join(differing))
    print(f"malformed: {n - len(differing)} of {n} answers are the same, the others are in {given.out}")


if __name__ == "__main__":
    main()
