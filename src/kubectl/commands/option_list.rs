//! `kubectl options`

use crate::call::{BLANK, Command};
use crate::{help, options, out};

pub(crate) static COMMAND: Command = Command {
    name: "options",
    about: "Print the list of flags inherited by all commands.",
    usage: "[flags]",
    run: Some(|_| {
        let mut text = "The following options can be passed to any command:\n\n".to_owned();
        for flag in help::sorted(&[options::GLOBAL]) {
            text.push_str(&help::shown(flag));
            text.push('\n');
        }
        out::print(&text);
        Ok(())
    }),
    ..BLANK
};
