//! Defaulting: fills what a client left out, as upstream's v1 defaults do.

use serde_json::Value;

use crate::kind::Form;

/// Fills defaults into a tree of `form`. Idempotent. Runs after decoding and after each patch,
/// before `strategy` and `validate`.
pub fn apply(form: impl Into<Form>, tree: &mut Value) {
    let form = form.into();
    (form.kind.default)(tree);
}
