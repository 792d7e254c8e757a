//! The etcd v3 API over a store, for etcdctl, kube-apiserver and whoever else speaks to etcd.
//!
//! Requests become transactions and reads of [`store::Store`] and nothing else: a front keeps no state but
//! the watches of its streams. Where it differs from etcd: the past is bounded by itself and not only by
//! compaction, so a read at an older revision, and a watch from there, may be told that it is compacted;
//! there is one member, which leads; there are no users and no snapshots.
//!
//! Must not know: Kubernetes, SQL, what a value means.

mod budget;
mod front;
mod kv;
mod lease;
mod refusal;
mod service;
mod shape;
mod txn;
mod upkeep;
mod watch;

pub use front::{Front, Settings};
