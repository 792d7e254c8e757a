//! `metadata.managedFields`: who manages what, since when.

use api::lens::{Lens, LensMut};
use serde_json::{Value, json};
use stdx::Arrange;
use stdx::time::Wall;

use super::fields::Fields;

/// Managers by update that are kept apart; older ones become one, as upstream.
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manager {
    pub name: String,
    /// Or by update.
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub fields: Fields,
}

impl Manager {
    /// The same identity: entries of one identity are one.
    pub(super) fn is(
        &self,
        name: &str,
        applies: bool,
        api_version: &str,
        subresource: &str,
    ) -> bool {
        self.name == name
            && self.applies == applies
            && self.api_version == api_version
            && self.subresource == subresource
    }

    /// As conflicts name it.
    pub(super) fn shown(&self) -> String {
        match self.subresource.as_str() {
            "" => format!("{:?} using {}", self.name, self.api_version),
            sub => format!("{:?} with subresource {sub:?} using {}", self.name, self.api_version),
        }
    }
}

/// Reads a tree's managers; `None` if the tree says nothing about them.
pub(super) fn read(tree: &Value) -> Option<Vec<Manager>> {
    let entries = tree.at("metadata.managedFields").as_array()?;
    let managers = entries.iter().filter(|entry| entry.has("fieldsV1")).map(|entry| Manager {
        name: entry.str("manager").to_owned(),
        applies: entry.str("operation") == "Apply",
        api_version: entry.str("apiVersion").to_owned(),
        subresource: entry.str("subresource").to_owned(),
        time: entry.str("time").to_owned(),
        fields: Fields::read(entry.at("fieldsV1")),
    });
    Some(managers.collect())
}

/// Writes managers into a tree, those who manage nothing left out.
pub(super) fn write(tree: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|manager| !manager.fields.is_empty());
    // Applies first, then by time, as upstream sorts them.
    managers.arrange_by(|a, b| {
        (!a.applies, &a.time, &a.name, &a.api_version, &a.subresource).cmp(&(
            !b.applies,
            &b.time,
            &b.name,
            &b.api_version,
            &b.subresource,
        ))
    });
    fold_ancient(&mut managers);
    let entries: Vec<Value> = managers
        .into_iter()
        .map(|manager| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": manager.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": manager.fields.write(),
            });
            if !manager.time.is_empty() {
                entry.set("time", manager.time.as_str());
            }
            if !manager.subresource.is_empty() {
                entry.set("subresource", manager.subresource.as_str());
            }
            entry
        })
        .collect();
    match entries.is_empty() {
        true => drop(tree.remove("metadata.managedFields")),
        false => tree.set("metadata.managedFields", entries),
    }
}

/// The manager of this identity, made if absent.
pub(super) fn entry<'a>(
    managers: &'a mut Vec<Manager>,
    name: &str,
    applies: bool,
    api_version: &str,
    subresource: &str,
) -> &'a mut Manager {
    let idx = managers.iter().position(|m| m.is(name, applies, api_version, subresource));
    let idx = idx.unwrap_or_else(|| {
        managers.push(Manager {
            name: name.to_owned(),
            applies,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: String::new(),
            fields: Fields::default(),
        });
        managers.len() - 1
    });
    &mut managers[idx]
}

pub(super) fn stamp(now: Wall) -> String {
    api::time::format(now)
}

/// The oldest managers by update become one, so that the list is bounded.
fn fold_ancient(managers: &mut Vec<Manager>) {
    while managers.iter().filter(|manager| !manager.applies).count() > UPDATE_MANAGERS_MAX {
        // Sorted above: the first updates are the oldest.
        let Some(first) = managers.iter().position(|manager| !manager.applies) else { return };
        let oldest = managers.remove(first);
        let Some(next) = managers.get_mut(first) else { return };
        next.fields.join(oldest.fields);
        next.name = ANCIENT.to_owned();
        next.subresource.clear();
    }
}
