//! Which pods a node takes: its name, labels and taints against a pod's selector, affinity and tolerations.

use api::{Lens, Value};

/// Taints, with their effects, that daemon pods stand by themselves.
pub(crate) const DAEMON_TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The taints of a node that keep away pods which do not tolerate them.
pub(crate) fn untolerated<'n>(
    node: &'n Value,
    tolerations: &'n [Value],
    effects: &'n [&str],
) -> impl Iterator<Item = &'n Value> {
    let bites = move |taint: &&Value| effects.contains(&taint.str("effect"));
    let taints = node.list("spec.taints").iter().filter(bites);
    taints.filter(move |taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// True if one toleration covers one taint.
pub(crate) fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let (key, effect) = (toleration.str("key"), toleration.str("effect"));
    if !effect.is_empty() && effect != taint.str("effect") {
        return false;
    }
    if !key.is_empty() && key != taint.str("key") {
        return false;
    }
    match toleration.str("operator") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && toleration.str("value") == taint.str("value"),
        _ => false,
    }
}

/// True if a pod spec's node selector and required node affinity accept the node.
pub(crate) fn accepts(spec: &Value, node: &Value) -> bool {
    let labels = node.at("metadata.labels");
    let selected =
        spec.pairs("nodeSelector").all(|(k, v)| labels.get(k).and_then(Value::as_str) == Some(v));
    let required = spec.at("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    selected && (required.is_null() || selects(required, node))
}

/// A `NodeSelector`: any of its terms. Without terms it selects nothing.
pub(crate) fn selects(selector: &Value, node: &Value) -> bool {
    selector.list("nodeSelectorTerms").iter().any(|term| {
        let (expressions, fields) = (term.list("matchExpressions"), term.list("matchFields"));
        let label = |key: &str| node.entry("metadata.labels", key);
        let field = |key: &str| (key == "metadata.name").then(|| node.str("metadata.name"));
        !(expressions.is_empty() && fields.is_empty())
            && expressions.iter().all(|e| matches(e, label(e.str("key"))))
            && fields.iter().all(|e| matches(e, field(e.str("key"))))
    })
}

fn matches(expression: &Value, value: Option<&str>) -> bool {
    let values = || expression.list("values").iter().filter_map(Value::as_str);
    let listed = |value: &str| values().any(|v| v == value);
    let numbers = || Some((value?.parse::<i64>().ok()?, values().next()?.parse::<i64>().ok()?));
    match expression.str("operator") {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(have, than)| have > than),
        "Lt" => numbers().is_some_and(|(have, than)| have < than),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn tolerations() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        for (toleration, want) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "x", "operator": "Exists"}), false),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true),
        ] {
            assert_eq!(tolerates(&toleration, &taint), want, "{toleration}");
        }
    }

    #[test]
    fn selectors() {
        let node = json!({"metadata": {"name": "n", "labels": {"zone": "a", "cores": "4"}}});
        let term = |term: Value| json!({"nodeSelectorTerms": [term]});
        let expression = |key: &str, operator: &str, values: &[&str]| {
            term(
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
            )
        };
        for (selector, want) in [
            (json!({}), false),
            (term(json!({})), false),
            (expression("zone", "In", &["a", "b"]), true),
            (expression("zone", "NotIn", &["a"]), false),
            (expression("x", "NotIn", &["a"]), true),
            (expression("x", "Exists", &[]), false),
            (expression("cores", "Gt", &["3"]), true),
            (expression("cores", "Lt", &["4"]), false),
            (
                term(
                    json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}),
                ),
                true,
            ),
        ] {
            assert_eq!(selects(&selector, &node), want, "{selector}");
        }
    }
}
