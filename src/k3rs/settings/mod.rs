//! What this program is told: command line, environment, files and the flags of the components that it stands for, read, checked and typed.

pub(crate) mod apiserver;
pub(crate) mod cidr;
pub(crate) mod component;
pub(crate) mod config;
pub(crate) mod egress;
pub(crate) mod families;
pub(crate) mod flags;
pub(crate) mod help;
pub(crate) mod load;
pub(crate) mod net_conf;
pub(crate) mod s3_flags;
pub(crate) mod snapshot_flags;
pub(crate) mod values;
