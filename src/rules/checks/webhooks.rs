//! What webhook configurations must say, and what policies share with them: rules and match conditions.
//!
//! Source: k8s.io/kubernetes/pkg/apis/admissionregistration/validation.

use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::policy::{Names, Wanted};
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use crate::checks;
use crate::column::Column;

pub(crate) const COLUMNS: &[Column<'static>] = &[
    Column { format: "name", ..Column::path("Name", "metadata.name") },
    Column::with("Webhooks", |tree, _| tree.list("webhooks").len().into()).integer(),
    Column::AGE,
];

/// How many conditions one webhook may have.
const CONDITIONS_MAX: usize = 64;

/// Versions of `AdmissionReview` that the server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];

/// What an object that was stored before says wrong already, it may go on saying.
struct Grandfathered {
    side_effects: bool,
    versions: bool,
    names: bool,
}

impl Grandfathered {
    fn of(old: Option<&Value>) -> Grandfathered {
        let hooks = old.map_or(&[][..], |old| old.list("webhooks"));
        let mut seen = OrdSet::new();
        Grandfathered {
            side_effects: hooks
                .iter()
                .any(|hook| !NO_SIDE_EFFECTS.contains(&hook.str("sideEffects"))),
            versions: hooks.iter().any(|hook| !knows_version(hook.list("admissionReviewVersions"))),
            names: hooks.iter().any(|hook| !seen.insert(hook.str("name"))),
        }
    }
}

fn knows_version(versions: &[Value]) -> bool {
    versions.is_empty()
        || versions.iter().any(|v| v.as_str().is_some_and(|v| REVIEW_VERSIONS.contains(&v)))
}

pub(crate) fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let known = Grandfathered::of(old);
    let mut seen = OrdSet::new();
    for (idx, hook) in new.list("webhooks").iter().enumerate() {
        let path = format!("webhooks[{idx}]");
        webhook(hook, &path, &known, causes);
        let name = hook.str("name");
        if !name.is_empty() && !seen.insert(name) && !known.names {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
    }
}

fn webhook(hook: &Value, path: &str, known: &Grandfathered, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    full_name(hook.str("name"), &at("name"), causes);
    for (idx, rule) in hook.list("rules").iter().enumerate() {
        self::rule(rule, &format!("{path}.rules[{idx}]"), causes);
    }
    let allowed: &[&str] = match known.side_effects {
        true => &["None", "NoneOnDryRun", "Some", "Unknown"],
        false => &NO_SIDE_EFFECTS,
    };
    match hook.at("sideEffects").as_str() {
        None => causes
            .required(&at("sideEffects"), &format!("must specify one of {}", allowed.join(", "))),
        Some(word) if !allowed.contains(&word) => {
            causes.not_supported(&at("sideEffects"), word, allowed);
        }
        Some(_) => {}
    }
    if hook.int("timeoutSeconds").is_some_and(|secs| !(1..=30).contains(&secs)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        causes.invalid(&at("timeoutSeconds"), hook.at("timeoutSeconds"), detail);
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        checks::label_selector(hook.at(selector), &at(selector), causes);
    }
    client(hook.at("clientConfig"), &at("clientConfig"), causes);
    let names = Names::new(false, false);
    conditions(hook.list("matchConditions"), &at("matchConditions"), causes, &names);
    versions(hook.list("admissionReviewVersions"), &at("admissionReviewVersions"), known, causes);
}

fn full_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    if let Err(why) = names::subdomain(name) {
        return causes.invalid(path, &name.into(), &why.replace('\n', ","));
    }
    if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        causes.invalid(path, &name.into(), detail);
    }
}

/// The words of a list; what is no string is left out, as the schema complains about it.
pub(crate) fn words<'a>(tree: &'a Value, field: &str) -> Vec<&'a str> {
    tree.list(field).iter().filter_map(Value::as_str).collect()
}

/// A rule: which operations on which resources.
pub(crate) fn rule(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    operations(rule, path, causes);
    resources(rule, path, causes);
}

fn operations(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    const KNOWN: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let all = words(rule, "operations");
    let path = format!("{path}.operations");
    if all.is_empty() {
        causes.required(&path, "");
    }
    if all.len() > 1 && all.contains(&"*") {
        let shown: Vec<String> = all.iter().map(|word| format!("{word:?}")).collect();
        let message = format!(
            "Invalid value: []admissionregistration.OperationType{{{}}}: if '*' is present, must not specify other operations",
            shown.join(", ")
        );
        causes.complain("FieldValueInvalid", &path, message);
    }
    for (idx, operation) in all.iter().enumerate() {
        if !KNOWN.contains(operation) {
            causes.not_supported(&format!("{path}[{idx}]"), operation, &KNOWN);
        }
    }
}

/// Groups, versions and resources of a rule.
fn resources(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let (all, path) = (words(rule, field), format!("{path}.{field}"));
        if all.is_empty() {
            causes.required(&path, "");
        }
        if all.len() > 1 && all.contains(&"*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            causes.invalid(&path, rule.at(field), &detail);
        }
        if field == "apiVersions" {
            for idx in all.iter().enumerate().filter(|(_, v)| v.is_empty()).map(|(idx, _)| idx) {
                causes.required(&format!("{path}[{idx}]"), "");
            }
        }
    }
    let (all, path) = (words(rule, "resources"), format!("{path}.resources"));
    if all.is_empty() {
        causes.required(&path, "");
    }
    let (mut every_sub, mut every_resource) = (OrdSet::new(), OrdSet::new());
    let mut plain = false;
    for (idx, resource) in all.iter().enumerate() {
        let item = format!("{path}[{idx}]");
        if resource.is_empty() {
            causes.required(&item, "");
            continue;
        }
        let Some((name, sub)) = resource.split_once('/') else {
            plain = *resource != "*";
            continue;
        };
        if every_sub.contains(name) {
            let detail = format!("if '{name}/*' is present, must not specify {resource}");
            causes.invalid(&item, &(*resource).into(), &detail);
        }
        if every_resource.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {resource}");
            causes.invalid(&item, &(*resource).into(), &detail);
        }
        if sub == "*" {
            every_sub.insert(name);
        }
        if name == "*" {
            every_resource.insert(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        causes.invalid(&path, rule.at("resources"), detail);
    }
    if all.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        causes.invalid(&path, rule.at("resources"), detail);
    }
}

/// Where a webhook is reached. `WebhookClientConfig` is the same wherever webhooks are.
pub(crate) fn client(config: &Value, path: &str, causes: &mut Vec<Cause>) {
    match (config.at("url").as_str(), config.at("service")) {
        (Some(url), Value::Null) => self::url(url, &format!("{path}.url"), causes),
        (None, service) if !service.is_null() => {
            self::service(service, &format!("{path}.service"), causes);
        }
        _ => causes.required(path, "exactly one of url or service is required"),
    }
}

/// What Go's parser of URLs says of what is none.
fn no_url(url: &str) -> Option<String> {
    if url.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Some("net/url: invalid control character in URL".into());
    }
    if url.starts_with(':') {
        return Some("missing protocol scheme".into());
    }
    let rest = url.split('#').next().unwrap_or("").split('?').next().unwrap_or("");
    let scheme = scheme(rest);
    let rest = &rest[scheme.len()..];
    if scheme.is_empty() && rest.split('/').next().is_some_and(|first| first.contains(':')) {
        return Some("first path segment in URL cannot contain colon".into());
    }
    let host = rest.trim_start_matches(':').strip_prefix("//");
    let host = host.and_then(|rest| rest.split('/').next()).unwrap_or("");
    if let Some(at) = host.find([' ', '"', '\\', '^', '`', '{', '|', '}']) {
        let shown = host[at..].chars().next().unwrap_or(' ');
        return Some(format!("invalid character {:?} in host name", shown.to_string()));
    }
    let is_escape = |at: usize| {
        url.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    let at = url.match_indices('%').map(|(at, _)| at).find(|at| !is_escape(*at))?;
    let end = url.floor_char_boundary(url.len().min(at + 3));
    Some(format!("invalid URL escape {:?}", &url[at..end]))
}

/// The scheme of a URL, empty if it has none.
fn scheme(url: &str) -> &str {
    let (scheme, _) = url.split_once(':').unwrap_or(("", url));
    let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if fits { scheme } else { "" }
}

fn url(url: &str, path: &str, causes: &mut Vec<Cause>) {
    const FORM: &str = "; desired format: https://host[/path]";
    if let Some(why) = no_url(url) {
        return causes
            .required(path, &format!("url must be a valid URL: parse {url:?}: {why}{FORM}"));
    }
    let scheme = scheme(url);
    let rest = &url[scheme.len()..];
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        causes.invalid(path, &scheme.into(), &detail);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        causes.invalid(path, &"".into(), &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        causes.invalid(path, &user.into(), "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        causes.invalid(path, &fragment.into(), "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        causes.invalid(path, &query.into(), "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &str, causes: &mut Vec<Cause>) {
    // Upstream takes the one for the other.
    for (field, other) in [("name", "namespace"), ("namespace", "name")] {
        if service.str(other).is_empty() {
            causes.required(&format!("{path}.{field}"), &format!("service {field} is required"));
        }
    }
    if service.int("port").is_some_and(|port| !(1..=65535).contains(&port)) {
        let detail = format!("port is not valid: {}", api::complain::PORT_RANGE);
        causes.invalid(&format!("{path}.port"), service.at("port"), &detail);
    }
    let url_path = service.str("path");
    let path = format!("{path}.path");
    let mut wrong = |detail: &str| causes.invalid(&path, &url_path.into(), detail);
    match url_path {
        "" | "/" => return,
        "//" => return wrong("segment[0] may not be empty"),
        _ => {}
    }
    if !url_path.starts_with('/') {
        wrong("must start with a '/'");
    }
    // Upstream drops the first byte, whatever it is.
    let steps = url_path.get(1..).unwrap_or("\u{fffd}");
    for (idx, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        match names::subdomain(step) {
            _ if step.is_empty() => wrong(&format!("segment[{idx}] may not be empty")),
            Ok(()) => {}
            Err(why) => why.lines().for_each(|why| wrong(&format!("segment[{idx}]: {why}"))),
        }
    }
}

/// `matchConditions`, which may name what `known` knows.
pub(crate) fn conditions(
    conditions: &[Value],
    path: &str,
    causes: &mut Vec<Cause>,
    known: &Names<'_>,
) {
    if conditions.len() > CONDITIONS_MAX {
        causes.too_many(path, conditions.len(), CONDITIONS_MAX);
    }
    let mut seen = OrdSet::new();
    for (idx, condition) in conditions.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        let expression = condition.str("expression").trim();
        let place = format!("{path}.expression");
        match known.compile(expression, Wanted::Bool, true) {
            _ if expression.is_empty() => causes.required(&place, ""),
            Err(why) => causes.invalid(&place, &expression.into(), &why),
            Ok(_) => {}
        }
        let name = condition.str("name");
        match name {
            "" => causes.required(&format!("{path}.name"), ""),
            name => causes.check_name(&format!("{path}.name"), name, names::qualified),
        }
        if !name.is_empty() && !seen.insert(name) {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
    }
}

fn versions(all: &[Value], path: &str, known: &Grandfathered, causes: &mut Vec<Cause>) {
    if all.is_empty() {
        let detail = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        return causes.required(path, &detail);
    }
    let mut seen = OrdSet::new();
    for (idx, version) in all.iter().filter_map(Value::as_str).enumerate() {
        let path = format!("{path}[{idx}]");
        match seen.insert(version) {
            true => causes.check_name(&path, version, names::label_1035),
            false => causes.invalid(&path, &version.into(), "duplicate version"),
        }
    }
    if !knows_version(all) && !known.versions {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        causes.invalid(path, &Value::Array(all.to_vec()), &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is said of a configuration whose one webhook differs from a good one in this.
    fn said(change: &Value) -> Vec<String> {
        let mut hook = json!({"name": "a.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com"},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]});
        for (key, value) in change.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        let mut causes = Vec::new();
        validate(&json!({"webhooks": [hook]}), None, &mut causes);
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    /// The words are those of a stock kube-apiserver.
    #[test]
    fn a_webhook_says_what_it_must() {
        let rule = |field: &str, value: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            rule[field] = value;
            json!({"rules": [rule]})
        };
        let service = |path: &str, port: i64| json!({"clientConfig": {"service": {"name": "s", "namespace": "n", "path": path, "port": port}}});
        let url = |url: &str| json!({"clientConfig": {"url": url}});
        for (change, wanted) in [
            (json!({}), ""),
            (json!({"name": ""}), "name: Required value"),
            (
                json!({"name": "a.b"}),
                "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                json!({"sideEffects": null}),
                "sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ),
            (
                json!({"sideEffects": "Some"}),
                "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                json!({"timeoutSeconds": 31}),
                "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                json!({"admissionReviewVersions": []}),
                "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (
                json!({"admissionReviewVersions": ["v2"]}),
                "admissionReviewVersions: Invalid value: []string{\"v2\"}: must include at least one of v1, v1beta1",
            ),
            (
                json!({"admissionReviewVersions": ["v1", "v1"]}),
                "admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
            ),
            (
                json!({"clientConfig": {}}),
                "clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                url("http://a"),
                "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                url("101%"),
                "clientConfig.url: Required value: url must be a valid URL: parse \"101%\": invalid URL escape \"%\"; desired format: https://host[/path]",
            ),
            (
                url("https://a/%zzz"),
                "clientConfig.url: Required value: url must be a valid URL: parse \"https://a/%zzz\": invalid URL escape \"%zz\"; desired format: https://host[/path]",
            ),
            (
                url("::1"),
                "clientConfig.url: Required value: url must be a valid URL: parse \"::1\": missing protocol scheme; desired format: https://host[/path]",
            ),
            (
                url("1:2"),
                "clientConfig.url: Required value: url must be a valid URL: parse \"1:2\": first path segment in URL cannot contain colon; desired format: https://host[/path]",
            ),
            (
                url("a\nb"),
                "clientConfig.url: Required value: url must be a valid URL: parse \"a\\nb\": net/url: invalid control character in URL; desired format: https://host[/path]",
            ),
            (
                url("https:///a"),
                "clientConfig.url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
            ),
            (
                url("https://u@a"),
                "clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
            ),
            (
                url("https://a#b"),
                "clientConfig.url: Invalid value: \"b\": fragments are not permitted in the URL",
            ),
            (
                url("https://a?b"),
                "clientConfig.url: Invalid value: \"b\": query parameters are not permitted in the URL",
            ),
            (service("/a/b/", 1), ""),
            (
                service("a", 0),
                "clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
            (
                service("/a//b", 1),
                "clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
            ),
            (
                rule("operations", json!(["*", "CREATE"])),
                "rules[0].operations: Invalid value: []admissionregistration.OperationType{\"*\", \"CREATE\"}: if '*' is present, must not specify other operations",
            ),
            (
                rule("operations", json!(["create"])),
                "rules[0].operations[0]: Unsupported value: \"create\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ),
            (rule("apiGroups", json!([])), "rules[0].apiGroups: Required value"),
            (rule("apiVersions", json!([""])), "rules[0].apiVersions[0]: Required value"),
            (
                rule("resources", json!(["pods/*", "pods/log"])),
                "rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
            ),
            (
                rule("resources", json!(["*", "pods"])),
                "rules[0].resources: Invalid value: []string{\"*\", \"pods\"}: if '*' is present, must not specify other resources without subresources",
            ),
            (
                rule("resources", json!(["*/*", "pods"])),
                "rules[0].resources: Invalid value: []string{\"*/*\", \"pods\"}: if '*/*' is present, must not specify other resources",
            ),
        ] {
            let said = said(&change);
            let first = said.first().map_or("", String::as_str);
            assert_eq!(first.strip_prefix("webhooks[0].").unwrap_or(first), wanted, "{change}");
        }
    }

    #[test]
    fn what_was_stored_may_stay() {
        let hook = json!({"name": "a.b.c", "sideEffects": "Some", "admissionReviewVersions": ["v2"],
            "clientConfig": {"url": "https://a"}});
        let old = json!({"webhooks": [hook, hook]});
        let mut causes = Vec::new();
        validate(&old, Some(&old), &mut causes);
        assert!(causes.is_empty(), "{:?}", causes.first().map(|cause| &cause.message));
        validate(&old, None, &mut causes);
        assert_eq!(causes.len(), 5);
    }
}
