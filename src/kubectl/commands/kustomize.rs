//! `kubectl kustomize`

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, array, switch, text};
use crate::kustomize::{Settings, build};
use crate::out;

const OWN: &[Flag] = &[
    switch("as-current-user", "Not supported: functions are not run"),
    switch("enable-alpha-plugins", "Not supported: plugins are not run"),
    switch("enable-helm", "Not supported: charts are not inflated"),
    array("env", "Not supported: functions are not run").short('e'),
    text(
        "load-restrictor",
        "LoadRestrictionsRootOnly",
        "if set to 'LoadRestrictionsNone', local kustomizations may load files from outside their root. This does, however, break the relocatability of the kustomization.",
    ),
    array("helm-api-versions", "Not supported: charts are not inflated"),
    text("helm-command", "helm", "Not supported: charts are not inflated"),
    switch("helm-debug", "Not supported: charts are not inflated"),
    text("helm-kube-version", "", "Not supported: charts are not inflated"),
    array("mount", "Not supported: functions are not run"),
    switch("network", "Not supported: functions are not run"),
    text("network-name", "bridge", "Not supported: functions are not run"),
    text("output", "", "If specified, write output to this path.").short('o'),
];

/// What would run a program.
const REFUSED: [&str; 11] = [
    "as-current-user",
    "enable-alpha-plugins",
    "enable-helm",
    "env",
    "helm-api-versions",
    "helm-command",
    "helm-debug",
    "helm-kube-version",
    "mount",
    "network",
    "network-name",
];

pub(crate) static COMMAND: Command = Command {
    name: "kustomize",
    about: "Build a set of KRM resources using a 'kustomization.yaml' file.",
    short: "Build a kustomization target from a directory or URL",
    usage: "DIR [flags]",
    flags: &[OWN],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let directory = match call.args() {
        [] => ".",
        [one] => one,
        _ => return failed("specify one path to kustomization.yaml"),
    };
    for flag in REFUSED {
        // A switch that is off asks for nothing.
        if call.changed(flag) && call.text(flag) != "false" {
            return failed(format!("--{flag} is not supported by this version of k3rs"));
        }
    }
    let is_unrestricted = match call.text("load-restrictor") {
        "" | "LoadRestrictionsRootOnly" => false,
        "LoadRestrictionsNone" => true,
        other => {
            return failed(format!(
                "illegal flag value --load-restrictor {other}; legal values: [LoadRestrictionsRootOnly LoadRestrictionsNone]"
            ));
        }
    };
    let objects = build(directory, &Settings { env: call.world.env, is_unrestricted })?;
    let texts: Vec<String> = objects.iter().map(wire::yaml_text::text).collect();
    let text = texts.join("---\n");
    match call.text("output") {
        "" => out::print(&text),
        path => rt::fs::write(path, text.as_bytes(), 0o644).map_err(Failure::from)?,
    }
    Ok(())
}
