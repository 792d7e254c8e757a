//! Commands that do one thing on this machine and end.

pub(crate) mod certificate;
pub(crate) mod check_config;
pub(crate) mod completion;
pub(crate) mod killall;
pub(crate) mod rollback;
pub(crate) mod uninstall;
