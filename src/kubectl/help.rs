//! What `--help` shows.

use stdx::Arrange;

use crate::call::Command;
use crate::flags::{Flag, Kind};
use crate::options;

/// The sections of the list of all commands.
const SECTIONS: &[(&str, &[&str])] = &[
    ("Basic Commands (Beginner)", &["create", "expose", "run", "set"]),
    ("Basic Commands (Intermediate)", &["explain", "get", "edit", "delete"]),
    ("Deploy Commands", &["rollout", "scale", "autoscale"]),
    (
        "Cluster Management Commands",
        &["certificate", "cluster-info", "top", "cordon", "uncordon", "drain", "taint"],
    ),
    (
        "Troubleshooting and Debugging Commands",
        &[
            "describe",
            "logs",
            "attach",
            "exec",
            "port-forward",
            "proxy",
            "cp",
            "auth",
            "debug",
            "events",
        ],
    ),
    ("Advanced Commands", &["diff", "apply", "patch", "replace", "wait", "kustomize"]),
    ("Settings Commands", &["label", "annotate", "completion"]),
    ("Subcommands provided by plugins", &[]),
    ("Other Commands", &["api-resources", "api-versions", "config", "plugin", "version"]),
];

/// Names in a list are at least so wide.
const NAME_MIN: usize = 11;

/// What a command is for, its options and its usage.
pub(crate) fn text(command: &Command, path: &str) -> String {
    text_with(command, path, &[])
}

/// The same of the root, with the names of programs that extend it.
pub(crate) fn text_with(command: &Command, path: &str, plugins: &[String]) -> String {
    let mut text = format!("{}\n\n", command.about);
    if !command.aliases.is_empty() {
        let names = command.aliases.join(", ");
        text.push_str(&format!("Aliases:\n{}, {names}\n\n", command.name));
    }
    if !command.examples.is_empty() {
        text.push_str(&format!("Examples:\n{}\n\n", command.examples));
    }
    let mut subs: Vec<(&str, &str)> =
        command.subs.iter().map(|sub| (sub.name, short(sub))).collect();
    subs.arrange();
    let width = subs.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(NAME_MIN);
    let row = |(name, short): &(&str, &str)| format!("  {name:width$}   {short}\n");
    if path == "kubectl" {
        for (title, names) in SECTIONS {
            text.push_str(&format!("{title}:\n"));
            for name in *names {
                text.extend(subs.iter().filter(|(own, _)| own == name).map(row));
            }
            if names.is_empty() {
                let told = "The command ";
                text.extend(plugins.iter().map(|name| {
                    row(&(
                        name.as_str(),
                        &format!("{told}{name} is a plugin installed by the user"),
                    ))
                }));
            }
            text.push('\n');
        }
    } else if !subs.is_empty() {
        text.push_str("Available Commands:\n");
        text.extend(subs.iter().map(row));
        text.push('\n');
    }
    if !command.flags.is_empty() {
        text.push_str("Options:\n");
        for flag in sorted(command.flags) {
            text.push_str(&shown(flag));
            text.push('\n');
        }
    }
    let flags = if command.usage.is_empty() && command.run.is_none() { " [flags]" } else { "" };
    let space = if command.usage.is_empty() { "" } else { " " };
    let usage = command.usage;
    text.push_str(&format!("Usage:\n  {path}{space}{usage}{flags} [options]\n\n"));
    if !subs.is_empty() {
        text.push_str(&format!(
            "Use \"{path} <command> --help\" for more information about a given command.\n"
        ));
    }
    text.push_str("Use \"kubectl options\" for a list of global command-line options (applies to all commands).\n");
    text
}

fn short(command: &Command) -> &'static str {
    match command.short {
        "" => command.about.lines().next().unwrap_or("").trim_end_matches('.'),
        short => short,
    }
}

/// A flag as the list of options shows it.
pub(crate) fn shown(flag: &Flag) -> String {
    let short = match flag.short {
        '\0' => String::new(),
        letter => format!("-{letter}, "),
    };
    let default = match flag.kind {
        Kind::Text => format!("'{}'", flag.default),
        Kind::List | Kind::Array | Kind::Pairs => "[]".to_owned(),
        _ => flag.default.to_owned(),
    };
    let hint = options::HINTS.iter().find(|(name, _)| *name == flag.name);
    let about = match hint {
        Some((_, why)) => format!("Taken and not used: {why}"),
        None => flag.about.to_owned(),
    };
    format!("    {short}--{}={default}:\n\t{about}\n", flag.name)
}

/// The flags of some tables, by name.
pub(crate) fn sorted(tables: &[&'static [Flag]]) -> Vec<&'static Flag> {
    let mut flags: Vec<&Flag> = tables.iter().flat_map(|table| table.iter()).collect();
    flags.arrange_by(|a, b| a.name.cmp(b.name));
    flags
}
