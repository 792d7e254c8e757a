//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going.

use api::kinds::NAMESPACE;
use api::status::Reason;
use api::{Lens, Status, Value, json};

use super::{Act, Operation};
use crate::storage;

/// Namespaces that are never deleted.
const IMMORTAL: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Checks a creation or a deletion; changes nothing.
pub(super) async fn check(act: &Act<'_>, tree: &Value) -> Result<bool, Status> {
    match act.operation {
        Operation::Delete => check_delete(act)?,
        Operation::Create if act.kind.namespaced() && !is_question(act) => {
            check_create(act, tree).await?;
        }
        _ => {}
    }
    Ok(false)
}

/// Reviews make nothing.
fn is_question(act: &Act<'_>) -> bool {
    !act.kind.stored() && act.kind.name.ends_with("Review")
}

async fn check_create(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let name = &act.request.namespace;
    let namespace = storage::get(&act.core.store, &NAMESPACE, "", name).await?;
    if !namespace.deleting() {
        return Ok(());
    }
    let refusal = act.forbidden(
        tree,
        format!("unable to create new content in namespace {name} because it is being terminated"),
    );
    debug_assert_eq!(refusal.reason(), Reason::Forbidden);
    Err(refusal.detail(
        "causes",
        json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {name} is being terminated"),
            "field": "metadata.namespace",
        }]),
    ))
}

fn check_delete(act: &Act<'_>) -> Result<(), Status> {
    let name = act.old.map_or("", |old| old.str("metadata.name"));
    match *act.kind == NAMESPACE && IMMORTAL.contains(&name) {
        true => Err(Status::forbidden(act.kind, name, "this namespace may not be deleted")),
        false => Ok(()),
    }
}
