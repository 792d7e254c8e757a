//! Generic verbs for every kind over the store.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod update;
pub(crate) mod watch;
