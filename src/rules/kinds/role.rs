//! Role: what may be done in one namespace.

use api::complain::Complain;
use api::kinds::ROLE;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &ROLE,
    name_rule: NameRule::PathSegment,
    validate,
    columns: COLUMNS,
    on_update: "CSCVU",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[Column::CREATED_AT];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    rules(new, true, causes);
}

/// The `rules` of roles and cluster roles.
pub(super) fn rules(new: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    for (idx, rule) in new.list("rules").iter().enumerate() {
        let path = format!("rules[{idx}]");
        if rule.list("verbs").is_empty() {
            causes.required(&format!("{path}.verbs"), "verbs must contain at least one value");
        }
        if !rule.list("nonResourceURLs").is_empty() {
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                causes.invalid(
                    &format!("{path}.nonResourceURLs"),
                    rule.at("nonResourceURLs"),
                    detail,
                );
            }
            let others = ["apiGroups", "resources", "resourceNames"];
            if others.iter().any(|field| !rule.list(field).is_empty()) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                causes.invalid(
                    &format!("{path}.nonResourceURLs"),
                    rule.at("nonResourceURLs"),
                    detail,
                );
            }
            continue;
        }
        if rule.list("apiGroups").is_empty() {
            causes.required(
                &format!("{path}.apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if rule.list("resources").is_empty() {
            causes.required(
                &format!("{path}.resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}
