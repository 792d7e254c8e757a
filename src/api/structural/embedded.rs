//! Objects inside of objects (`x-kubernetes-embedded-resource`): they say what they are, and their
//! metadata follows the rules of all metadata.
//!
//! Source: apiextensions-apiserver/pkg/apiserver/schema/objectmeta/validation.go

use serde_json::Value;

use super::check::enter;
use super::{At, Structural};
use crate::complain::{Cause, Complain};
use crate::lens::Lens;
use crate::names;

impl Structural {
    /// Checks every embedded object of a whole one.
    pub(super) fn embedded(&self, tree: &Value, causes: &mut Vec<Cause>) {
        if self.nodes.iter().any(|node| node.embedded) {
            self.embedded_at(0, tree, &mut String::new(), causes);
        }
    }

    fn embedded_at(&self, at: At, value: &Value, path: &mut String, causes: &mut Vec<Cause>) {
        let Some(node) = self.node(at) else { return };
        let len = path.len();
        match value {
            Value::Object(map) => {
                if node.embedded && at != 0 {
                    object(value, path, causes);
                }
                for (key, value) in map {
                    let Some(below) = self.below(node, key) else { continue };
                    enter(path, key);
                    self.embedded_at(below, value, path, causes);
                    path.truncate(len);
                }
            }
            Value::Array(items) => {
                let Some(below) = node.items else { return };
                for (idx, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{idx}]"));
                    self.embedded_at(below, item, path, causes);
                    path.truncate(len);
                }
            }
            _ => {}
        }
    }
}

fn object(tree: &Value, path: &str, causes: &mut Vec<Cause>) {
    let version = tree.str("apiVersion");
    match version {
        "" => causes.required(&format!("{path}.apiVersion"), "must not be empty"),
        _ if version.matches('/').count() > 1 => {
            let detail = format!("unexpected GroupVersion string: {version}");
            causes.invalid(&format!("{path}.apiVersion"), &version.into(), &detail);
        }
        _ => {}
    }
    match tree.str("kind") {
        "" => causes.required(&format!("{path}.kind"), "must not be empty"),
        kind => {
            if let Err(why) = names::label_1035(&kind.to_ascii_lowercase()) {
                let detail = format!("may have mixed case, but should otherwise match: {why}");
                causes.invalid(&format!("{path}.kind"), &kind.into(), &detail);
            }
        }
    }
    let path = format!("{path}.metadata");
    for field in ["name", "namespace"] {
        let value = tree.at("metadata").str(field);
        if !value.is_empty() {
            let check = if field == "name" { names::path_segment } else { names::label };
            causes.check_name(&format!("{path}.{field}"), value, check);
        }
    }
    crate::labels::labels(tree.at("metadata.labels"), &format!("{path}.labels"), causes);
    crate::labels::annotations(
        tree.at("metadata.annotations"),
        &format!("{path}.annotations"),
        causes,
    );
}
