//! Types that the rbac kinds share.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.rbac.v1
PolicyRule
   1 verbs~          []str -- What may be done.
   2 apiGroups       []str -- The groups of the resources; empty string for the core group.
   3 resources       []str -- The resources, or * for all.
   4 resourceNames   []str -- Only objects of these names.
   5 nonResourceURLs []str -- Paths that are no resources.
Subject atomic
   1 kind~     str
   2 apiGroup  str
   3 name*     str
   4 namespace str
RoleRef atomic
   1 apiGroup* str = rbac.authorization.k8s.io
   2 kind~     str
   3 name*     str
";
