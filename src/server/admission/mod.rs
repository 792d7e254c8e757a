//! Admission: what changes objects on their way in, and what refuses them for reasons beyond their own form.

use api::{Kind, Status, Value};
use client::{Request, Verb};

use crate::core::{Caller, Core};

/// One attempt to change something.
pub(crate) struct Act<'a> {
    pub(crate) core: &'a Core,
    pub(crate) caller: &'a Caller,
    /// Create, update (patches too) or delete.
    pub(crate) verb: Verb,
    pub(crate) kind: &'static Kind,
    pub(crate) request: &'a Request,
    pub(crate) old: Option<&'a Value>,
}

/// Runs before names, validation and allocation; may change the object.
pub(crate) async fn mutate(
    act: &Act<'_>,
    tree: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let _ = (act, tree, warnings);
    Ok(())
}

/// Runs after validation. For deletes the object is null, `act.old` says what goes.
pub(crate) async fn validate(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let _ = (act, tree);
    Ok(())
}
