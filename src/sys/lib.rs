//! The only room with `unsafe`: system calls as safe functions, one subject a file.

pub mod cgroup;
pub mod inotify;
pub mod random;
