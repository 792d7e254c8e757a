//! The table of commands, in the order in which kubectl suggests them. A line here is a command there.

mod api_resources;
mod applied;
pub(crate) mod apply;
mod apply_server;
mod attach;
mod auth;
mod certificate;
mod cluster_info;
mod completion;
mod config;
mod cp;
pub(crate) mod create;
mod debug;
mod debug_profile;
pub(crate) mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod explain_v2;
mod expose;
pub(crate) mod get;
mod get_watch;
mod kustomize;
mod label;
mod logs;
mod option_list;
mod patch;
pub(crate) mod plugin;
mod port_forward;
mod proxy;
mod proxy_files;
mod prune;
mod reconcile;
mod replace;
mod rollout;
mod rollout_status;
mod run;
mod scale;
mod set;
mod set_env;
mod taint;
mod top;
mod version;
mod wait;

use crate::call::{BLANK, Command};

pub(crate) static ROOT: Command = Command {
    name: "kubectl",
    about: "kubectl controls the Kubernetes cluster manager.\n\n Find more information at: https://kubernetes.io/docs/reference/kubectl/",
    subs: &[
        &create::COMMAND,
        &expose::COMMAND,
        &run::COMMAND,
        &set::COMMAND,
        &explain::COMMAND,
        &get::COMMAND,
        &edit::COMMAND,
        &delete::COMMAND,
        &rollout::COMMAND,
        &scale::COMMAND,
        &scale::AUTOSCALE,
        &certificate::COMMAND,
        &cluster_info::COMMAND,
        &top::COMMAND,
        &drain::CORDON,
        &drain::UNCORDON,
        &drain::DRAIN,
        &taint::COMMAND,
        &describe::COMMAND,
        &logs::COMMAND,
        &attach::COMMAND,
        &exec::COMMAND,
        &port_forward::COMMAND,
        &proxy::COMMAND,
        &cp::COMMAND,
        &debug::COMMAND,
        &auth::COMMAND,
        &events::COMMAND,
        &diff::COMMAND,
        &apply::COMMAND,
        &patch::COMMAND,
        &replace::COMMAND,
        &wait::COMMAND,
        &kustomize::COMMAND,
        &label::LABEL,
        &label::ANNOTATE,
        &completion::COMMAND,
        &config::COMMAND,
        &plugin::COMMAND,
        &version::COMMAND,
        &api_resources::VERSIONS,
        &api_resources::COMMAND,
        &option_list::COMMAND,
    ],
    ..BLANK
};
