//! Objects in a person's editor.

use api::{Lens, Value, json};

use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};
use crate::select::Info;
use crate::{exec_plugin, files, out, select};

const HEADER: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";
/// What comes back.
const FILE_MAX_BYTES: u64 = 64 << 20;

/// What an edit gave.
pub(crate) enum Edited {
    /// Nothing was changed, or the file was emptied: said already.
    Nothing,
    /// The objects, and where the text is kept.
    Objects(Vec<Value>, String),
}

/// Opens the editor on objects, one alone or several as a list; `complaint` is shown above them.
///
/// # Errors
/// If the editor cannot be run, or the text is no YAML any more.
pub(crate) fn edit(call: &Call<'_>, objects: &[Value], complaint: &str) -> Outcome<Edited> {
    let tree = match objects {
        [one] => one.clone(),
        many => json!({"apiVersion": "v1", "kind": "List", "items": many}),
    };
    let is_json = call.text("output") == "json";
    let body = match is_json {
        true => format!("{}\n", crate::print::json(&tree, 4)),
        false => wire::yaml_text::text(&tree),
    };
    let complaint: String = complaint.lines().map(|line| format!("# {line}\n")).collect();
    let before = format!("{HEADER}{complaint}{body}");
    let path = temporary(if is_json { "json" } else { "yaml" });
    let before = match call.is("windows-line-endings") {
        true => before.replace('\n', "\r\n"),
        false => before,
    };
    rt::fs::write(&path, before.as_bytes(), 0o600)?;
    run(call, &path)?;
    let after = rt::fs::read_within(&path, FILE_MAX_BYTES)?;
    let text = String::from_utf8_lossy(&after).into_owned();
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    if kept.trim().is_empty() {
        let _ = rt::fs::remove_file(&path);
        out::tell("Edit cancelled, saved file was empty.");
        return Ok(Edited::Nothing);
    }
    if kept == body {
        let _ = rt::fs::remove_file(&path);
        out::tell("Edit cancelled, no changes made.");
        return Ok(Edited::Nothing);
    }
    let mut found = Vec::new();
    files::documents(kept.as_bytes(), "edited-file", &mut found);
    let objects: Outcome<Vec<Value>> = found.into_iter().map(|it| it.map(|it| it.object)).collect();
    Ok(Edited::Objects(objects?, path))
}

/// A file for the editor.
fn temporary(extension: &str) -> String {
    format!(
        "{}/kubectl-edit-{}.{extension}",
        std::env::temp_dir().display(),
        rt::random_u64() % 10_000_000_000
    )
}

/// Runs the editor that the environment names.
fn run(call: &Call<'_>, path: &str) -> Outcome {
    let named =
        [call.env("KUBE_EDITOR"), call.env("EDITOR")].into_iter().find(|name| !name.is_empty());
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    let env = (call.world.all_env)();
    let quoted = format!("{editor} '{path}'");
    let done = match editor.contains([' ', '\'', '"', '\\']) {
        true => {
            let shell = Some(call.env("SHELL"))
                .filter(|it| !it.is_empty())
                .unwrap_or_else(|| "/bin/sh".to_owned());
            rt::process::foreground(&shell, &["-c", &quoted], &env)
        }
        false => rt::process::foreground(&exec_plugin::find(&call.line, &editor), &[path], &env),
    };
    match done {
        Ok(0) => Ok(()),
        Ok(_) => failed(format!("there was a problem with the editor {editor:?}")),
        Err(error) => failed(format!("unable to launch the editor {editor:?}: {error}")),
    }
}

/// The files' objects as somebody changed them, for `create --edit`.
pub(crate) fn before_creating(call: &Call<'_>, infos: Vec<Info>) -> Outcome<Vec<Info>> {
    let mut kept = Vec::new();
    for info in infos {
        if let Edited::Objects(objects, path) = edit(call, &[info.object], "")? {
            let _ = rt::fs::remove_file(&path);
            for object in objects {
                kept.push(select::info_of(
                    call,
                    files::Read { object, source: String::new() },
                    false,
                )?);
            }
        }
    }
    // What is not kept was told of.
    if kept.is_empty() { Err(Failure::Exit(0)) } else { Ok(kept) }
}

/// Lets a person change objects that the server has, and saves each with `save`.
pub(crate) fn change(
    call: &Call<'_>,
    infos: &[Info],
    shown: &dyn Fn(&Info) -> Value,
    save: &dyn Fn(&Info, &Value, &Value) -> Outcome,
) -> Outcome {
    let before: Vec<Value> = infos.iter().map(shown).collect();
    let mut text = before.clone();
    let mut complaint = String::new();
    loop {
        let (objects, path) = match edit(call, &text, &complaint)? {
            Edited::Objects(objects, path) => (objects, path),
            Edited::Nothing if complaint.is_empty() => return Ok(()),
            Edited::Nothing => return failed("Edit cancelled, no valid changes were saved."),
        };
        let mut failures = Vec::new();
        for (info, old) in infos.iter().zip(&before) {
            let is_same = |new: &&Value| {
                new.str("kind") == old.str("kind")
                    && new.str("metadata.name") == old.str("metadata.name")
            };
            match objects.iter().find(is_same) {
                Some(new) if new == old => {}
                Some(new) => failures.extend(save(info, old, new).err()),
                None => failures.push(Failure::Message(
                    "At least one of apiVersion, kind and name was changed".to_owned(),
                )),
            }
        }
        if failures.is_empty() {
            let _ = rt::fs::remove_file(&path);
            return Ok(());
        }
        let said = failures.iter().map(Failure::text).collect::<Vec<_>>().join("\n");
        if objects == text || complaint == said {
            out::tell(&format!("A copy of your changes has been stored to {path:?}"));
            return Failure::all(failures);
        }
        out::tell(&said);
        complaint = said;
        text = objects;
    }
}
