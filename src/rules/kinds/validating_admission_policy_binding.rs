//! ValidatingAdmissionPolicyBinding: where a policy applies, with which parameters, and what follows.

use api::kinds::VALIDATING_ADMISSION_POLICY_BINDING;
use api::lens::Lens;
use serde_json::Value;

use super::Rules;
use super::admission_policy_rules as rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &VALIDATING_ADMISSION_POLICY_BINDING,
    columns: COLUMNS,
    validate: rules::binding,
    on_update: "CV",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column { format: "name", ..Column::path("Name", "metadata.name") },
    Column::path("PolicyName", "spec.policyName"),
    Column::with("ParamRef", |tree, _| param_ref(tree.at("spec.paramRef")).into()),
    Column::AGE,
];

fn param_ref(param: &Value) -> String {
    match (param.str("namespace"), param.str("name")) {
        (_, "") if param.has("selector") => selector(param.at("selector")),
        (_, "") => "<unset>".into(),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// As Go prints one.
fn selector(of: &Value) -> String {
    let labels: Vec<String> =
        of.pairs("matchLabels").map(|(key, value)| format!("{key}: {value},")).collect();
    let expression = |it: &Value| {
        let values: Vec<&str> = it.list("values").iter().filter_map(Value::as_str).collect();
        let (key, operator, values) = (it.str("key"), it.str("operator"), values.join(" "));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    };
    let expressions: Vec<String> = of.list("matchExpressions").iter().map(expression).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        expressions.concat()
    )
}
