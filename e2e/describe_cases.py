"""What the real kubectl describes: plays the API server for it, with the objects of src/describe/cases/cases.yaml.

    python3 e2e/describe_cases.py            writes src/describe/cases/expected.json, which the room's tests read
    python3 e2e/describe_cases.py BINARY     compares `BINARY kubectl describe` with the real one, case by case
"""

import datetime
import difflib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.parse

import yaml

from cluster import find_kubectl

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent / "src/describe/cases"
IRREGULAR = {"Endpoints": "endpoints", "Ingress": "ingresses", "IngressClass": "ingressclasses",
             "StorageClass": "storageclasses", "PriorityClass": "priorityclasses", "IPAddress": "ipaddresses",
             "VolumeAttributesClass": "volumeattributesclasses", "NetworkPolicy": "networkpolicies"}
KINDS = {"events": "Event", "pods": "Pod", "replicasets": "ReplicaSet", "secrets": "Secret",
         "resourcequotas": "ResourceQuota", "limitranges": "LimitRange", "endpointslices": "EndpointSlice"}


def plural(kind):
    return IRREGULAR.get(kind, kind.lower() + "s")


def version_of(case):
    group, version = case.get("group", ""), case.get("version", "v1")
    return f"{group}/{version}" if group else version


def prefix_of(case):
    return ("/apis/" if case.get("group") else "/api/") + version_of(case)


def aged(value, now):
    """With `@SECONDS` as a time."""
    if isinstance(value, dict):
        return {key: aged(item, now) for key, item in value.items()}
    if isinstance(value, list):
        return [aged(item, now) for item in value]
    if isinstance(value, str) and value.startswith("@") and value.lstrip("@").isdigit():
        form = "%Y-%m-%dT%H:%M:%S.000000Z" if value.startswith("@@") else "%Y-%m-%dT%H:%M:%SZ"
        return (now - datetime.timedelta(seconds=int(value.lstrip("@")))).strftime(form)
    return value


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cases, current = [], None

    def log_message(self, *_):
        pass

    def answer(self, code, tree):
        body = json.dumps(tree).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        path, query = url.path.rstrip("/"), urllib.parse.parse_qs(url.query)
        case = Api.current
        now = datetime.datetime.now(datetime.timezone.utc)
        store = dict(case.get("store") or {})
        metadata = case["object"]["metadata"]
        where = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        prefix = prefix_of(case)
        store[f"{prefix}{where}/{plural(case['kind'])}/{metadata['name']}"] = {
            "apiVersion": version_of(case), "kind": case["kind"], **case["object"]}
        if path in ("/api", "/apis"):
            return self.discovery(path)
        if path in {prefix_of(other) for other in Api.cases}:
            return self.resources(path)
        if path not in store and path.rsplit("/", 1)[1] == "events":
            store[path] = []
        found = aged(store.get(path), now)
        if isinstance(found, list):
            kind = KINDS[path.rsplit("/", 1)[1]]
            selector = query.get("fieldSelector", [""])[0]
            found = [item for item in found
                     if "involvedObject.uid=" not in selector or "involvedObject" not in item
                     or f"involvedObject.uid={item['involvedObject']['uid']}" in selector.split(",")]
            parts = path.split("/")
            version = parts[2] if parts[1] == "api" else "/".join(parts[2:4])
            return self.answer(200, {"kind": kind + "List", "apiVersion": version, "metadata": {}, "items": found})
        if found is not None:
            return self.answer(200, found)
        return self.answer(404, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                 "message": f"no {path}", "reason": "NotFound", "code": 404})

    def discovery(self, path):
        if path == "/api":
            return self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        groups = {}
        for case in Api.cases:
            if case.get("group"):
                versions = groups.setdefault(case["group"], [])
                entry = {"groupVersion": version_of(case), "version": case.get("version", "v1")}
                if entry not in versions:
                    versions.append(entry)
        return self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": name, "versions": versions, "preferredVersion": versions[0]} for name, versions in groups.items()]})

    def resources(self, path):
        kinds = {case["kind"]: case for case in Api.cases if prefix_of(case) == path}
        resources = [{"name": plural(kind), "singularName": kind.lower(), "namespaced": not case.get("cluster"),
                      "kind": kind, "verbs": ["get", "list"]} for kind, case in kinds.items()]
        version = version_of(next(iter(kinds.values())))
        return self.answer(200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
                                 "resources": resources})


def described(command, case, port, home):
    metadata = case["object"]["metadata"]
    group = case.get("group", "")
    kind = plural(case["kind"]) + (f".{group}" if group else "")
    Api.current = case
    result = subprocess.run(
        [*command, f"--server=http://127.0.0.1:{port}", "describe", kind, metadata["name"],
         *(["-n", metadata["namespace"]] if "namespace" in metadata else [])],
        capture_output=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": home, "TZ": "UTC"})
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def main():
    cases = yaml.safe_load((CASES / "cases.yaml").read_text())
    Api.cases = cases
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, differ = server.server_address[1], 0
    with tempfile.TemporaryDirectory() as home:
        expected = []
        for case in cases:
            name = f"{case['kind']} {case['object']['metadata']['name']}"
            real = described([find_kubectl()], case, port, home)
            if len(sys.argv) < 2:
                if real[0] != 0:
                    sys.exit(f"{name}: {real[2]}")
                expected.append({**case, "expected": real[1]})
                continue
            own = described([sys.argv[1], "kubectl"], case, port, home)
            if own != real:
                differ += 1
                lines = difflib.unified_diff(*(str(text).splitlines() for text in
                                               ("\n".join(map(str, real)), "\n".join(map(str, own)))),
                                             "kubectl", "k3rs", lineterm="")
                print(f"--- {name} differs", *lines, sep="\n")
    if len(sys.argv) < 2:
        (CASES / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
        print(f"{len(cases)} cases written")
    else:
        print(f"{len(cases) - differ} of {len(cases)} cases are the same")
        sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
