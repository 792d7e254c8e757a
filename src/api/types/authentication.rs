//! Types that the authentication kinds share.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.authentication.v1
UserInfo
   1 username str
   2 uid      str
   3 groups   []str
   4 extra    {}strs
";
