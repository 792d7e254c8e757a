//! ClusterRole: what may be done in all namespaces, and beside them.

use serde_json::Value;

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::Lens;
use crate::status::Cause;

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "ClusterRole",
    plural: "clusterroles",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        generation: false,
        name_rule: NameRule::PathSegment,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        doc: "What may be done in all namespaces, and beside them.",
        creates_on_update: true,
        on_update: "CSCVU",
        ..Declared::BASE
    },
    ..Kind::BASE
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
        crate::validate::label_selector(selector, &path, causes);
        if causes.len() > before {
            // Of what could not be read, upstream shows what it could read: nothing.
            causes.invalid(&path, &Value::Null, "invalid label selector.");
        }
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
ClusterRole kind
   1 metadata        ObjectMeta
   2 rules!          []PolicyRule -- What the role allows.
   3 aggregationRule AggregationRule? -- Other cluster roles whose rules this one gathers.
AggregationRule
   1 clusterRoleSelectors []LabelSelector
";
