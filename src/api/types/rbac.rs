//! Types that the rbac kinds share.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.rbac.v1
PolicyRule
   1 verbs*          []str
   2 apiGroups       []str
   3 resources       []str
   4 resourceNames   []str
   5 nonResourceURLs []str
Subject atomic
   1 kind*     str
   2 apiGroup  str
   3 name*     str
   4 namespace str
RoleRef atomic
   1 apiGroup* str = rbac.authorization.k8s.io
   2 kind*     str
   3 name*     str
";
