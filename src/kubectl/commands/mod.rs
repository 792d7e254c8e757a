//! The table of commands, in the order in which kubectl suggests them. A line here is a command there.

mod api_resources;
mod certificate;
mod completion;
mod config;
mod delete;
mod describe;
mod drain;
mod events;
mod explain;
mod explain_v2;
pub(crate) mod get;
mod get_watch;
mod kustomize;
mod label;
mod option_list;
pub(crate) mod plugin;
mod port_forward;
mod taint;
mod top;
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
        &describe::COMMAND,
        &drain::CORDON,
        &drain::DRAIN,
        &drain::UNCORDON,
        &taint::COMMAND,
        &top::COMMAND,
        &events::COMMAND,
        &certificate::COMMAND,
        &explain::COMMAND,
        &option_list::COMMAND,
        &completion::COMMAND,
        &plugin::COMMAND,
        &kustomize::COMMAND,
        &port_forward::COMMAND,
    ],
    ..BLANK
};
