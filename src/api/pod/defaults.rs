//! Defaults of pods and pod templates that the schema text cannot say.

use serde_json::{Value, json};

use crate::lens::{Lens, LensMut};

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
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
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
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}
