//! What the subresources of a CertificateSigningRequest change of it: somebody approves, a signer answers.

use api::kinds::CERTIFICATE_SIGNING_REQUEST;
use api::lens::{Lens, LensMut};
use serde_json::Value;
use stdx::time::Wall;

use crate::keep;
use crate::kinds::certificate_signing_request::{APPROVED, DENIED, of_type};
use crate::strategy;

/// A replacement through `status`: what others approved or denied stays as it was.
pub fn update_status(new: &mut Value, old: &Value, now: Wall) {
    strategy::update_status(&CERTIFICATE_SIGNING_REQUEST, new, old);
    for kind in [APPROVED, DENIED] {
        if of_type(new, kind).count() != of_type(old, kind).count() {
            continue;
        }
        let mut kept = of_type(old, kind);
        for condition in new.list_mut("status.conditions").iter_mut() {
            if condition.str("type") == kind
                && let Some(old) = kept.next()
            {
                *condition = old.clone();
            }
        }
    }
    stamp(new, old, now);
}

/// A replacement through `approval`: conditions, and nothing else of the status.
pub fn update_approval(new: &mut Value, old: &Value, now: Wall) {
    strategy::update_status(&CERTIFICATE_SIGNING_REQUEST, new, old);
    stamp(new, old, now);
    let conditions = new.at("status.conditions").clone();
    keep::keep(new, old, "status");
    match conditions {
        Value::Null => drop(new.remove("status.conditions")),
        conditions => new.set("status.conditions", conditions),
    }
}

/// Conditions say when they were updated, and since when they are as they are.
fn stamp(new: &mut Value, old: &Value, now: Wall) {
    let Some(Value::Array(conditions)) = new.at_mut("status.conditions") else { return };
    for condition in conditions {
        condition.set_default("lastUpdateTime", api::time::format(now));
        if condition.has("lastTransitionTime") {
            continue;
        }
        let same = |before: &&Value| {
            before.at("status") == condition.at("status") && before.has("lastTransitionTime")
        };
        let before = of_type(old, condition.str("type")).find(same);
        let since = match before {
            Some(before) => before.at("lastTransitionTime").clone(),
            None => api::time::format(now).into(),
        };
        condition.set("lastTransitionTime", since);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::certificate_signing_request::tests::request;

    #[test]
    fn each_part_changes_its_own_and_stamps_it() {
        let old = request(json!([
            {"type": "Approved", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        ]));
        let mut new = request(json!([
            {"type": "Approved", "status": "True", "reason": "forged"}, {"type": "Failed", "status": "True"},
        ]));
        new.set("spec.signerName", "example.com/other");
        new.set("status.certificate", "eA==");
        let mut by_status = new.clone();
        update_status(&mut by_status, &old, Wall(0));
        assert_eq!(by_status.str("spec.signerName"), "example.com/s");
        assert_eq!(by_status.str("status.certificate"), "eA==");
        assert!(!by_status.has("status.conditions.0.reason"));
        assert_eq!(by_status.str("status.conditions.1.lastTransitionTime"), "1970-01-01T00:00:00Z");
        let mut by_approval = new;
        update_approval(&mut by_approval, &old, Wall(0));
        assert!(!by_approval.has("status.certificate"));
        let since = by_approval.str("status.conditions.0.lastTransitionTime");
        assert_eq!(since, "2025-01-01T00:00:00Z", "the state is the same");
    }
}
