//! Request bodies: read within their bound, then decoded as what the request is about.

use api::codec::{self, FieldValidation};
use api::message::json_type;
use api::query::Query;
use api::status::Reason;
use api::{Form, Kind, Lens, Status, Value};
use client::{Body, DeleteOptions, PatchType, Request, Verb};

use super::budget::Charge;
use super::negotiate::{Format, body_format};
use crate::core::{posted_kind, work_bytes};
use crate::options::{check_dry_run, invalid_options};
use crate::registry::update::unsupported_patch;

/// Upstream's bound for bodies.
pub(crate) const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;

/// Reads a body.
///
/// # Errors
/// 413 when it is too long, 429 when too much is in flight, 400 when it does not arrive whole.
pub(super) async fn read(body: &mut http::Body, charge: &mut Charge) -> Result<Vec<u8>, Status> {
    if body.length().is_some_and(|length| length > BODY_MAX_BYTES as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk =
            chunk.map_err(|error| Status::bad_request(format!("read the body: {error}")))?;
        if bytes.len() + chunk.len() > BODY_MAX_BYTES {
            return Err(too_large());
        }
        // A buffer that grows has up to twice the room that it needs.
        charge.grow(2 * chunk.len())?;
        match bytes.is_empty() {
            true => bytes = chunk.into_vec(),
            false => bytes.extend_from_slice(&chunk),
        }
    }
    Ok(bytes)
}

fn too_large() -> Status {
    Status::new(
        Reason::RequestEntityTooLarge,
        format!("Request entity too large: limit is {BODY_MAX_BYTES}"),
    )
}

/// The kind that the options of a verb are.
pub(crate) fn options(verb: Verb) -> &'static str {
    match verb {
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        Verb::Create | Verb::Get | Verb::List | Verb::Watch => "CreateOptions",
    }
}

/// Decodes the body of a create, update or patch into the request; answers warnings.
///
/// # Errors
/// 400, 415 and strict decoding errors.
pub(super) fn decode(
    request: &mut Request,
    form: Form<'_>,
    content_type: &str,
    bytes: &[u8],
    charge: &mut Charge,
) -> Result<Vec<String>, Status> {
    let validation = match request.field_validation.as_str() {
        "" | "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        other => {
            return Err(invalid_options(
                options(request.verb),
                "FieldValueNotSupported",
                "fieldValidation",
                format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
            ));
        }
    };
    let body_kind = posted_kind(form.kind, &request.subresource);
    let body_form = if body_kind == form.kind { form } else { posted_form(body_kind, bytes) };
    if request.verb == Verb::Patch {
        return decode_patch(request, body_form, content_type, bytes, validation, charge);
    }
    let format = body_format(content_type)?;
    let decoded = match format {
        Format::Protobuf if !body_form.kind.is_built_in() => return Err(unsupported_patch()),
        // A protobuf body says what it is in its first bytes.
        Format::Protobuf => {
            charge.grow(codec::protobuf_tree_bytes(body_form, bytes))?;
            codec::decode_protobuf(body_form, bytes)?
        }
        Format::Json => {
            charge.grow(wire::json::tree_bytes(bytes))?;
            codec::decode_json_strict(body_form, bytes, validation)?
        }
        Format::Yaml => {
            metered(charge, |meter| codec::decode_yaml(body_form, bytes, validation, meter))?
        }
    };
    request.body = Body::Tree(decoded.tree);
    Ok(decoded.warnings)
}

/// Charges what is made of a body on its way beside its tree: the record of who manages what it says, copies that a patch
/// makes, and the tree once more where it may have to be tried again.
///
/// # Errors
/// 413 and 429 if it is too much.
pub(super) fn charge_work(request: &Request, charge: &mut Charge) -> Result<(), Status> {
    let (tree, beside) = match &request.body {
        Body::Tree(tree) => {
            let again = request.verb == Verb::Update || tree.has("metadata.generateName");
            (tree, if again { wire::json::memory_of(tree) } else { 0 })
        }
        Body::Patch(PatchType::Json, patch) => (patch, api::patch::copied_bytes_max(patch)),
        // It becomes a tree and a set of its own before they are compared with what there is.
        Body::Patch(PatchType::Apply, patch) => (patch, work_bytes(patch)?),
        Body::Patch(_, patch) => (patch, 0),
        Body::None => return Ok(()),
    };
    charge.grow_within(beside + work_bytes(tree)? - wire::json::memory_of(tree))
}

/// Reads YAML, whose size as a tree shows only on the way. What is not given is the charge's refusal.
fn metered<T>(
    charge: &mut Charge,
    read: impl FnOnce(codec::Meter<'_>) -> Result<T, Status>,
) -> Result<T, Status> {
    let mut refused = None;
    let done = read(&mut |bytes| match charge.grow(bytes) {
        Ok(()) => true,
        Err(status) => {
            refused = Some(status);
            false
        }
    });
    refused.map_or(done, Err)
}

/// The version that a subresource's body is in: Evictions come as `policy/v1` or `v1beta1`.
fn posted_form(kind: &'static Kind, bytes: &[u8]) -> Form<'static> {
    /// Nothing else is made of the body here.
    #[derive(serde::Deserialize)]
    struct Posted<'a> {
        #[serde(rename = "apiVersion", borrow)]
        api_version: std::borrow::Cow<'a, str>,
    }
    let posted = serde_json::from_slice::<Posted<'_>>(bytes).ok();
    let version = posted.as_ref().map_or("", |posted| &*posted.api_version);
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    kind.form(group, version).unwrap_or(kind.into())
}

fn decode_patch(
    request: &mut Request,
    form: Form<'_>,
    content_type: &str,
    bytes: &[u8],
    validation: FieldValidation,
    charge: &mut Charge,
) -> Result<Vec<String>, Status> {
    let name = content_type.split(';').next().unwrap_or("").trim();
    let patch_type = match name {
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" => PatchType::Strategic,
        "application/apply-patch+yaml" => PatchType::Apply,
        _ => return Err(unsupported_patch()),
    };
    if patch_type == PatchType::Apply {
        if request.field_manager.is_empty() {
            return Err(invalid_options(
                "PatchOptions",
                "FieldValueRequired",
                "fieldManager",
                "Required value: is required for apply patch".into(),
            ));
        }
        let decoded = metered(charge, |meter| apply::decode(form, bytes, validation, meter))?;
        request.body = Body::Patch(PatchType::Apply, decoded.tree);
        return Ok(decoded.warnings);
    }
    if request.force {
        return Err(invalid_options(
            "PatchOptions",
            "FieldValueForbidden",
            "force",
            "Forbidden: may not be specified for non-apply patch".into(),
        ));
    }
    charge.grow(wire::json::tree_bytes(bytes))?;
    let parsed = wire::json::parse(bytes).map_err(|error| {
        let why = wire::json_syntax::unmarshal_words(bytes, &error);
        // As upstream, which reads strategic patches elsewhere.
        Status::bad_request(match patch_type {
            PatchType::Strategic => why,
            _ => format!("error decoding patch: {why}"),
        })
    })?;
    if patch_type == PatchType::Merge && !parsed.tree.is_object() {
        return Err(Status::bad_request(match &parsed.tree {
            Value::Null => "Invalid JSON Patch".to_owned(),
            other => format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_type(other)
            ),
        }));
    }
    let warnings = match (validation, parsed.duplicates.is_empty(), patch_type) {
        (FieldValidation::Ignore, _, _) | (_, true, _) | (_, _, PatchType::Json) => Vec::new(),
        _ => parsed.duplicates.iter().map(|path| format!("duplicate field \"{path}\"")).collect(),
    };
    if validation == FieldValidation::Strict && !warnings.is_empty() {
        return Err(Status::bad_request(format!("strict decoding error: {}", warnings.join(", "))));
    }
    request.body = Body::Patch(patch_type, parsed.tree);
    Ok(warnings)
}

/// `DeleteOptions`: a body, if there is one, says everything; otherwise the query does. Answers what the body was.
///
/// # Errors
/// 400 for what cannot be read.
pub(super) fn delete_options(
    request: &mut Request,
    query: &Query,
    content_type: &str,
    bytes: &[u8],
    charge: &mut Charge,
) -> Result<Option<Value>, Status> {
    if bytes.is_empty() {
        request.delete = client::options::delete_options(query)?;
        return Ok(None);
    }
    let tree = match body_format(content_type)? {
        Format::Yaml => {
            let text =
                std::str::from_utf8(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
            metered(charge, |meter| {
                wire::yaml::first_metered(text, meter)
                    .map(|read| read.tree)
                    .map_err(|e| Status::bad_request(e.to_string()))
            })?
        }
        _ => {
            charge.grow(wire::json::tree_bytes(bytes))?;
            codec::decode_meta("DeleteOptions", bytes)?
        }
    };
    let text = |path: &str| Some(tree.str(path).to_owned()).filter(|text| !text.is_empty());
    let propagation = match (tree.str("propagationPolicy"), tree.at("orphanDependents").as_bool()) {
        (policy, None) => policy,
        ("", Some(true)) => "Orphan",
        ("", Some(false)) => "Background",
        (policy, Some(_)) => {
            let message = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            );
            let field = "propagationPolicy";
            return Err(invalid_options("DeleteOptions", "FieldValueInvalid", field, message));
        }
    };
    request.delete = DeleteOptions {
        grace_secs: tree.int("gracePeriodSeconds"),
        uid: text("preconditions.uid"),
        resource_version: text("preconditions.resourceVersion"),
        propagation: propagation.to_owned(),
    };
    request.dry_run |=
        check_dry_run("DeleteOptions", tree.list("dryRun").iter().filter_map(Value::as_str))?;
    Ok(Some(tree))
}
