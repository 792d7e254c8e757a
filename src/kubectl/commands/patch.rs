//! `kubectl patch`

use api::{Lens, Value};
use http::Method;
use stdx::Arrange;

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::text;
use crate::print::{Printer, done};
use crate::rest::Body;
use crate::select::{self, Pick};
use crate::{merge3, options, out, write};

pub(crate) static COMMAND: Command = Command {
    name: "patch",
    about: "Update fields of a resource using strategic merge patch, a JSON merge patch, or a JSON patch.",
    short: "Update fields of a resource",
    usage: "(-f FILENAME | TYPE NAME) [-p PATCH|--patch-file FILE]",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::LOCAL,
        options::PRINT,
        &[
            text("field-manager", "", "Name of who manages the fields"),
            text("patch", "", "The patch").short('p'),
            text("patch-file", "", "File of the patch"),
            text("subresource", "", "status, scale or another part of the object"),
            text("type", "strategic", "json, merge or strategic"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let (inline, file) = (call.text("patch"), call.text("patch-file"));
    if inline.is_empty() && file.is_empty() {
        return failed("must specify --patch or --patch-file containing the contents of the patch");
    }
    if !inline.is_empty() && !file.is_empty() {
        return failed("cannot specify --patch and --patch-file together");
    }
    let kind = call.text("type").to_lowercase();
    let media = match kind.as_str() {
        "json" => write::JSON_PATCH,
        "merge" => write::MERGE,
        "strategic" => write::STRATEGIC,
        other => {
            let mut known = ["json", "merge", "strategic"];
            known.arrange();
            return failed(format!("--type must be one of [{}], not {other:?}", known.join(" ")));
        }
    };
    let text = match file {
        "" => inline.to_owned(),
        path => rt::fs::read_small_text(path).map_err(|_| {
            format!("unable to read patch file: open {path}: no such file or directory")
        })?,
    };
    // As upstream: what begins as JSON goes to the server as it is, which says what is wrong with it.
    let is_json = text.trim_start().starts_with('{');
    let parsed = match is_json {
        true => serde_json::from_str(&text).ok(),
        false => Some(wire::yaml::parse_one_loose(&text).map_err(|error| {
            let why = wire::yaml::go_words(&error.to_string());
            Failure::Message(format!("unable to parse {text:?}: yaml: {why}"))
        })?),
    };
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let printer = Printer::of(call, false)?;
    let pick = Pick::of(call, call.args());
    let pick = Pick { subresource: String::new(), ..pick };
    let (infos, failures) = select::infos(call, &pick)?;
    if infos.is_empty() && failures.is_empty() {
        return failed("no objects passed to patch");
    }
    for mut info in infos {
        let Some(patch) = &parsed else {
            let query = write::query(call, "kubectl-patch", &[])?;
            let body = Body { media, bytes: text.into_bytes() };
            let target = format!("{}{query}", info.path());
            return call.rest()?.tree(Method::Patch, &target, Some(body)).map(drop);
        };
        let old = info.object.clone();
        if call.is("local") || call.dry_run()? == DryRun::Client {
            local(&mut info.object, patch, media)?;
        } else {
            let answer =
                write::patch(call, &info, call.text("subresource"), media, patch, "kubectl-patch")?;
            if answer.str("kind") != info.resource.kind {
                // A part of the object is a thing of its own.
                info.resource =
                    std::rc::Rc::new(select::guessed(answer.str("apiVersion"), answer.str("kind")));
            }
            info.refresh(answer);
        }
        let is_same = old == info.object;
        let verb = if is_same { "patched (no change)" } else { "patched" };
        match (&printer, call.dry_run()?) {
            // As upstream, which tells only the client's dry runs here.
            (None, DryRun::Server) => out::line(&format!("{} {verb}", info.result_name())),
            _ => done(call, printer.as_ref(), &info, verb)?,
        }
    }
    Failure::all(failures)
}

/// Patches without the server.
fn local(object: &mut Value, patch: &Value, media: &str) -> Outcome {
    let refused = |status: api::Status| Failure::Message(status.message().to_owned());
    match media {
        write::JSON_PATCH => api::patch::json(object, patch).map_err(refused),
        write::MERGE => {
            api::patch::merge(object, patch);
            Ok(())
        }
        _ => match form(object) {
            Some(resource) => {
                api::patch::strategic(resource.form(), object, patch).map_err(refused)
            }
            None => {
                api::patch::merge(object, patch);
                Ok(())
            }
        },
    }
}

/// The form of a built-in kind.
fn form(object: &Value) -> Option<api::Resource> {
    merge3::resource_of(object.str("apiVersion"), object.str("kind"))
}
