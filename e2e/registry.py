"""Debian's docker-registry with token authorisation or TLS, inside a cluster's network; as a program, its token server."""

import base64
import hashlib
import http.server
import json
import pathlib
import subprocess
import sys
import time
import urllib.parse

USER, PASSWORD, IDENTITY = "alice", "correct horse", "an identity token"


def certificate(directory, name, ca):
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    key, cert = directory / f"{name}.key", directory / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", key, "-out", cert,
         "-addext", "subjectAltName=IP:127.0.0.1", "-addext", f"basicConstraints=critical,CA:{ca}"],
        check=True, capture_output=True)  # fmt: skip
    return cert, key


class Registry:
    """A registry on a port of the cluster's loopback."""

    def __init__(self, cluster, port, token_port=None, tls=None):
        self.cluster, self.port, self.token_port, self.tls = cluster, port, token_port, tls
        self.dir = cluster.dir / f"registry-{port}"
        self.dir.mkdir()
        self.processes = []
        config = {"version": "0.1", "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(self.dir / "storage")}}}
        config["http"] = {"addr": f"127.0.0.1:{port}"}
        if tls:
            config["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if token_port:
            cert, key = certificate(self.dir, "tokens", "TRUE")
            config["auth"] = {"token": {"realm": f"http://127.0.0.1:{token_port}/token", "service": "e2e", "issuer": "e2e", "rootcertbundle": str(cert)}}
            self.log = self.dir / "tokens.log"
            self.run(sys.executable, __file__, str(token_port), str(cert), str(key), str(self.log))
        (self.dir / "config.json").write_text(json.dumps(config))  # JSON is YAML
        self.run("docker-registry", "serve", str(self.dir / "config.json"))

    def run(self, *command):
        self.processes.append(subprocess.Popen(self.cluster.inside(list(command)), stdout=subprocess.DEVNULL, stderr=open(self.dir / "log", "ab")))

    def push(self, archive, name):
        """Pushes as the user that may; waits for the registry to come up."""
        command = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}", f"docker-archive:{archive}",
                   f"docker://127.0.0.1:{self.port}/{name}"]  # fmt: skip
        for _ in range(50):
            done = subprocess.run(self.cluster.inside(command), capture_output=True, text=True)
            if done.returncode == 0 or "connection refused" not in done.stderr:
                break
            time.sleep(0.1)
        if done.returncode != 0:
            raise RuntimeError(f"push {name}: {done.stderr}")

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


def main(port, cert, key, log):
    der = subprocess.run(["openssl", "x509", "-in", cert, "-outform", "DER"], check=True, capture_output=True).stdout
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}

    def token(user, scopes):
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {"iss": "e2e", "sub": user, "aud": "e2e", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": hashlib.sha256(str(time.time_ns()).encode()).hexdigest(), "access": access}
        text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), check=True, capture_output=True).stdout
        return text + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status, body):
            body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def note(self, how):
            with open(log, "a") as file:
                file.write(how + "\n")

        def do_GET(self):
            query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
            user, how = "", "anonymous"
            if authorization := self.headers.get("authorization"):
                user, _, password = base64.b64decode(authorization.split()[1]).decode().partition(":")
                how = f"basic {user}"
                if (user, password) != (USER, PASSWORD):
                    self.note(f"refused {user}")
                    return self.answer(401, {"details": "incorrect username or password"})
            self.note(f"{how} {self.headers.get('user-agent')} {query.get('scope')}")
            self.answer(200, {"token": token(user, query.get("scope", [])), "expires_in": 300})

        def do_POST(self):
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            self.note(f"refresh {form.get('scope')}")
            if form.get("refresh_token") != [IDENTITY] or form.get("grant_type") != ["refresh_token"]:
                return self.answer(401, {"details": "no such token"})
            self.answer(200, {"access_token": token(USER, form.get("scope", []))})

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
