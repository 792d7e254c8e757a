//! ClusterRole.

use crate::kind::*;

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "ClusterRole",
    plural: "clusterroles",
    scope: Scope::Cluster,
    generation: false,
    name_rule: NameRule::PathSegment,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] =
    &[Column { format: "date", ..Column::path("Created At", "metadata.creationTimestamp") }];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
ClusterRole kind
   1 metadata        ObjectMeta
   2 rules!          []PolicyRule
   3 aggregationRule AggregationRule?
AggregationRule
   1 clusterRoleSelectors []LabelSelector
";
