//! The table of commands, in the order in which kubectl suggests them. A line here is a command there.

mod api_resources;
mod config;
mod delete;
pub(crate) mod get;
mod get_watch;
mod label;
mod version;

use crate::call::{BLANK, Command};

pub(crate) static ROOT: Command = Command {
    name: "kubectl",
    about: "kubectl controls the Kubernetes cluster manager.",
    subs: &[
        &get::COMMAND,
        &delete::COMMAND,
        &label::LABEL,
        &label::ANNOTATE,
        &api_resources::VERSIONS,
        &api_resources::COMMAND,
        &config::COMMAND,
        &version::COMMAND,
    ],
    ..BLANK
};
