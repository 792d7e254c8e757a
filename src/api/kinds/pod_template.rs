//! PodTemplate: a description of pods that others may make.

use crate::kind::*;

pub static POD_TEMPLATE: Kind = Kind {
    name: "PodTemplate",
    plural: "podtemplates",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        doc: "A description of pods that others may make.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
PodTemplate kind
   1 metadata ObjectMeta
   2 template PodTemplateSpec -- What the pods are to be.
";
