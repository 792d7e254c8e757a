//! Types that the authorization kinds share.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.authorization.v1
ResourceAttributes
   1 namespace     str
   2 verb          str
   3 group         str
   4 version       str
   5 resource      str
   6 subresource   str
   7 name          str
   8 fieldSelector FieldSelectorAttributes?
   9 labelSelector LabelSelectorAttributes?
LabelSelectorAttributes
   1 rawSelector  str
   2 requirements []LabelSelectorRequirement
FieldSelectorAttributes
   1 rawSelector  str
   2 requirements []FieldSelectorRequirement
NonResourceAttributes
   1 path str
   2 verb str
";
