//! Why a command failed, and how kubectl says so.

use std::io::ErrorKind;

use api::{Lens, LensMut, Value};

use crate::out;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    /// The server's `Status`.
    Status(Value),
    /// Said behind `error: `.
    Message(String),
    /// A whole line.
    Said(String),
    Many(Vec<Failure>),
    /// Everything was said already.
    Exit(u8),
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A failure with a message of its own.
pub(crate) fn failed<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::Message(text.into()))
}

impl From<stdx::Error> for Failure {
    fn from(error: stdx::Error) -> Failure {
        Failure::Message(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Message(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Failure {
        Failure::Message(text.to_owned())
    }
}

/// In Go's words, why nothing can be listened on.
pub(crate) fn bind_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        ErrorKind::NotFound => "bind: no such file or directory".to_owned(),
        _ => error.to_string(),
    }
}

impl Failure {
    /// Several failures as one; of equal ones the first.
    pub(crate) fn all(failures: Vec<Failure>) -> Outcome {
        let mut distinct: Vec<Failure> = Vec::new();
        for failure in failures {
            if !distinct.contains(&failure) {
                distinct.push(failure);
            }
        }
        match distinct.len() {
            0 => Ok(()),
            1 => Err(distinct.remove(0)),
            _ => Err(Failure::Many(distinct)),
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match self {
            Failure::Status(status) => status.str("reason"),
            _ => "",
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// What it says, without who says it.
    pub(crate) fn text(&self) -> String {
        match self {
            Failure::Status(status) => status.str("message").to_owned(),
            Failure::Message(text) | Failure::Said(text) => text.clone(),
            Failure::Many(all) => {
                let texts: Vec<String> = all.iter().map(Failure::text).collect();
                format!("[{}]", texts.join(", "))
            }
            Failure::Exit(_) => String::new(),
        }
    }

    /// The same, told with what was being done.
    pub(crate) fn during(self, what: &str) -> Failure {
        match self {
            Failure::Status(mut status) => {
                let message = format!("{what}: {}", status.str("message"));
                status.set("message", message);
                Failure::Status(status)
            }
            Failure::Message(text) | Failure::Said(text) => {
                Failure::Message(format!("{what}: {text}"))
            }
            other => other,
        }
    }

    /// The same, said without `error: `: as one of several that upstream gathers.
    pub(crate) fn bare(self) -> Failure {
        match self {
            Failure::Message(text) => Failure::Said(text),
            other => other,
        }
    }

    /// Says it on standard error and gives the exit code.
    pub(crate) fn tell(&self) -> u8 {
        let text = match self {
            Failure::Exit(code) => return *code,
            Failure::Status(status) if status.str("reason") == "Invalid" => invalid(status),
            Failure::Many(all) => {
                let lines: Vec<String> = all.iter().map(|one| one.clone().bare().whole()).collect();
                lines.join("\n")
            }
            other => other.whole(),
        };
        out::tell(text.strip_suffix('\n').unwrap_or(&text));
        1
    }

    /// A line of its own.
    fn whole(&self) -> String {
        match self {
            Failure::Status(status) => {
                let message = status.str("message");
                match status.str("reason") {
                    "Unauthorized" => {
                        format!("error: You must be logged in to the server ({message})")
                    }
                    "" => format!("Error from server: {message}"),
                    reason => format!("Error from server ({reason}): {message}"),
                }
            }
            Failure::Message(text) if text.starts_with("error: ") => text.clone(),
            Failure::Message(text) => format!("error: {text}"),
            other => other.text(),
        }
    }
}

/// An object that the server does not take, with each reason.
fn invalid(status: &Value) -> String {
    let details = status.at("details");
    let mut causes: Vec<String> = Vec::new();
    for cause in details.list("causes") {
        let text = format!("{}: {}", cause.str("field"), cause.str("message"));
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    let said = match (details.str("kind"), details.str("name")) {
        ("", "") if causes.is_empty() && !status.str("message").is_empty() => {
            format!("The request is invalid: {}", status.str("message"))
        }
        ("", "") => "The request is invalid".to_owned(),
        (kind, name) => format!("The {kind} {name:?} is invalid"),
    };
    match causes.len() {
        0 => said,
        1 => format!("{said}: {}\n", causes[0]),
        _ => format!("{said}: \n* {}", causes.join("\n* ")),
    }
}
