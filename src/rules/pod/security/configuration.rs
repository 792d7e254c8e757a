//! What an administrator's file says about pod security: `PodSecurityConfiguration`.

use api::codec::json_type;
use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::Arrange;

use super::{LEVELS, Level, Policy, Standard, VERSIONS, Version, level, version};

const GROUP: &str = "pod-security.admission.config.k8s.io";

/// Defaults for namespaces without labels, and who is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    pub defaults: Policy,
    pub exemptions: Exemptions,
}

/// Whose pods are not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemptions {
    pub usernames: Vec<String>,
    pub namespaces: Vec<String>,
    pub runtime_classes: Vec<String>,
}

impl Configuration {
    /// Reads a `PodSecurityConfiguration` of any of its versions.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words, with what was being done.
    pub fn parse(tree: &Value) -> Result<Configuration, String> {
        let init = |why: String| format!("couldn't init admission plugin \"PodSecurity\": {why}");
        let versions = [(GROUP, "v1"), (GROUP, "v1beta1"), (GROUP, "v1alpha1")];
        check_kind(tree, "PodSecurityConfiguration", &versions).map_err(init)?;
        check_types(tree).map_err(init)?;
        check_unknown(tree, UNKNOWN).map_err(init)?;
        let defaults = defaults(tree.at("defaults")).map_err(|why| {
            format!("failed to initialize admission plugin \"PodSecurity\": PodSecurity configuration error: {why}")
        })?;
        let exemptions = exemptions(tree.at("exemptions")).map_err(|why| {
            format!(
                "failed to initialize admission plugin \"PodSecurity\": PodSecurity invalid: {why}"
            )
        })?;
        Ok(Configuration { defaults, exemptions })
    }
}

/// Refuses what is not of `kind` in one of its versions, each a group with a version.
///
/// # Errors
/// In upstream's words.
pub fn check_kind(tree: &Value, kind: &str, versions: &[(&str, &str)]) -> Result<(), String> {
    for (field, written) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if tree.str(field).is_empty() {
            return Err(format!("Object '{written}' is missing in '{tree}'"));
        }
    }
    let (own, version) = (tree.str("kind"), tree.str("apiVersion"));
    let known = versions.iter().any(|(group, name)| format!("{group}/{name}") == version);
    match known && own == kind {
        true => Ok(()),
        false => Err(format!(
            "no kind {own:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:100\""
        )),
    }
}

/// A map's path, and the fields that it may have.
type Known = (&'static str, &'static [&'static str]);

const DEFAULTS: [&str; 6] =
    ["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];
const EXEMPTIONS: [&str; 3] = ["usernames", "namespaces", "runtimeClasses"];
const UNKNOWN: &[Known] = &[
    ("defaults", &DEFAULTS),
    ("exemptions", &EXEMPTIONS),
    ("", &["apiVersion", "kind", "defaults", "exemptions"]),
];

/// Refuses fields that do not exist.
fn check_unknown(tree: &Value, known: &[Known]) -> Result<(), String> {
    let mut unknown = Vec::new();
    for (path, fields) in known {
        let map = if path.is_empty() { tree } else { tree.at(path) };
        for key in map.as_object().into_iter().flat_map(|map| map.keys()) {
            if !fields.contains(&key.as_str()) {
                let dot = if path.is_empty() { "" } else { "." };
                unknown.push(format!("{path}{dot}{key}"));
            }
        }
    }
    unknown_fields(unknown)
}

/// The refusal of unknown fields, if there are any.
///
/// # Errors
/// In upstream's words, in the order of the alphabet.
pub fn unknown_fields(mut unknown: Vec<String>) -> Result<(), String> {
    unknown.arrange();
    let told: Vec<String> =
        unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    match told.is_empty() {
        true => Ok(()),
        false => Err(format!("strict decoding error: {}", told.join(", "))),
    }
}

/// The refusal of a value of the wrong type, as Go writes it: `field` is `Struct.path.of.field`.
pub fn mistyped(value: &Value, field: &str, wanted: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go struct field {field} of type {wanted}",
        json_type(value)
    )
}

fn check_types(tree: &Value) -> Result<(), String> {
    let part = |name: &'static str, of: &str| match tree.at(name) {
        Value::Null | Value::Object(_) => Ok(()),
        other => Err(mistyped(other, &format!("PodSecurityConfiguration.{name}"), of)),
    };
    part("defaults", "v1.PodSecurityDefaults")?;
    part("exemptions", "v1.PodSecurityExemptions")?;
    for field in DEFAULTS {
        match tree.at("defaults").get(field) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => {
                let field = format!("PodSecurityDefaults.defaults.{field}");
                return Err(mistyped(other, &field, "string"));
            }
        }
    }
    for field in EXEMPTIONS {
        let path = format!("PodSecurityExemptions.exemptions.{field}");
        match tree.at("exemptions").get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                if let Some(other) = items.iter().find(|item| !item.is_string()) {
                    return Err(mistyped(other, &path, "string"));
                }
            }
            Some(other) => return Err(mistyped(other, &path, "[]string")),
        }
    }
    Ok(())
}

fn defaults(tree: &Value) -> Result<Policy, String> {
    let mut wrong = Vec::new();
    let mut standard = |name: &str| {
        let text = |field: &str| tree.get(field).and_then(Value::as_str).unwrap_or("");
        let level = match text(name) {
            "" => Level::Privileged,
            own => level(own).unwrap_or_else(|| {
                wrong.push(format!("{name}: {LEVELS}"));
                Level::Restricted
            }),
        };
        let name = format!("{name}-version");
        let version = match text(&name) {
            "" => Version::Latest,
            own => version(own).unwrap_or_else(|| {
                wrong.push(format!("{name}: {VERSIONS}"));
                Version::Latest
            }),
        };
        Standard { level, version }
    };
    let policy =
        Policy { enforce: standard("enforce"), audit: standard("audit"), warn: standard("warn") };
    match wrong.is_empty() {
        true => Ok(policy),
        false => Err(aggregate(&wrong)),
    }
}

/// Several complaints as one text, as upstream joins them.
pub fn aggregate(texts: &[String]) -> String {
    match texts {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

fn exemptions(tree: &Value) -> Result<Exemptions, String> {
    let mut causes: Vec<Cause> = Vec::new();
    let mut read = |field: &str, check: fn(&str) -> Result<(), String>| {
        let mut taken: Vec<String> = Vec::new();
        for (idx, name) in tree.list(field).iter().enumerate() {
            let (path, text) = (format!("exemptions.{field}[{idx}]"), name.as_str().unwrap_or(""));
            if let Err(why) = check(text) {
                causes.invalid(&path, name, &why.replace('\n', ", "));
            } else if taken.iter().any(|own| own == text) {
                causes.duplicate(&path, name);
            } else {
                taken.push(text.to_owned());
            }
        }
        taken
    };
    let exemptions = Exemptions {
        namespaces: read("namespaces", names::label),
        runtime_classes: read("runtimeClasses", names::subdomain),
        usernames: read("usernames", |text| match text {
            "" => Err("username must not be empty".into()),
            _ => Ok(()),
        }),
    };
    let told: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match told.is_empty() {
        true => Ok(exemptions),
        false => Err(aggregate(&told)),
    }
}
