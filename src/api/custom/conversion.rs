//! `ConversionReview`: the question to a conversion webhook, and what its answer may say.
//!
//! Source: apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go

use serde_json::{Map, Value};
use wire::json::put_string;

use crate::complain::Cause;
use crate::lens::Lens;

/// What a webhook may change of the metadata.
const CHANGEABLE: [&str; 2] = ["labels", "annotations"];

/// The question for objects, given as JSON text, in another version (`example.com/v2`), as JSON.
pub fn question(review: &str, uid: &str, wanted: &str, objects: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + objects.iter().map(|it| it.len() + 1).sum::<usize>());
    for (before, text) in [
        ("{\"kind\":\"ConversionReview\",\"apiVersion\":", &*api_version(review)),
        (",\"request\":{\"uid\":", uid),
        (",\"desiredAPIVersion\":", wanted),
    ] {
        out.extend_from_slice(before.as_bytes());
        put_string(&mut out, text);
    }
    out.extend_from_slice(b",\"objects\":[");
    for (idx, object) in objects.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        out.extend_from_slice(object);
    }
    out.extend_from_slice(b"]}}");
    out
}

fn api_version(review: &str) -> String {
    format!("apiextensions.k8s.io/{review}")
}

/// The objects of an answer to a question, in its order: each is the one that was sent, and nothing of
/// its metadata changed but labels and annotations.
///
/// # Errors
/// What is wrong with the answer, in upstream's words.
pub fn converted(
    mut answer: Value,
    (review, uid, wanted): (&str, &str, &str),
    sent: &[&[u8]],
) -> Result<Vec<Value>, String> {
    // Only where something is wrong is it read what the objects are.
    let what = || {
        let what = sent.first().map_or_else(String::new, |text| kind_of_text(text));
        format!("conversion webhook for {what}")
    };
    check(&answer, review, uid).map_err(|why| format!("{} failed: {why}", what()))?;
    let objects = match answer.pointer_mut("/response/convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    };
    drop(answer);
    if objects.len() != sent.len() {
        let (n, expected) = (objects.len(), sent.len());
        return Err(format!("{} returned {n} objects, expected {expected}", what()));
    }
    let one = |(idx, (object, sent)): (usize, (Value, &&[u8]))| {
        let told =
            |why| format!("{} returned invalid converted object at index {idx}: {why}", what());
        restored(object, read(sent), wanted).map_err(told)
    };
    objects.into_iter().zip(sent).enumerate().map(one).collect()
}

/// What was sent, which is JSON that was checked.
fn read(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_default()
}

/// `example.com/v1, Kind=Foo` of an object's JSON text, as messages name it.
pub fn kind_of_text(text: &[u8]) -> String {
    kind_of(&read(text))
}

fn kind_of(tree: &Value) -> String {
    format!("{}, Kind={}", tree.str("apiVersion"), tree.str("kind"))
}

/// Whether the answer is one to this question, and says that it succeeded.
fn check(answer: &Value, review: &str, uid: &str) -> Result<(), String> {
    let response = answer.at("response");
    if review == "v1" {
        let is = (answer.str("apiVersion"), answer.str("kind"));
        if is != (&*api_version(review), "ConversionReview") {
            return Err(format!(
                "expected webhook response of {}, Kind=ConversionReview, got {}",
                api_version(review),
                kind_of(answer)
            ));
        }
    }
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let told = response.str("uid");
    if review == "v1" && told != uid {
        return Err(format!("expected response.uid={uid:?}, got {told:?}"));
    }
    match (response.str("result.status"), response.str("result.message")) {
        ("Success", _) => Ok(()),
        (status, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

/// One object of an answer with the metadata of the one that was sent.
fn restored(mut object: Value, mut sent: Value, wanted: &str) -> Result<Value, String> {
    for (what, path, expected) in
        [("groupVersion", "apiVersion", wanted), ("kind", "kind", sent.str("kind"))]
    {
        let received = object.str(path);
        if received != expected {
            return Err(format!("invalid {what} (expected {expected}, received {received})"));
        }
    }
    for (what, path) in
        [("name", "metadata.name"), ("namespace", "metadata.namespace"), ("UID", "metadata.uid")]
    {
        let (expected, received) = (sent.str(path), object.str(path));
        if expected != received {
            return Err(format!("must have the same {what}: {expected} != {received}"));
        }
    }
    let Some(slot) = object.get_mut("metadata") else {
        return Err("missing metadata in converted object".into());
    };
    let Value::Object(mut given) = slot.take() else {
        return Err("invalid metadata in converted object".into());
    };
    let mut metadata = match sent.get_mut("metadata").map(Value::take) {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    for field in CHANGEABLE {
        match given.remove(field).filter(|value| !value.is_null()) {
            None => drop(metadata.remove(field)),
            Some(value) => {
                if metadata.get(field) != Some(&value) {
                    check_map(field, &value)?;
                }
                metadata.insert(field.into(), value);
            }
        }
    }
    *slot = Value::Object(metadata);
    Ok(object)
}

/// Checks labels or annotations that are not those that were sent.
fn check_map(field: &str, value: &Value) -> Result<(), String> {
    let Value::Object(map) = value else {
        return Err(format!("invalid metadata.{field} in converted object"));
    };
    if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("metadata.{field}[{key}] must be a string"));
    }
    let mut causes: Vec<Cause> = Vec::new();
    match field {
        "labels" => crate::labels::labels(value, "metadata.labels", &mut causes),
        _ => crate::labels::annotations(value, "metadata.annotation", &mut causes),
    }
    let told: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match &told[..] {
        [] => Ok(()),
        [only] => Err(only.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lens::LensMut;
    use serde_json::json;

    fn sent() -> Value {
        json!({"apiVersion": "example.com/v1", "kind": "Foo", "hostPort": "h:1", "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "labels": {"l": "1"}, "generation": 3}})
    }

    fn answer(object: &Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
            "uid": "q", "result": {"status": "Success"}, "convertedObjects": [object]}})
    }

    fn told(answer: Value) -> Result<Vec<Value>, String> {
        let sent = sent().to_string();
        converted(answer, ("v1", "q", "example.com/v2"), &[sent.as_bytes()])
    }

    #[test]
    fn a_question_says_what_is_wanted() {
        let (a, b) = (sent().to_string(), json!({}).to_string());
        let text = question("v1beta1", "q", "example.com/v2", &[a.as_bytes(), b.as_bytes()]);
        let tree: Value = serde_json::from_slice(&text).unwrap();
        let request =
            json!({"uid": "q", "desiredAPIVersion": "example.com/v2", "objects": [sent(), {}]});
        assert_eq!(
            tree,
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1beta1", "request": request})
        );
    }

    #[test]
    fn of_the_metadata_labels_and_annotations_may_change() {
        let mut object = json!({"apiVersion": "example.com/v2", "kind": "Foo", "host": "h", "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "annotations": {"x": "y"}, "generation": 9, "finalizers": ["z"]}});
        let found = told(answer(&object)).unwrap();
        object["metadata"] = json!({"name": "a", "namespace": "b", "uid": "u", "annotations": {"x": "y"}, "generation": 3});
        assert_eq!(found, [object]);
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        let good =
            json!({"apiVersion": "example.com/v2", "kind": "Foo", "metadata": sent()["metadata"]});
        assert!(told(answer(&good)).is_ok());
        let what = "conversion webhook for example.com/v1, Kind=Foo";
        for (path, value, why) in [
            (
                "apiVersion",
                json!("apiextensions.k8s.io/v1beta1"),
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v1beta1, Kind=ConversionReview",
            ),
            ("response", json!(null), "failed: no response provided"),
            ("response.uid", json!("other"), "failed: expected response.uid=\"q\", got \"other\""),
            (
                "response.result",
                json!({"status": "Failure", "message": "cannot"}),
                "failed: cannot",
            ),
            ("response.result", json!({}), "failed: response.result.status was '', not 'Success'"),
            ("response.convertedObjects", json!([]), "returned 0 objects, expected 1"),
        ] {
            let mut answer = answer(&good);
            answer.set(path, value);
            assert_eq!(told(answer).unwrap_err(), format!("{what} {why}"));
        }
        let what = format!("{what} returned invalid converted object at index 0:");
        for (path, value, why) in [
            (
                "apiVersion",
                json!("example.com/v3"),
                "invalid groupVersion (expected example.com/v2, received example.com/v3)",
            ),
            ("kind", json!("Bar"), "invalid kind (expected Foo, received Bar)"),
            ("metadata.name", json!("x"), "must have the same name: a != x"),
            ("metadata.namespace", json!("x"), "must have the same namespace: b != x"),
            ("metadata.uid", json!("x"), "must have the same UID: u != x"),
            ("metadata.labels", json!([]), "invalid metadata.labels in converted object"),
            ("metadata.labels", json!({"l": 1}), "metadata.labels[l] must be a string"),
        ] {
            let mut object = good.clone();
            object.set(path, value);
            assert_eq!(told(answer(&object)).unwrap_err(), format!("{what} {why}"));
        }
        let mut object = good.clone();
        object.set("metadata.labels", json!({"l": "/"}));
        assert!(
            told(answer(&object)).unwrap_err().contains("metadata.labels: Invalid value: \"/\"")
        );
    }
}
