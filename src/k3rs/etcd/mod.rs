//! The etcd that servers run for themselves: its members, and its snapshots, on the disk and in a bucket.

pub(crate) mod bucket;
pub(crate) mod embedded;
pub(crate) mod members;
pub(crate) mod restore;
pub(crate) mod snapshot_files;
pub(crate) mod snapshots;
