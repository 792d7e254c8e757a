//! Lease.

use crate::kind::*;

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    name: "Lease",
    plural: "leases",
    durability: Durability::Lazy,
    generation: false,
    ..Kind::BASE
};
