//! DenyServiceExternalIPs: no Service gets addresses that somebody else routes.

use api::{Lens, Status, Value};

use super::Act;

/// Refuses external addresses that the Service did not have before.
///
/// # Errors
/// 403
pub(super) fn deny_external_ips(act: &Act<'_>, service: &Value) -> Result<(), Status> {
    let known = act.old.map_or(&[][..], |old| old.list("spec.externalIPs"));
    match service.list("spec.externalIPs").iter().all(|address| known.contains(address)) {
        true => Ok(()),
        false => Err(act.forbidden(service, "Use of external IPs is denied by admission control")),
    }
}
