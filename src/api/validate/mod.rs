//! Validation: names, metadata, what the schema says, and each kind's rules, with upstream's field
//! paths and wording.

pub mod address;
mod metadata;
mod selectors;

use serde_json::{Map, Value};

pub(crate) use metadata::{annotations, labels};
pub(crate) use selectors::{label_selector, label_selector_as, node_selector, node_selector_term};

use crate::complain::{Complain, IMMUTABLE};
use crate::kind::{Form, NameRule, Sub};
use crate::kinds;
use crate::lens::Lens;
use crate::schema::{Field, Scalar, Shape, TypeId, Types, schema};
use crate::status::{Cause, Status};

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
    (form.kind.declared.validate_status)(new, &mut causes);
    (form.kind.declared.validate_part)("status", new, old, &mut causes);
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
        "ephemeralcontainers" | "resize" if *form.kind == kinds::POD => {
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
            (form.kind.declared.validate_part)(subresource, new, old, &mut causes);
            finish(form, new, causes)
        }
        _ => update(form, new, old),
    }
}

fn check(asked: Form<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes: Vec<Cause> = Vec::new();
    let form = asked.stored();
    let of_version = asked.served.and_then(|served| served.validate);
    let strictly = |causes: &mut Vec<Cause>| {
        if let Some(rules) = of_version {
            rules(new, old, causes);
            steps(form, if old.is_some() { "U" } else { "C" }, new, old, causes);
        }
    };
    match old {
        // Some of upstream's own checks leave metadata, or names, to the one that all kinds have, which comes after them.
        None => {
            let leaves_metadata = form.kind.declared.on_update == "V";
            steps(form, if leaves_metadata { "V" } else { "CV" }, new, None, &mut causes);
            strictly(&mut causes);
            let leaves = leaves_metadata || form.kind.declared.name_rule == NameRule::Any;
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
                steps(form, form.kind.declared.on_update, new, old, &mut causes);
                strictly(&mut causes);
            }
        }
    }
    finish(form, new, causes)
}

/// The checks that `sequence` names, in its order; see [`Declared::on_update`](crate::kind::Declared::on_update). Upstream checks an
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
            (b'V', old) => rules(form, new, old, causes),
            _ if !metadata_counts => {}
            // A beginning may be all dots where a name may not.
            (b'g', _) => {
                let (rule, prefix_rule) = (crate::names::path_segment, crate::names::path_part);
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
            let unchecked = form.kind.declared.unchecked;
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
    (form.kind.declared.validate)(new, old, causes);
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

/// What the schema says of `field` of a core type, with `value` at `path`: for what [`JUDGED_ELSEWHERE`] keeps from the
/// walk, where the rules of its kind find that it counts.
pub(crate) fn part_at(
    type_name: &str,
    field: &str,
    value: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let schema = schema();
    let found = schema.find("io.k8s.api.core.v1", type_name);
    if let Some(field) = found.and_then(|id| schema.by_json(id, field)) {
        Walk { causes, path: path.to_owned(), unchecked: "" }.field(field, value, None);
    }
}

/// Core types of which upstream checks only a part, or says other words than the schema's; their kinds' rules have it all.
const JUDGED_ELSEWHERE: [&str; 15] = [
    "SeccompProfile",
    "AppArmorProfile",
    "Volume",
    "VolumeSource",
    "PersistentVolumeSource",
    "VolumeProjection",
    "DownwardAPIVolumeFile",
    "PersistentVolumeClaimTemplate",
    "EnvVarSource",
    "Probe",
    "Lifecycle",
    "PodAffinityTerm",
    "TopologySpreadConstraint",
    "NodeSelector",
    "Toleration",
];

/// What the schema text says: required, allowed values, bounds, immutable.
struct Walk<'a> {
    causes: &'a mut Vec<Cause>,
    path: String,
    /// What is not looked into.
    unchecked: &'static str,
}

impl Walk<'_> {
    fn message(&mut self, id: TypeId, new: &Map<String, Value>, old: Option<&Map<String, Value>>) {
        let at_root = self.path.is_empty();
        if JUDGED_ELSEWHERE.contains(&schema().of(id).name) {
            return;
        }
        for field in schema().fields(id) {
            if let (true, Some(inner)) = (field.inline(), field.message()) {
                self.message(inner, new, old);
                continue;
            }
            // Metadata has its own rules, and statuses are written by components. Of a template's
            // metadata only labels and annotations count.
            if field.name == "metadata" || at_root && field.name == "status" {
                continue;
            }
            let len = self.path.len();
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(field.name);
            let value = new.get(field.name).unwrap_or(&Value::Null);
            let before = old.map(|old| old.get(field.name).unwrap_or(&Value::Null));
            self.field(field, value, before);
            self.path.truncate(len);
        }
    }

    fn field(&mut self, field: &Field, value: &Value, before: Option<&Value>) {
        if !self.unchecked.is_empty() && self.unchecked.split(' ').any(|path| path == self.path) {
            return;
        }
        if field.immutable() && before.is_some_and(|before| before != value) {
            if field.required() && is_missing(field, value) {
                self.causes.required(&self.path, "");
            }
            let path = self.path.clone();
            self.causes.invalid(&path, value, IMMUTABLE);
            return;
        }
        if is_missing(field, value) {
            if field.required() {
                self.causes.required(&self.path, "");
            }
            return;
        }
        match (field.shape, value) {
            (Shape::List, Value::Array(items)) if field.name == "accessModes" => {
                items.iter().for_each(|item| self.item(field, item));
            }
            (Shape::List, Value::Array(items)) => {
                for (idx, item) in items.iter().enumerate() {
                    let len = self.path.len();
                    self.path.push_str(&format!("[{idx}]"));
                    self.item(field, item);
                    self.path.truncate(len);
                }
            }
            (Shape::Single, value) => self.one(field, value, before),
            _ => {}
        }
    }

    /// An item of a list; an empty text is one like any other.
    fn item(&mut self, field: &Field, item: &Value) {
        match item {
            Value::String(text) if text.is_empty() && !field.allows(text) => {
                self.unsupported(field, text);
            }
            item => self.one(field, item, None),
        }
    }

    fn unsupported(&mut self, field: &Field, text: &str) {
        let supported = field.extra().values();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        self.causes.not_supported_in_order(&self.path, text, &supported);
    }

    fn one(&mut self, field: &Field, value: &Value, before: Option<&Value>) {
        let extra = field.extra();
        match (field.scalar, value) {
            (Scalar::Message(id), Value::Object(map)) => {
                self.message(id, map, before.and_then(Value::as_object));
            }
            (Scalar::Str, Value::String(text))
                if is_checked(field, text) && !field.allows(text) =>
            {
                self.unsupported(field, text);
            }
            (Scalar::I32 | Scalar::I64, Value::Number(number)) => {
                let number = number.as_i64().unwrap_or(0);
                let below = extra.min.is_some_and(|min| number < min);
                let above = extra.max.is_some_and(|max| number > max);
                if below || above {
                    let detail = match (extra.min, extra.max) {
                        // Zero is what an absent number is.
                        (Some(0), Some(65_535)) => "must be between 1 and 65535, inclusive".into(),
                        (Some(min), Some(max)) => {
                            format!("must be between {min} and {max}, inclusive")
                        }
                        (Some(min), None) => format!("must be greater than or equal to {min}"),
                        (_, max) => format!("must be less than or equal to {}", max.unwrap_or(0)),
                    };
                    let path = self.path.clone();
                    self.causes.invalid(&path, value, &detail);
                }
            }
            _ => {}
        }
    }
}

/// Whether a text is to be one of the allowed values: what Go points to is there even when it is empty.
fn is_checked(field: &Field, text: &str) -> bool {
    !text.is_empty() || field.pointer() && !may_be_empty(field) || field.checks_empty()
}

/// Enums behind pointers whose empty value upstream takes, by its default.
fn may_be_empty(field: &Field) -> bool {
    field.extra().default == Some("''")
}

/// What Go calls empty, where empty is not a legal value of a required field.
fn is_missing(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !field.pointer() && !field.checks_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => field.shape == Shape::Map && map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
