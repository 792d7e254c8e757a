//! Lease: a claim that must be renewed: a heartbeat or a leadership.

use serde_json::Value;

use crate::complain::{Complain, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::Lens;
use crate::status::Cause;

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    name: "Lease",
    plural: "leases",
    declared: &Declared {
        version: "v1",
        durability: Durability::Lazy,
        generation: false,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        doc: "A claim that must be renewed: a heartbeat or a leadership.",
        creates_on_update: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[Column::path("Holder", "spec.holderIdentity"), Column::AGE];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(secs) = new.int("spec.leaseDurationSeconds").filter(|secs| *secs <= 0) {
        causes.invalid("spec.leaseDurationSeconds", &secs.into(), "must be greater than 0");
    }
    if let Some(n) = new.int("spec.leaseTransitions").filter(|n| *n < 0) {
        causes.invalid("spec.leaseTransitions", &n.into(), NON_NEGATIVE);
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.coordination.v1
Lease kind
   1 metadata ObjectMeta
   2 spec     LeaseSpec
LeaseSpec
   1 holderIdentity       str? -- Who holds the lease.
   2 leaseDurationSeconds i32? -- How long it holds without being renewed.
   3 acquireTime          microtime?
   4 renewTime            microtime? -- When it was last renewed.
   5 leaseTransitions     i32?
   6 strategy             str?
   7 preferredHolder      str?
";
