//! Small types that several core kinds share.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
ModifyVolumeStatus
   1 targetVolumeAttributesClassName str
   2 status~                      str enum InProgress|Infeasible|Pending
ObjectReference atomic kind
   1 kind            str
   2 namespace       str
   3 name            str
   4 uid             str
   5 apiVersion      str
   6 resourceVersion str
   7 fieldPath       str
";
