//! What a client sent in another version, in the one that is stored.

use api::form::Form;
use api::lens::LensMut;
use serde_json::Value;

use crate::kinds;

/// Turns a tree of `form` into the stored one. Where a webhook makes other versions it stays in
/// this one until it is written.
///
/// # Errors
/// What the stored form cannot say.
pub fn to_stored(form: Form<'_>, tree: &mut Value) -> Result<(), String> {
    if let Some(version) = kinds::version(form) {
        (version.to_stored)(tree)?;
    }
    if form.definition().is_some() {
        tree.set("kind", form.kind.name);
        match form.webhook() {
            Some(_) => tree.set("apiVersion", form.api_version()),
            None => {
                tree.set("apiVersion", form.written_version());
                form.prune_written(tree);
            }
        }
    }
    Ok(())
}
