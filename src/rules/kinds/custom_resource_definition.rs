//! CustomResourceDefinition: a kind that users define.

use api::kinds::{CUSTOM_RESOURCE_CLEANUP, CUSTOM_RESOURCE_DEFINITION};
use api::lens::{Lens, LensMut};
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::custom;

pub(super) static RULES: Rules = Rules {
    kind: &CUSTOM_RESOURCE_DEFINITION,
    columns: COLUMNS,
    default,
    prepare,
    terminate,
    validate: custom::check,
    validate_status: custom::check_status,
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[Column::CREATED_AT];

fn default(tree: &mut Value) {
    let kind = tree.str("spec.names.kind").to_owned();
    if tree.str("spec.names.singular").is_empty() && !kind.is_empty() {
        tree.set("spec.names.singular", kind.to_ascii_lowercase());
    }
    if tree.str("spec.names.listKind").is_empty() && !kind.is_empty() {
        tree.set("spec.names.listKind", format!("{kind}List"));
    }
    tree.set_default("spec.conversion", serde_json::json!({"strategy": "None"}));
    if tree.has("spec.conversion.webhook.clientConfig.service") {
        tree.set_default("spec.conversion.webhook.clientConfig.service.port", 443);
    }
    if tree.list("status.storedVersions").is_empty() {
        store_version(tree);
    }
}

fn prepare(new: &mut Value, _: Option<&Value>) {
    store_version(new);
}

/// Notes that objects are written in the storage version from now on.
fn store_version(tree: &mut Value) {
    let stored = tree.list("spec.versions").iter().find(|version| version.flag("storage"));
    let Some(name) = stored.map(|version| version.at("name").clone()) else { return };
    if !tree.list("status.storedVersions").contains(&name) {
        tree.list_mut("status.storedVersions").push(name);
    }
}

/// The first request to delete it: its objects go before it does.
fn terminate(tree: &mut Value, now: stdx::time::Wall) -> bool {
    if !tree.list("metadata.finalizers").iter().any(|name| name == CUSTOM_RESOURCE_CLEANUP) {
        tree.list_mut("metadata.finalizers").push(CUSTOM_RESOURCE_CLEANUP.into());
    }
    api::custom::set_condition(
        tree,
        "Terminating",
        ("True", "InstanceDeletionPending"),
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
    true
}
