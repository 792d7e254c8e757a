//! Lease: a claim that must be renewed: a heartbeat or a leadership.

use crate::kind::*;

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    name: "Lease",
    plural: "leases",
    declared: &Declared {
        version: "v1",
        durability: Durability::Lazy,
        generation: false,
        schema: SCHEMA,
        doc: "A claim that must be renewed: a heartbeat or a leadership.",
        creates_on_update: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
