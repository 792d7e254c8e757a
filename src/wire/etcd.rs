//! The messages of etcd's API, version 3, for whoever asks and for whoever answers.
//!
//! A message is a struct with its fields' numbers (`kv.rs`, `watch.rs`, `lease.rs`, `cluster.rs`), read and written
//! as `message` has it. Keys and values are shared bytes: read once, they go on to the store, or from it to the
//! wire, without another copy.

mod cluster;
mod kv;
mod lease;
pub mod method;
mod watch;

pub use cluster::*;
pub use kv::*;
pub use lease::*;
pub use watch::*;

pub use crate::message::{Bytes, DEPTH_MAX, Error, Field, Left, Message};
use crate::message::{messages, one_of, open_enums, put_all};

messages! {
    /// What every answer begins with.
    ResponseHeader {
        1 cluster_id: u64,
        2 member_id: u64,
        3 revision: i64,
        4 raft_term: u64,
    }
}

/// The end of the range of all keys that begin with `prefix`: `"\0"`, all that follow, if nothing is greater.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    let Some(last) = kept else { return Bytes::from([0]) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

#[cfg(test)]
mod tests;
