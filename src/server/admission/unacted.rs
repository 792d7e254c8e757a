//! Warnings about what is checked and stored, but that nothing acts on yet.

use api::kinds::SERVICE;
use api::{Kind, Lens, Value};

/// Appends a warning for each part of `tree` that nothing acts on.
pub(super) fn warn(kind: &Kind, tree: &Value, warnings: &mut Vec<String>) {
    warnings.extend(api::unacted::warnings(kind, tree));
    if *kind == SERVICE && tree.str("spec.type") == "LoadBalancer" {
        warnings.push("spec.type: no load balancer is made yet; the node ports work".into());
    }
}
