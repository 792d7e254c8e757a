//! From client-side to server-side apply: what `kubectl apply` managed by updates is from now on what it applies, so that
//! fields that a file no longer has can go.
//!
//! Source: k8s.io/client-go/util/csaupgrade.

use api::lens::{Lens, LensMut};
use serde_json::Value;

use super::LAST_APPLIED;
use super::fields::Fields;

/// Who manages the annotation of client-side apply, by applying it or by updates.
pub fn annotators(object: &Value, applies: bool) -> Vec<String> {
    let wanted = if applies { "Apply" } else { "Update" };
    let annotation = format!("f:{LAST_APPLIED}");
    let mut names = Vec::new();
    for entry in object.list("metadata.managedFields") {
        let fields = Fields::read(entry.at("fieldsV1"));
        let mut at = Some(&fields);
        for element in ["f:metadata", "f:annotations", &annotation] {
            at = at.and_then(|fields| fields.children.get(element));
        }
        let name = entry.str("manager").to_owned();
        let owns = at.is_some_and(|fields| fields.member);
        if owns && entry.str("operation") == wanted && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The `metadata.managedFields` of an object in which `to` applies what `from` managed by updates; `None` if they are so.
pub fn upgraded(object: &Value, from: &[String], to: &str) -> Option<Value> {
    let before = object.at("metadata.managedFields").as_array()?;
    let mut entries = before.clone();
    for name in from {
        let find = |entries: &[Value], manager: &str, operation: &str| {
            entries.iter().position(|entry| is(entry, manager, operation))
        };
        let own = find(&entries, to, "Apply").or_else(|| find(&entries, name, "Update"));
        let Some(own) = own else { continue };
        entries[own].set("manager", to);
        entries[own].set("operation", "Apply");
        let mut fields = Fields::read(entries[own].at("fieldsV1"));
        let version = entries[own].str("apiVersion");
        // Of other versions the fields may be called otherwise: they are dropped, as upstream.
        let same = |entry: &&Value| is(entry, name, "Update") && entry.str("apiVersion") == version;
        if let Some(updates) = entries.iter().find(same) {
            fields.join(Fields::read(updates.at("fieldsV1")));
        }
        entries[own]["fieldsV1"] = fields.write();
        entries.retain(|entry| !is(entry, name, "Update"));
    }
    (entries != *before).then_some(Value::Array(entries))
}

/// Whether an entry is of this manager and of the object itself, not of a part like its status.
fn is(entry: &Value, manager: &str, operation: &str) -> bool {
    entry.str("manager") == manager
        && entry.str("operation") == operation
        && entry.str("subresource").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields})
    }

    fn annotated(data: &str) -> Value {
        let mut fields = json!({"f:metadata": {"f:annotations": {}}, "f:data": {}});
        fields["f:metadata"]["f:annotations"][format!("f:{LAST_APPLIED}")] = json!({});
        fields["f:data"][data] = json!({});
        fields
    }

    #[test]
    fn an_update_becomes_an_apply() {
        let client = "kubectl-client-side-apply".to_owned();
        let other = entry("other", "Update", json!({"f:data": {"f:c": {}}}));
        let mut object = json!({"metadata": {"managedFields": [
            entry(&client, "Update", annotated("f:a")), other,
        ]}});
        assert_eq!(annotators(&object, false), [client.as_str()]);
        assert!(annotators(&object, true).is_empty());
        let from = annotators(&object, false);
        let done = upgraded(&object, &from, "kubectl").unwrap();
        assert_eq!(done, json!([entry("kubectl", "Apply", annotated("f:a")), other]));
        object["metadata"]["managedFields"] = done;
        assert_eq!(upgraded(&object, &annotators(&object, false), "kubectl"), None);
        assert_eq!(annotators(&object, true), ["kubectl"]);
    }

    #[test]
    fn updates_join_what_is_applied_already() {
        let mine = entry("kubectl", "Apply", json!({"f:data": {".": {}, "f:b": {}}}));
        let mut status = entry("c", "Update", json!({"f:status": {}}));
        status["subresource"] = "status".into();
        let mut old = entry("c", "Update", annotated("f:old"));
        old["apiVersion"] = "v1beta1".into();
        let object = json!({"metadata": {"managedFields": [
            mine, entry("c", "Update", annotated("f:a")), status, old,
        ]}});
        let mut fields = annotated("f:a");
        fields["f:data"] = json!({".": {}, "f:a": {}, "f:b": {}});
        let wanted = json!([entry("kubectl", "Apply", fields), status]);
        assert_eq!(upgraded(&object, &["c".to_owned()], "kubectl"), Some(wanted));
        assert_eq!(upgraded(&object, &[], "kubectl"), None);
        assert_eq!(upgraded(&json!({}), &["c".to_owned()], "kubectl"), None);
    }
}
