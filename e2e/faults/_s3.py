"""A small S3 of a test: a program in the node's network that believes no signature and no digest which it does not find itself.

Run as `_s3.py DIR PORT [CERT KEY]`. Buckets are folders in DIR/buckets, an object is a file with its fields beside it in DIR/fields;
DIR/trouble says what goes wrong: {"status": 503, "times": 2, "match": "partNumber"}.
"""

import datetime
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import urllib.parse
from xml.sax.saxutils import escape

KEYS = {"access-key": "secret/key+of=all", "session-key": "another"}
SESSION = "token/of+a=session"
REGION = "us-test-1"
# A page of a list is short, so that there are several.
PAGE = 3
SKEW_MAX_SECS = 900


class S3:
    """The server as a test starts and looks at it."""

    def __init__(self, cluster, port, tls=None):
        self.cluster, self.port, self.tls = cluster, port, tls
        self.dir = pathlib.Path(cluster.dir) / f"s3-{port}"
        for name in ("buckets", "fields", "parts"):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        self.process = None

    def start(self):
        from cluster import until

        command = [sys.executable, __file__, str(self.dir), str(self.port), *map(str, self.tls or ())]
        # It ends with who started it, whose end closes this pipe.
        self.process = subprocess.Popen(self.cluster.inside(command), start_new_session=True, stdin=subprocess.PIPE)
        until(lambda: self.cluster.sh(f"ss -ltn | grep 127.0.0.1:{self.port}", check=False), f"port {self.port} answers")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def bucket(self, name):
        path = self.dir / "buckets" / name
        path.mkdir(exist_ok=True)
        return path

    def objects(self, bucket):
        """Bytes by key."""
        root = self.bucket(bucket)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def fields(self, bucket, key):
        return json.loads((self.dir / "fields" / f"{bucket}-{key.replace('/', '%')}").read_text())

    def begun(self):
        """What was put in pieces and did not come to an end."""
        return [path.name for path in (self.dir / "parts").iterdir()]

    def trouble(self, **what):
        file = self.dir / "trouble.new"
        file.write_text(json.dumps(what))
        file.rename(self.dir / "trouble")

    def asked(self):
        """What was asked since the last look."""
        path = self.dir / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


def seal(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    dir = None

    def log_message(self, *_):
        pass

    def do(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        raw_path, _, raw_query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(raw_query, keep_blank_values=True))
        host = self.headers["host"].partition(":")[0]
        path = urllib.parse.unquote(raw_path)
        # `b.localhost` is the bucket b, as `localhost/b/` is.
        if host.endswith(".localhost"):
            self.bucket, self.key = host.removesuffix(".localhost"), path[1:]
        else:
            self.bucket, _, self.key = path[1:].partition("/")
        with self.lock:
            with open(self.dir / "asked", "a") as asked:
                asked.write(json.dumps([self.command, self.headers["host"], self.path]) + "\n")
            wrong = self.unsigned(raw_path, raw_query, body) or self.troubled()
            if wrong:
                return self.fail(*wrong)
            if "transfer-encoding" in self.headers:
                return self.fail(501, "NotImplemented", "no chunks")
            if not (self.dir / "buckets" / self.bucket).is_dir():
                return self.fail(404, "NoSuchBucket", "The specified bucket does not exist")
            getattr(self, self.command.lower())(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do

    def unsigned(self, path, query, body):
        said = self.headers["authorization"] or ""
        form = r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
        found = re.fullmatch(form, said)
        if not found:
            return 403, "AccessDenied", "Access Denied."
        access, date, region, names, signature = found.groups()
        if access not in KEYS:
            return 403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records."
        if region != REGION:
            return 400, "AuthorizationHeaderMalformed", f"the region {region} is wrong; expecting {REGION}"
        stamp = self.headers["x-amz-date"]
        at = datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z")
        if abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()) > SKEW_MAX_SECS or not stamp.startswith(date):
            return 403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        signed = names.split(";")
        must = {"host", "x-amz-date", "x-amz-content-sha256"} | {name.lower() for name in self.headers if name.lower().startswith("x-amz-")}
        if signed != sorted(signed) or not must <= set(signed):
            return 403, "AccessDenied", "There were headers present in the request which were not signed"
        if (access == "session-key") != (self.headers["x-amz-security-token"] == SESSION):
            return 403, "InvalidToken", "The provided token is malformed or otherwise invalid."
        if hashlib.sha256(body).hexdigest() != self.headers["x-amz-content-sha256"]:
            return 400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
        pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
        quote = lambda text, safe="": urllib.parse.quote(text, safe=safe + "-_.~")
        lines = [self.command, quote(urllib.parse.unquote(path), "/"), "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)]
        lines += [f"{name}:{' '.join(self.headers[name].split())}" for name in signed] + ["", names, self.headers["x-amz-content-sha256"]]
        scope = f"{date}/{region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        key = ("AWS4" + KEYS[access]).encode()
        for part in (date, region, "s3", "aws4_request"):
            key = seal(key, part)
        if seal(key, text).hex() != signature:
            return 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
        return None

    def troubled(self):
        file = self.dir / "trouble"
        what = json.loads(file.read_text()) if file.exists() else {}
        if what.get("times", 0) < 1 or not re.search(what.get("match", ""), f"{self.command} {self.path}"):
            return None
        file.write_text(json.dumps({**what, "times": what["times"] - 1}))
        return what["status"], "Trouble", "it was ordered"

    def fail(self, status, code, message):
        self.say(status, f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode())

    def say(self, status, body=b"", fields=()):
        self.send_response(status)
        for name, value in dict(fields).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def file(self):
        root = self.dir / "buckets" / self.bucket
        path = (root / self.key).resolve()
        assert path.is_relative_to(root), path
        return path

    def fields_file(self):
        return self.dir / "fields" / f"{self.bucket}-{self.key.replace('/', '%')}"

    def told(self):
        kept = ("content-type",)
        return {name.lower(): value for name, value in self.headers.items() if name.lower() in kept or name.lower().startswith("x-amz-meta-")}

    def keep(self, body, fields):
        self.file().parent.mkdir(parents=True, exist_ok=True)
        self.file().write_bytes(body)
        self.fields_file().write_text(json.dumps(fields))

    def head(self, _):
        if not self.key:
            return self.say(200)
        self.get(_)

    def get(self, _):
        if not self.key:
            return self.list()
        if not self.file().is_file():
            return self.fail(404, "NoSuchKey", "The specified key does not exist.")
        self.say(200, self.file().read_bytes(), json.loads(self.fields_file().read_text()))

    def list(self):
        root = self.dir / "buckets" / self.bucket
        prefix, delimiter, after = (self.query.get(name, "") for name in ("prefix", "delimiter", "continuation-token"))
        assert self.query["list-type"] == "2", self.query
        keys = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        keys = [key for key in keys if key.startswith(prefix) and key > after and not (delimiter and delimiter in key[len(prefix) :])]
        more = f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>" if len(keys) > PAGE else ""
        text = f"<ListBucketResult><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        for key in keys[:PAGE]:
            about = (root / key).stat()
            at = datetime.datetime.fromtimestamp(about.st_mtime, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            text += f"<Contents><Key>{escape(key)}</Key><LastModified>{at}</LastModified><Size>{about.st_size}</Size></Contents>"
        self.say(200, f"{text}</ListBucketResult>".encode())

    def put(self, body):
        tag = {"etag": f'"{hashlib.md5(body).hexdigest()}"'}
        if "uploadId" in self.query:
            (self.dir / "parts" / self.query["uploadId"] / self.query["partNumber"]).write_bytes(body)
        else:
            self.keep(body, self.told())
        self.say(200, fields=tag)

    def post(self, body):
        if "uploads" in self.query:
            id = f"id-{os.urandom(8).hex()}"
            (self.dir / "parts" / id).mkdir()
            (self.dir / "parts" / id / "fields").write_text(json.dumps(self.told()))
            return self.say(200, f"<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>".encode())
        parts = self.dir / "parts" / self.query["uploadId"]
        whole = b""
        for number, tag in re.findall(r"<Part><PartNumber>(\d+)</PartNumber><ETag>([^<]+)</ETag></Part>", body.decode()):
            part = (parts / number).read_bytes()
            assert tag == f'"{hashlib.md5(part).hexdigest()}"', tag
            whole += part
        self.keep(whole, json.loads((parts / "fields").read_text()))
        shutil.rmtree(parts)
        self.say(200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")

    def delete(self, _):
        if "uploadId" in self.query:
            shutil.rmtree(self.dir / "parts" / self.query["uploadId"])
        else:
            self.file().unlink(missing_ok=True)
            self.fields_file().unlink(missing_ok=True)
        self.say(204)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # Whoever breaks off a connection is no fault of this end.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    Answers.dir = pathlib.Path(sys.argv[1])
    server = Server(("127.0.0.1", int(sys.argv[2])), Answers)
    if sys.argv[3:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[3:])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
