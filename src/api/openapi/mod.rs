//! OpenAPI documents, made from the table of kinds and the schema when asked for, and not kept.
//!
//! kubectl reads them to explain, to validate before it sends (1.27), to see that the server
//! validates fields, and to merge lists by their keys when it applies.

mod gnostic;
mod paths;
mod schemas;

use std::sync::OnceLock;

use serde_json::{Value, json};
use wire::json::put_string;

use crate::codec::write_tree_json;
use crate::discovery;
use crate::kind::Form;

/// The two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// Where a group version's v3 document is, without `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn v3_paths() -> Vec<String> {
    group_versions().into_iter().map(|(group, version)| v3_path(group, version)).collect()
}

/// `GET /openapi/v3`: the paths with the hash of each document.
pub fn v3_index() -> Value {
    let paths: serde_json::Map<String, Value> = hashes()
        .iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The hash in the index; also the document's ETag.
pub fn v3_hash(path: &str) -> Option<String> {
    hashes().iter().find(|(known, _)| known == path).map(|(_, hash)| hash.clone())
}

/// Appends the v3 document of `api/v1` or `apis/apps/v1`; `None` if nothing is served there.
pub fn v3(path: &str, out: &mut Vec<u8>) -> Option<()> {
    let (group, version) =
        group_versions().into_iter().find(|(group, version)| v3_path(group, version) == path)?;
    let forms = discovery::forms_of(group, version);
    out.extend_from_slice(b"{\"openapi\":\"3.0.0\",\"info\":");
    write_tree_json(&info(), out);
    out.extend_from_slice(b",\"paths\":{");
    write_paths(&forms, Dialect::V3, out);
    out.extend_from_slice(b"},\"components\":{\"schemas\":{");
    write_schemas(&forms, Dialect::V3, out);
    out.extend_from_slice(b"}}}");
    Some(())
}

/// Appends the v2 (swagger) document in JSON.
pub fn v2_json(out: &mut Vec<u8>) {
    let forms = all_forms();
    out.extend_from_slice(b"{\"swagger\":\"2.0\",\"info\":");
    write_tree_json(&info(), out);
    out.extend_from_slice(b",\"paths\":{");
    write_paths(&forms, Dialect::V2, out);
    out.extend_from_slice(b"},\"definitions\":{");
    write_schemas(&forms, Dialect::V2, out);
    out.extend_from_slice(b"}}");
}

/// Appends the v2 document as `openapi.v2.Document` protobuf
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(out: &mut Vec<u8>) {
    let forms = all_forms();
    gnostic::document(
        &info(),
        forms.iter().flat_map(|form| paths::of_form(*form, Dialect::V2)),
        schemas::reachable(&forms)
            .into_iter()
            .map(|item| (item.name(), item.definition(Dialect::V2))),
        out,
    );
}

fn write_paths(forms: &[Form], dialect: Dialect, out: &mut Vec<u8>) {
    let mut first = true;
    for form in forms {
        for (path, item) in paths::of_form(*form, dialect) {
            write_entry(&path, &item, &mut first, out);
        }
    }
}

fn write_schemas(forms: &[Form], dialect: Dialect, out: &mut Vec<u8>) {
    let mut first = true;
    for item in schemas::reachable(forms) {
        write_entry(&item.name(), &item.definition(dialect), &mut first, out);
    }
}

fn write_entry(name: &str, value: &Value, first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    put_string(out, name);
    out.push(b':');
    write_tree_json(value, out);
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.32"})
}

fn group_versions() -> Vec<(&'static str, &'static str)> {
    let versions =
        |group| discovery::versions(group).into_iter().map(move |version| (group, version));
    discovery::groups().into_iter().flat_map(versions).collect()
}

fn all_forms() -> Vec<Form> {
    group_versions()
        .into_iter()
        .flat_map(|(group, version)| discovery::forms_of(group, version))
        .collect()
}

fn v3_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// The documents change with the program only, so their hashes are kept: a few hundred bytes.
fn hashes() -> &'static [(String, String)] {
    static HASHES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let hash_of = |path: String| {
            let mut document = Vec::new();
            v3(&path, &mut document);
            let digest = ring::digest::digest(&ring::digest::SHA256, &document);
            let hash = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect();
            (path, hash)
        };
        v3_paths().into_iter().map(hash_of).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lens::Lens;

    #[test]
    fn v3_documents_are_whole() {
        let mut n_bytes = 0;
        for path in v3_paths() {
            let mut text = Vec::new();
            v3(&path, &mut text).unwrap();
            n_bytes += text.len();
            let document: Value = serde_json::from_slice(&text).unwrap();
            check_refs(&document, &document["components"]["schemas"], "#/components/schemas/");
            assert!(v3_hash(&path).is_some());
        }
        assert!(n_bytes > 100_000);
        assert!(v3("apis/nope/v1", &mut Vec::new()).is_none());
        let mut text = Vec::new();
        v3("apis/apps/v1", &mut text).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        let deployment = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
        );
        let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        assert_eq!(item["get"]["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert!(
            item["patch"].list("parameters").iter().any(|p| p.str("name") == "fieldValidation")
        );
        let containers = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
            .at("properties.containers");
        assert_eq!(containers.str("x-kubernetes-patch-merge-key"), "name");
        assert_eq!(containers.str("x-kubernetes-list-type"), "map");
    }

    #[test]
    fn v2_documents_agree() {
        let mut text = Vec::new();
        v2_json(&mut text);
        let document: Value = serde_json::from_slice(&text).unwrap();
        check_refs(&document, &document["definitions"], "#/definitions/");
        let mut bytes = Vec::new();
        v2_protobuf(&mut bytes);
        let mut reader = wire::protobuf::Reader::new(&bytes);
        let mut n_definitions = 0;
        while let Some((tag, wire)) = reader.next().unwrap() {
            if tag == 9 {
                let mut reader = wire::protobuf::Reader::new(wire.bytes().unwrap());
                while let Some((1, _)) = reader.next().unwrap() {
                    n_definitions += 1;
                }
            }
        }
        assert_eq!(n_definitions, document["definitions"].as_object().unwrap().len());
    }

    fn check_refs(value: &Value, schemas: &Value, prefix: &str) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let name = reference.strip_prefix(prefix).unwrap();
                    assert!(schemas.get(name).is_some(), "{reference}");
                }
                map.values().for_each(|value| check_refs(value, schemas, prefix));
            }
            Value::Array(items) => {
                items.iter().for_each(|value| check_refs(value, schemas, prefix))
            }
            _ => {}
        }
    }
}
