//! RuntimeClass: how the containers of the pods that name it are run.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::RUNTIME_CLASS;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &RUNTIME_CLASS,
    columns: &[Column::path("Handler", "handler"), Column::AGE],
    validate,
    on_update: "CVU",
    ..Rules::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let handler = new.str("handler");
    causes.check_name("handler", handler, names::label);
    if old.is_some_and(|old| old.str("handler") != handler) {
        causes.invalid("handler", &handler.into(), IMMUTABLE);
    }
    crate::pod::validate::amounts(new.at("overhead.podFixed"), "overhead.limits", causes);
    api::labels::labels(new.at("scheduling.nodeSelector"), "scheduling.nodeSelector", causes);
    let tolerations = new.list("scheduling.tolerations");
    for (idx, toleration) in tolerations.iter().enumerate() {
        // Upstream's path says it twice.
        let path = format!("scheduling.tolerations.tolerations[{idx}]");
        crate::pod::validate::toleration(toleration, &path, causes);
    }
    let mut seen = OrdSet::new();
    for (idx, toleration) in tolerations.iter().enumerate() {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.str(field));
        if !seen.insert(key) {
            causes.duplicate(&format!("scheduling.tolerations[{idx}]"), toleration);
        }
    }
}
