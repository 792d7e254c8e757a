//! Rules of label selectors and node selectors.

use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

/// A `LabelSelector` at `path`.
pub(crate) fn label_selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in selector.pairs("matchLabels") {
        let path = format!("{path}.matchLabels");
        causes.check_name(&path, key, names::qualified);
        causes.check_name(&path, value, names::label_value);
    }
    for (idx, expression) in selector.list("matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{idx}]");
        let values = expression.list("values");
        match expression.str("operator") {
            "In" | "NotIn" if values.is_empty() => causes.required(
                &format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => causes.forbidden(
                &format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => causes.invalid(
                &format!("{path}.operator"),
                &other.into(),
                "not a valid selector operator",
            ),
        }
        causes.check_name(&format!("{path}.key"), expression.str("key"), names::qualified);
        for (idx, value) in values.iter().filter_map(Value::as_str).enumerate() {
            causes.check_name(&format!("{path}.values[{idx}]"), value, names::label_value);
        }
    }
}

/// A selector that must select something, and the labels it must match: `spec.selector` of
/// workloads with their templates. `whole` is what upstream calls the workload. Tells whether it looks at the template then.
pub(crate) fn label_selector_as(
    selector: &Value,
    path: &str,
    labels: &Value,
    labels_path: &str,
    whole: &str,
    causes: &mut Vec<Cause>,
) -> bool {
    const NO_MATCH: &str = "`selector` does not match template `labels`";
    if selector.is_null() {
        // The schema has said that it is required; it matches nothing.
        causes.invalid_labels(labels_path, labels, NO_MATCH);
        return true;
    }
    let before = causes.len();
    label_selector(selector, path, causes);
    if causes.len() > before {
        let detail = match whole {
            "daemonset" => return true,
            "statefulset" => "",
            _ => "invalid label selector",
        };
        causes.invalid_selector(path, selector, detail);
        return false;
    }
    let parsed = api::selector::Selector::from_label_selector(selector);
    if parsed.is_everything() {
        let detail = format!("empty selector is invalid for {whole}");
        causes.invalid_selector(path, selector, &detail);
    } else if !parsed.matches_map(labels) {
        causes.invalid_labels(labels_path, labels, NO_MATCH);
    }
    true
}

/// A `NodeSelector` that is there, at `path`.
pub(crate) fn node_selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    if selector.list("nodeSelectorTerms").is_empty() {
        let detail = "must have at least one node selector term";
        causes.required(&format!("{path}.nodeSelectorTerms"), detail);
    }
    for (idx, term) in selector.list("nodeSelectorTerms").iter().enumerate() {
        node_selector_term(term, &format!("{path}.nodeSelectorTerms[{idx}]"), causes);
    }
}

/// A `NodeSelectorTerm` at `path`.
pub(crate) fn node_selector_term(term: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, expression) in term.list("matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{idx}]");
        let (values, at) = (expression.list("values"), format!("{path}.values"));
        match expression.str("operator") {
            "In" | "NotIn" if values.is_empty() => {
                causes.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.forbidden(&at, detail);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                causes.required(&at, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => not_an_operator(other, &path, causes),
        }
        let key = expression.str("key");
        causes.check_name(&format!("{path}.key"), key, names::qualified);
    }
    for (idx, expression) in term.list("matchFields").iter().enumerate() {
        let path = format!("{path}.matchFields[{idx}]");
        let values = expression.list("values");
        match expression.str("operator") {
            "In" | "NotIn" if values.len() == 1 => {}
            "In" | "NotIn" => causes.required(
                &format!("{path}.values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            other => not_an_operator(other, &path, causes),
        }
        match expression.str("key") {
            "metadata.name" => {
                for (idx, name) in values.iter().filter_map(Value::as_str).enumerate() {
                    causes.check_name(&format!("{path}.values[{idx}]"), name, names::subdomain);
                }
            }
            key => {
                causes.invalid(
                    &format!("{path}.key"),
                    &key.into(),
                    "not a valid field selector key",
                );
            }
        }
    }
}

fn not_an_operator(operator: &str, path: &str, causes: &mut Vec<Cause>) {
    let at = format!("{path}.operator");
    causes.invalid(&at, &operator.into(), "not a valid selector operator");
}
