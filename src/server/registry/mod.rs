//! Generic verbs for every kind over the store.

pub(crate) mod cache;
mod change;
pub(crate) mod continue_token;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod room;
pub(crate) mod selection;
pub(crate) mod storage;
pub(crate) mod update;
pub(crate) mod watch;
