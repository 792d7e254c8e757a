"""The deploy controller: files below server/manifests become objects, and go with what their files say."""

import json

from cluster import Failure, expect, until

from .api import same

ARGS = ["--disable-agent", "--disable", "unwanted", "--disable", "switched-off"]

SET = "objectset.rio.cattle.io/"
# What wrangler makes of the Addon's kind, name and namespace; `sha1sum` says so.
HASH_OF_PARTS = "f5fcf4fa6d9e55e7f7ac1d7b568da4d51ae4633b"

CONFIG_MAP = """---
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, namespace: {namespace}}}
data: {{word: {word}}}
"""

# The object stands before its namespace and the definition of its kind.
PARTS = """
apiVersion: parts.example.com/v1
kind: Part
metadata: {name: one, namespace: parts}
spec: {size: 1}
---
apiVersion: v1
kind: Namespace
metadata: {name: parts}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: parts.parts.example.com}
spec:
  group: parts.example.com
  scope: Namespaced
  names: {plural: parts, singular: part, kind: Part, listKind: PartList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""


def directory(cluster):
    return cluster.data / "server/manifests"


def write(cluster, name, text):
    path = directory(cluster) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # In one step, as editors do: what is half written would be an error that is told.
    beside = cluster.dir / "beside"
    beside.write_text(text)
    beside.rename(path)
    return path


def word(cluster, name, namespace="default"):
    return cluster.kubectl("get", "configmap", "-n", namespace, name, "-o", "jsonpath={.data.word}", check=False).stdout


def is_gone(cluster, *what):
    return "NotFound" in cluster.kubectl("get", *what, check=False).stderr


def addon(cluster, name):
    done = cluster.kubectl("get", "addon", "-n", "kube-system", name, "-o", "json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def events(cluster, name):
    field = f"--field-selector=involvedObject.kind=Addon,involvedObject.name={name}"
    return [(event["type"], event["reason"], event["message"]) for event in cluster.get("events", "-n", "kube-system", field)["items"]]


def test_definitions_come_before_what_they_define(cluster):
    write(cluster, "parts.yaml", PARTS)
    until(lambda: not is_gone(cluster, "part", "-n", "parts", "one"), "the custom object", 60)
    until(lambda: (addon(cluster, "parts") or {}).get("spec", {}).get("checksum"), "the checksum", 60)
    tree = cluster.get("part", "-n", "parts", "one")
    wanted = {f"{SET}id": "", f"{SET}owner-gvk": "k3s.cattle.io/v1, Kind=Addon", f"{SET}owner-name": "parts", f"{SET}owner-namespace": "kube-system"}
    same(tree["metadata"]["annotations"], wanted, "annotations")
    same(tree["metadata"]["labels"], {f"{SET}hash": HASH_OF_PARTS}, "labels")
    gvks = addon(cluster, "parts")["metadata"]["annotations"]["addon.k3s.cattle.io/gvks"]
    same(gvks, "/v1, Kind=Namespace;apiextensions.k8s.io/v1, Kind=CustomResourceDefinition;parts.example.com/v1, Kind=Part", "kinds")
    reasons = {reason for _, reason, _ in events(cluster, "parts")}
    expect({"ApplyingManifest", "AppliedManifest"} <= reasons, f"events {reasons}")
    # What leaves the file leaves the cluster, custom objects too.
    write(cluster, "parts.yaml", PARTS.split("---", 1)[1])
    until(lambda: is_gone(cluster, "part", "-n", "parts", "one"), "the custom object is gone", 60)


def test_a_kind_that_comes_later_is_waited_for(cluster):
    text = "apiVersion: late.example.com/v1\nkind: Late\nmetadata: {name: a, namespace: default}\n"
    write(cluster, "late.yaml", text)
    failed = 'no matches for kind "Late" in version "late.example.com/v1"'
    until(lambda: any(reason == "ApplyManifestFailed" and failed in said for _, reason, said in events(cluster, "late")), "the failure is told", 60)
    definition = PARTS.split("---")[2].replace("parts.example.com", "late.example.com").replace("part", "late").replace("Part", "Late")
    cluster.kubectl("apply", "-f", "-", input=definition)
    until(lambda: not is_gone(cluster, "late.late.example.com", "a"), "the object, once its kind is there", 60)


def test_subdirectories_skipped_and_disabled_files(cluster):
    texts = {name: CONFIG_MAP.format(name=name, namespace="default", word="first") for name in ("deep", "skipped", "unwanted", "off", "last")}
    write(cluster, "sub/more/deep.yaml", texts["deep"])
    write(cluster, "skipped.yaml.skip", "")
    write(cluster, "skipped.yaml", texts["skipped"])
    unwanted = write(cluster, "unwanted.yaml", texts["unwanted"])
    off = write(cluster, "switched-off/off.yaml", texts["off"])
    until(lambda: word(cluster, "deep") == "first", "what is in a subdirectory", 60)
    until(lambda: not unwanted.exists() and not off.exists(), "what is disabled is deleted", 60)
    write(cluster, "zz.yaml", texts["last"])
    until(lambda: word(cluster, "last") == "first", "what comes after all others", 60)
    for name in ("skipped", "unwanted", "off"):
        expect(is_gone(cluster, "configmap", name), f"{name} was applied")
    expect((directory(cluster) / "skipped.yaml").exists(), "the skipped file is gone")
    write(cluster, "sub/more/deep.yaml", texts["deep"].replace("first", "second"))
    until(lambda: word(cluster, "deep") == "second", "a change in a subdirectory", 60)


def test_disabling_deletes_what_was_deployed(cluster):
    path = write(cluster, "optional.yaml", CONFIG_MAP.format(name="optional", namespace="default", word="here"))
    until(lambda: (addon(cluster, "optional") or {}).get("spec", {}).get("checksum"), "it is applied", 60)
    cluster.stop()
    cluster.args = [*ARGS, "--disable", "optional"]
    try:
        cluster.start()
        until(lambda: is_gone(cluster, "configmap", "optional"), "its object is gone", 60)
        until(lambda: addon(cluster, "optional") is None and not path.exists(), "so are its Addon and its file", 60)
    finally:
        cluster.stop()
        cluster.args = list(ARGS)
        cluster.start()


def test_what_cannot_be_read_is_told(cluster):
    write(cluster, "broken.yaml", "a: [")
    until(lambda: any(event[:2] == ("Warning", "ParseManifestFailed") for event in events(cluster, "broken")), "the failure is told", 60)
    write(cluster, "broken.yaml", CONFIG_MAP.format(name="mended", namespace="default", word="well"))
    until(lambda: word(cluster, "mended") == "well", "the mended file", 60)
    if word(cluster, "mended", "kube-system"):
        raise Failure("in a second namespace")
