//! PodTemplate: a description of pods that others may make.

use api::kinds::POD_TEMPLATE;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::print::{joined, labels};

pub(super) static RULES: Rules = Rules {
    kind: &POD_TEMPLATE,
    validate,
    columns: COLUMNS,
    default: |tree| {
        if let Some(spec) = tree.at_mut("template.spec") {
            crate::pod::defaults::spec(spec);
        }
    },
    ..Rules::BASE
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
