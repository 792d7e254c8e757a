//! `kubectl version`

use api::{Lens, Value, json};

use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{switch, text};
use crate::print::{Form, Printer};
use crate::{out, rest};

/// The kustomize that kubectl of this version has.
const KUSTOMIZE: &str = "v5.5.0";

pub(crate) static COMMAND: Command = Command {
    name: "version",
    about: "Print the client and server version information for the current context.",
    short: "Print the client and server version information",
    usage: "[flags]",
    flags: &[&[
        switch("client", "If true, shows client version only (no server required)"),
        text("output", "", "yaml or json").short('o'),
    ]],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if !call.args().is_empty() {
        let args = call.args().join(" ");
        return failed(format!("extra arguments: [{args}]"));
    }
    let form = match call.text("output") {
        "" => None,
        "yaml" => Some(Form::Yaml),
        "json" => Some(Form::Json),
        _ => return failed("--output must be 'yaml' or 'json'"),
    };
    let own = stdx::version::VERSION;
    let server = match call.is("client") {
        true => Ok(Value::Null),
        false => call.rest().and_then(|rest| rest.get("/version?timeout=32s")),
    };
    let of_server = server.as_ref().ok().filter(|tree| !tree.is_null());
    match form {
        None => {
            out::line(&format!("Client Version: {own}\nKustomize Version: {KUSTOMIZE}"));
            if let Some(tree) = of_server {
                out::line(&format!("Server Version: {}", tree.str("gitVersion")));
                skew(tree);
            }
        }
        Some(form) => {
            let mut tree = json!({
                "clientVersion": {
                    "major": stdx::version::MAJOR, "minor": stdx::version::MINOR, "gitVersion": own,
                    "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
                    "compiler": "rustc", "platform": format!("linux/{}", rest::arch()),
                },
                "kustomizeVersion": KUSTOMIZE,
            });
            if let Some(server) = of_server {
                tree["serverVersion"] = server.clone();
            }
            match form {
                Form::Json => out::line(&crate::print::listed(&tree, 2, ORDER)),
                form => {
                    Printer::plain(form).print(&tree)?;
                    // As upstream, whose text ends with a line of its own.
                    out::line("");
                }
            }
        }
    }
    server.map(|_| ())
}

/// As upstream's structs have their fields.
const ORDER: &[&str] = &[
    "clientVersion",
    "kustomizeVersion",
    "serverVersion",
    "major",
    "minor",
    "gitVersion",
    "gitCommit",
    "gitTreeState",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
];

/// Says so where client and server are too far apart.
fn skew(server: &Value) {
    let minor = |text: &str| text.trim_end_matches('+').parse::<i64>().ok();
    let (Some(theirs), Some(ours)) = (minor(server.str("minor")), minor(stdx::version::MINOR))
    else {
        return;
    };
    if (theirs - ours).abs() > 1 {
        out::tell(&format!(
            "WARNING: version difference between client ({}.{ours}) and server ({}.{theirs}) exceeds the supported minor version skew of +/-1",
            stdx::version::MAJOR,
            server.str("major"),
        ));
    }
}
