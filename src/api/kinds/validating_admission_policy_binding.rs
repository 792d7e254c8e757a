//! ValidatingAdmissionPolicyBinding: where a policy applies, with which parameters, and what follows.

use serde_json::Value;

use super::admission_policy_rules as rules;
use crate::kind::*;
use crate::lens::Lens;

pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    name: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        categories: &["api-extensions"],
        schema: SCHEMA,
        columns: COLUMNS,
        validate: rules::binding,
        on_update: "CV",
        doc: "Where a ValidatingAdmissionPolicy applies, and what follows.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.admissionregistration.v1
ParamRef atomic
   1 name                    str
   2 namespace               str -- The object's own unless given.
   3 selector                LabelSelector? -- Each that it selects is one parameter.
   4 parameterNotFoundAction str? -- Allow or Deny.
ValidatingAdmissionPolicyBindingSpec
   1 policyName        str
   2 paramRef          ParamRef?
   3 matchResources    MatchResources? -- What of the policy's it is about; all unless given.
   4 validationActions []str set -- Deny, Warn or Audit.
ValidatingAdmissionPolicyBinding kind
   1 metadata ObjectMeta
   2 spec     ValidatingAdmissionPolicyBindingSpec
";
