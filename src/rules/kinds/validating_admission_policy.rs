//! ValidatingAdmissionPolicy: expressions that refuse what is attempted, without a server of their own.

use api::kinds::VALIDATING_ADMISSION_POLICY;
use api::lens::Lens;
use serde_json::Value;

use super::Rules;
use super::admission_policy_rules as rules;
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &VALIDATING_ADMISSION_POLICY,
    columns: COLUMNS,
    prepare_status: keep::keep_metadata,
    validate: rules::policy,
    validate_status: rules::status,
    on_update: "CV",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column { format: "name", ..Column::path("Name", "metadata.name") },
    Column::with("Validations", |tree, _| tree.list("spec.validations").len().into()).integer(),
    Column::with("ParamKind", |tree, _| param_kind(tree.at("spec.paramKind"))),
    Column::AGE,
];

fn param_kind(kind: &Value) -> Value {
    match kind {
        Value::Null => "<unset>".into(),
        kind => format!("{}/{}", kind.str("apiVersion"), kind.str("kind")).into(),
    }
}
