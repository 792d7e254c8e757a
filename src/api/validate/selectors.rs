//! Rules of label selectors and node selectors.

use serde_json::Value;

use crate::complain::Complain;
use crate::lens::Lens;
use crate::names;
use crate::status::Cause;

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
/// workloads with their templates. `whole` names upstream's complaint about an empty one.
pub(crate) fn label_selector_as(
    selector: &Value,
    path: &str,
    labels: &Value,
    labels_path: &str,
    whole: &str,
    causes: &mut Vec<Cause>,
) {
    if selector.is_null() {
        // The schema has said that it is required; it matches nothing.
        causes.invalid_labels(labels_path, labels, "`selector` does not match template `labels`");
        return;
    }
    label_selector(selector, path, causes);
    let parsed = crate::selector::Selector::from_label_selector(selector);
    if parsed.is_everything() {
        causes.invalid(path, selector, &format!("empty selector is invalid for {whole}"));
    } else if !parsed.matches_map(labels) {
        causes.invalid_labels(labels_path, labels, "`selector` does not match template `labels`");
    }
}

/// A `NodeSelector` at `path`.
pub(crate) fn node_selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, term) in selector.list("nodeSelectorTerms").iter().enumerate() {
        node_selector_term(term, &format!("{path}.nodeSelectorTerms[{idx}]"), causes);
    }
}

/// A `NodeSelectorTerm` at `path`.
pub(crate) fn node_selector_term(term: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["matchExpressions", "matchFields"] {
        for (idx, expression) in term.list(field).iter().enumerate() {
            let path = format!("{path}.{field}[{idx}]");
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
                "Gt" | "Lt" if values.len() != 1 => causes.required(
                    &format!("{path}.values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                ),
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => causes.invalid(
                    &format!("{path}.operator"),
                    &other.into(),
                    "not a valid selector operator",
                ),
            }
            match field {
                "matchExpressions" => {
                    causes.check_name(
                        &format!("{path}.key"),
                        expression.str("key"),
                        names::qualified,
                    );
                }
                _ if expression.str("key") != "metadata.name" => causes.invalid(
                    &format!("{path}.key"),
                    expression.at("key"),
                    "not a valid field selector key",
                ),
                _ => {}
            }
        }
    }
}
