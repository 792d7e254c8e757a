"""Charts, packed in the test, and what serves them: a repository and a registry on the node."""

import base64
import gzip
import hashlib
import io
import json
import tarfile

# A registry with tokens and a repository with passwords, over TLS; files are below DIR.
ANSWERS = r'''
import base64, hashlib
USER = "Basic " + base64.b64encode(b"alice:correct horse").decode()

class Answers(Base):
    def plain(self, code, body, kind="application/octet-stream", **fields):
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        said = self.headers.get("authorization", "")
        self.note([path, said.split(" ")[0]])
        if path.startswith("/token"):
            return self.answer(200, {"token": "a-token"}) if said == USER else self.answer(401, {})
        if path.startswith("/v2/") and said != "Bearer a-token":
            realm = f'Bearer realm="https://127.0.0.1:{sys.argv[2]}/token",service="e2e"'
            return self.plain(401, b"{}", www_authenticate=realm)
        if path.startswith("/private/") and said != USER:
            return self.plain(401, b"no")
        if path.startswith("/moved/"):
            return self.plain(302, b"", location="/charts/" + path[len("/moved/"):])
        if path.startswith("/away/"):
            return self.plain(302, b"", location="https://127.0.0.2:6443/")
        file = os.path.normpath(DIR + "/www/" + path)
        if not os.path.isfile(file):
            return self.plain(404, b"nothing here")
        self.plain(200, open(file, "rb").read())
'''


def packed(files, name="demo"):
    """A chart's archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def chart(version="1.0.0", templates=None, name="demo", **more):
    """A chart with these templates."""
    files = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: \"7\"\n", "values.yaml": "word: first\n"}
    files.update({f"templates/{path}.yaml": text for path, text in (templates or {"words": WORDS}).items()})
    files.update(more.get("files", {}))
    return packed(files, name)


WORDS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-words}
data: {word: {{ .Values.word | quote }}, revision: {{ .Release.Revision | quote }}, chart: {{ .Chart.Version | quote }}}
"""


def put(server, path, data):
    file = server.dir / "www" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def push(server, repository, version, archive):
    """As an OCI registry has a chart."""

    def blob(data):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        put(server, f"v2/{repository}/blobs/{digest}", data)
        return {"digest": digest, "size": len(data)}

    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", **blob(b"{}")}
    layer = {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", **blob(archive)}
    tag = version.replace("+", "_")
    put(server, f"v2/{repository}/manifests/{tag}", json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode())
    tags = server.dir / "www" / f"v2/{repository}/tags/list"
    known = json.loads(tags.read_text())["tags"] if tags.exists() else []
    put(server, f"v2/{repository}/tags/list", json.dumps({"name": repository, "tags": [*known, tag]}).encode())


def released(secret):
    """The record in a Secret of Helm's."""
    return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
