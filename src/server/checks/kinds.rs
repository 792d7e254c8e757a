//! A kind that is defined while the server runs: served, listed, watched, patched, applied, explained, redefined, removed.

use std::sync::Arc;

use api::custom::Schema;
use api::definition::{Printed, ScalePaths, Version};
use api::{Definition, Kind, Lens, Scope, Value, json};
use http::server::Service;
use http::{Method, Request};

use super::start;
use crate::Server;

const GADGETS: &str = "/apis/example.com/v1/namespaces/default/gadgets";

fn definition(extra: &Value) -> Definition {
    let mut schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "description": "What is wanted.", "properties": {
            "size": {"type": "integer", "minimum": 1, "description": "How large it is."},
            "color": {"type": "string", "default": "red"},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "n": {"type": "integer"}}}},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
    }});
    if let (Value::Object(into), Value::Object(extra)) =
        (&mut schema["properties"]["spec"]["properties"], extra)
    {
        into.extend(extra.clone());
    }
    Definition {
        kind: Kind::intern("example.com", "Gadget", "gadgets", Scope::Namespaced).unwrap(),
        singular: "gadget".into(),
        list_kind: "GadgetList".into(),
        short: vec!["gd".into()],
        categories: Vec::new(),
        versions: vec![Version {
            name: "v1".into(),
            served: true,
            stored: true,
            schema: Schema::of(&schema),
            columns: vec![Printed {
                name: "Size".into(),
                kind: "integer".into(),
                format: "".into(),
                priority: 0,
                description: "".into(),
                path: ".spec.size".into(),
            }],
            status: true,
            scale: Some(ScalePaths {
                spec: "spec.size".into(),
                status: "status.ready".into(),
                selector: "".into(),
            }),
            selectable: vec!["spec.color".into()],
            warning: None,
        }],
        conversion: None,
        waiting: false,
        terminating: false,
        stamp: extra.to_string().into(),
    }
}

pub(super) struct Face {
    service: Arc<dyn Service>,
    pub(super) server: Server,
}

impl Face {
    pub(super) async fn new() -> Face {
        let (server, _) = start().await;
        Face { service: server.service(None), server }
    }

    fn define(&self, extra: &Value) {
        let definition = definition(extra);
        self.server.kinds().change(|kinds| kinds.with(definition)).unwrap();
    }

    pub(super) async fn call(
        &self,
        method: &str,
        target: &str,
        media: (&str, &str),
        body: &str,
    ) -> http::Response {
        self.send(method, target, media, body.as_bytes().to_vec()).await
    }

    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        media: (&str, &str),
        body: Vec<u8>,
    ) -> http::Response {
        let request = Request::new(Method::from(method), target)
            .header("authorization", "Bearer admin")
            .header("content-type", media.0)
            .header("accept", media.1)
            .body(body);
        self.service.call(request).await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        sent: &str,
        body: &Value,
    ) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut response = self.call(method, target, (sent, "application/json"), &body).await;
        let bytes = response.body.read_all(64 << 20).await.unwrap();
        (response.status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(super) async fn json(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        self.ask(method, target, "application/json", &body).await
    }

    pub(super) async fn get(&self, target: &str) -> (u16, Value) {
        self.json("GET", target, Value::Null).await
    }
}

fn gadget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": name, "labels": {"n": name}}, "spec": spec})
}

#[test]
fn it_is_served_like_any_other() {
    rt::block_on(async {
        let face = Face::new().await;
        assert_eq!(face.get(GADGETS).await.0, 404);
        face.define(&json!({}));

        let (code, made) =
            face.json("POST", GADGETS, gadget("a", json!({"size": 2, "x": 1}))).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(made.at("spec"), &json!({"size": 2, "color": "red"}), "pruned and defaulted");
        assert_eq!(made.int("metadata.generation"), Some(1));
        let (code, why) = face.json("POST", GADGETS, gadget("b", json!({"size": 0}))).await;
        assert_eq!(code, 422);
        assert_eq!(
            why.str("message"),
            "Gadget.example.com \"b\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
        );
        let strict = format!("{GADGETS}?fieldValidation=Strict");
        let (code, why) = face.json("POST", &strict, gadget("b", json!({"size": 1, "x": 1}))).await;
        assert_eq!(code, 400);
        assert!(why.str("message").contains("unknown field \"spec.x\""), "{why}");

        let (_, list) = face.get(&format!("{GADGETS}?labelSelector=n%3Da")).await;
        assert_eq!((list.str("kind"), list.str("apiVersion")), ("GadgetList", "example.com/v1"));
        assert_eq!(list.str("items.0.kind"), "Gadget");
        let (_, none) = face.get(&format!("{GADGETS}?fieldSelector=spec.color%3Dblue")).await;
        assert!(none.list("items").is_empty());
        let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
        let mut response = face.call("GET", GADGETS, ("", table), "").await;
        let bytes = response.body.read_all(1 << 20).await.unwrap();
        let table: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(table.str("columnDefinitions.1.name"), "Size", "{table}");
        assert_eq!(table.at("rows.0.cells"), &json!(["a", 2]));

        let one = format!("{GADGETS}/a");
        let merge = "application/merge-patch+json";
        let (code, patched) = face.ask("PATCH", &one, merge, &json!({"spec": {"size": 3}})).await;
        assert_eq!((code, patched.int("metadata.generation")), (200, Some(2)), "{patched}");
        let strategic = "application/strategic-merge-patch+json";
        assert_eq!(face.ask("PATCH", &one, strategic, &json!({"spec": {"size": 4}})).await.0, 415);
        let status = json!({"status": {"ready": 1}, "spec": {"size": 9}});
        let (code, changed) = face.ask("PATCH", &format!("{one}/status"), merge, &status).await;
        assert_eq!(
            (code, changed.int("spec.size"), changed.int("status.ready")),
            (200, Some(3), Some(1))
        );
        assert_eq!(changed.int("metadata.generation"), Some(2));
        let (_, scale) = face.get(&format!("{one}/scale")).await;
        assert_eq!((scale.str("kind"), scale.int("spec.replicas")), ("Scale", Some(3)));
        let wanted = json!({"spec": {"replicas": 5}});
        assert_eq!(face.ask("PATCH", &format!("{one}/scale"), merge, &wanted).await.0, 200);
        assert_eq!(face.get(&one).await.1.int("spec.size"), Some(5));
        assert_eq!(face.get(&format!("{one}/log")).await.0, 404);
        let mut unversioned = gadget("a", json!({"size": 1}));
        unversioned["metadata"] = json!({"name": "a"});
        assert_eq!(
            face.json("PUT", &one, unversioned).await.0,
            422,
            "an update names its revision"
        );

        let protobuf = ("application/json", "application/vnd.kubernetes.protobuf");
        assert_eq!(face.call("GET", &one, protobuf, "").await.status, 406);
        let sent = ("application/vnd.kubernetes.protobuf", "application/json");
        assert_eq!(face.call("POST", GADGETS, sent, "k8s\0").await.status, 415);
        assert_eq!(face.json("DELETE", &one, Value::Null).await.0, 200);
        assert_eq!(face.get(&one).await.0, 404);
    });
}

#[test]
fn it_is_applied_by_its_schema() {
    rt::block_on(async {
        let face = Face::new().await;
        face.define(&json!({}));
        let apply = async |manager: &str, parts: Value| {
            let target = format!("{GADGETS}/a?fieldManager={manager}");
            let tree = gadget("a", json!({"size": 1, "parts": parts}));
            face.ask("PATCH", &target, "application/apply-patch+yaml", &tree).await
        };
        let (code, made) = apply("one", json!([{"name": "x", "n": 1}])).await;
        assert_eq!(code, 201, "{made}");
        let (code, both) = apply("two", json!([{"name": "y", "n": 2}])).await;
        assert_eq!(code, 200, "{both}");
        assert_eq!(both.list("spec.parts").len(), 2, "lists merge by their keys: {both}");
        let (code, why) = apply("two", json!([{"name": "x", "n": 3}])).await;
        assert_eq!(code, 409);
        assert_eq!(
            why.str("message"),
            "Apply failed with 1 conflict: conflict with \"one\" using example.com/v1: .spec.parts[name=\"x\"].n"
        );
        let target = format!("{GADGETS}/a?fieldManager=two");
        let unknown = gadget("a", json!({"size": 1, "nope": 1}));
        let (code, why) =
            face.ask("PATCH", &target, "application/apply-patch+yaml", &unknown).await;
        assert_eq!(code, 500);
        assert_eq!(
            why.str("message"),
            "failed to create typed patch object (/a; example.com/v1, Kind=Gadget): .spec.nope: field not declared in schema"
        );
        let (_, left) = apply("two", json!([])).await;
        assert_eq!(left.at("spec.parts"), &json!([{"name": "x", "n": 1}]));
    });
}

#[test]
fn it_is_discovered_and_explained() {
    rt::block_on(async {
        let face = Face::new().await;
        let before = face.get("/openapi/v3").await.1;
        face.define(&json!({}));
        let (_, resources) = face.get("/apis/example.com/v1").await;
        let names: Vec<&str> =
            resources.list("resources").iter().map(|it| it.str("name")).collect();
        assert_eq!(names, ["gadgets", "gadgets/scale", "gadgets/status"]);
        assert_eq!(face.get("/apis/example.com").await.1.str("preferredVersion.version"), "v1");
        let index = face.get("/openapi/v3").await.1;
        let url =
            |index: &Value, path: &str| index["paths"][path].str("serverRelativeURL").to_owned();
        assert_eq!(url(&before, "apis/apps/v1"), url(&index, "apis/apps/v1"));
        let first = url(&index, "apis/example.com/v1");
        let (code, document) = face.get(&first).await;
        assert_eq!(code, 200);
        let gadget = &document["components"]["schemas"]["com.example.v1.Gadget"];
        assert_eq!(gadget.str("properties.spec.properties.size.description"), "How large it is.");
        assert_eq!(gadget["x-kubernetes-group-version-kind"][0].str("kind"), "Gadget");
        assert!(document["components"]["schemas"]["com.example.v1.GadgetList"].is_object());
        assert!(
            document["paths"][&format!("{}/{{name}}", GADGETS.replace("default", "{namespace}"))]
                .is_object()
        );

        face.define(&json!({"weight": {"type": "integer", "description": "How heavy it is."}}));
        let second = url(&face.get("/openapi/v3").await.1, "apis/example.com/v1");
        assert_ne!(first, second, "another schema, another hash");
        let document = face.get(&second).await.1;
        let gadget = &document["components"]["schemas"]["com.example.v1.Gadget"];
        assert_eq!(gadget.str("properties.spec.properties.weight.description"), "How heavy it is.");
        let v2 = face.get("/openapi/v2").await.1;
        assert!(v2["definitions"]["com.example.v1.Gadget"].is_object());
    });
}

#[test]
fn it_is_redefined_and_removed_while_it_is_watched() {
    rt::block_on(async {
        let face = Face::new().await;
        face.define(&json!({}));
        let old = face.json("POST", GADGETS, gadget("a", json!({"size": 2}))).await.1;
        let watch = async || {
            let target = format!("{GADGETS}?watch=1&resourceVersion=1");
            let plain = ("application/json", "application/json");
            face.call("GET", &target, plain, "").await.body
        };
        let mut body = watch().await;
        let event = body.next().await.unwrap().unwrap().into_vec();
        assert!(String::from_utf8_lossy(&event).starts_with("{\"type\":\"ADDED\""), "{event:?}");
        // The new field is kept from here on; the old watch ends, as its definition did.
        face.define(&json!({"weight": {"type": "integer"}}));
        assert!(body.next().await.is_none());
        let weighed = gadget("b", json!({"size": 1, "weight": 7}));
        let (code, new) = face.json("POST", GADGETS, weighed).await;
        assert_eq!((code, new.int("spec.weight")), (201, Some(7)));
        assert_eq!(face.get(&format!("{GADGETS}/a")).await.1.at("spec"), old.at("spec"));

        let mut body = watch().await;
        assert!(body.next().await.is_some());
        let kind = definition(&json!({})).kind;
        face.server.kinds().change(|kinds| Ok(kinds.without(kind))).unwrap();
        while let Some(event) = body.next().await {
            assert!(event.is_ok());
        }
        assert_eq!(face.get(GADGETS).await.0, 404);
        assert_eq!(face.get("/apis/example.com/v1").await.0, 404);
        let admin = face.server.client_as(crate::User::admin());
        assert!(admin.get(kind, "default", "a").await.unwrap_err().is_not_found());
    });
}
