//! ComponentStatus: whether the parts of the control plane are healthy, made up when it is asked for.

use api::kinds::COMPONENT_STATUS;
use api::lens::Lens;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &COMPONENT_STATUS,
    columns: &[
        Column::with("Status", |tree, _| {
            match healthy(tree).map(|condition| condition.str("status")) {
                None => "Unknown",
                Some("True") => "Healthy",
                Some(_) => "Unhealthy",
            }
            .into()
        }),
        Column::with("Message", |tree, _| part(tree, "message")),
        Column::with("Error", |tree, _| part(tree, "error")),
    ],
    ..Rules::BASE
};

fn healthy(tree: &Value) -> Option<&Value> {
    tree.list("conditions").iter().find(|condition| condition.str("type") == "Healthy")
}

fn part(tree: &Value, field: &str) -> Value {
    healthy(tree).map_or("", |condition| condition.str(field)).into()
}
