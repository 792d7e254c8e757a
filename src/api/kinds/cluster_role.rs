//! ClusterRole: what may be done in all namespaces, and beside them.

use crate::kind::*;

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "ClusterRole",
    plural: "clusterroles",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        doc: "What may be done in all namespaces, and beside them.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
