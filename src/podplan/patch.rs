//! How a status gets into the API: only where it differs, and without what others wrote there.

use api::{Lens, Object, Value, json};

/// True if everything in `ours` is in `theirs` too, as it is. Times of conditions count.
pub fn covers(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => ours.iter().all(|(key, value)| {
            let empty = value.is_null() || value.as_object().is_some_and(api::Map::is_empty);
            match theirs.get(key) {
                Some(their) => covers(their, value),
                None => empty || value.as_str() == Some(""),
            }
        }),
        (Value::Array(theirs), Value::Array(ours)) => {
            theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(t, o)| covers(t, o))
        }
        (theirs, ours) => theirs == ours,
    }
}

/// The merge patch that gives exactly this object, at its version, the status that [`super::generate_status`] made.
pub fn status_patch(object: &Object, status: &Value) -> Value {
    let mut merged = status.clone();
    let tree = object.tree();
    keep_foreign_conditions(&mut merged, tree.at("status"));
    json!({
        "metadata": {"uid": object.uid(), "resourceVersion": object.revision().to_string()},
        "status": with_removals(tree.at("status"), &merged),
    })
}

/// Conditions that someone else added meanwhile stay.
fn keep_foreign_conditions(status: &mut Value, theirs: &Value) {
    const OWNED: &[&str] =
        &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let Some(Value::Array(list)) = status.get_mut("conditions") else { return };
    let theirs_has = |kind: &str| theirs.list("conditions").iter().any(|c| c.str("type") == kind);
    // What an eviction adds is ours to add, and stays as whoever said it first said it.
    list.retain(|condition| match condition.str("type") {
        "DisruptionTarget" => !theirs_has("DisruptionTarget"),
        kind => OWNED.contains(&kind),
    });
    let foreign = theirs.list("conditions").iter();
    list.extend(foreign.filter(|c| !OWNED.contains(&c.str("type"))).cloned());
}

/// A merge patch that also takes away what we no longer say.
fn with_removals(theirs: &Value, ours: &Value) -> Value {
    const MAY_GO: &[&str] = &["podIP", "podIPs", "reason", "message", "ephemeralContainerStatuses"];
    let mut patch = ours.clone();
    if let Value::Object(map) = &mut patch {
        for key in MAY_GO {
            if theirs.has(key) && !map.contains_key(*key) {
                map.insert((*key).to_owned(), Value::Null);
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let theirs = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "extra": 1});
        for (ours, want) in [
            (json!({"phase": "Running"}), true),
            (json!({"phase": "Running", "lastState": {}, "x": null}), true),
            (json!({"phase": "Failed"}), false),
            (json!({"conditions": []}), false),
            (json!({"conditions": [{"type": "Ready", "status": "True", "reason": ""}]}), true),
        ] {
            assert_eq!(covers(&theirs, &ours), want, "{ours}");
        }
        let patch =
            with_removals(&json!({"podIP": "1", "qosClass": "x"}), &json!({"phase": "Failed"}));
        assert_eq!(patch, json!({"phase": "Failed", "podIP": null}));
    }
}
