//! ResourceQuota: how much of what the objects of a namespace may use together.

use crate::kind::*;

pub static RESOURCE_QUOTA: Kind = Kind {
    name: "ResourceQuota",
    plural: "resourcequotas",
    declared: &Declared {
        version: "v1",
        short: &["quota"],
        subresources: &[Sub::Status],
        generation: false,
        schema: SCHEMA,
        doc: "How much of what the objects of a namespace may use together.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ResourceQuota kind
   1 metadata ObjectMeta
   2 spec     ResourceQuotaSpec
   3 status   ResourceQuotaStatus
ResourceQuotaSpec
   1 hard          {}quantity -- How much of each resource may be used.
   2 scopes        []str -- Which pods count; all of these must hold.
   3 scopeSelector ScopeSelector? -- Which pods count, also by the values of a scope.
ScopeSelector atomic
   1 matchExpressions []ScopedResourceSelectorRequirement
ScopedResourceSelectorRequirement
   1 scopeName~ str enum BestEffort|CrossNamespacePodAffinity|NotBestEffort|NotTerminating|PriorityClass|Terminating
   2 operator~  str enum DoesNotExist|Exists|In|NotIn
   3 values     []str
ResourceQuotaStatus
   1 hard {}quantity -- What holds now.
   2 used {}quantity -- What is used of it.
";
