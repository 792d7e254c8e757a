//! `kubectl replace`

use api::{Lens, LensMut};
use http::Method;

use crate::call::{BLANK, Call, Command, DryRun};
use crate::commands::{create, delete};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, int, switch, text};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, out, write};

pub(crate) static COMMAND: Command = Command {
    name: "replace",
    about: "Replace a resource by file name or stdin.",
    usage: "-f FILENAME",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SAVE_CONFIG,
        options::VALIDATE,
        &[
            text("cascade", "background", "background, orphan or foreground").bare("background"),
            text("field-manager", "", "Name of who manages the fields"),
            switch("force", "Delete and create again"),
            int("grace-period", "-1", "Seconds to end gracefully"),
            text("raw", "", "Path on the server to PUT to"),
            text("subresource", "", "status or another part of the object"),
            duration("timeout", "0s", "How long to wait for the deletion"),
            switch("wait", "With --force it is waited for in any case"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let how = delete::How {
        // As upstream, which waits for what it takes away: at once is a second.
        grace: Some(call.int("grace-period").max(1)).filter(|_| call.int("grace-period") >= 0),
        propagation: delete::propagation(call)?,
    };
    if !call.text("raw").is_empty() {
        return create::send_raw(call, Method::Put, call.text("raw"));
    }
    write::needs_files(call)?;
    if call.int("grace-period") >= 0 && !call.is("force") {
        return failed("--grace-period must have --force specified");
    }
    if call.changed("timeout") && !call.is("force") {
        return failed("--timeout must have --force specified");
    }
    let printer = Printer::of(call, false)?;
    let pick = Pick { args: Vec::new(), ..Pick::of(call, &[]) };
    let infos = select::read(call, &pick)?;
    if call.is("force") {
        // Nothing is taken away of what cannot be made again as a whole.
        let infos = infos.into_iter().collect::<Outcome<Vec<Info>>>().map_err(Failure::bare)?;
        if infos.is_empty() {
            out::tell("No resources found");
            return failed("no objects passed to replace");
        }
        return forced(call, infos, &how, printer.as_ref());
    }
    select::visit(infos, |info| one(call, info, printer.as_ref()))
}

fn one(call: &Call<'_>, mut info: Info, printer: Option<&Printer>) -> Outcome {
    write::remember_if(call, &mut info.object);
    if call.dry_run()? == DryRun::Client {
        return done(call, printer, &info, "replaced");
    }
    let told =
        |failure: Failure, info: &Info| write::with_source(failure, "replacing", &info.source);
    if info.object.str("metadata.resourceVersion").is_empty() {
        let current = call.rest()?.get(&info.path()).map_err(|failure| told(failure, &info))?;
        info.object.set("metadata.resourceVersion", current.str("metadata.resourceVersion"));
    }
    let answer =
        write::replace(call, &info, "kubectl-replace").map_err(|failure| told(failure, &info))?;
    info.refresh(answer);
    done(call, printer, &info, "replaced")
}

/// Deletes everything, waits until it is gone, and creates it.
fn forced(
    call: &Call<'_>,
    infos: Vec<Info>,
    how: &delete::How,
    printer: Option<&Printer>,
) -> Outcome {
    let mut gone = Vec::new();
    for info in &infos {
        match delete::delete(call, info, how) {
            Ok(answer) => {
                delete::say(call, info, false)?;
                gone.push((info.clone(), answer));
            }
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    if call.dry_run()? == DryRun::None {
        delete::wait_for(call, &gone)?;
    }
    for mut info in infos {
        info.object.remove("metadata.resourceVersion");
        write::remember_if(call, &mut info.object);
        if call.dry_run()? != DryRun::Client {
            let made = write::create(call, &info, "kubectl-replace")?;
            info.refresh(made);
        }
        done(call, printer, &info, "replaced")?;
    }
    Ok(())
}
