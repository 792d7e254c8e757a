//! `fieldRef` and `resourceFieldRef`: what a pod may learn about itself.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

use crate::lens::Lens;
use crate::quantity::Quantity;

/// What a field may need beyond the pod's tree.
#[derive(Clone, Debug, Default)]
pub struct FieldContext {
    pub pod_ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
    /// `status.allocatable` of the node: the limit of who has none.
    pub allocatable: Value,
}

/// The value of `fieldPath`.
///
/// # Errors
/// In upstream's words, if there is none such.
pub fn field(pod: &Value, path: &str, context: &FieldContext) -> Result<String, String> {
    let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.labels" | "metadata.annotations" => {
                Ok(pod.entry(map, key).unwrap_or("").to_owned())
            }
            _ => Err(format!("unsupported fieldPath: {path}")),
        };
    }
    Ok(match path {
        "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.serviceAccountName" => pod.str(path).to_owned(),
        "metadata.labels" | "metadata.annotations" => map_text(pod.at(path)),
        "status.hostIP" => first(&context.host_ips),
        "status.hostIPs" => joined(&context.host_ips),
        "status.podIP" => first(&context.pod_ips),
        "status.podIPs" => joined(&context.pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `a['b']` as `(a, b)`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines in key order, as downward API files hold them.
fn map_text(map: &Value) -> String {
    let mut text = String::new();
    for (key, value) in map.pairs("") {
        let escaped = value
            .chars()
            .map(|c| match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\t' => "\\t".to_owned(),
                '\r' => "\\r".to_owned(),
                c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
                c => c.to_string(),
            })
            .collect::<String>();
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{key}=\"{escaped}\"");
    }
    text
}

/// The value of a `resourceFieldRef`: of the named container, or of `own`.
///
/// # Errors
/// In upstream's words, if there is no such container or resource.
pub fn resource(
    pod: &Value,
    own: &Value,
    reference: &Value,
    context: &FieldContext,
) -> Result<String, String> {
    let name = reference.str("containerName");
    let container = match name {
        "" => own,
        name => ["spec.containers", "spec.initContainers"]
            .iter()
            .flat_map(|list| pod.list(list))
            .find(|container| container.str("name") == name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let path = reference.str("resource");
    let (side, resource) =
        path.split_once('.').ok_or_else(|| format!("unsupported container resource : {path}"))?;
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&resource)
        || resource.starts_with("hugepages-");
    let known = known && ["limits", "requests"].contains(&side);
    if !known {
        return Err(format!("unsupported container resource : {path}"));
    }
    let read = |side: &str| {
        container.at(&format!("resources.{side}")).get(resource).and_then(Quantity::from_tree)
    };
    let amount = match side {
        "limits" => read("limits")
            .filter(|q| !q.is_zero())
            .or_else(|| context.allocatable.get(resource).and_then(Quantity::from_tree)),
        _ => read("requests").or_else(|| read("limits")),
    }
    .unwrap_or(Quantity::ZERO);
    let divisor = Quantity::from_tree(reference.at("divisor")).filter(|q| !q.is_zero());
    let (amount, divisor) = match resource {
        "cpu" => (amount.milli(), divisor.map_or(1000, Quantity::milli)),
        _ => (amount.units(), divisor.map_or(1, Quantity::units)),
    };
    let divisor = divisor.max(1);
    Ok(((amount.saturating_add(divisor - 1)) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn fields_read() {
        let pod = json!({"metadata": {"name": "p", "labels": {"a/b": "c", "d": "e\"f"}}});
        let context = FieldContext {
            pod_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ..FieldContext::default()
        };
        for (path, want) in [
            ("metadata.name", Ok("p")),
            ("metadata.labels['a/b']", Ok("c")),
            ("metadata.labels['x']", Ok("")),
            ("metadata.labels", Ok("a/b=\"c\"\nd=\"e\\\"f\"")),
            ("status.podIPs", Ok("10.0.0.1,fd00::1")),
            ("spec.containers", Err("unsupported fieldPath: spec.containers")),
        ] {
            let got = field(&pod, path, &context);
            assert_eq!(got.as_deref().map_err(|e| &**e), want, "{path}");
        }
    }

    #[test]
    fn resources_divide_upwards() {
        let own =
            json!({"resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}});
        let context =
            FieldContext { allocatable: json!({"memory": "2Gi"}), ..FieldContext::default() };
        for (reference, want) in [
            (json!({"resource": "limits.cpu"}), "2"),
            (json!({"resource": "limits.cpu", "divisor": "1m"}), "1500"),
            (json!({"resource": "requests.cpu", "divisor": "1m"}), "1500"),
            (json!({"resource": "requests.memory", "divisor": "1Mi"}), "100"),
            (json!({"resource": "limits.memory", "divisor": "1Gi"}), "2"),
        ] {
            assert_eq!(resource(&json!({}), &own, &reference, &context).as_deref(), Ok(want));
        }
        assert!(resource(&json!({}), &own, &json!({"resource": "limits.gold"}), &context).is_err());
    }
}
