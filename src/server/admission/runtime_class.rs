//! RuntimeClass: a pod gets the overhead and the scheduling constraints of the class that it names.

use api::kinds::RUNTIME_CLASS;
use api::status::Reason;
use api::{Lens, LensMut, Status, Value};

use super::Act;
use crate::storage;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class that a pod names.
async fn class_of(act: &Act<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = pod.at("spec.runtimeClassName").as_str() else { return Ok(None) };
    match storage::find(&act.core.store, &RUNTIME_CLASS, "", name).await? {
        Some(class) => Ok(Some(class.tree())),
        None => Err(match api::names::unaskable(name) {
            Some(why) => Status::new(Reason::Unknown, why),
            None => act.forbidden(pod, format!("pod rejected: RuntimeClass {name:?} not found")),
        }),
    }
}

pub(super) async fn apply(act: &Act<'_>, pod: &mut Value) -> Result<bool, Status> {
    let Some(class) = class_of(act, pod).await? else { return Ok(false) };
    if class.has("overhead") {
        let (fixed, own) = (class.at("overhead.podFixed"), pod.at("spec.overhead"));
        if own.as_object().is_some_and(|own| !own.is_empty()) && own != fixed {
            return Err(act.forbidden(pod, MISMATCH));
        }
        pod.set("spec.overhead", fixed.clone());
    }
    let scheduling = class.at("scheduling");
    if scheduling.is_null() {
        return Ok(class.has("overhead"));
    }
    for (key, value) in scheduling.pairs("nodeSelector") {
        let own = pod.entry("spec.nodeSelector", key).map(str::to_owned);
        if let Some(own) = own.filter(|own| own != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(act.forbidden(pod, why));
        }
        pod.map_mut("spec.nodeSelector").insert(key.to_owned(), value.into());
    }
    let merged = merged(pod.list("spec.tolerations"), scheduling.list("tolerations"));
    if !merged.is_empty() {
        pod.set("spec.tolerations", merged);
    }
    Ok(true)
}

/// Whatever other plugins did, the overhead is the class's.
pub(super) async fn check(act: &Act<'_>, pod: &Value) -> Result<(), Status> {
    let class = class_of(act, pod).await?;
    let own = pod.at("spec.overhead");
    match class.filter(|class| class.has("overhead")) {
        Some(class) if class.at("overhead.podFixed") != own => Err(act.forbidden(pod, MISMATCH)),
        None if !own.is_null() => Err(act.forbidden(
            pod,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
        _ => Ok(()),
    }
}

/// Both lists, without what another toleration of them covers.
fn merged(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<&Value> = Vec::new();
    for (idx, one) in all.iter().enumerate() {
        let covered = merged.iter().any(|other| covers(other, one))
            || all[idx + 1..].iter().any(|other| other != one && covers(other, one));
        if !covered {
            merged.push(one);
        }
    }
    merged.into_iter().cloned().collect()
}

/// Whether whatever `one` tolerates, `all` tolerates too.
fn covers(all: &Value, one: &Value) -> bool {
    let exists = all.str("operator") == "Exists";
    if all == one {
        return true;
    }
    if one.str("key") != all.str("key") && !(all.str("key").is_empty() && exists) {
        return false;
    }
    let effect = all.str("effect");
    if !effect.is_empty() && one.str("effect") != effect {
        return false;
    }
    if effect == "NoExecute"
        && let Some(longest) = all.int("tolerationSeconds")
        && one.int("tolerationSeconds").is_none_or(|secs| secs > longest)
    {
        return false;
    }
    exists || one.str("operator") == "Equal" && one.at("value") == all.at("value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn tolerations_that_others_cover_are_left_out() {
        let exact = json!({"key": "a", "operator": "Equal", "value": "x"});
        let any = json!({"key": "a", "operator": "Exists"});
        let all = json!({"operator": "Exists"});
        let brief = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let forever = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        for (first, second, wanted) in [
            (vec![&exact], vec![&exact], vec![&exact]),
            (vec![&exact], vec![&any], vec![&any]),
            (vec![&any], vec![&exact], vec![&any]),
            (vec![&exact, &brief], vec![&all], vec![&all]),
            (vec![&brief], vec![&forever], vec![&forever]),
            (vec![&forever], vec![&brief], vec![&forever]),
            (vec![&exact], vec![&brief], vec![&exact, &brief]),
        ] {
            let owned = |list: Vec<&Value>| list.into_iter().cloned().collect::<Vec<_>>();
            assert_eq!(merged(&owned(first), &owned(second)), owned(wanted));
        }
    }
}
