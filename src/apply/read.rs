//! What a client applies, read without changing it, and made canonical once it is merged.

use api::codec::{self, Decoded, FieldValidation, Meter, Mismatch};
use api::form::Form;
use api::lens::Lens;
use api::patch::converter_words;
use api::status::{Reason, Status};
use serde_json::Value;

use crate::shape;

/// Reads a body that must keep exactly what the client sent (apply patches): unknown fields are
/// found, types checked, but nothing is filled in or written in another way. Fields the client wrote as null or
/// empty stay. Of kinds that are defined at run time unknown fields are removed.
///
/// # Errors
/// As `codec::decode_json_strict`.
pub fn decode<'f>(
    form: impl Into<Form<'f>>,
    bytes: &[u8],
    validation: FieldValidation,
    meter: Meter<'_>,
) -> Result<Decoded, Status> {
    let form = form.into();
    let codec::First { mut tree, twice } = codec::yaml_tree(bytes, meter)?;
    let (version, name) = (tree.str("apiVersion"), tree.str("kind"));
    let types = codec::check_types(form, version, name);
    // Unlike other bodies, what is applied must say what it is; only another version of it has words of its own.
    let unknown = |status: &Status| {
        let why = status.message();
        why.ends_with(codec::SCHEME) || why.ends_with(": unknown conversion")
    };
    if version.is_empty() || name.is_empty() || types.as_ref().is_err_and(unknown) {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!(
            "invalid object type: {slash}{version}, Kind={name}"
        )));
    }
    types?;
    shape::check(form, &tree)?;
    // What the shape of a kind in code has is what it knows; its values are read when it is known that nobody minds.
    let unknown = match form.table() {
        Some(_) => Vec::new(),
        None => codec::convert(form, &mut tree, true)
            .map_err(|mismatch| unconvertible(form, &tree, &mismatch))?,
    };
    let warnings = codec::judge(form, unknown.into_iter().chain(twice).collect(), validation)?;
    Ok(Decoded { tree, warnings })
}

/// What has the shape of its type, but not its form: upstream finds it when it converts what was applied.
fn unconvertible(form: Form<'_>, applied: &Value, mismatch: &Mismatch) -> Status {
    let why = converter_words(&mismatch.to_string());
    let version = form.api_version();
    let slash = if version.contains('/') { "" } else { "/" };
    let kind = format!("{slash}{version}, Kind={}", form.kind.name);
    Status::new(
        Reason::Unknown,
        format!(
            "failed to convert new object ({}/{}; {kind}) to proper version: unable to convert unstructured object to {kind}: {why}",
            applied.str("metadata.namespace"),
            applied.str("metadata.name")
        ),
    )
}

/// Makes canonical what an apply made of an object.
///
/// # Errors
/// 500 in upstream's words, if `applied` brought what is no value of its field.
pub(crate) fn convert(form: Form<'_>, tree: &mut Value, applied: &Value) -> Result<(), Status> {
    match codec::convert(form, tree, false) {
        Ok(_) => Ok(()),
        Err(mismatch) => Err(unconvertible(form, applied, &mismatch)),
    }
}
