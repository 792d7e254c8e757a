//! Lease: a claim that must be renewed: a heartbeat or a leadership.

use api::complain::{Complain, NON_NEGATIVE};
use api::kinds::LEASE;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules { kind: &LEASE, validate, columns: COLUMNS, ..Rules::BASE };

const COLUMNS: &[Column<'static>] = &[Column::path("Holder", "spec.holderIdentity"), Column::AGE];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(secs) = new.int("spec.leaseDurationSeconds").filter(|secs| *secs <= 0) {
        causes.invalid("spec.leaseDurationSeconds", &secs.into(), "must be greater than 0");
    }
    if let Some(n) = new.int("spec.leaseTransitions").filter(|n| *n < 0) {
        causes.invalid("spec.leaseTransitions", &n.into(), NON_NEGATIVE);
    }
}
