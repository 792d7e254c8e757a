//! `kubectl delete`

use std::io::{BufRead, Write};

use api::{Lens, Value, json};
use http::Method;

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, int, switch, switched_on, text, truth};
use crate::rest::Body;
use crate::select::{self, Info, Pick, Target};
use crate::{options, out, wait, write};

const FORCED: &str = "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.";

pub(crate) static COMMAND: Command = Command {
    name: "delete",
    about: "Delete resources by file names, stdin, resources and names, or by resources and label selector.",
    usage: "([-f FILENAME] | [-k DIRECTORY] | TYPE [(NAME | -l label | --all)])",
    flags: &[
        options::ALL,
        options::ALL_NAMESPACES,
        options::DRY_RUN,
        options::FIELD_SELECTOR,
        options::FILES,
        options::SELECTOR,
        &[
            text("cascade", "background", "background, orphan or foreground").bare("background"),
            switch("force", "Remove at once what is deleted gracefully"),
            int("grace-period", "-1", "Seconds to end gracefully; negative for the object's own"),
            switch("ignore-not-found", "What does not exist is no failure"),
            switch("interactive", "Ask before").short('i'),
            switch("now", "End within a second"),
            text("output", "", "name").short('o'),
            text("raw", "", "Path on the server to delete"),
            duration("timeout", "0s", "How long to wait; 0 for as long as it takes"),
            switched_on("wait", "Wait until it is gone"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

/// What is said to the server of each deletion.
pub(crate) struct How {
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: &'static str,
}

fn run(call: &Call<'_>) -> Outcome {
    if !call.text("raw").is_empty() {
        return raw(call);
    }
    let mut pick = Pick::of(call, call.args());
    let how = how(call)?;
    check(call, &pick)?;
    let (named, unread) = found(call, &mut pick)?;
    if call.is("interactive") && !named.is_empty() && !confirm(&named) {
        return Ok(());
    }
    let mut gone = Vec::new();
    let ignores = call.is("ignore-not-found")
        || pick.all && !pick.has_files()
        || !pick.selector.is_empty()
        || !pick.field_selector.is_empty();
    if named.is_empty() && unread.is_empty() {
        out::line("No resources found");
    }
    let mut failures = Vec::new();
    for info in named {
        match delete(call, &info, &how) {
            Ok(answer) => {
                say(call, &info, how.grace == Some(0))?;
                gone.push((info, answer));
            }
            Err(failure) if failure.is_not_found() && ignores => {}
            Err(failure) => {
                failures.push(write::with_source(failure, "deleting", &info.source));
            }
        }
    }
    failures.extend(unread);
    Failure::all(failures)?;
    if call.is("wait") && call.dry_run()? == DryRun::None {
        wait_for(call, &gone)?;
    }
    Ok(())
}

fn raw(call: &Call<'_>) -> Outcome {
    let (bytes, _) =
        call.rest()?.ask(Method::Delete, call.text("raw"), "application/json, */*", None)?;
    out::bytes(&bytes);
    Ok(())
}

/// What `--cascade` says becomes of what an object owns.
///
/// # Errors
/// If it says something else.
pub(crate) fn propagation(call: &Call<'_>) -> Outcome<&'static str> {
    Ok(match call.text("cascade") {
        "background" => "Background",
        "orphan" => "Orphan",
        "foreground" => "Foreground",
        other => match truth(other) {
            Some(is_on) => {
                let (word, shown) =
                    if is_on { ("background", "Background") } else { ("orphan", "Orphan") };
                out::tell(&format!(
                    "warning: --cascade={other} is deprecated (boolean value) and can be replaced with --cascade={word}."
                ));
                shown
            }
            None => {
                return failed(format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                ));
            }
        },
    })
}

fn how(call: &Call<'_>) -> Outcome<How> {
    let propagation = propagation(call)?;
    let mut grace = call.int("grace-period");
    if call.is("now") {
        if grace != -1 {
            return failed("--now and --grace-period cannot be specified together");
        }
        grace = 1;
    }
    if grace == 0 && !call.is("force") {
        // As upstream: nobody else says at once.
        grace = 1;
    }
    if call.is("force") && grace < 0 {
        grace = 0;
    }
    if call.is("force") && grace == 0 {
        out::tell(FORCED);
    }
    Ok(How { grace: (grace >= 0).then_some(grace), propagation })
}

fn check(call: &Call<'_>, pick: &Pick) -> Outcome {
    if !matches!(call.text("output"), "" | "name") {
        return failed(format!(
            "unexpected -o output mode: {}. We only support '-o name'",
            call.text("output")
        ));
    }
    if pick.all && !(pick.selector.is_empty() && pick.field_selector.is_empty()) {
        return failed("setting 'all' parameter but found a non empty selector. ");
    }
    if pick.args.is_empty() && !pick.has_files() {
        let is_selective = pick.all || !pick.selector.is_empty() || !pick.field_selector.is_empty();
        return match is_selective {
            true => failed("at least one resource must be specified to use a selector"),
            false => failed(write::NO_RESOURCES),
        };
    }
    Ok(())
}

/// What is to be deleted; named objects are not asked for first.
fn found(call: &Call<'_>, pick: &mut Pick) -> Outcome<(Vec<Info>, Vec<Failure>)> {
    if pick.has_files() {
        if !pick.args.is_empty() {
            return failed(select::FILES_AND_ARGS);
        }
        let (mut infos, mut failures) = (Vec::new(), Vec::new());
        for read in select::read(call, pick)? {
            match read {
                Ok(info) => infos.push(info),
                Err(failure) => failures.push(failure),
            }
        }
        return Ok((infos, failures));
    }
    let targets = select::targets(call, pick)?;
    let (namespace, is_named) = call.namespace()?;
    let is_scoped = is_named || pick.all_namespaces;
    if is_scoped && targets.iter().any(|target| !target.resource().namespaced) {
        out::tell(
            "Warning: deleting cluster-scoped resources, not scoped to the provided namespace",
        );
    }
    if targets.iter().any(|target| matches!(target, Target::Listed(_))) {
        return select::infos(call, pick);
    }
    let named = targets.into_iter().filter_map(|target| match target {
        Target::Named(resource, name) => {
            let namespace = if resource.namespaced { namespace.clone() } else { String::new() };
            Some(Info { resource, namespace, name, object: Value::Null, source: String::new() })
        }
        Target::Listed(_) => None,
    });
    Ok((named.collect(), Vec::new()))
}

fn confirm(infos: &[Info]) -> bool {
    out::line(&format!("You are about to delete the following {} resource(s):", infos.len()));
    for info in infos {
        out::line(&info.result_name());
    }
    out::print("Do you want to continue? (y/n): ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let is_yes = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        out::line("deletion is cancelled");
    }
    is_yes
}

/// Asks the server to delete an object.
pub(crate) fn delete(call: &Call<'_>, info: &Info, how: &How) -> Outcome<Value> {
    if call.dry_run()? == DryRun::Client {
        return Ok(Value::Null);
    }
    let mut options = json!({"propagationPolicy": how.propagation});
    if let Some(grace) = how.grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    if call.dry_run()? == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    call.rest()?.tree(Method::Delete, &info.path(), Body::json(&options))
}

/// Says that an object was deleted.
pub(crate) fn say(call: &Call<'_>, info: &Info, is_forced: bool) -> Outcome {
    if call.text("output") == "name" {
        out::line(&info.result_name());
        return Ok(());
    }
    let verb = if is_forced { "force deleted" } else { "deleted" };
    let suffix = call.dry_run()?.suffix();
    out::line(&format!("{} {:?} {verb}{suffix}", info.resource.result_name(), info.name));
    Ok(())
}

/// Waits until all are gone: the very ones that were deleted.
pub(crate) fn wait_for(call: &Call<'_>, gone: &[(Info, Value)]) -> Outcome {
    let timeout = call.duration("timeout");
    for (info, answer) in gone {
        let uid = match answer.str("kind") {
            "Status" => answer.str("details.uid"),
            _ => answer.str("metadata.uid"),
        };
        wait::gone(call, info, uid, timeout)?;
    }
    Ok(())
}
