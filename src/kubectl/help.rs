//! What `--help` shows.

use stdx::Arrange;

use crate::call::Command;
use crate::flags::{Flag, Kind};

/// What a command is for, its options and its usage.
pub(crate) fn text(command: &Command, path: &str) -> String {
    let mut text = format!("{}\n\n", command.about);
    if !command.subs.is_empty() {
        text.push_str("Available Commands:\n");
        let width = command.subs.iter().map(|sub| sub.name.len()).max().unwrap_or(0);
        for sub in command.subs {
            text.push_str(&format!("  {:width$}   {}\n", sub.name, sub.about));
        }
        text.push('\n');
    }
    if !command.flags.is_empty() {
        text.push_str("Options:\n");
        for flag in sorted(command.flags) {
            text.push_str(&shown(flag));
            text.push('\n');
        }
    }
    let usage = match (command.usage, command.flags.is_empty()) {
        ("", true) => "[flags] [options]".to_owned(),
        (usage, true) => usage.to_owned(),
        ("", false) => "[options]".to_owned(),
        (usage, false) => format!("{usage} [options]"),
    };
    text.push_str(&format!("Usage:\n  {path} {usage}\n\n"));
    if !command.subs.is_empty() {
        text.push_str(&format!(
            "Use \"{path} <command> --help\" for more information about a given command.\n"
        ));
    }
    text.push_str("Use \"kubectl options\" for a list of global command-line options (applies to all commands).\n");
    text
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
    format!("    {short}--{}={default}:\n\t{}\n", flag.name, flag.about)
}

/// The flags of some tables, by name.
pub(crate) fn sorted(tables: &[&'static [Flag]]) -> Vec<&'static Flag> {
    let mut flags: Vec<&Flag> = tables.iter().flat_map(|table| table.iter()).collect();
    flags.arrange_by(|a, b| a.name.cmp(b.name));
    flags
}
