//! Rules of a CustomResourceDefinition beside its schemas.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go. Its internal
//! form holds what all versions have in common once, and paths in complaints are of that form.

use serde_json::Value;

mod schemas;

use api::complain::{Complain, IMMUTABLE};
use api::custom::approval::{APPROVAL, approval_of};
use api::custom::is_true;
use api::definition::{COLUMNS_MAX, VERSIONS_MAX};
use api::lens::Lens;
use api::names;
use api::status::Cause;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// How many fields may be selected by, as upstream.
const SELECTABLE_MAX: usize = 8;

pub(crate) fn check(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let name = new.str("metadata.name");
    let required = format!("{}.{}", new.str("spec.names.plural"), new.str("spec.group"));
    if old.is_none() && !name.is_empty() && name != required {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.invalid("metadata.name", &name.into(), detail);
    }
    // A name that is still to be completed can never be that one.
    let begun = new.str("metadata.generateName");
    if old.is_none() && !begun.is_empty() {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.invalid("metadata.generateName", &begun.into(), detail);
    }
    spec(new, old, causes);
    check_status(new, causes);
    stored_versions(new, causes);
    approval(new, old, causes);
    let kept_all = old.is_some_and(|old| old.flag("spec.preserveUnknownFields"));
    if new.flag("spec.preserveUnknownFields") && !kept_all {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.invalid("spec.preserveUnknownFields", &true.into(), detail);
    }
    let Some(old) = old else { return };
    let mut fixed = vec!["spec.group", "spec.names.plural"];
    if is_true(old, "Established") {
        fixed.extend(["spec.scope", "spec.names.kind"]);
    }
    for path in fixed {
        if new.at(path) != old.at(path) {
            causes.invalid(path, new.at(path), IMMUTABLE);
        }
    }
}

/// What comes through the `status` subresource.
pub(crate) fn check_status(new: &Value, causes: &mut Vec<Cause>) {
    check_names(new.at("status.acceptedNames"), "status.acceptedNames", causes);
}

fn spec(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let group = new.str("spec.group");
    match names::subdomain(group) {
        _ if group.is_empty() => causes.required("spec.group", ""),
        Err(why) => causes.invalid("spec.group", &group.into(), &why),
        Ok(()) if !group.contains('.') => {
            let detail = "should be a domain with at least one dot";
            causes.invalid("spec.group", &group.into(), detail);
        }
        Ok(()) => {}
    }
    one_of(new.str("spec.scope"), &["Cluster", "Namespaced"], "spec.scope", causes);
    versions(new, old, causes);
    for field in ["plural", "singular", "kind", "listKind"] {
        if new.at("spec.names").str(field).is_empty() {
            causes.required(&format!("spec.names.{field}"), "");
        }
    }
    check_names(new.at("spec.names"), "spec.names", causes);
    conversion(new, old, causes);
}

fn one_of(value: &str, accepted: &[&str], path: &str, causes: &mut Vec<Cause>) {
    if value.is_empty() {
        causes.required(path, "");
    } else if !accepted.contains(&value) {
        causes.not_supported_in_order(path, value, accepted);
    }
}

fn versions(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let versions = new.list("spec.versions");
    if versions.len() > VERSIONS_MAX {
        causes.too_many("spec.versions", versions.len(), VERSIONS_MAX);
        return;
    }
    let same = |field: &str| versions.windows(2).all(|two| two[0].at(field) == two[1].at(field));
    let place = |idx: usize, field: &str, common: &str| match same(field) {
        true => (idx == 0).then(|| format!("spec.{common}")),
        false => Some(format!("spec.versions[{idx}].{field}")),
    };
    for (idx, version) in versions.iter().enumerate() {
        if !version.has("schema.openAPIV3Schema") {
            let path = format!("spec.versions[{idx}].schema.openAPIV3Schema");
            causes.required(&path, "schemas are required");
        }
    }
    for (idx, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{idx}]");
        let name = version.str("name");
        if let Err(why) = names::label_1035(name) {
            causes.invalid(&format!("{path}.name"), &name.into(), &why);
            if idx == 0 && !name.is_empty() {
                // The internal form names the first version once more.
                causes.invalid("spec.version", &name.into(), &why);
            }
        }
        deprecation(version, &path, causes);
        let before = old.and_then(|old| named(old, name));
        if let Some(path) = place(idx, "schema", "validation")
            && before.is_none_or(|before| before.at("schema") != version.at("schema"))
        {
            // What is at the root is bounded where a status is a part of its own.
            let status = versions.iter().filter(|it| same("schema") || **it == *version);
            let has_status = status.clone().any(|it| it.has("subresources.status"));
            let path = format!("{path}.openAPIV3Schema");
            schemas::check(version.at("schema.openAPIV3Schema"), &path, has_status, causes);
        }
        if let Some(path) = place(idx, "subresources", "subresources") {
            scale(version.at("subresources.scale"), &format!("{path}.scale"), causes);
        }
        if let Some(path) = place(idx, "additionalPrinterColumns", "additionalPrinterColumns") {
            columns(version.list("additionalPrinterColumns"), &path, causes);
        }
        if let Some(path) = place(idx, "selectableFields", "selectableFields") {
            selectable(version, &path, causes);
        }
    }
    let once = IN_EVERY_VERSION.iter().all(|field| same(field));
    let mut refuse = |detail: &str| match go_versions(versions).filter(|_| once) {
        Some(shown) => causes.invalid_whole("spec.versions", &format!("{shown}: {detail}")),
        None => causes.invalid_whole("spec.versions", detail),
    };
    let mut seen = stdx::OrdSet::new();
    if !versions.iter().all(|version| seen.insert(version.str("name"))) {
        refuse("must contain unique version names");
    }
    if versions.iter().filter(|version| version.flag("storage")).count() != 1 {
        refuse("must have exactly one version marked as storage version");
    }
}

/// What the internal form has once, beside the versions, where it is the same in all of them.
const IN_EVERY_VERSION: &[&str] =
    &["schema", "subresources", "additionalPrinterColumns", "selectableFields"];

/// Go's `%#v` of versions with nothing but that in common; `None` where it has places in memory in it.
fn go_versions(versions: &[Value]) -> Option<String> {
    const TYPE: &str = "apiextensions.CustomResourceDefinitionVersion";
    let mut shown = Vec::new();
    for version in versions {
        if version.get("deprecationWarning").is_some() {
            return None;
        }
        let flag = |name: &str| version.flag(name);
        shown.push(format!(
            "{TYPE}{{Name:{:?}, Served:{}, Storage:{}, Deprecated:{}, DeprecationWarning:(*string)(nil), \
             Schema:(*apiextensions.CustomResourceValidation)(nil), Subresources:(*apiextensions.CustomResourceSubresources)(nil), \
             AdditionalPrinterColumns:[]apiextensions.CustomResourceColumnDefinition(nil), \
             SelectableFields:[]apiextensions.SelectableField(nil)}}",
            version.str("name"), flag("served"), flag("storage"), flag("deprecated")
        ));
    }
    Some(match shown.is_empty() {
        true => format!("[]{TYPE}(nil)"),
        false => format!("[]{TYPE}{{{}}}", shown.join(", ")),
    })
}

fn named<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    tree.list("spec.versions").iter().find(|version| version.str("name") == name)
}

fn deprecation(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Value::String(warning) = version.at("deprecationWarning") else { return };
    let path = format!("{path}.deprecationWarning");
    let mut told = |detail: &str| causes.invalid(&path, &warning.as_str().into(), detail);
    if !version.flag("deprecated") {
        told("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        told("must be <= 256 characters long");
    }
    if warning.is_empty() {
        told("must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        told(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

fn check_names(names: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut check = |field: String, value: &str, mixed: bool| {
        let wanted = if mixed { value.to_ascii_lowercase() } else { value.to_owned() };
        if let Err(why) = names::label_1035(&wanted) {
            let lead = "may have mixed case, but should otherwise match: ";
            let why = if mixed { format!("{lead}{why}") } else { why };
            causes.invalid(&format!("{path}.{field}"), &value.into(), &why);
        }
    };
    for (field, mixed) in
        [("plural", false), ("singular", false), ("kind", true), ("listKind", true)]
    {
        if !names.str(field).is_empty() {
            check(field.into(), names.str(field), mixed);
        }
    }
    for list in ["shortNames", "categories"] {
        for (idx, name) in names.list(list).iter().enumerate() {
            check(format!("{list}[{idx}]"), name.as_str().unwrap_or(""), false);
        }
    }
    let (kind, list) = (names.str("kind"), names.str("listKind"));
    if !kind.is_empty() && kind == list {
        let detail = "kind and listKind may not be the same";
        causes.invalid(&format!("{path}.listKind"), &list.into(), detail);
    }
}

fn simple_path(value: &str, path: &str, causes: &mut Vec<Cause>) -> bool {
    if !value.starts_with('.') {
        let detail = "must be a simple json path starting with .";
        causes.invalid(path, &value.into(), detail);
    }
    value.starts_with('.')
}

fn scale(scale: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !scale.is_object() {
        return;
    }
    for (field, roots, detail) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let (value, path) = (scale.str(field), format!("{path}.{field}"));
        match value {
            "" if field == "labelSelectorPath" => {}
            "" => causes.required(&path, ""),
            value => {
                if simple_path(value, &path, causes)
                    && !roots.iter().any(|root| value.starts_with(root))
                {
                    causes.invalid(&path, &value.into(), detail);
                }
            }
        }
    }
}

fn columns(columns: &[Value], path: &str, causes: &mut Vec<Cause>) {
    if columns.len() > COLUMNS_MAX {
        causes.too_many(path, columns.len(), COLUMNS_MAX);
        return;
    }
    for (idx, column) in columns.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        if column.str("name").is_empty() {
            causes.required(&format!("{path}.name"), "");
        }
        let (kind, format) = (column.str("type"), column.str("format"));
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.is_empty() {
            causes.required(&format!("{path}.type"), &types);
        } else if !COLUMN_TYPES.contains(&kind) {
            causes.invalid(&format!("{path}.type"), &kind.into(), &types);
        }
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let formats = format!("must be one of {}", COLUMN_FORMATS.join(","));
            causes.invalid(&format!("{path}.format"), &format.into(), &formats);
        }
        let place = format!("{path}.JSONPath");
        match column.str("jsonPath") {
            "" => causes.required(&place, ""),
            value => {
                simple_path(value, &place, causes);
            }
        }
    }
}

fn selectable(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let fields = version.list("selectableFields");
    if !fields.is_empty() && version.at("schema").is_null() {
        let what = match path.contains('[') {
            true => "version.schema.openAPIV3Schema is not",
            false => "validations.schema is",
        };
        let detail = format!("selectableFields may only be set when {what} included");
        causes.invalid(path, &"".into(), &detail);
        return;
    }
    let mut seen = stdx::OrdSet::new();
    for (idx, field) in fields.iter().enumerate() {
        let (value, path) = (field.str("jsonPath"), format!("{path}[{idx}].jsonPath"));
        if value.is_empty() {
            causes.required(&path, "");
            continue;
        }
        let mut told = |detail: &str| causes.invalid(&path, &value.into(), detail);
        let Some(inside) = value.strip_prefix('.') else {
            let token = value.split(['.', '[']).next().unwrap_or("");
            match value.starts_with('[') {
                true => told("is an invalid path: array notation is not allowed"),
                false => told(&format!("is an invalid path: expected [ or . but got: {token}")),
            }
            continue;
        };
        let mut schema = version.at("schema.openAPIV3Schema");
        let known = inside.split('.').all(|part| {
            schema = schema.at("properties").get(part).unwrap_or(&Value::Null);
            schema.is_object()
        });
        if !known {
            told("is an invalid path: does not refer to a valid field");
            continue;
        }
        if inside == "metadata" || inside.starts_with("metadata.") {
            told("must not point to fields in metadata");
        }
        if !matches!(schema.str("type"), "string" | "boolean" | "integer") {
            told(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !seen.insert(inside) {
            causes.duplicate(&path, &value.into());
        }
    }
    if seen.len() > SELECTABLE_MAX {
        causes.too_many(path, seen.len(), SELECTABLE_MAX);
    }
}

fn conversion(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let conversion = new.at("spec.conversion");
    if !conversion.is_object() {
        return;
    }
    let strategy = conversion.str("strategy");
    let place = |field: &str| format!("spec.conversion.{field}");
    one_of(strategy, &["None", "Webhook"], &place("strategy"), causes);
    let (config, reviews) =
        (conversion.at("webhook.clientConfig"), conversion.at("webhook.conversionReviewVersions"));
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_object() {
            causes.forbidden(&place("webhookClientConfig"), detail);
        }
        if reviews.as_array().is_some_and(|reviews| !reviews.is_empty()) {
            causes.forbidden(&place("conversionReviewVersions"), detail);
        }
        return;
    }
    if new.flag("spec.preserveUnknownFields") {
        let detail = "must be None if spec.preserveUnknownFields is true";
        causes.invalid(&place("strategy"), &strategy.into(), detail);
    }
    client(config, &place("webhookClientConfig"), causes);
    let path = place("conversionReviewVersions");
    let reviews = reviews.as_array().map_or(&[][..], Vec::as_slice);
    let known = |list: &[Value]| list.iter().any(|it| it == "v1" || it == "v1beta1");
    let before = old.map(|old| old.list("spec.conversion.webhook.conversionReviewVersions"));
    if reviews.is_empty() {
        causes.required(&path, "");
        return;
    }
    let mut seen = stdx::OrdSet::new();
    for (idx, review) in reviews.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        if !seen.insert(review.as_str().unwrap_or("")) {
            causes.invalid(&path, review, "duplicate version");
        } else if let Err(why) = names::label_1035(review.as_str().unwrap_or("")) {
            causes.invalid(&path, review, &why);
        }
    }
    let may_be_unknown = before.is_some_and(|before| !before.is_empty() && !known(before));
    if !known(reviews) && !may_be_unknown {
        causes.invalid(&path, &reviews.into(), "must include at least one of v1, v1beta1");
    }
}

/// Whom a webhook is asked at: a URL or a service.
fn client(config: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !config.is_object() {
        causes.required(path, "required when strategy is set to Webhook");
        return;
    }
    crate::checks::webhooks::client(config, path, causes);
}

fn stored_versions(new: &Value, causes: &mut Vec<Cause>) {
    let (path, stored) = ("status.storedVersions", new.list("status.storedVersions"));
    let shown = Value::from(stored);
    if stored.is_empty() {
        let message = "Invalid value: []string(nil): must have at least one stored version";
        causes.complain("FieldValueInvalid", path, message.into());
        return;
    }
    for version in new.list("spec.versions").iter().filter(|version| version.flag("storage")) {
        if !stored.contains(version.at("name")) {
            let detail = format!("must have the storage version {}", version.str("name"));
            causes.invalid(path, &shown, &detail);
        }
    }
    for (idx, name) in stored.iter().enumerate() {
        if named(new, name.as_str().unwrap_or("")).is_none() {
            causes.invalid(&format!("{path}[{idx}]"), name, "must appear in spec.versions");
        }
    }
}

fn approval(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let Some(now) = approval_of(new) else { return };
    if old.and_then(approval_of).is_some_and(|before| before.reason == now.reason) {
        return;
    }
    let path = format!("metadata.annotations[{APPROVAL}]");
    match now.reason {
        "MissingAnnotation" => causes.required(&path, &now.message),
        "InvalidAnnotation" => {
            let text = new.entry("metadata.annotations", APPROVAL).unwrap_or("");
            causes.invalid(&path, &text.into(), &now.message);
        }
        _ => {}
    }
}
