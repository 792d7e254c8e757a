//! Reading and setting entries of `status.conditions`.

pub(crate) use api::custom::is_true;
use api::{Lens, LensMut, Value, json};
use stdx::time::Now;

/// The condition of type `kind` in a tree's status.
pub(crate) fn find<'a>(tree: &'a Value, kind: &str) -> Option<&'a Value> {
    in_list(tree.list("status.conditions"), kind)
}

pub(crate) fn in_list<'a>(list: &'a [Value], kind: &str) -> Option<&'a Value> {
    list.iter().find(|condition| condition.str("type") == kind)
}

/// One condition to set.
#[derive(Debug, Clone)]
pub(crate) struct Condition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: String,
}

impl Condition<'_> {
    /// As a tree, changed now.
    pub(crate) fn tree(&self, now: Now) -> Value {
        let mut tree = json!({
            "type": self.kind, "status": self.status,
            "lastTransitionTime": api::time::format(now.wall),
        });
        if !self.reason.is_empty() {
            tree.set("reason", self.reason);
        }
        if !self.message.is_empty() {
            tree.set("message", self.message.clone());
        }
        tree
    }
}

/// Puts a condition in its place in the list, or at the end. `lastTransitionTime` moves only with
/// the status; other fields of an existing entry (probe times) stay.
pub(crate) fn set(list: &mut Vec<Value>, condition: &Condition<'_>, now: Now) {
    let tree = condition.tree(now);
    let Some(old) = list.iter_mut().find(|old| old.str("type") == condition.kind) else {
        list.push(tree);
        return;
    };
    let moved = old.str("status") != condition.status;
    for (field, value) in tree.as_object().into_iter().flatten() {
        if field != "lastTransitionTime" || moved || !old.has(field) {
            old.set(field, value.clone());
        }
    }
    for (field, text) in [("reason", condition.reason), ("message", &condition.message)] {
        if text.is_empty() {
            old.remove(field);
        }
    }
}

pub(crate) fn remove(list: &mut Vec<Value>, kind: &str) {
    list.retain(|condition| condition.str("type") != kind);
}
