//! Revisioned keys -> bytes: the state of the cluster, in memory to read and on disk to keep.
//!
//! Semantics are etcd's: one global revision, compare-and-swap on `mod_revision`, ranges at a
//! revision, watch from a revision, leases, compaction. The current state lives in memory and is
//! the read path; a driver (SQLite, or memory for simulations and tests) is the durable log behind
//! it. What is acknowledged or shown is durable first, except for the lazy class.
//!
//! Must not know: what a value means. Bytes in, bytes out.

mod ballast;
mod bell;
mod commit;
mod driver;
mod error;
mod lease;
mod memory;
mod memory_log;
mod plan;
mod sealed;
mod shared;
mod sharer;
mod sqlite;
mod state;
mod store;
mod txn;
mod types;
mod watch;

pub use bell::Bell;
pub use driver::{Loaded, Row, Version};
pub use error::{Error, Result};
pub use lease::LeaseInfo;
pub use memory::{Disk, Fault};
pub use memory_log::{Fate, Log, LogPlant, Way};
pub use sealed::Envelope;
pub use shared::{Append, Appended, Numbering, Refused, Role, SharedLog, Tail, lease_key};
pub use store::Store;
pub use txn::{Compare, Done, Failed, Relation, Request, Response, TXN_DEPTH_MAX, Target, Txn};
pub use types::{
    Bytes, Class, Event, Expect, KeyValue, LeaseId, Limits, Op, Query, Range, Room, Span, Stats,
    Written,
};
pub use watch::{Follow, Item, Watch};
