//! Every verb that discovery names for every kind, over JSON and protobuf, and what of it `docs/api-coverage.md` says.
//!
//! `make test` writes the page anew; in CI the test fails where that was forgotten.

use std::fmt::Write;

use api::codec::FieldValidation;
use api::{Lens, LensMut, Resource, Value, json};
use stdx::{OrdMap, OrdSet};

use super::kinds::Face;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api-coverage.md");
const LABEL: &str = "coverage=yes";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Values that take the place of each value of an object, to see which rule refuses them.
fn wrong() -> [Value; 9] {
    [
        Value::Null,
        json!(""),
        json!("Not Valid!"),
        json!("x".repeat(300)),
        json!(-1),
        json!(70_000),
        json!([]),
        json!({}),
        json!({"Not Valid!": "Not Valid!"}),
    ]
}

/// One object of each kind, by `apiVersion` and kind.
fn objects() -> OrdMap<(String, String), Value> {
    let mut objects: Vec<Value> = wire::yaml::parse(include_str!("objects.yaml")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    objects.push(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "spec": {
            "request": wire::base64::encode(request.pem().unwrap().as_bytes()),
            "signerName": "example.com/s", "usages": ["client auth"],
        },
    }));
    let types = |tree: &Value| (tree.str("apiVersion").to_owned(), tree.str("kind").to_owned());
    objects.into_iter().map(|tree| (types(&tree), tree)).collect()
}

/// What one version of a resource can do.
struct Row {
    verbs: Vec<String>,
    subresources: Vec<String>,
    rules: usize,
    resource: Resource,
}

/// The resources of a server, as its discovery tells them.
async fn discovered(face: &Face) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let kinds = api::Kinds::built_in();
    for resource in kinds.resources() {
        let form = resource.form();
        let (group, version) = (form.group(), form.version());
        let prefix = if group.is_empty() { "/api".into() } else { format!("/apis/{group}") };
        let (code, list) = face.get(&format!("{prefix}/{version}")).await;
        assert_eq!(code, 200, "{prefix}/{version}");
        let (mut verbs, mut subresources) = (None, Vec::new());
        for entry in list.list("resources") {
            let words = || {
                entry.list("verbs").iter().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            match entry.str("name").strip_prefix(resource.kind.plural) {
                Some("") => verbs = Some(words()),
                Some(rest) if rest.starts_with('/') => subresources.push(rest[1..].to_owned()),
                _ => {}
            }
        }
        let Some(verbs) = verbs else { continue };
        rows.push(Row { verbs, subresources, rules: 0, resource: resource.clone() });
    }
    rows
}

/// How an object goes to the server, and comes back.
async fn ask(
    face: &Face,
    method: &str,
    target: &str,
    encoding: &str,
    body: Option<&Value>,
) -> Value {
    let response = send(face, method, target, encoding, body).await;
    answered(response, method, target, encoding).await
}

/// A request whose body is in an encoding, which is asked for, too.
async fn send(
    face: &Face,
    method: &str,
    target: &str,
    encoding: &str,
    body: Option<&Value>,
) -> http::Response {
    let bytes = match body {
        None => Vec::new(),
        Some(tree) if encoding == PROTOBUF => api::codec::tree_to_protobuf(tree).unwrap(),
        Some(tree) => tree.to_string().into_bytes(),
    };
    face.send(method, target, (encoding, encoding), bytes).await
}

/// Gives an object an annotation by PUT. What a controller wrote since it was read is a conflict, and read again, as
/// clients do: an APIService's status is written as soon as it was looked at.
async fn update(face: &Face, one: &str, encoding: &str) {
    for _ in 0..10 {
        let mut read = ask(face, "GET", one, JSON, None).await;
        read.set("metadata.annotations", json!({"a": "b"}));
        let response = send(face, "PUT", one, encoding, Some(&read)).await;
        if response.status != 409 {
            answered(response, "PUT", one, encoding).await;
            return;
        }
    }
    panic!("PUT {one}: ten conflicts in a row");
}

/// What was answered with success, in the encoding that was asked for.
async fn answered(
    mut response: http::Response,
    method: &str,
    target: &str,
    encoding: &str,
) -> Value {
    let watches = target.contains("watch=");
    let answer = match watches {
        true => Vec::new(),
        false => response.body.read_all(64 << 20).await.unwrap(),
    };
    let text = String::from_utf8_lossy(&answer);
    assert!(response.status < 300, "{method} {target} {encoding}: {} {text}", response.status);
    let said = response.headers.get("content-type").unwrap_or("");
    assert!(said.starts_with(encoding), "{method} {target}: {encoding} was asked for, {said} came");
    if watches || encoding == PROTOBUF {
        assert!(watches || answer.starts_with(b"k8s\0"), "{method} {target}: no protobuf");
        return Value::Null;
    }
    serde_json::from_slice(&answer).unwrap()
}

/// Does everything that a row says, in one encoding.
async fn verify(face: &Face, row: &Row, object: &Value, encoding: &str) {
    let form = row.resource.form();
    let (kind, has) = (form.kind, |verb: &str| row.verbs.iter().any(|it| it == verb));
    let prefix =
        if form.group().is_empty() { "/api".into() } else { format!("/apis/{}", form.group()) };
    let scope = if kind.namespaced() { "/namespaces/default" } else { "" };
    let all = format!("{prefix}/{}{scope}/{}", form.version(), kind.plural);
    let end = if encoding == JSON { "json" } else { "protobuf" };
    let name = match object.str("metadata.name") {
        "" => format!("coverage-{end}"),
        fixed => fixed.to_owned(),
    };
    let one = format!("{all}/{name}");
    let mut object = object.clone();
    object.set("metadata.name", name.as_str());
    object.set("metadata.labels", json!({"coverage": "yes"}));
    if kind.plural == "bindings" {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(face.json("POST", &all.replace("bindings", "pods"), pod).await.0, 201);
    }
    if has("create") {
        ask(face, "POST", &all, encoding, Some(&object)).await;
    }
    if has("get") && has("create") {
        ask(face, "GET", &one, encoding, None).await;
        for part in
            row.subresources.iter().filter(|name| matches!(name.as_str(), "status" | "scale"))
        {
            ask(face, "GET", &format!("{one}/{part}"), encoding, None).await;
        }
        if has("update") {
            update(face, &one, encoding).await;
        }
        if has("patch") {
            let merge = json!({"metadata": {"annotations": {"c": "d"}}});
            let path = json!([{"op": "add", "path": "/metadata/annotations/e", "value": "f"}]);
            let mut applied = object.clone();
            applied.set("metadata.annotations", json!({"g": "h"}));
            for (media, body, query) in [
                ("application/merge-patch+json", &merge, ""),
                ("application/strategic-merge-patch+json", &merge, ""),
                ("application/json-patch+json", &path, ""),
                ("application/apply-patch+yaml", &applied, "?fieldManager=m&force=true"),
            ] {
                let body = body.to_string().into_bytes();
                let target = format!("{one}{query}");
                let response = face.send("PATCH", &target, (media, encoding), body).await;
                assert_eq!(response.status, 200, "{target} {media} {encoding}");
            }
        }
    }
    if has("list") {
        ask(face, "GET", &all, encoding, None).await;
    }
    if has("watch") {
        let watch = format!("{all}?watch=true&timeoutSeconds=5");
        ask(face, "GET", &watch, encoding, None).await;
    }
    if has("delete") {
        ask(face, "DELETE", &format!("{one}?gracePeriodSeconds=0"), encoding, None).await;
    }
    if has("deletecollection") {
        let target = format!("{all}?labelSelector={LABEL}&gracePeriodSeconds=0");
        ask(face, "DELETE", &target, encoding, None).await;
    }
    if has("delete") {
        // Nobody takes finalizers away here.
        let freed = json!({"metadata": {"finalizers": null}}).to_string().into_bytes();
        face.send("PATCH", &one, ("application/merge-patch+json", JSON), freed).await;
    }
}

/// How many rules refused an object in whose fields wrong values were put, one at a time: pairs of a field
/// (whichever item of a list) and a reason.
fn rules(resource: &Resource, object: &Value) -> usize {
    let form = resource.form();
    let mut found = OrdSet::new();
    let mut places = Vec::new();
    let ready = |tree: &Value| {
        let text = tree.to_string();
        let decoded =
            api::codec::decode_json_strict(form, text.as_bytes(), FieldValidation::Ignore);
        let mut tree = decoded.ok()?.tree;
        if form.kind.namespaced() {
            tree.set_default("metadata.namespace", "default");
        }
        tree.set_default("metadata.name", "coverage");
        rules::defaults::apply(form, &mut tree);
        Some(tree)
    };
    // Rules are of the stored form, as a create has it.
    let stored = |mut tree: Value| {
        rules::to_stored(form, &mut tree).ok()?;
        rules::strategy::create(form.stored(), &mut tree);
        Some(tree)
    };
    let Some(whole) = ready(object) else { panic!("{:?} is not read", form.kind.name) };
    let Some(made) = stored(whole.clone()) else {
        panic!("{:?} has no stored form", form.kind.name)
    };
    assert_eq!(rules::validate::create(form, &made), Ok(()), "{}", form.kind.name);
    paths(&whole, &mut String::new(), &mut places);
    for place in places {
        for value in wrong() {
            let mut tree = whole.clone();
            *tree.pointer_mut(&place).unwrap() = value;
            let Some(tree) = ready(&tree).and_then(stored) else { continue };
            let Err(status) = rules::validate::create(form, &tree) else { continue };
            let details = status.details();
            let causes = details.get("causes").and_then(Value::as_array).cloned();
            for cause in causes.unwrap_or_default() {
                let field: String =
                    cause.str("field").chars().filter(|c| !c.is_ascii_digit()).collect();
                found.insert((field, cause.str("reason").to_owned()));
            }
        }
    }
    found.len()
}

/// The JSON pointers of all values below a tree. What this test wrote is not deep.
fn paths(tree: &Value, at: &mut String, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match tree {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(n, it)| (n.to_string(), it)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        let len = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        out.push(at.clone());
        paths(child, at, out);
        at.truncate(len);
    }
}

fn page(rows: &[Row]) -> String {
    let mut page = String::from(
        "# What of the Kubernetes API is served\n\n\
         A test (`src/server/checks/coverage.rs`) reads discovery, asks every verb of every kind over each encoding, and writes this page \
         (`make test`).\n\
         *Rules* is the number of pairs of a field and a reason for which an object was refused when the test put wrong values into each of its \
         fields, one\nat a time; rules about several fields at once have tests of their own.\n\n\
         | group and version | kind | scope | verbs | encodings | subresources | rules |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let form = row.resource.form();
        let scope = if form.kind.namespaced() { "namespace" } else { "cluster" };
        let encodings = if form.kind.declared.json { "JSON" } else { "JSON, protobuf" };
        let (verbs, subresources) = (row.verbs.join(" "), row.subresources.join(" "));
        let version = form.api_version();
        let name = form.kind.name;
        writeln!(
            page,
            "| {version} | {name} | {scope} | {verbs} | {encodings} | {subresources} | {} |",
            row.rules
        )
        .unwrap();
    }
    page
}

#[test]
fn every_verb_of_every_kind_is_served() {
    let page = rt::block_on(async {
        let face = Face::new().await;
        let objects = objects();
        let mut rows = discovered(&face).await;
        for row in &mut rows {
            let form = row.resource.form();
            let key = (form.api_version(), form.kind.name.to_owned());
            let writable = row.verbs.iter().any(|verb| verb == "create");
            let object = match objects.get(&key) {
                Some(object) => object.clone(),
                None if !writable => json!({}),
                None => panic!("objects.yaml has no {key:?}"),
            };
            if writable {
                row.rules = rules(&row.resource, &object);
            }
            verify(&face, row, &object, JSON).await;
            if !form.kind.declared.json {
                verify(&face, row, &object, PROTOBUF).await;
            }
        }
        page(&rows)
    });
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    if page != written && option_env!("CI").is_none() {
        std::fs::write(PAGE, &page).unwrap();
        return;
    }
    assert!(page == written, "docs/api-coverage.md is out of date: run make test and commit it");
}
