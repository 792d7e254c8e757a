"""A small HTTPS server of a test: a program in the node's network, with a certificate of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from cluster import until
from registry import certificate

# Serves the class `Answers` of the program that stands before it.
SERVE = r'''
import ssl
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Answers)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/server.crt", f"{sys.argv[1]}/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
'''

BEGIN = r'''
import http.server, json, os, sys, threading, time
DIR = sys.argv[1]
LOCK = threading.Lock()

class Base(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def body(self):
        return self.rfile.read(int(self.headers["content-length"] or 0))
    def note(self, line):
        with LOCK, open(f"{DIR}/asked", "a") as asked:
            asked.write(json.dumps(line) + "\n")
    def answer(self, code, tree):
        body = json.dumps(tree).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
'''


class Https:
    """`answers` is the text of a class `Answers(Base)`, in Python."""

    def __init__(self, cluster, name, port, answers):
        self.cluster, self.port = cluster, port
        self.program = BEGIN + answers + SERVE
        self.dir = pathlib.Path(cluster.dir) / name
        self.dir.mkdir(exist_ok=True)
        self.cert, _ = certificate(self.dir, "server", "TRUE")
        self.process = None
        self.asked()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        command = [sys.executable, "-c", self.program, str(self.dir), str(self.port)]
        self.process = subprocess.Popen(self.cluster.inside(command), start_new_session=True)
        until(lambda: self.cluster.sh(f"ss -ltn | grep 127.0.0.1:{self.port}", check=False), f"port {self.port} answers")

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def asked(self):
        """What was asked since the last look."""
        path = self.dir / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return [json.loads(line) for line in lines]

    def kubeconfig(self, path="/"):
        """A kubeconfig that leads here."""
        file = self.dir / f"kubeconfig{path.replace('/', '-')}"
        server = {"server": f"https://127.0.0.1:{self.port}{path}", "certificate-authority": str(self.cert)}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        tree = {"kind": "Config", "clusters": [{"name": "c", "cluster": server}], "users": [{"name": "u", "user": {}}], "contexts": [context], "current-context": "x"}
        file.write_text(json.dumps(tree))
        return file


def refused_start(cluster, own, arguments, why):
    """The server does not start with these arguments beside its own, and says why."""
    cluster.args = list(own)
    flags = [f"--kube-apiserver-arg={argument}" for argument in arguments]
    command = cluster.inside([cluster.binary, "server", *cluster.server_args(), *flags])
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and why in said, f"{arguments}: wanted {why!r}, got {done.returncode}: {said[-2000:]}"


def restarted(cluster, own, arguments):
    """Starts the server with these arguments for the API server beside its own."""
    cluster.stop()
    cluster.args = list(own) + [f"--kube-apiserver-arg={argument}" for argument in arguments]
    cluster.start()
