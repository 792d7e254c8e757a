//! `kubectl edit`

use api::{Lens, LensMut};

use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{switch, text};
use crate::print::{self, done};
use crate::select::{self, Pick};
use crate::{editor, options, out, write};

pub(crate) static COMMAND: Command = Command {
    name: "edit",
    about: "Edit a resource from the default editor.",
    short: "Edit a resource on the server",
    usage: "(RESOURCE/NAME | -f FILENAME)",
    flags: &[
        options::FILES,
        options::PRINT,
        options::VALIDATE,
        &[
            text("field-manager", "kubectl-edit", "Name of who manages the fields"),
            switch("output-patch", "Print the patch"),
            switch("save-config", "Keep what was applied in an annotation"),
            text("subresource", "", "status or another part of the object"),
            switch("windows-line-endings", "Line endings of the edited file"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let pick = Pick { all: true, ..Pick::of(call, call.args()) };
    let infos = select::all_infos(call, &pick)?;
    if infos.is_empty() {
        return failed("edit cancelled, no objects found");
    }
    let shown = |info: &select::Info| {
        let mut object = info.object.clone();
        if !call.is("show-managed-fields") {
            print::unmanaged(&mut object);
        }
        object
    };
    editor::change(call, &infos, &shown, &|info, old, new| {
        let mut new = new.clone();
        write::remember_if(call, &mut new);
        let patch = write::merge_patch(old, &new);
        let answer = write::patch(
            call,
            info,
            call.text("subresource"),
            write::MERGE,
            &patch,
            "kubectl-edit",
        )?;
        if call.is("output-patch") {
            out::line(&format!("Patch: {patch}"));
        }
        let mut info = info.clone();
        info.object.set("metadata.name", answer.str("metadata.name"));
        info.refresh(answer);
        done(call, None, &info, "edited")
    })
}
