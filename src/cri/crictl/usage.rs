//! What `--help` says.

use super::line::{COMMANDS, Command, GLOBAL};

fn flags(list: &[&str]) -> String {
    let mut text = String::new();
    for flag in list {
        let takes = flag.ends_with('=');
        let names: Vec<String> = flag
            .trim_end_matches('=')
            .split(',')
            .map(|name| if name.len() > 1 { format!("--{name}") } else { format!("-{name}") })
            .collect();
        text.push_str(&format!("   {}{}\n", names.join(", "), if takes { " value" } else { "" }));
    }
    text
}

pub(crate) fn all() -> String {
    let mut text = String::from(
        "NAME:\n   crictl - client for CRI\n\nUSAGE:\n   crictl [global options] command [command options]\n\nCOMMANDS:\n",
    );
    for command in COMMANDS {
        text.push_str(&format!("   {:<24}{}\n", command.names.join(", "), command.about));
    }
    text + "\nGLOBAL OPTIONS:\n" + &flags(GLOBAL)
}

pub(crate) fn of(command: &Command) -> String {
    let name = command.names[0];
    let mut text = format!(
        "NAME:\n   crictl {name} - {}\n\nUSAGE:\n   crictl {name} [command options] {}\n",
        command.about, command.args
    );
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        text.push_str(&flags(command.flags));
    }
    text
}
