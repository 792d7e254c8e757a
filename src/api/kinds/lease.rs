//! Lease.

use crate::kind::*;

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    name: "Lease",
    plural: "leases",
    durability: Durability::Lazy,
    generation: false,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[Column::path("Holder", "spec.holderIdentity"), Column::AGE];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.coordination.v1
Lease kind
   1 metadata ObjectMeta
   2 spec     LeaseSpec
LeaseSpec
   1 holderIdentity       str?
   2 leaseDurationSeconds i32?
   3 acquireTime          microtime?
   4 renewTime            microtime?
   5 leaseTransitions     i32?
   6 strategy             str?
   7 preferredHolder      str?
";
