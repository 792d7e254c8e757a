//! What the command prints. A reader that went away ends the program, as the signal would.

use std::io::Write;

/// The exit code of a program that wrote to a closed pipe.
const BROKEN_PIPE: i32 = 141;

pub(crate) fn print(text: &str) {
    bytes(text.as_bytes());
}

pub(crate) fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(BROKEN_PIPE);
    }
}

pub(crate) fn error_bytes(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}

/// A line to standard error.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A line of crictl's log, in the form that it has where it is no terminal's.
pub(crate) fn logged(level: &str, text: &str) {
    let at = super::words::time(rt::now().wall.secs() * 1_000_000_000);
    tell(&format!("time=\"{at}\" level={level} msg={}", serde_json::Value::from(text)));
}
