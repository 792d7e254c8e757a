//! PodTemplate: a description of pods that others may make.

use serde_json::Value;

use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{joined, labels};
use crate::status::Cause;

pub static POD_TEMPLATE: Kind = Kind {
    name: "PodTemplate",
    plural: "podtemplates",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        default: |tree| {
            if let Some(spec) = tree.at_mut("template.spec") {
                crate::pod::defaults::spec(spec);
            }
        },
        doc: "A description of pods that others may make.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Containers", |tree, _| joined(tree.list("template.spec.containers"), "name")),
    Column::with("Images", |tree, _| joined(tree.list("template.spec.containers"), "image")),
    Column::with("Pod Labels", |tree, _| labels(tree.at("template.metadata.labels")).into()),
];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let policies = ["Always", "OnFailure", "Never"];
    crate::pod::validate::template(new.at("template"), "template", &policies, causes);
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
PodTemplate kind
   1 metadata ObjectMeta
   2 template PodTemplateSpec -- What the pods are to be.
";
