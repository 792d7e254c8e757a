//! Defaults of pods and pod templates that the schema text cannot say.

use api::lens::{Lens, LensMut};
use serde_json::{Value, json};

/// For every pod spec, in pods and in templates.
pub(crate) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    same_service_account(spec);
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.at_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if container.is_object() && container.str("imagePullPolicy").is_empty() {
                let policy = pull_policy(container.str("image"));
                container.set("imagePullPolicy", policy);
            }
        }
    }
    for volume in spec.at_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(map) = volume.as_object_mut() else { continue };
        if map.iter().all(|(key, value)| key == "name" || value.is_null()) {
            map.insert("emptyDir".into(), json!({}));
        }
    }
}

/// For pods only, as upstream's `SetDefaults_Pod`.
pub(crate) fn pod(tree: &mut Value) {
    let Some(spec) = tree.at_mut("spec").filter(|spec| spec.is_object()) else { return };
    spec.set_default("enableServiceLinks", true);
    let host_network = spec.flag("hostNetwork");
    for field in ["containers", "initContainers"] {
        for container in spec.at_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            requests_from_limits(container);
            for port in
                container.at_mut("ports").and_then(Value::as_array_mut).into_iter().flatten()
            {
                if host_network && port.int("hostPort").unwrap_or(0) == 0 {
                    let number = port.at("containerPort").clone();
                    port.set("hostPort", number);
                }
            }
        }
    }
    self::spec(spec);
}

/// For kinds with `spec.template`.
pub(crate) fn template(tree: &mut Value) {
    if let Some(template) = tree.at_mut("spec.template.spec") {
        spec(template);
    }
}

/// The deprecated name and the current one always say the same.
fn same_service_account(spec: &mut Value) {
    let name = match spec.str("serviceAccountName") {
        "" => spec.str("serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        spec.set("serviceAccountName", name.as_str());
        spec.set("serviceAccount", name);
    }
}

/// What is limited and asks for nothing asks for its limit.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container.at("resources.limits").as_object().cloned() else { return };
    let requests = container.map_mut("resources.requests");
    for (resource, amount) in limits {
        requests.entry(resource).or_insert(amount);
    }
}

/// Images tagged `latest`, or not at all, are pulled always.
fn pull_policy(image: &str) -> &'static str {
    // What is no reference has no tag, either.
    if image.contains('@') || !is_reference(image) {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
}

/// Whether an image without a digest has the form `[registry/]path[:tag]` (upstream's `ParseNormalizedNamed`).
fn is_reference(image: &str) -> bool {
    let is_registry = |text: &str| {
        text == "localhost"
            || text.contains(['.', ':'])
            || text.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (registry, rest) = match image.split_once('/') {
        Some((registry, rest)) if is_registry(registry) => (registry, rest),
        _ => ("", image),
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    let is_host = |part: &str| {
        let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !part.is_empty() && inner && !part.starts_with('-') && !part.ends_with('-')
    };
    let (path, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
    let is_part = |part: &str| {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = part.chars().all(|c| lower(c) || ".-_".contains(c));
        // Between words stands a dot, one or two underscores, or dashes.
        let apart = ["..", "___", "._", "_.", ".-", "-.", "_-", "-_"];
        inner
            && part.starts_with(lower)
            && part.ends_with(lower)
            && !apart.iter().any(|two| part.contains(two))
    };
    let is_tag = |tag: &str| {
        let inner = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        (1..=128).contains(&tag.len()) && inner && !tag.starts_with(['.', '-'])
    };
    // What could be an image's id is no name.
    let is_id = image.len() == 64
        && image.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    let library = if registry.is_empty() && !path.contains('/') { "library/" } else { "" };
    !is_id
        && library.len() + path.len() <= 255
        && (registry.is_empty() || host.split('.').all(is_host))
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && path.split('/').all(is_part)
        && is_tag(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("r:5000/nginx", "Always"),
            ("r:5000/a/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
            ("a b", "IfNotPresent"),
            ("a//b", "IfNotPresent"),
            ("a..b", "IfNotPresent"),
            ("a__b-c.d", "Always"),
            ("a--b", "Always"),
            ("example.com/x", "Always"),
            ("localhost/x", "Always"),
            ("r:x/nginx", "IfNotPresent"),
            (&"a".repeat(64), "IfNotPresent"),
            (&"a".repeat(65), "Always"),
            (&"a".repeat(247), "Always"),
            (&"a".repeat(248), "IfNotPresent"),
            ("nginx:-1", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}
