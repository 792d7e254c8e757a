//! kubectl's commands: by kubeconfig, with its flags, messages and exit codes.
//!
//! Neighbours: `client` reaches the server, `describe` tells of objects, `template` fills templates, `apply` moves fields
//! between managers, `wire` has JSON and YAML, `api` the built-in kinds' merge keys. Must not know: the server's rooms, the environment (it comes in [`World`]).
//! Invariants: objects are trees, whatever their kind; what the server says is bounded where it is read; a command that
//! fails says why on standard error and gives an exit code other than 0.

mod call;
mod commands;
mod complete;
mod discovery;
mod dispatch;
mod editor;
mod exec_plugin;
mod failure;
mod files;
mod flags;
mod help;
mod image;
mod kubeconfig;
mod kustomize;
mod line;
mod merge3;
mod options;
mod out;
mod pods;
mod print;
mod rest;
mod select;
mod streams;
mod wait;
mod watch;
mod write;
mod zone;

use std::path::PathBuf;

pub use line::World;

/// Runs a command line, without the program's name, and gives its exit code.
pub fn run(args: &[String], world: &World<'_>) -> u8 {
    match dispatch::dispatch(args, world) {
        Ok(()) => 0,
        Err(failure) => failure.tell(),
    }
}

/// Where k3s's kubectl looks when nobody names a file.
pub fn default_kubeconfig() -> PathBuf {
    PathBuf::from("/etc/rancher/k3s/k3s.yaml")
}
