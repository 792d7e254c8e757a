//! Validation: names, metadata, what the schema says, and each kind's rules, with upstream's field
//! paths and wording.

mod metadata;

use api::complain::Complain;
use api::form::{Form, Types};
use api::kind::Sub;
use api::lens::Lens;
use api::schema::schema;
use api::status::{Cause, Status};
use serde_json::Value;

use crate::checks::Walk;
use crate::kinds::{self as rules, NameRule};

/// Checks a new object of `form` (defaults applied, name set).
///
/// # Errors
/// 422 with one cause per complaint.
pub fn create<'f>(form: impl Into<Form<'f>>, new: &Value) -> Result<(), Status> {
    check(form.into(), new, None)
}

/// Checks a replacement of `old`, immutable fields included.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn update<'f>(form: impl Into<Form<'f>>, new: &Value, old: &Value) -> Result<(), Status> {
    check(form.into(), new, Some(old))
}

/// Checks a replacement through the `status` subresource: metadata, and the kind's rules for it.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn update_status<'f>(
    form: impl Into<Form<'f>>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let form = form.into();
    let mut causes: Vec<Cause> = Vec::new();
    steps(form, "gu", new, Some(old), &mut causes);
    if let Types::Structural(schema) = form.types() {
        schema.check_status(new, old, &mut causes);
        scale(form, new, false, &mut causes);
        schema.obey(new, Some(old), false, &mut causes);
    }
    (rules::of(form.kind).validate_status)(new, &mut causes);
    (rules::of(form.kind).validate_part)("status", new, old, &mut causes);
    finish(form, new, causes)
}

/// Checks a replacement through any subresource: `""` is the object itself, `status` as
/// `update_status`, and `approval`, pods' `ephemeralcontainers` and `resize` by their own rules.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn update_subresource<'f>(
    form: impl Into<Form<'f>>,
    subresource: &str,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let form = form.into();
    match subresource {
        "status" => update_status(form, new, old),
        "ephemeralcontainers" | "resize" if *form.kind == api::kinds::POD => {
            let mut causes: Vec<Cause> = Vec::new();
            steps(form, "guUC", new, Some(old), &mut causes);
            if let Value::Object(map) = new {
                let mut walk = Walk { causes: &mut causes, path: String::new(), unchecked: "" };
                walk.message(schema().root(form), map, None);
            }
            crate::pod::validate::spec(new.at("spec"), "spec", &mut causes);
            if subresource == "ephemeralcontainers" {
                crate::pod::validate::ephemeral_containers(new, old, &mut causes);
            }
            finish(form, new, causes)
        }
        "approval" => {
            let mut causes: Vec<Cause> = Vec::new();
            steps(form, "guCU", new, Some(old), &mut causes);
            (rules::of(form.kind).validate_part)(subresource, new, old, &mut causes);
            finish(form, new, causes)
        }
        _ => update(form, new, old),
    }
}

fn check(asked: Form<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes: Vec<Cause> = Vec::new();
    let form = asked.stored();
    let of_version = rules::version(asked).and_then(|version| version.validate);
    let strictly = |causes: &mut Vec<Cause>| {
        if let Some(rules) = of_version {
            rules(new, old, causes);
            steps(form, if old.is_some() { "U" } else { "C" }, new, old, causes);
        }
    };
    match old {
        // Some of upstream's own checks leave metadata, or names, to the one that all kinds have, which comes after them.
        None => {
            let leaves_metadata = rules::of(form.kind).on_update == "V";
            steps(form, if leaves_metadata { "V" } else { "CV" }, new, None, &mut causes);
            strictly(&mut causes);
            let leaves = leaves_metadata || rules::of(form.kind).name_rule == NameRule::Any;
            if leaves && causes.is_empty() {
                steps(form, "g", new, None, &mut causes);
            }
        }
        Some(_) => {
            // Nothing is wrong with most, and what is said twice is looked at once.
            steps(form, "CuV", new, old, &mut causes);
            strictly(&mut causes);
            if !causes.is_empty() {
                causes.clear();
                steps(form, "gu", new, old, &mut causes);
                steps(form, rules::of(form.kind).on_update, new, old, &mut causes);
                strictly(&mut causes);
            }
        }
    }
    finish(form, new, causes)
}

/// The checks that `sequence` names, in its order; see [`Rules::on_update`](rules::Rules::on_update). Upstream checks an
/// update as what it is and for many kinds as a new object besides, and its causes tell what both say.
fn steps(
    form: Form<'_>,
    sequence: &str,
    new: &Value,
    old: Option<&Value>,
    causes: &mut Vec<Cause>,
) {
    for step in sequence.bytes() {
        let metadata_counts = form.kind.stored();
        match (step, old) {
            (b'S', _) => rules(form, new, None, causes),
            // What it may be because it was so is not asked of it as a new object, either.
            (b's', _) => rules(form, new, Some(new), causes),
            (b'V', old) => rules(form, new, old, causes),
            _ if !metadata_counts => {}
            // A beginning may be all dots where a name may not.
            (b'g', _) => {
                let (rule, prefix_rule) = (api::names::path_segment, api::names::path_part);
                metadata::of_new(form, rule, prefix_rule, new, causes);
            }
            (b'C', _) => {
                let rule = metadata::name_rule(form);
                metadata::of_new(form, rule, rule, new, causes);
            }
            (b'u' | b'U', Some(old)) => metadata::of_changed(new, old, causes),
            _ => {}
        }
        // These groups ask apimachinery, which takes any qualified name.
        let lenient = matches!(
            form.kind.group,
            "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "apiregistration.k8s.io"
                | "coordination.k8s.io"
                | "node.k8s.io"
        );
        if matches!(step, b'C' | b'U') && metadata_counts && form.kind.is_built_in() && !lenient {
            metadata::standard_finalizers(new, causes);
        }
    }
}

/// What the schema says, and the kind's own rules.
fn rules(form: Form<'_>, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    match (form.types(), new) {
        (Types::Table(root), Value::Object(map)) => {
            let unchecked = rules::of(form.kind).unchecked;
            let mut walk = Walk { causes, path: String::new(), unchecked };
            walk.message(root, map, old.and_then(Value::as_object));
        }
        (Types::Structural(schema), new) => {
            schema.check(new, old, causes);
            scale(form, new, true, causes);
            schema.obey(new, old, true, causes);
        }
        _ => {}
    }
    (rules::of(form.kind).validate)(new, old, causes);
}

/// What the `scale` subresource of a kind that is defined at run time reads must be readable.
fn scale(form: Form<'_>, new: &Value, main: bool, causes: &mut Vec<Cause>) {
    let Some(Sub::Scale { spec, status, selector }) =
        form.subresources().into_iter().find(|sub| matches!(sub, Sub::Scale { .. }))
    else {
        return;
    };
    for path in
        [(main, spec), (true, status)].into_iter().filter_map(|(is, path)| is.then_some(path))
    {
        let field = format!(".{path}");
        match (new.at(path), new.int(path)) {
            (Value::Null, _) => {}
            (_, Some(n)) if n < 0 => {
                causes.invalid(&field, &n.into(), "should be a non-negative integer");
            }
            (_, Some(n)) if n > i64::from(i32::MAX) => {
                let detail = format!("should be less than or equal to {}", i32::MAX);
                causes.invalid(&field, &n.into(), &detail);
            }
            (_, Some(_)) => {}
            (other, None) => {
                let (kind, shown) = match other {
                    Value::Bool(_) => ("bool", other.to_string()),
                    Value::Number(number) => {
                        ("float64", number.as_f64().unwrap_or_default().to_string())
                    }
                    Value::String(text) => ("string", text.clone()),
                    Value::Array(_) => ("[]interface {}", other.to_string()),
                    _ => ("map[string]interface {}", other.to_string()),
                };
                let detail = format!(
                    "{field} accessor error: {shown} is of the type {kind}, expected int64"
                );
                causes.invalid(&field, &0.into(), &detail);
            }
        }
    }
    let found = new.at(selector);
    if !selector.is_empty() && !found.is_null() && !found.is_string() {
        let detail = format!(".{selector} accessor error: expected string");
        causes.invalid(&format!(".{selector}"), &"".into(), &detail);
    }
}

fn finish(form: Form<'_>, new: &Value, causes: Vec<Cause>) -> Result<(), Status> {
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(form.kind, new.str("metadata.name"), causes)),
    }
}

#[cfg(test)]
mod tests;
