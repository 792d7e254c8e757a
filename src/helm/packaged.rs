//! HelmChartConfigs for components that k3s packages as charts and that are none here: values that have no effect are named.

use api::{Lens, Object, Value};

/// Paths that are named, and how long a message may be.
const PATHS_MAX: usize = 20;
const MESSAGE_MAX_BYTES: usize = 1000;

/// Those components.
pub struct Components {
    /// The names of their HelmCharts in k3s.
    pub names: Vec<String>,
    /// Takes out of values what has an effect on the component of this name.
    pub honour: Box<dyn Fn(&str, &mut Value) + Send + Sync>,
    /// The HelmChartConfig of one of them came, changed or went.
    pub changed: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Components({:?})", self.names)
    }
}

impl Components {
    /// Whether a HelmChartConfig of this namespace and name is for one of them.
    pub(crate) fn has(&self, namespace: &str, name: &str) -> bool {
        namespace == "kube-system" && self.names.iter().any(|one| one == name)
    }
}

/// What is to be told about a HelmChartConfig with values that nobody reads; `None` if it is not for a packaged component.
pub(crate) fn useless(config: &Object, packaged: &Components) -> Option<String> {
    let name = config.name();
    if !packaged.has(config.namespace(), name) {
        return None;
    }
    let tree = config.tree();
    let mut paths = Vec::new();
    let mut values =
        wire::yaml::parse_one_loose(tree.str("spec.valuesContent")).unwrap_or_default();
    if tree.at("spec.values").is_object() {
        api::patch::merge(&mut values, tree.at("spec.values"));
    }
    (packaged.honour)(name, &mut values);
    leaves(&values, &mut paths);
    let secrets = tree.list("spec.valuesSecrets").iter().map(|secret| secret.str("name"));
    paths.extend(secrets.map(|name| format!("all of Secret {name}")));
    if paths.is_empty() {
        return None;
    }
    let n_more = paths.len().saturating_sub(PATHS_MAX);
    paths.truncate(PATHS_MAX);
    let mut named = paths.join(", ");
    if n_more > 0 {
        named.push_str(&format!(" and {n_more} more"));
    }
    let text = format!("{name} is no Helm chart in k3rs, so these values have no effect: {named}");
    Some(crate::release::cut(text, MESSAGE_MAX_BYTES))
}

/// The paths of what is set in values, with a worklist: they may nest deep.
fn leaves(values: &Value, paths: &mut Vec<String>) {
    let mut left = vec![(String::new(), values)];
    while let Some((path, value)) = left.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter().rev() {
                    let joint = if path.is_empty() { "" } else { "." };
                    left.push((format!("{path}{joint}{key}"), value));
                }
            }
            Value::Null if path.is_empty() => {}
            _ => paths.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn values_that_nobody_reads_are_named() {
        let object = |name: &str, spec: Value| {
            let tree = json!({"metadata": {"name": name, "namespace": "kube-system", "uid": "u"}, "spec": spec});
            let kind = api::Kind::intern(
                "helm.test.io",
                "HelmChartConfig",
                "helmchartconfigs",
                api::Scope::Namespaced,
            );
            Object::from_tree(kind.unwrap(), &tree).unwrap()
        };
        let packaged = Components {
            names: vec!["traefik".into()],
            honour: Box::new(|_, values| {
                values.as_object_mut().map(|map| map.remove("honoured"));
            }),
            changed: Box::new(|| {}),
        };
        let told = |name: &str, spec: Value| useless(&object(name, spec), &packaged);
        let spec = json!({"valuesContent": "ports:\n  web: {redirectTo: {port: websecure}}\nlogs: {}\nimage: [1]\nhonoured: {x: 1}", "values": {"a": 1}});
        let message = told("traefik", spec).unwrap();
        let wanted = "have no effect: a, image, ports.web.redirectTo.port";
        assert!(message.ends_with(wanted), "{message}");
        assert_eq!(told("mine", json!({"values": {"a": 1}})), None);
        assert_eq!(told("traefik", json!({})), None);
        let many: serde_json::Map<String, Value> =
            (0..50).map(|n| (format!("k{n}"), n.into())).collect();
        assert!(told("traefik", json!({"values": many})).unwrap().ends_with("and 30 more"));
    }
}
