//! What a request asks for: its path, its query and who it is for, parsed before anything is done.

pub(crate) mod path;
pub(crate) mod query;
