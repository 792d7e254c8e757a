"""Kinds that users define: CustomResourceDefinitions and their objects, as kubectl and raw requests see them."""

import json

from cluster import Failure, until

from .api import ask, merge, message, same
from .webhooks import with_webhooks

ARGS = ["--disable-agent"]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"

WIDGET = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "description": "What is wanted.",
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How large it is."},
                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "host": {"type": "string", "format": "ipv4"},
                "port": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "choice": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
                },
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
    },
}


def definition(plural="widgets", kind="Widget", scope="Namespaced", schema=None, group="example.com", **version):
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema or WIDGET}, **version}
    names = {"plural": plural, "kind": kind, "shortNames": [plural[:2]], "categories": ["all"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": scope, "names": names, "versions": [one]},
    }


FULL = {
    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.ready"}},
    "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    "selectableFields": [{"jsonPath": ".spec.color"}],
}


def widget(called, **spec):
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": called}, "spec": spec}


def conditions(crd):
    return {c["type"]: (c["status"], c["reason"]) for c in crd.get("status", {}).get("conditions") or []}


def gone(cluster, name):
    cluster.kubectl("delete", "crd", name, "--ignore-not-found")


def test_defined_and_used_at_once(cluster):
    cluster.kubectl("apply", "-f", "-", input=json.dumps(definition(**FULL)))
    cluster.kubectl("apply", "-f", "-", input=json.dumps(widget("a", size=2)))
    cluster.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s")
    crd = cluster.get("crd", "widgets.example.com")
    same(conditions(crd), {"NamesAccepted": ("True", "NoConflicts"), "Established": ("True", "InitialNamesAccepted")}, "conditions")
    same(crd["status"]["storedVersions"], ["v1"], "stored versions")
    same(crd["status"]["acceptedNames"]["listKind"], "WidgetList", "default names")
    same(cluster.get("widget", "a")["spec"], {"size": 2, "color": "red"}, "defaults")
    for name in ("wi", "widgets", "widget.example.com", "widgets.v1.example.com"):
        cluster.kubectl("get", name, "a")
    table = cluster.kubectl("get", "widgets").stdout.split("\n")
    same(table[0].split(), ["NAME", "SIZE"], "columns")
    same(table[1].split(), ["a", "2"], "cells")
    if "widget.example.com/a" not in cluster.kubectl("get", "all", "-o", "name").stdout:
        raise Failure("not in its category")
    if "How large it is." not in cluster.kubectl("explain", "widget.spec.size").stdout:
        raise Failure("not explained")
    cluster.kubectl("scale", "widget/a", "--replicas=3")
    same(cluster.get("widget", "a")["spec"]["size"], 3, "scaled")
    same(cluster.kubectl("get", "widgets", "--field-selector", "spec.color=green", "-o", "name").stdout, "", "selected")
    cluster.kubectl("describe", "widget", "a")
    cluster.kubectl("get", "crd")


def test_what_does_not_fit_is_told(cluster):
    for spec, said in (
        ({}, "spec.size: Required value"),
        ({"size": 9}, "spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5"),
        ({"size": 1, "name": "A"}, "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"),
        ({"size": 1, "host": "x"}, 'spec.host: Invalid value: "x": spec.host in body must be of type ipv4: "x"'),
        ({"size": 1, "color": "blue"}, 'spec.color: Unsupported value: "blue": supported values: "red", "green"'),
        ({"size": 1, "choice": {}}, '<nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found none valid'),
        ({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}, 'spec.parts[1]: Duplicate value: map[string]interface {}{"name":"a"}'),
    ):
        answer = ask(cluster, {"method": "POST", "path": WIDGETS, "body": widget("bad", **spec)})[0]
        same(answer["code"], 422, said)
        if said not in message(answer):
            raise Failure(f"{message(answer)}\nnot {said}")
    unknown = widget("bad", size=1, nope=1)
    strict, warned = ask(
        cluster,
        {"method": "POST", "path": f"{WIDGETS}?fieldValidation=Strict&dryRun=All", "body": unknown},
        {"method": "POST", "path": f"{WIDGETS}?dryRun=All", "body": unknown},
    )
    same((strict["code"], 'strict decoding error: unknown field "spec.nope"' in message(strict)), (400, True), "strict")
    same((warned["code"], warned["headers"].get("warning")), (201, '299 - "unknown field \\"spec.nope\\""'), "warned")


def test_what_is_unusual_is_told(cluster):
    finalized = widget("bad", size=1)
    finalized["metadata"]["finalizers"] = ["hold"]
    held, scale = ask(
        cluster,
        {"method": "POST", "path": f"{WIDGETS}?dryRun=All", "body": finalized},
        {"path": f"{WIDGETS}/a/log"},
    )
    if "prefer a domain-qualified finalizer name to avoid" not in held["headers"].get("warning", ""):
        raise Failure(f"no warning of a finalizer: {held['headers']}")
    same((scale["code"], message(scale)), (404, 'widgets.example.com "a" not found'), "no such subresource")


def test_old_faults_do_not_stop_new_changes(cluster):
    """What was stored before a rule came passes as long as it is not touched."""
    cluster.kubectl("apply", "-f", "-", input=json.dumps(widget("old", size=1, name="abcde")))
    tight = json.loads(json.dumps(WIDGET))
    tight["properties"]["spec"]["properties"]["name"]["maxLength"] = 2
    cluster.kubectl("apply", "-f", "-", input=json.dumps(definition(schema=tight, **FULL)))
    one = f"{WIDGETS}/old"

    def patched(spec):
        return ask(cluster, merge(one, {"spec": spec}))[0]["code"]

    until(lambda: patched({"name": "abcdf"}) == 422, "the tighter rule")
    same(patched({"size": 2}), 200, "another field")
    gone_again = definition(**FULL)
    cluster.kubectl("apply", "-f", "-", input=json.dumps(gone_again))


def test_bad_definitions_are_refused(cluster):
    def refused(crd, *said):
        answer = ask(cluster, {"method": "POST", "path": f"{CRDS}?dryRun=All", "body": crd})[0]
        for what in said:
            if answer["code"] != 422 or what not in message(answer):
                raise Failure(f"{answer['code']} {message(answer)}\nnot {what}")

    crd = definition("gizmos", "Gizmo")
    crd["metadata"]["name"] = "other.example.com"
    refused(crd, 'metadata.name: Invalid value: "other.example.com": must be spec.names.plural+"."+spec.group')
    crd = definition("gizmos", "Gizmo")
    crd["spec"]["versions"][0]["storage"] = False
    refused(crd, "must have exactly one version marked as storage version")
    for schema, said in (
        ({"properties": {}}, "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"),
        ({"type": "object", "properties": {"a": {}}}, "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties[a].items: Required value: must be specified"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, 'properties[a].default: Invalid value: "string":  in body must be of type integer'),
        ({"type": "object", "properties": {"a": {"type": "string", "uniqueItems": True}}}, "uniqueItems cannot be set to true"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "string"}}}, "$ref is not supported"),
    ):
        refused(definition("gizmos", "Gizmo", schema=schema), said)
    deep = {"type": "string"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}}
    refused(definition("gizmos", "Gizmo", schema=deep), "a schema nests at most 48 deep")


def test_a_name_is_given_away_once(cluster):
    cluster.kubectl("apply", "-f", "-", input=json.dumps(definition("doodads", "Widget")))
    crd = until(lambda: (c := cluster.get("crd", "doodads.example.com")) and conditions(c) and c, "conditions")
    same(conditions(crd), {"NamesAccepted": ("False", "ListKindConflict"), "Established": ("False", "NotAccepted")}, "conflict")
    same(ask(cluster, {"path": "/apis/example.com/v1/namespaces/default/doodads"})[0]["code"], 404, "not served")
    gone(cluster, "doodads.example.com")


def test_deleting_a_definition_deletes_its_objects(cluster):
    cluster.kubectl("apply", "-f", "-", input=json.dumps(definition("things", "Thing", "Cluster", {"type": "object", "x-kubernetes-preserve-unknown-fields": True})))
    for name in ("a", "b"):
        cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "any": {"thing": [1]}}))
    held = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(held))
    same(cluster.get("thing", "a")["any"], {"thing": [1]}, "kept whole")
    cluster.kubectl("delete", "crd", "things.example.com", "--wait=false")
    until(lambda: cluster.kubectl("get", "things", "-o", "name").stdout == "thing.example.com/held\n", "only what is held is left")
    crd = cluster.get("crd", "things.example.com")
    same(conditions(crd)["Terminating"], ("True", "InstanceDeletionInProgress"), "terminating")
    same(crd["metadata"]["finalizers"], ["customresourcecleanup.apiextensions.k8s.io"], "finalizer")
    made = ask(cluster, {"method": "POST", "path": "/apis/example.com/v1/things", "body": {"metadata": {"name": "new"}}})[0]
    same((made["code"], message(made)), (405, "create not allowed while custom resource definition is terminating"), "a new one")
    cluster.kubectl("patch", "thing", "held", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    until(lambda: cluster.kubectl("get", "crd", "things.example.com", check=False).returncode, "the definition goes")
    same(ask(cluster, {"path": "/apis/example.com/v1/things"})[0]["code"], 404, "not served")


def test_definitions_outlive_a_restart(cluster):
    cluster.stop()
    cluster.start()
    same(cluster.get("widget", "a")["spec"]["size"], 3, "still there")
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(widget("b", size=1)))


def test_several_versions(cluster):
    crd = definition("twos", "Two", schema={"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}})
    second = {"type": "object", "properties": {"x": {"type": "string"}, "z": {"type": "string", "default": "new"}}}
    crd["spec"]["versions"].append({"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": second}, "deprecated": True})
    cluster.kubectl("apply", "-f", "-", input=json.dumps(crd))
    one = {"apiVersion": "example.com/v1", "kind": "Two", "metadata": {"name": "a"}, "x": "1", "y": "2"}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(one))
    path = "/apis/example.com/v2/namespaces/default/twos/a"
    answer = ask(cluster, {"path": path})[0]
    got = json.loads(answer["text"])
    same((got["apiVersion"], got.get("x"), got.get("y"), got.get("z")), ("example.com/v2", "1", None, "new"), "in the other version")
    same(answer["headers"].get("warning"), '299 - "example.com/v2 Two is deprecated"', "deprecated")
    crd["spec"]["versions"][0]["storage"], crd["spec"]["versions"][1]["storage"] = False, True
    cluster.kubectl("apply", "-f", "-", input=json.dumps(crd))
    same(cluster.get("crd", "twos.example.com")["status"]["storedVersions"], ["v1", "v2"], "stored versions")
    gone(cluster, "twos.example.com")


@with_webhooks
def test_a_webhook_converts(cluster, webhooks):
    """Each version is shown, selected and written as itself; deletions and other versions outlive the webhook."""
    texts = lambda *names: {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    crd = definition("ports", "Port", schema=texts("hostPort"))
    crd["spec"]["versions"].append({"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": texts("host", "port")}, "selectableFields": [{"jsonPath": ".host"}]})
    client = webhooks.hook("/convert")["clientConfig"]
    crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v2", "v1"], "clientConfig": client}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(crd))
    for name in ("a", "b"):
        one = {"apiVersion": "example.com/v2", "kind": "Port", "metadata": {"name": name}, "host": name, "port": "1"}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(one))
    same(cluster.get("ports.v1.example.com", "a")["hostPort"], "a:1", "as it is stored")
    same(cluster.kubectl("get", "ports.v2.example.com", "--field-selector=host=b", "-o", "name").stdout, "port.example.com/b\n", "selected")
    webhooks.stop()
    down = cluster.kubectl("get", "ports.v2.example.com", check=False)
    if 'Error from server: conversion webhook for example.com/v1, Kind=Port failed: Post "https://' not in down.stderr:
        raise Failure(down.stderr)
    same(cluster.kubectl("get", "ports.v1.example.com", "-o", "name").stdout, "port.example.com/a\nport.example.com/b\n", "without it")
    gone(cluster, "ports.example.com")


def test_they_go(cluster):
    gone(cluster, "widgets.example.com")
    left = cluster.kubectl("get", "crd", "-o", "name").stdout.split()
    same([name for name in left if not name.endswith(".helm.cattle.io")], [], "all gone")
