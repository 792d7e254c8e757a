"""What a request costs in the ingress, beside nginx as a proxy: bench_ingress.py BINARY [BINARY...].

Each program gets a node; nginx is in the ingress's own network, so that packets of both go the same way. Rounds alternate, and
time is the process's own (ticks of its threads), so that others on the machine count for little. wrk and nginx are Debian's
packages. For each: microseconds of processor a request, requests a second.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from cluster import Cluster, expect, run, until
from faults import ingress

ROUNDS = int(os.environ.get("K3RS_BENCH_ROUNDS", "5"))
SECONDS = int(os.environ.get("K3RS_BENCH_SECONDS", "3"))
CONNECTIONS = 32
PACKAGES = ["wrk", "libluajit-5.1-2", "libssl3", "nginx", "libpcre2-8-0"]
TICK = os.sysconf("SC_CLK_TCK")

ENDPOINT = """
worker_processes 1; daemon off; pid PID; error_log stderr; master_process off;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path TMP; proxy_temp_path TMP; fastcgi_temp_path TMP; uwsgi_temp_path TMP; scgi_temp_path TMP;
  server { listen 192.0.2.10:9001; location / { return 200 "BODY"; } }
}
"""
PROXY = """
worker_processes 1; daemon off; pid PID; error_log stderr; master_process off;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path TMP; proxy_temp_path TMP; fastcgi_temp_path TMP; uwsgi_temp_path TMP; scgi_temp_path TMP;
  upstream to { server 192.0.2.10:9001; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 8180; listen 8543 ssl; ssl_certificate CERT; ssl_certificate_key KEY;
    location / { proxy_pass http://to; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }
  }
}
"""


def packages(work):
    work.mkdir()
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=work, check=True, capture_output=True)
    for package in work.glob("*.deb"):
        run(["dpkg", "-x", str(package), str(work / "root")])
    return work / "root"


def ticks(process):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Node:
    """A node with its ingress, and beside it an endpoint and nginx as another proxy."""

    def __init__(self, binary, root):
        self.binary, self.cluster = binary, Cluster(binary)
        self.libraries = {**os.environ, "LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")}
        self.root, self.children = root, []
        cluster = self.cluster
        cluster.ingress = True
        cluster.start()
        cluster.kubectl("create", "namespace", ingress.NS)
        self.nginx("endpoint", ENDPOINT, cluster.inside([]))
        ingress.apply(cluster, *ingress.service("a", [9001]), ingress.ingress("a", "bench.test Prefix / a"))
        until(lambda: ingress.code(cluster, "bench.test") == 200, "the ingress serves", 90)
        self.ingress = int(ingress.pid(cluster))
        (pod,) = ingress.pods(cluster)
        self.address = pod["status"]["podIP"]
        key, cert = ingress.certificate(cluster, "proxy", "bench.test")
        self.proxy = self.nginx("proxy", PROXY.replace("CERT", str(cert)).replace("KEY", str(key)), ["nsenter", f"--net=/proc/{self.ingress}/ns/net"])

    def nginx(self, name, text, inside):
        file = pathlib.Path(self.cluster.dir) / f"{name}.conf"
        tmp = file.with_suffix(".tmp")
        tmp.mkdir()
        file.write_text(text.replace("PID", str(file.with_suffix(".pid"))).replace("TMP", str(tmp)).replace("BODY", "x" * 1000))
        child = subprocess.Popen([*inside, str(self.root / "usr/sbin/nginx"), "-e", "stderr", "-c", str(file)], env=self.libraries)
        self.children.append(child)
        return child.pid

    def load(self, process, scheme, port, seconds=SECONDS):
        """Microseconds of a process a request, and requests a second."""
        url = f"{scheme}://{self.address}:{port}/"
        command = [str(self.root / "usr/bin/wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", "Host: bench.test", url]
        before = ticks(process)
        out = subprocess.run(self.cluster.inside(command), env=self.libraries, capture_output=True, text=True, check=True).stdout
        spent = (ticks(process) - before) / TICK
        n = int(next(line for line in out.splitlines() if "requests in" in line).split()[0])
        expect("Non-2xx" not in out and n > 0, out)
        return spent / n * 1e6, n / seconds

    def close(self):
        for child in self.children:
            child.terminate()
            child.wait()
        self.cluster.close()


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-bench-"))
    nodes = []
    try:
        root = packages(work / "packages")
        nodes = [Node(binary, root) for binary in sys.argv[1:]]
        plans = [(f"{pathlib.Path(node.binary).name} {scheme}", node, node.ingress, scheme, port) for node in nodes for scheme, port in (("http", 8000), ("https", 8443))]
        plans += [(f"nginx {scheme}", nodes[0], nodes[0].proxy, scheme, port) for scheme, port in (("http", 8180), ("https", 8543))]
        found = {name: [] for name, *_ in plans}
        for _, node, process, scheme, port in plans:
            node.load(process, scheme, port, 1)
        for _ in range(ROUNDS):
            for name, node, process, scheme, port in plans:
                found[name].append(node.load(process, scheme, port))
        for name, figures in found.items():
            spent, rate = zip(*figures)
            print(f"{name:40} {statistics.median(spent):7.1f} us a request ({min(spent):.1f} to {max(spent):.1f}), {statistics.median(rate):8.0f} a second", flush=True)
    finally:
        for node in nodes:
            node.close()
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
