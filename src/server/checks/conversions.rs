//! A kind whose versions a webhook makes of each other: shown, selected, watched and written in each.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};

use api::custom::Schema;
use api::definition::{Conversion, ScalePaths, Version};
use api::kinds::VALIDATING_WEBHOOK_CONFIGURATION;
use api::{Definition, Kind, Lens, LensMut, Scope, Value, json};
use client::{DeleteOptions, ListOptions};

use super::kinds::Face;
use super::webhooks::{Running, configure};

const V1: &str = "/apis/example.com/v1/namespaces/default/ports";
const V2: &str = "/apis/example.com/v2/namespaces/default/ports";

static PORT: LazyLock<&'static Kind> =
    LazyLock::new(|| Kind::intern("example.com", "Port", "ports", Scope::Namespaced).unwrap());

/// How the webhook behaves.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicU8>);

const REFUSES: u8 = 1;
const RENAMES: u8 = 2;
const LOSES: u8 = 3;

impl Mood {
    fn set(&self, mood: u8) {
        self.0.store(mood, Ordering::SeqCst);
    }
}

/// `hostPort: a:1` in v1 is `host: a, port: "1"` in v2, which has a label of its own.
fn convert(tree: &Value, wanted: &str) -> Value {
    let mut tree = tree.clone();
    tree.set("apiVersion", wanted);
    if wanted.ends_with("v2") {
        let (host, port) = tree.str("hostPort").split_once(':').unwrap();
        let (host, port) = (host.to_owned(), port.to_owned());
        tree.remove("hostPort");
        tree.set("metadata.labels.converted", "yes");
        tree.set("host", host);
        tree.set("port", port);
    } else {
        let both = format!("{}:{}", tree.str("host"), tree.str("port"));
        tree.set("hostPort", both);
        tree.remove("metadata.labels.converted");
        for field in ["host", "port"] {
            tree.remove(field);
        }
    }
    tree
}

async fn webhook(mood: &Mood) -> Running {
    let mood = mood.clone();
    Running::start(move |path, request| {
        if path == "/admit" {
            return json!({"allowed": true});
        }
        let mut objects: Vec<Value> = request
            .list("objects")
            .iter()
            .map(|it| convert(it, request.str("desiredAPIVersion")))
            .collect();
        match mood.0.load(Ordering::SeqCst) {
            REFUSES => return json!({"result": {"status": "Failure", "message": "not today"}}),
            RENAMES => objects.iter_mut().for_each(|it| it.set("metadata.name", "other")),
            LOSES => drop(objects.pop()),
            _ => {}
        }
        json!({"result": {"status": "Success"}, "convertedObjects": objects})
    })
    .await
}

fn define(face: &Face, running: &Running, stored: &str) {
    define_at(face, running, running.port, stored);
}

fn define_at(face: &Face, running: &Running, at_port: u16, stored: &str) {
    let text = json!({"type": "string"});
    let version = |name: &str, fields: &[&str]| {
        let mut schema = json!({"type": "object", "properties": {
            "size": {"type": "integer"}, "status": {"type": "object", "properties": {"ready": {"type": "integer"}}}}});
        fields.iter().for_each(|field| schema["properties"][*field] = text.clone());
        Version {
            name: name.into(),
            served: true,
            stored: name == stored,
            schema: Schema::of(&schema),
            columns: Vec::new(),
            status: true,
            scale: Some(ScalePaths {
                spec: "size".into(),
                status: "status.ready".into(),
                selector: "".into(),
            }),
            selectable: fields.iter().map(|field| (*field).into()).collect(),
            warning: None,
        }
    };
    let url = format!("https://127.0.0.1:{at_port}/convert");
    let client = json!({"url": url, "caBundle": running.ca}).to_string();
    let definition = Definition {
        kind: *PORT,
        singular: "port".into(),
        list_kind: "PortList".into(),
        short: Vec::new(),
        categories: Vec::new(),
        versions: vec![version("v1", &["hostPort"]), version("v2", &["host", "port"])],
        conversion: Some(Box::new(Conversion { client: client.into(), review: Some("v1") })),
        waiting: false,
        terminating: false,
        stamp: format!("{stored} {at_port}").into(),
    };
    face.server.kinds().change(|kinds| kinds.with(definition)).unwrap();
}

fn port(name: &str, host: &str, port: &str) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Port", "metadata": {"name": name}, "host": host, "port": port})
}

fn names(list: &Value) -> Vec<String> {
    list.list("items").iter().map(|it| it.str("metadata.name").to_owned()).collect()
}

async fn started() -> (Face, Running, Mood) {
    let (face, mood) = (Face::new().await, Mood::default());
    let running = webhook(&mood).await;
    define(&face, &running, "v1");
    for (name, host, number) in [("a", "one", "1"), ("b", "one", "2"), ("c", "two", "1")] {
        let (code, made) = face.json("POST", V2, port(name, host, number)).await;
        assert_eq!(
            (code, made.str("host"), made.str("apiVersion")),
            (201, host, "example.com/v2"),
            "{made}"
        );
    }
    (face, running, mood)
}

#[test]
fn each_version_is_read_and_selected_as_itself() {
    rt::block_on(async {
        let (face, running, _) = started().await;
        let (_, one) = face.get(&format!("{V1}/a")).await;
        assert_eq!((one.str("hostPort"), one.at("host")), ("one:1", &Value::Null));
        running.asked();
        let (_, list) = face.get(V1).await;
        assert_eq!(names(&list), ["a", "b", "c"]);
        assert_eq!(running.asked().len(), 0, "what is stored in this version needs no webhook");
        let (_, list) = face.get(V2).await;
        assert_eq!((list.str("items.2.host"), list.str("items.2.port")), ("two", "1"));
        assert_eq!(running.asked().len(), 1, "a whole list is one question");
        for (target, wanted) in [
            (format!("{V2}?fieldSelector=host%3Done"), vec!["a", "b"]),
            (format!("{V2}?fieldSelector=host%3Done,port%3D2"), vec!["b"]),
            (format!("{V2}?fieldSelector=port%3D1,metadata.name%3Dc"), vec!["c"]),
            (format!("{V1}?fieldSelector=hostPort%3Done:2"), vec!["b"]),
            (format!("{V2}?labelSelector=converted"), vec!["a", "b", "c"]),
            (format!("{V1}?labelSelector=converted"), vec![]),
        ] {
            assert_eq!(names(&face.get(&target).await.1), wanted, "{target}");
        }
        assert_eq!(face.get(&format!("{V2}?fieldSelector=hostPort%3Done:2")).await.0, 400);
        let first = face.get(&format!("{V2}?fieldSelector=port%3D1&limit=1")).await.1;
        let next = first.str("metadata.continue");
        assert_eq!((names(&first), next.is_empty()), (vec!["a".to_owned()], false));
        let target = format!("{V2}?fieldSelector=port%3D1&limit=1&continue={next}");
        let second = face.get(&target).await.1;
        assert_eq!((names(&second), second.str("metadata.continue")), (vec!["c".to_owned()], ""));
        let meta = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let mut response = face.call("GET", &format!("{V2}/a"), ("", meta), "").await;
        let bytes = response.body.read_all(1 << 20).await.unwrap();
        let partial: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(partial.str("metadata.labels.converted"), "yes");
    });
}

#[test]
fn each_version_is_written_as_itself() {
    rt::block_on(async {
        let (face, running, _) = started().await;
        let merge = "application/merge-patch+json";
        let (one, stored) = (format!("{V2}/a"), format!("{V1}/a"));
        let (code, changed) = face.ask("PATCH", &one, merge, &json!({"port": "9"})).await;
        assert_eq!(
            (code, changed.str("port"), changed.int("metadata.generation")),
            (200, "9", Some(2))
        );
        assert_eq!(face.get(&stored).await.1.str("hostPort"), "one:9");
        let (code, why) = face.ask("PATCH", &one, merge, &json!({"port": 9})).await;
        assert_eq!((code, why.str("details.causes.0.field")), (422, "port"), "{why}");
        let apply = json!({"apiVersion": "example.com/v2", "kind": "Port", "metadata": {"name": "a"}, "port": "8"});
        let target = format!("{one}?fieldManager=m&force=true");
        let (code, applied) =
            face.ask("PATCH", &target, "application/apply-patch+yaml", &apply).await;
        assert_eq!(
            (code, applied.str("port"), applied.str("host")),
            (200, "8", "one"),
            "{applied}"
        );
        let status = json!({"status": {"ready": 3}, "host": "no"});
        let (code, changed) = face.ask("PATCH", &format!("{one}/status"), merge, &status).await;
        assert_eq!((code, changed.str("host"), changed.int("status.ready")), (200, "one", Some(3)));
        let wanted = json!({"spec": {"replicas": 5}});
        let (code, scale) = face.ask("PATCH", &format!("{one}/scale"), merge, &wanted).await;
        assert_eq!(
            (code, scale.int("spec.replicas"), scale.int("status.replicas")),
            (200, Some(5), Some(3))
        );
        let (_, whole) = face.get(&stored).await;
        assert_eq!(
            (whole.str("hostPort"), whole.int("size"), whole.at("metadata.labels.converted")),
            ("one:8", Some(5), &Value::Null)
        );
        let dry = face.json("POST", &format!("{V2}?dryRun=All"), port("d", "x", "1")).await;
        assert_eq!((dry.0, dry.1.str("host")), (201, "x"));

        // Admission webhooks are shown the version that their rules name.
        let rules = json!([{"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["ports"]}]);
        let admin = face.server.client_as(crate::User::admin());
        let hooks = vec![running.hook("/admit", json!({"rules": rules}))];
        configure(&admin, &VALIDATING_WEBHOOK_CONFIGURATION, hooks).await;
        running.asked();
        face.ask("PATCH", &one, merge, &json!({"port": "7"})).await;
        let asked = running.asked();
        let asked = asked.iter().find(|it| it.has("operation")).unwrap();
        assert_eq!(
            (asked.str("object.hostPort"), asked.str("oldObject.hostPort")),
            ("one:7", "one:8")
        );

        // What is stored in an older version is written in the new one by any update, even of nothing.
        define(&face, &running, "v2");
        let (_, same) = face.get(&format!("{V1}/b")).await;
        let (code, again) = face.json("PUT", &format!("{V1}/b"), same.clone()).await;
        assert_eq!((code, again.str("hostPort")), (200, "one:2"), "{again}");
        assert_ne!(again.str("metadata.resourceVersion"), same.str("metadata.resourceVersion"));
        running.asked();
        face.get(&format!("{V2}/b")).await;
        assert_eq!(running.asked().len(), 0);
        assert_eq!(names(&face.get(V1).await.1), ["a", "b", "c"], "mixed versions");
    });
}

/// The next events, each with the name and apiVersion of its object.
async fn events(body: &mut http::Body, n: usize) -> Vec<(String, String, Value)> {
    let mut text = String::new();
    while text.lines().count() < n {
        let chunk = rt::timeout(std::time::Duration::from_secs(10), body.next()).await;
        text += &String::from_utf8_lossy(&chunk.unwrap().unwrap().unwrap().into_vec());
    }
    let event = |line: &str| {
        let tree: Value = serde_json::from_str(line).unwrap();
        let object = tree.at("object").clone();
        (tree.str("type").to_owned(), object.str("metadata.name").to_owned(), object)
    };
    text.lines().map(event).collect()
}

#[test]
fn a_watch_sees_what_is_selected_in_its_version() {
    rt::block_on(async {
        let (face, _running, mood) = started().await;
        let watch =
            async |target: &str| face.call("GET", target, ("", "application/json"), "").await.body;
        let mut all = watch(&format!("{V2}?watch=1")).await;
        let mut one = watch(&format!("{V2}?watch=1&fieldSelector=host%3Done")).await;
        let found = events(&mut all, 3).await;
        assert!(found.iter().all(|(kind, _, it)| kind == "ADDED" && it.has("host")), "{found:?}");
        let told = |events: Vec<(String, String, Value)>| -> Vec<String> {
            events
                .into_iter()
                .map(|(kind, name, it)| format!("{kind} {name} {}", it.str("host")))
                .collect()
        };
        assert_eq!(told(events(&mut one, 2).await), ["ADDED a one", "ADDED b one"]);
        let merge = "application/merge-patch+json";
        for (name, patch) in
            [("a", json!({"hostPort": "two:1"})), ("c", json!({"hostPort": "one:5"}))]
        {
            face.ask("PATCH", &format!("{V1}/{name}"), merge, &patch).await;
        }
        face.json("DELETE", &format!("{V1}/b"), Value::Null).await;
        assert_eq!(
            told(events(&mut one, 3).await),
            ["DELETED a one", "ADDED c one", "DELETED b one"]
        );
        assert_eq!(
            told(events(&mut all, 3).await),
            ["MODIFIED a two", "MODIFIED c one", "DELETED b one"]
        );
        mood.set(REFUSES);
        face.ask("PATCH", &format!("{V1}/c"), merge, &json!({"size": 2})).await;
        let last = events(&mut all, 1).await;
        assert_eq!((last[0].0.as_str(), last[0].2.int("code")), ("ERROR", Some(500)));
        assert!(all.next().await.is_none(), "it has ended");
    });
}

#[test]
fn a_webhook_that_fails_stops_nobody_else() {
    rt::block_on(async {
        let (face, running, mood) = started().await;
        let failed = "conversion webhook for example.com/v1, Kind=Port";
        for (is, why) in [
            (REFUSES, format!("{failed} failed: not today")),
            (
                RENAMES,
                format!(
                    "{failed} returned invalid converted object at index 0: must have the same name: a != other"
                ),
            ),
            (LOSES, format!("{failed} returned 0 objects, expected 1")),
        ] {
            mood.set(is);
            let (code, status) = face.get(&format!("{V2}/a")).await;
            assert_eq!(
                (code, status.str("message"), status.at("reason")),
                (500, &*why, &Value::Null)
            );
        }
        // Nobody listens there.
        define_at(&face, &running, 1, "v1");
        let (code, status) = face.get(V2).await;
        assert_eq!(code, 500, "{status}");
        assert!(
            status
                .str("message")
                .starts_with(&format!("{failed} failed: Post \"https://127.0.0.1:")),
            "{status}"
        );
        assert_eq!(face.json("POST", V2, port("d", "x", "1")).await.0, 500);
        assert_eq!(face.get(&format!("{V1}/d")).await.0, 404, "nothing was written");
        assert_eq!(names(&face.get(V1).await.1), ["a", "b", "c"]);
        // What controllers do names no version.
        let admin = face.server.client_as(crate::User::admin());
        let found = admin.list(*PORT, "default", ListOptions::default()).await.unwrap();
        assert_eq!(found.items.len(), 3);
        admin.delete(*PORT, "default", "a", DeleteOptions::default()).await.unwrap();
        assert_eq!(face.json("DELETE", &format!("{V1}/b"), Value::Null).await.0, 200);
        assert_eq!(face.json("DELETE", &format!("{V2}/c"), Value::Null).await.0, 500);
    });
}
