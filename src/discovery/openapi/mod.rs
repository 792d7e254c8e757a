//! OpenAPI documents, made from the kinds and their schemas when asked for, and not kept.
//!
//! kubectl reads them to explain, to validate before it sends (1.27), to see that the server
//! validates fields, and to merge lists by their keys when it applies.

mod gnostic;
mod paths;
mod schemas;

use std::sync::OnceLock;

use api::catalog::Kinds;
use api::codec::write_tree_json;
use api::form::Form;
use serde_json::{Value, json};
use stdx::OrdMap;
use wire::json::put_string;

/// The two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// Where a group version's v3 document is, without `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub(crate) fn v3_paths(kinds: &Kinds) -> Vec<String> {
    group_versions(kinds).into_iter().map(|(group, version)| v3_path(group, version)).collect()
}

/// The paths of the v3 documents with the hash of each, which is its ETag. To be kept as long as
/// the kinds are the same.
pub fn v3_hashes(kinds: &Kinds) -> Vec<(String, String)> {
    /// Of what code says, which is the same as long as the process lives.
    static IN_CODE: OnceLock<OrdMap<String, String>> = OnceLock::new();
    let in_code = IN_CODE.get_or_init(|| {
        let kinds = Kinds::built_in();
        let hash = |path: String| {
            let mut document = Vec::new();
            v3(&kinds, &path, &mut document);
            (path, hash_of(&[&document]))
        };
        v3_paths(&kinds).into_iter().map(hash).collect()
    });
    let of = |(group, version): (&str, &str)| {
        let path = v3_path(group, version);
        // Documents of definitions are large, and follow from their stamps.
        let stamps: Vec<&[u8]> = crate::forms_of(kinds, group, version)
            .into_iter()
            .filter_map(|form| Some(form.definition()?.0.stamp.as_bytes()))
            .collect();
        let code = in_code.get(&path).map_or("", String::as_str);
        match stamps.is_empty() {
            true => (path, code.to_owned()),
            false => {
                let mut parts = vec![code.as_bytes()];
                parts.extend(stamps);
                (path, hash_of(&parts))
            }
        }
    };
    group_versions(kinds).into_iter().map(of).collect()
}

fn hash_of(parts: &[&[u8]]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| digest.update(part));
    digest.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

/// Appends the v3 document of `api/v1` or `apis/apps/v1`; `None` if nothing is served there.
pub fn v3(kinds: &Kinds, path: &str, out: &mut Vec<u8>) -> Option<()> {
    let (group, version) = group_versions(kinds)
        .into_iter()
        .find(|(group, version)| v3_path(group, version) == path)?;
    let forms = crate::forms_of(kinds, group, version);
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
pub fn v2_json(kinds: &Kinds, out: &mut Vec<u8>) {
    let forms = all_forms(kinds);
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
pub fn v2_protobuf(kinds: &Kinds, out: &mut Vec<u8>) {
    let forms = all_forms(kinds);
    gnostic::document(
        &info(),
        forms.iter().flat_map(|form| paths::of_form(*form, Dialect::V2)),
        schemas::reachable(&forms)
            .into_iter()
            .map(|item| (item.name(), item.definition(Dialect::V2))),
        out,
    );
}

fn write_paths(forms: &[Form<'_>], dialect: Dialect, out: &mut Vec<u8>) {
    let mut first = true;
    for form in forms {
        for (path, item) in paths::of_form(*form, dialect) {
            write_entry(&path, &item, &mut first, out);
        }
    }
}

fn write_schemas(forms: &[Form<'_>], dialect: Dialect, out: &mut Vec<u8>) {
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

fn group_versions(kinds: &Kinds) -> Vec<(&'static str, &str)> {
    let versions =
        |group| crate::versions(kinds, group).into_iter().map(move |version| (group, version));
    crate::groups(kinds).into_iter().flat_map(versions).collect()
}

fn all_forms(kinds: &Kinds) -> Vec<Form<'_>> {
    group_versions(kinds)
        .into_iter()
        .flat_map(|(group, version)| crate::forms_of(kinds, group, version))
        .collect()
}

fn v3_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::custom::Schema;
    use api::definition::{Definition, Version};
    use api::kind::{Kind, Scope};
    use api::lens::Lens;

    /// A definition in `example.com/v1`.
    fn defined(plural: &str, name: &str) -> Definition {
        Definition {
            kind: Kind::intern("example.com", name, plural, Scope::Cluster).unwrap(),
            singular: name.to_ascii_lowercase().into(),
            list_kind: format!("{name}List").into(),
            short: Vec::new(),
            categories: Vec::new(),
            versions: vec![Version {
                name: "v1".into(),
                served: true,
                stored: true,
                schema: Schema::of(&json!({
                    "type": "object",
                    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
                })),
                columns: Vec::new(),
                status: true,
                scale: None,
                selectable: vec!["spec.color".into()],
                warning: None,
            }],
            conversion: None,
            waiting: false,
            terminating: false,
            stamp: "1".into(),
        }
    }

    #[test]
    fn v3_documents_are_whole() {
        let mut n_bytes = 0;
        let kinds = &Kinds::built_in();
        let hashes = v3_hashes(kinds);
        for path in v3_paths(kinds) {
            let mut text = Vec::new();
            v3(kinds, &path, &mut text).unwrap();
            n_bytes += text.len();
            let document: Value = serde_json::from_slice(&text).unwrap();
            check_refs(&document, &document["components"]["schemas"], "#/components/schemas/");
            assert!(hashes.iter().any(|(known, _)| *known == path));
        }
        assert!(n_bytes > 100_000);
        assert!(v3(kinds, "apis/nope/v1", &mut Vec::new()).is_none());
        let mut text = Vec::new();
        v3(kinds, "apis/apps/v1", &mut text).unwrap();
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
    fn kinds_of_run_time_are_published_as_upstream_does() {
        let gadgets = defined("shown", "Shown");
        let mut open = defined("opens", "Open");
        let preserve = "x-kubernetes-preserve-unknown-fields";
        open.versions[0].schema =
            Schema::of(&json!({"type": "object", preserve: true, "description": "d"}));
        let mut none = defined("nones", "None");
        none.versions[0].schema = Schema::none();
        none.list_kind = "Nones".into();
        none.versions[0].selectable.clear();
        let kinds =
            Kinds::built_in().with(gadgets).unwrap().with(open).unwrap().with(none).unwrap();
        let (mut v2, mut v3_text) = (Vec::new(), Vec::new());
        v2_json(&kinds, &mut v2);
        v3(&kinds, "apis/example.com/v1", &mut v3_text).unwrap();
        let v2: Value = serde_json::from_slice(&v2).unwrap();
        let v3: Value = serde_json::from_slice(&v3_text).unwrap();
        let gvk = |kind: &str| json!([{"group": "example.com", "kind": kind, "version": "v1"}]);
        let field = json!([{"fieldPath": "spec.color"}]);
        let bare = |kind: &str, fields: &Value| json!({"type": "object", "x-kubernetes-group-version-kind": gvk(kind), "x-kubernetes-selectable-fields": fields});
        assert_eq!(v2["definitions"]["com.example.v1.Open"], bare("Open", &field));
        let v3 = &v3["components"]["schemas"];
        let open = &v3["com.example.v1.Open"];
        assert_eq!((open.str("description"), open.flag(preserve)), ("d", true));
        for none in [&v2["definitions"]["com.example.v1.None"], &v3["com.example.v1.None"]] {
            assert_eq!(*none, bare("None", &json!([])));
        }
        let list = &v3["com.example.v1.Nones"];
        assert_eq!(list.str("description"), "Nones is a list of None");
        assert_eq!(list["x-kubernetes-group-version-kind"], gvk("Nones"));
        let metadata = &v3["com.example.v1.Shown"]["properties"]["metadata"];
        let object_meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        assert_eq!(metadata["allOf"], json!([{"$ref": object_meta}]));
        assert!(metadata.str("description").starts_with("Standard object's metadata"));
    }

    #[test]
    fn v2_documents_agree() {
        let mut text = Vec::new();
        v2_json(&Kinds::built_in(), &mut text);
        let document: Value = serde_json::from_slice(&text).unwrap();
        check_refs(&document, &document["definitions"], "#/definitions/");
        let mut bytes = Vec::new();
        v2_protobuf(&Kinds::built_in(), &mut bytes);
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
