//! ClusterRole: what may be done in all namespaces, and beside them.

use api::complain::Complain;
use api::kinds::CLUSTER_ROLE;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &CLUSTER_ROLE,
    name_rule: NameRule::PathSegment,
    validate,
    columns: COLUMNS,
    on_update: "CSCVU",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[Column::CREATED_AT];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    super::role::rules(new, false, causes);
    if new.has("aggregationRule") && new.list("aggregationRule.clusterRoleSelectors").is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.required("aggregationRule.clusterRoleSelectors", detail);
    }
    for (idx, selector) in new.list("aggregationRule.clusterRoleSelectors").iter().enumerate() {
        let path = format!("aggregationRule.clusterRoleSelectors[{idx}]");
        let before = causes.len();
        crate::checks::label_selector(selector, &path, causes);
        if causes.len() > before {
            // Of what could not be read, upstream shows what it could read: nothing.
            causes.invalid(&path, &Value::Null, "invalid label selector.");
        }
    }
}
