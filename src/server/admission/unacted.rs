//! Warnings about objects that this server was told not to act on. Fields that nothing acts on are in the README: a
//! warning that a stock server does not give stops tools that take every warning for a fault.

use api::kinds::{API_SERVICE, FLOW_SCHEMA, NETWORK_POLICY, PRIORITY_LEVEL_CONFIGURATION};
use api::{Lens, Value};
use discovery::is_built_in;

use super::Act;

/// Appends a warning for each part of `tree` that nothing acts on.
pub(super) fn warn(act: &Act<'_>, tree: &Value, warnings: &mut Vec<String>) {
    let kind = act.kind;
    if *kind == NETWORK_POLICY && !act.core.config.network_policies {
        warnings.push("its rules are not enforced: --disable-network-policy".into());
    }
    if (*kind == FLOW_SCHEMA || *kind == PRIORITY_LEVEL_CONFIGURATION) && act.core.flow.is_none() {
        warnings
            .push("requests are not shared out by it: enable-priority-and-fairness=false".into());
    }
    if *kind == API_SERVICE && tree.has("spec.service") {
        let (group, version) = (tree.str("spec.group"), tree.str("spec.version"));
        if is_built_in(&act.core.kinds.current(), group, version) {
            let own = tree.str("metadata.name");
            warnings.push(format!("spec.service: {own} is served by this server itself"));
        }
    }
}
