"""What a kubelet is told beside the API: credentials of images by the operator's programs, and static pods by a URL."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import images
import registry
from cluster import Failure, expect, until

PORT, TOKENS, PODS = 5611, 5612, 5620
PLUGIN = """#!/bin/sh
read -r request || true
echo "$request $1 $WHO" >> {log}
cat <<END
{{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": "Registry", "cacheDuration": "1h",
 "auth": {{"127.0.0.1:{port}": {{"username": "{user}", "password": "{password}"}}}}}}
END
"""
# Answers with what is in a file, to those who send the header.
SERVER = """import http.server, pathlib, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "/pods")
            self.end_headers()
            return
        body = pathlib.Path(sys.argv[1]).read_bytes() if self.headers.get("x-who") == "k3rs" else b""
        self.send_response(200 if body else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Answers).serve_forever()
"""


def prepare(cluster):
    programs = cluster.dir / "credentials"
    programs.mkdir()
    log = cluster.dir / "asked"
    plugin = programs / "knows"
    plugin.write_text(PLUGIN.format(log=log, port=PORT, user=registry.USER, password=registry.PASSWORD))
    plugin.chmod(0o755)
    broken = programs / "broken"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    provider = {
        "name": "knows", "matchImages": [f"127.*.0.1:{PORT}/team"], "defaultCacheDuration": "0s",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "args": ["first"], "env": [{"name": "WHO", "value": "me"}],
    }  # fmt: skip
    config = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [{**provider, "name": "broken"}, provider]}
    (cluster.dir / "credentials.yaml").write_text(json.dumps(config))
    cluster.args += [
        f"--image-credential-provider-bin-dir={programs}", f"--image-credential-provider-config={cluster.dir}/credentials.yaml",
        f"--kubelet-arg=manifest-url=http://127.0.0.1:{PODS}/moved", "--kubelet-arg=manifest-url-header=X-Who:k3rs", "--kubelet-arg=http-check-frequency=1s",
    ]  # fmt: skip


def test_programs_know_credentials(cluster):
    archive = cluster.dir / "tiny.tar"
    with tempfile.TemporaryDirectory() as work:
        root = pathlib.Path(work) / "root"
        shutil.copytree(cluster.data / "data/current/root", root, symlinks=True)
        images.archive(root, archive, "tiny:1", {"Cmd": ["sleep", "1000000"]})
    there = registry.Registry(cluster, PORT, token_port=TOKENS)
    try:
        for name in ("team/a", "team/b", "other/c"):
            there.push(archive, f"{name}:1")

        def became(pod, image):
            spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": image}]}
            cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec}), "default")

            def ended():
                for status in cluster.get("pod", pod)["status"].get("containerStatuses", []):
                    if "running" in status["state"]:
                        return "running"
                    if status["state"].get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff"):
                        return status["state"]["waiting"]["message"]

            return until(ended, f"pod {pod} runs or fails", 30)

        for pod, image in (("a", "team/a"), ("b", "team/b")):
            found = became(pod, f"127.0.0.1:{PORT}/{image}:1")
            expect(found == "running", f"{image}: {found}")
        asked = (cluster.dir / "asked").read_text().splitlines()
        expect(len(asked) == 1, f"an answer for the registry is remembered: {asked}")
        request, _, words = asked[0].partition("} ")
        tree = json.loads(request + "}")
        want = {"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": f"127.0.0.1:{PORT}/team/a"}
        expect(tree == want and words == "first me", f"{asked}")
        found = became("c", f"127.0.0.1:{PORT}/other/c:1")
        expect("401" in found, f"nobody knows credentials for that place: {found}")
        said = [line for line in cluster.log_lines() if "Failed getting credential from external registry credential provider broken" in line]
        expect(said and "it is broken" in said[0], f"a program that fails is told: {said}")
        expect(registry.PASSWORD not in "\n".join(cluster.log_lines()), "no password is logged")
    finally:
        there.close()


def test_a_url_has_static_pods(cluster):
    pod = {"metadata": {"name": "far"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "9999"]}]}}
    path = cluster.dir / "pods.json"

    def say(*pods):
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": list(pods)}))
        part.rename(path)

    def serve():
        return subprocess.Popen(cluster.inside([sys.executable, "-c", SERVER, str(path), str(PODS)]), stderr=subprocess.DEVNULL)

    def mirror():
        found = cluster.get("pods", "-n", "default", "--field-selector=metadata.name=far-node1")["items"]
        return found[0] if found else None

    def started():
        found = mirror()
        return found and (found["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("running", {}).get("startedAt")

    expect(any("Failed to read pods from URL" in line for line in cluster.log_lines()), "a URL that does not answer is told")
    say(pod)
    server = serve()
    try:
        began = until(started, "the pod of the URL runs", 30)
        expect(mirror()["metadata"]["annotations"]["kubernetes.io/config.source"] == "http", "it says where it is from")
        # While the URL is away its pods stay, and a start without it leaves them alone.
        server.kill()
        server.wait()
        cluster.stop(signal.SIGKILL)
        cluster.start()
        until(lambda: sum("Failed to read pods from URL" in line for line in cluster.log_lines()) >= 6, "it is asked again", 30)
        expect(started() == began, f"the pod went on: {began} {started()}")
        # What is no list of pods changes nothing.
        path.write_text("{")
        server = serve()
        until(lambda: any("parse it" in line for line in cluster.log_lines()) or None, "what is wrong is told", 30)
        expect(started() == began, "and the pod went on")
        say()
        until(lambda: mirror() is None, "a pod that the URL has no more is gone", 30)
    finally:
        server.kill()
        server.wait()


def test_what_is_wrong_ends_the_start(cluster):
    cluster.stop()
    config = cluster.dir / "credentials.yaml"
    good = config.read_text()
    for bad, why in (
        (good.replace('"knows"', '"gone"'), f"plugin binary executable {cluster.dir}/credentials/gone did not exist"),
        (good.replace("matchImages", "matchImage"), 'unknown field "providers[0].matchImage"'),
    ):
        config.write_text(bad)
        done = subprocess.run(cluster.inside([cluster.binary, "server", *cluster.server_args()]), env=cluster.env, capture_output=True, text=True, timeout=30)
        if done.returncode == 0 or why not in done.stdout + done.stderr:
            raise Failure(f"{done.returncode}: {done.stdout}{done.stderr}")
    config.write_text(good)
