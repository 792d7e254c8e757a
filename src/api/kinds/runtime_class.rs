//! RuntimeClass: how the containers of the pods that name it are run.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::complain::{Complain, IMMUTABLE};
use crate::kind::*;
use crate::lens::Lens;
use crate::names;
use crate::status::Cause;

pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    name: "RuntimeClass",
    plural: "runtimeclasses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        columns: &[Column::path("Handler", "handler"), Column::AGE],
        generation: false,
        validate,
        on_update: "CVU",
        doc: "How the containers of the pods that name it are run.",
        creates_on_update: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let handler = new.str("handler");
    causes.check_name("handler", handler, names::label);
    if old.is_some_and(|old| old.str("handler") != handler) {
        causes.invalid("handler", &handler.into(), IMMUTABLE);
    }
    crate::pod::validate::amounts(new.at("overhead.podFixed"), "overhead.limits", causes);
    crate::validate::labels(new.at("scheduling.nodeSelector"), "scheduling.nodeSelector", causes);
    let tolerations = new.list("scheduling.tolerations");
    for (idx, toleration) in tolerations.iter().enumerate() {
        // Upstream's path says it twice.
        let path = format!("scheduling.tolerations.tolerations[{idx}]");
        crate::pod::validate::toleration(toleration, &path, causes);
    }
    let mut seen = BTreeSet::new();
    for (idx, toleration) in tolerations.iter().enumerate() {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.str(field));
        if !seen.insert(key) {
            causes.duplicate(&format!("scheduling.tolerations[{idx}]"), toleration);
        }
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.node.v1
RuntimeClass kind
   1 metadata   ObjectMeta
   2 handler~   str -- What the container runtime calls it.
   3 overhead   Overhead? -- What a pod costs beside its containers.
   4 scheduling Scheduling? -- The nodes that can run it.
Overhead
   1 podFixed {}quantity
Scheduling
   1 nodeSelector {}str atomic
   2 tolerations  []Toleration
";
