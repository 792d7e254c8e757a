//! `kubectl apply view-last-applied`, `set-last-applied` and `edit-last-applied`

use api::{Lens, LensMut, Value};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{list, switch, text};
use crate::print::{Form, Printer, done};
use crate::select::{self, Info, Pick};
use crate::{editor, options, write};

pub(super) static VIEW: Command = Command {
    name: "view-last-applied",
    about: "View the latest last-applied-configuration annotations by type/name or file.",
    short: "View the latest last-applied-configuration annotations of a resource/object",
    usage: "(TYPE [NAME | -l label] | TYPE/NAME | -f FILENAME)",
    flags: &[
        options::ALL,
        options::FILES,
        options::SELECTOR,
        &[text("output", "yaml", "yaml or json").short('o')],
    ],
    run: Some(view),
    ..BLANK
};
pub(super) static SET: Command = Command {
    name: "set-last-applied",
    about: "Set the latest last-applied-configuration annotations by setting it to match the contents of a file.",
    short: "Set the last-applied-configuration annotation on a live object to match the contents of a file",
    usage: "-f FILENAME",
    flags: &[
        options::DRY_RUN,
        options::PRINT,
        &[
            list("filename", "File, directory or URL that holds the resources").short('f'),
            switch("create-annotation", "Where there is none, too"),
        ],
    ],
    run: Some(set),
    ..BLANK
};
pub(super) static EDIT: Command = Command {
    name: "edit-last-applied",
    about: "Edit latest last-applied-configuration annotations of a resource/object.",
    usage: "(RESOURCE/NAME | -f FILENAME)",
    flags: &[
        options::FILES,
        options::PRINT,
        options::VALIDATE,
        &[
            text("field-manager", "kubectl-client-side-apply", "Name of who manages the fields"),
            switch("windows-line-endings", "Line endings of the edited file"),
        ],
    ],
    run: Some(edit),
    ..BLANK
};

fn of(info: &Info) -> Outcome<Value> {
    let text = info.object.entry("metadata.annotations", write::LAST_APPLIED).unwrap_or("");
    if text.is_empty() {
        return failed(format!(
            "no last-applied-configuration annotation found on resource: {}",
            info.name
        ));
    }
    serde_json::from_str(text).map_err(|error| Failure::Message(error.to_string()))
}

fn view(call: &Call<'_>) -> Outcome {
    let form = match call.text("output") {
        "json" => Form::Json,
        "yaml" => Form::Yaml,
        other => {
            return call.usage(&format!(
                "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
            ));
        }
    };
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let pick = Pick::of(call, call.args());
    let is_json = matches!(form, Form::Json);
    let mut printed = Vec::new();
    for info in select::all_infos(call, &pick)? {
        // As upstream: one without is passed over.
        printed.extend(of(&info).ok());
    }
    for tree in printed {
        match is_json {
            true => crate::out::line(&crate::print::json(&tree, 2)),
            false => crate::out::print(&wire::yaml_text::text(&tree)),
        }
    }
    Ok(())
}

fn set(call: &Call<'_>) -> Outcome {
    let printer = Printer::of(call, false)?;
    if !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    for mut info in select::all_read(call, &Pick { args: Vec::new(), ..Pick::of(call, &[]) })? {
        let text = write::applied_text(&info.object);
        let current = call.rest()?.get(&info.path())?;
        let now = current.entry("metadata.annotations", write::LAST_APPLIED);
        if now.is_none() && !call.is("create-annotation") {
            return failed(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                info.name
            ));
        }
        let is_same = now == Some(text.as_str());
        if is_same {
            crate::out::line(&format!("set-last-applied {}: no changes required.", info.name));
            continue;
        }
        put(call, &mut info, current.clone(), &text)?;
        done(call, printer.as_ref(), &info, "configured")?;
    }
    Ok(())
}

/// Puts the annotation in its place on the server.
fn put(call: &Call<'_>, info: &mut Info, current: Value, text: &str) -> Outcome {
    info.object = current;
    if call.dry_run()? == DryRun::Client {
        return Ok(());
    }
    let mut patch = api::json!({"metadata": {"annotations": {}}});
    patch.map_mut("metadata.annotations").insert(write::LAST_APPLIED.to_owned(), text.into());
    let answer = write::patch(call, info, "", write::MERGE, &patch, "kubectl-last-applied")?;
    info.refresh(answer);
    Ok(())
}

fn edit(call: &Call<'_>) -> Outcome {
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let infos = select::all_infos(call, &Pick::of(call, call.args()))?;
    for info in &infos {
        of(info)?;
    }
    editor::change(call, &infos, &|info| of(info).unwrap_or_default(), &|info, _, new| {
        let mut info = info.clone();
        let current = info.object.clone();
        put(call, &mut info, current, &write::applied_text(new))?;
        done(call, None, &info, "edited")
    })
}
