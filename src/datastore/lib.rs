//! Logs that several servers share: kine's table in a SQL database, and etcd.
//!
//! Each is a [`store::SharedLog`]: the arbiter of what happened in which order. The state stays in the
//! memory of each server and follows it.
