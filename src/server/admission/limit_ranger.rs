//! LimitRanger: bounds and defaults for what pods and claims of a namespace ask for.

use api::kinds::{LIMIT_RANGE, PERSISTENT_VOLUME_CLAIM, POD};
use api::{Lens, Status, Value};
use rules::limits;

use super::{Act, Operation};
use crate::storage;

/// Creations, and the changes that may ask for more.
pub(super) fn handles(act: &Act<'_>) -> bool {
    let resizes = act.operation == Operation::Update && act.subresource() == "resize";
    let asks = act.creates(&POD) || act.writes(&PERSISTENT_VOLUME_CLAIM);
    let leaves = act.old.is_some_and(|old| old.has("metadata.deletionTimestamp"));
    (asks || *act.kind == POD && resizes) && !leaves
}

async fn ranges(act: &Act<'_>) -> Result<Vec<Value>, Status> {
    let (_, ranges) = storage::all(&act.core.store, &LIMIT_RANGE, &act.request.namespace).await?;
    Ok(ranges.iter().map(|range| range.tree()).collect())
}

/// Gives a pod's containers what they do not say; tells whether the pod changed.
pub(super) async fn apply(act: &Act<'_>, pod: &mut Value) -> Result<bool, Status> {
    if *act.kind != POD {
        return Ok(false);
    }
    let mut changed = false;
    for range in ranges(act).await? {
        changed |= limits::apply_defaults(&range, pod);
    }
    Ok(changed)
}

/// # Errors
/// 403 for what does not fit.
pub(super) async fn check(act: &Act<'_>, object: &Value) -> Result<(), Status> {
    for range in ranges(act).await? {
        let mut found = limits::violations(&range, act.kind, object);
        if let [one] = found.as_slice() {
            return Err(act.forbidden(object, one));
        }
        if !found.is_empty() {
            let mut seen = stdx::OrdSet::new();
            found.retain(|why| seen.insert(why.clone()));
            return Err(act.forbidden(object, format!("[{}]", found.join(", "))));
        }
    }
    Ok(())
}
