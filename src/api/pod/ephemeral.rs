//! Claims that are made for the ephemeral volumes of one pod.

use crate::lens::Lens;
use serde_json::Value;

/// Whether the claim of an ephemeral volume was made for this pod; one of the same name may be
/// somebody's data.
///
/// # Errors
/// If it was not, in upstream's words.
pub fn check_owner(pod: &Value, claim: &Value) -> Result<(), String> {
    let uid = pod.str("metadata.uid");
    let owned = claim
        .list("metadata.ownerReferences")
        .iter()
        .any(|owner| owner.flag("controller") && owner.str("uid") == uid);
    if owned && !uid.is_empty() {
        return Ok(());
    }
    let name =
        |tree: &Value| format!("{}/{}", tree.str("metadata.namespace"), tree.str("metadata.name"));
    Err(format!("PVC {} was not created for pod {} (pod is not owner)", name(claim), name(pod)))
}
