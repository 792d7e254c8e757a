//! The codecs against each other, against recorded objects of Kubernetes 1.32, and against noise.

use serde_json::{Value, json};
use stdx::prng::Prng;

use super::lists::write_list_json;
use super::sample::full;
use super::*;
use crate::kinds::{DEPLOYMENT, KINDS, POD, SECRET};
use crate::message::decode_message;

/// Recorded objects, where the machine has them.
const VECTORS: &str = "/work/shared/vectors/k8s-1.32";

#[test]
fn recorded_objects_decode_and_encode_to_the_same_bytes() {
    let Ok(folder) = std::fs::read_dir(VECTORS) else {
        eprintln!("skipped: no {VECTORS}");
        return;
    };
    let mut n_checked = 0;
    for entry in folder {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "pb") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let opened = envelope::open(&bytes).unwrap().unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        // The file name tells group, version and kind; some meta kinds carry no types inside.
        let parts: Vec<&str> = file.trim_end_matches(".pb").rsplitn(3, '.').collect();
        let group = parts[2].replace("core", "");
        let found = crate::kinds::by_name(&group, parts[0])
            .filter(|kind| kind.declared.version == parts[1]);
        let Some(root) = found.map(|kind| schema().root(kind)).or_else(|| schema().meta(parts[0]))
        else {
            continue;
        };
        if parts[0] == "PodStatusResult" {
            continue;
        }
        let map = decode_message(root, opened.raw).unwrap();
        let mut wanted: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        wanted.remove("apiVersion");
        wanted.remove("kind");
        // The recording tool writes a raw extension's JSON; embedded types are ours to add.
        let tree = Value::Object(map.clone());
        assert_same(file, "", &tree, &wanted);
        let mut encoded = Vec::new();
        encode::message(root, &map, &mut encoded).unwrap();
        assert_eq!(encoded, opened.raw, "{file}");
        let mut normalized = wanted.clone();
        let mut walk = normalize::Walk::default();
        walk.root(root, &mut normalized).unwrap();
        assert!(walk.unknown.is_empty(), "{file}: {:?}", walk.unknown);
        let mut encoded = Vec::new();
        encode::message(root, normalized.as_object().unwrap(), &mut encoded).unwrap();
        assert_eq!(encoded, opened.raw, "{file} from JSON");
        let mut text = Vec::new();
        stream::Stream { out: &mut text, revision: 0, managed: root }
            .root("v1", "X", root, opened.raw)
            .unwrap();
        let mut streamed: Value = serde_json::from_slice(&text).unwrap();
        streamed.remove("apiVersion");
        streamed.remove("kind");
        let mut without_revision = tree.clone();
        without_revision.remove("metadata.resourceVersion");
        if schema().by_json(root, "metadata").and_then(|f| f.message())
            == Some(schema().object_meta)
        {
            streamed.remove("metadata.resourceVersion");
            assert_eq!(streamed, without_revision, "{file} streamed");
        } else {
            assert_eq!(streamed, tree, "{file} streamed");
        }
        n_checked += 1;
    }
    assert!(n_checked >= 25, "{n_checked}");
}

/// Compares with the path of the first difference.
fn assert_same(file: &str, path: &str, got: &Value, wanted: &Value) {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => {
            for key in got.keys().chain(wanted.keys()) {
                let none = Value::Null;
                let (a, b) = (got.get(key).unwrap_or(&none), wanted.get(key).unwrap_or(&none));
                // Types of embedded objects are not in the bytes; we add them.
                if matches!(key.as_str(), "apiVersion" | "kind")
                    && path.ends_with("volumeClaimTemplates[0]")
                {
                    continue;
                }
                assert_same(file, &format!("{path}.{key}"), a, b);
            }
        }
        (Value::Array(got), Value::Array(wanted)) if got.len() == wanted.len() => {
            for (idx, (a, b)) in got.iter().zip(wanted).enumerate() {
                assert_same(file, &format!("{path}[{idx}]"), a, b);
            }
        }
        _ => assert_eq!(got, wanted, "{file}: {path}"),
    }
}

#[test]
fn every_kind_survives_both_codecs() {
    let mut prng = Prng::new(5);
    for kind in KINDS {
        for form in kind.forms() {
            let root = schema().root(form);
            for depth in [0, 4] {
                let mut tree = full(root, &mut prng, depth);
                tree.set("apiVersion", form.api_version());
                tree.set("kind", kind.name);
                let text = serde_json::to_vec(&tree).unwrap();
                let decoded = decode_json_strict(form, &text, FieldValidation::Strict).unwrap();
                assert_eq!(decoded.tree, tree, "{form:?} JSON");
                let bytes = tree_to_protobuf(&tree).unwrap();
                let decoded = decode_protobuf(form, &bytes).unwrap();
                assert_eq!(decoded.tree, tree, "{form:?} protobuf");
                if form.is_stored() {
                    tree.set("metadata.resourceVersion", "42");
                    let object = Object::from_tree(kind, &tree).unwrap();
                    assert_eq!(object.whole_tree(), tree, "{form:?} object");
                    let mut content = tree.clone();
                    content.remove("metadata.managedFields");
                    assert_eq!(object.tree(), content, "{form:?} content");
                    let mut text = Vec::new();
                    write_json(&object, form, &mut text);
                    assert_eq!(
                        serde_json::from_slice::<Value>(&text).unwrap(),
                        tree,
                        "{form:?} streamed"
                    );
                    let mut bytes = Vec::new();
                    write_protobuf(&object, form, &mut bytes);
                    assert_eq!(bytes, tree_to_protobuf(&tree).unwrap(), "{form:?} spliced");
                }
            }
        }
    }
}

#[test]
fn lists_and_watch_frames() {
    let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "3"}});
    let pod = Object::from_tree(&POD, &tree).unwrap();
    let meta = ListMeta { revision: 9, next: "n".into(), remaining: Some(2) };
    let mut text = Vec::new();
    write_list_json(&POD, [&pod, &pod], &meta, &mut text);
    let list: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((list.str("kind"), list.str("metadata.continue")), ("PodList", "n"));
    assert_eq!(list.str("items.1.metadata.resourceVersion"), "3");
    let mut bytes = Vec::new();
    write_list_protobuf(&POD, [&pod, &pod], &meta, &mut bytes);
    let envelope = envelope::open(&bytes).unwrap().unwrap();
    assert_eq!((envelope.api_version, envelope.kind), ("v1", "PodList"));
    let mut object = Vec::new();
    write_protobuf(&pod, &POD, &mut object);
    let mut frame = Vec::new();
    write_watch_protobuf("ADDED", &object, &mut frame);
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    let event = decode_message(schema().meta("WatchEvent").unwrap(), &frame[4..]).unwrap();
    assert_eq!(event["object"].str("metadata.resourceVersion"), "3");
}

#[test]
fn strict_decoding_tells_in_upstreams_words() {
    let decode =
        |text: &str, validation| decode_json_strict(&DEPLOYMENT, text.as_bytes(), validation);
    let text = r#"{"spec":{"replicas":1,"replicas":2,"foo":1,"template":{"spec":{"containers":[{"nam":"x"}]}}}}"#;
    let error = decode(text, FieldValidation::Strict).unwrap_err();
    assert_eq!(
        error.message(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.foo\", unknown field \"spec.template.spec.containers[0].nam\", duplicate field \"spec.replicas\""
    );
    assert_eq!(error.code(), 400);
    let decoded = decode(text, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings.len(), 3);
    assert_eq!(decoded.tree.int("spec.replicas"), Some(2));
    assert!(!decoded.tree.has("spec.foo"));
    let error = decode(r#"{"spec":{"replicas":"2"}}"#, FieldValidation::Ignore).unwrap_err();
    assert_eq!(
        error.message(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go \
         struct field DeploymentSpec.spec.replicas of type int32"
    );
    let error = decode(r#"{"kind":"Pod","apiVersion":"v1"}"#, FieldValidation::Ignore).unwrap_err();
    assert!(error.message().contains("does not match the expected API version (apps/v1)"));
}

#[test]
fn trees_become_canonical() {
    let text = r#"{"metadata":{"name":"s","labels":{},"creationTimestamp":"2024-01-01T01:00:00+01:00"},"data":{"a":"AQI="},"type":""}"#;
    let tree = decode_json_strict(&SECRET, text.as_bytes(), FieldValidation::Strict).unwrap().tree;
    assert_eq!(
        tree,
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "AQI="},
            "metadata": {"name": "s", "creationTimestamp": "2024-01-01T00:00:00Z"}})
    );
    let text = "spec:\n  containers:\n  - name: c\n    resources:\n      limits: {cpu: 1000m, memory: 1}\n";
    let tree =
        decode_yaml(&POD, text.as_bytes(), FieldValidation::Strict, &mut |_| true).unwrap().tree;
    assert_eq!(tree.at("spec.containers.0.resources.limits"), &json!({"cpu": "1", "memory": "1"}));
    assert_eq!(tree.at("status"), &json!({}));
}

#[test]
fn meta_kinds() {
    let options = decode_meta(
        "DeleteOptions",
        br#"{"propagationPolicy":"Foreground","gracePeriodSeconds":0}"#,
    )
    .unwrap();
    assert_eq!(options.int("gracePeriodSeconds"), Some(0));
    let mut tree = options.clone();
    tree.set("kind", "DeleteOptions");
    tree.set("apiVersion", "v1");
    let bytes = tree_to_protobuf(&tree).unwrap();
    assert_eq!(
        decode_meta("DeleteOptions", &bytes).unwrap().str("propagationPolicy"),
        "Foreground"
    );
    let status = Status::not_found(&POD, "x").to_tree();
    let bytes = tree_to_protobuf(&status).unwrap();
    let again = decode_meta("Status", &bytes).unwrap();
    assert_eq!(again.str("message"), "pods \"x\" not found");
    assert!(decode_meta("DeleteOptions", b"[]").is_err());
    assert!(decode_meta("DeleteOptions", b"{\"kind\":\"Pod\"}").is_err());
}

#[test]
fn noise_is_an_error_not_a_panic() {
    let mut prng = Prng::new(11);
    let tree = full(schema().root(&POD), &mut prng, 0);
    let mut tree = tree;
    tree.set("apiVersion", "v1");
    tree.set("kind", "Pod");
    let bytes = tree_to_protobuf(&tree).unwrap();
    let text = serde_json::to_vec(&tree).unwrap();
    for source in [&bytes, &text] {
        for _ in 0..300 {
            let mut noisy = source.clone();
            for _ in 0..=prng.below(4) {
                let idx = usize::try_from(prng.below(noisy.len() as u64)).unwrap();
                match prng.below(3) {
                    0 => noisy[idx] = u8::try_from(prng.below(256)).unwrap(),
                    1 => noisy.truncate(idx.max(5)),
                    _ => noisy.insert(idx, u8::try_from(prng.below(256)).unwrap()),
                }
            }
            if let Ok(decoded) = decode_protobuf(&POD, &noisy) {
                let _ = Object::from_tree(&POD, &decoded.tree);
            }
            let _ = decode_json_strict(&POD, &noisy, FieldValidation::Warn);
            let _ = decode_yaml(&POD, &noisy, FieldValidation::Warn, &mut |_| true);
            if let Ok(object) = Object::from_bytes(&POD, 1, noisy.into()) {
                if let Some(raw) = object.message() {
                    assert!(
                        decode_message(schema().root(&POD), raw).is_ok(),
                        "checked bytes decode"
                    );
                }
                let mut out = Vec::new();
                write_json(&object, &POD, &mut out);
                write_protobuf(&object, &POD, &mut out);
                let _ = object.meta();
            }
        }
    }
}
