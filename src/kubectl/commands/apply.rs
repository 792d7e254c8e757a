//! `kubectl apply`: three-way patches of the client's, or the server's own apply; pruning.

use api::{Lens, LensMut, Value, json};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{array, duration, int, switch, switched_on, text};
use crate::print::{Form, Printer, done};
use crate::select::{self, Info, Pick};
use crate::{merge3, options, out, wait, write};

/// A conflict with somebody who wrote meanwhile is looked at again so often.
const ATTEMPTS_MAX: u32 = 5;
const CLIENT: &str = "kubectl-client-side-apply";

pub(crate) static COMMAND: Command = Command {
    name: "apply",
    about: "Apply a configuration to a resource by file name or stdin.",
    usage: "(-f FILENAME | -k DIRECTORY)",
    flags: &[
        options::ALL,
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SELECTOR,
        options::VALIDATE,
        &[
            text("applyset", "", "A set to prune by: not in this version"),
            text("cascade", "background", "background, orphan or foreground").bare("background"),
            text("field-manager", "", "Name of who manages the fields"),
            switch("force", "Delete and create again what cannot be changed"),
            switch("force-conflicts", "Take over the fields of other managers"),
            int("grace-period", "-1", "Seconds to end gracefully"),
            switched_on("openapi-patch", ""),
            switched_on("overwrite", "What was changed meanwhile is changed back; only true"),
            switch("prune", "Delete what was applied before and is not any more"),
            array("prune-allowlist", "Types to prune, as group/version/Kind"),
            switch("server-side", "The server applies"),
            text("subresource", "", "With --server-side: apply this part of the object"),
            duration("timeout", "0s", "How long to wait for a deletion"),
            switch("wait", "Wait until what is pruned is gone"),
        ],
    ],
    subs: &[&super::applied::VIEW, &super::applied::SET, &super::applied::EDIT],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    check(call)?;
    let printer = Printer::of(call, false)?;
    let pick = Pick { args: Vec::new(), ..Pick::of(call, &[]) };
    let (mut infos, mut failures) = (Vec::new(), Vec::new());
    for read in select::read(call, &pick)? {
        match read {
            Ok(info) => infos.push(info),
            Err(failure) => failures.push(failure),
        }
    }
    if !pick.selector.is_empty() {
        infos.retain(|info| super::prune::selects(&pick.selector, &info.object));
    }
    if infos.is_empty() && failures.is_empty() {
        return failed("no objects passed to apply");
    }
    let mut applied = Vec::new();
    // In other forms than names several are one list, in the end.
    let as_list = printer.as_ref().filter(|it| infos.len() > 1 && !matches!(it.form, Form::Name));
    let nothing = Printer::plain(Form::Table);
    let each = if as_list.is_some() { Some(&nothing) } else { printer.as_ref() };
    for info in infos {
        let done = match call.is("server-side") {
            true => super::apply_server::run(call, info, each),
            false => by_client(call, info, each),
        };
        match done {
            Ok(info) => applied.push(info),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(printer) = as_list.filter(|_| !applied.is_empty()) {
        let items: Vec<&Value> = applied.iter().map(|info| &info.object).collect();
        printer.print(&json!({
            "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items,
        }))?;
    }
    Failure::all(failures)?;
    if call.is("prune") {
        super::prune::run(call, &applied, printer.as_ref())?;
    }
    Ok(())
}

fn check(call: &Call<'_>) -> Outcome {
    if !call.args().is_empty() {
        return call.usage(&format!("Unexpected args: [{}]", call.args().join(" ")));
    }
    write::needs_files(call)?;
    // What the flags say is looked at before anything is done.
    write::query(call, CLIENT, &[])?;
    super::delete::propagation(call)?;
    let is_client = call.dry_run()? == DryRun::Client;
    if call.is("force-conflicts") && !call.is("server-side") {
        return failed("--force-conflicts only works with --server-side");
    }
    if is_client && call.is("server-side") {
        return failed(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        );
    }
    if call.is("force") && call.is("server-side") {
        return failed("--force cannot be used with --server-side");
    }
    if !call.is("overwrite") {
        return failed("--overwrite=false is not supported by this version of k3rs");
    }
    if !call.text("subresource").is_empty() && !call.is("server-side") {
        return failed("--subresource can only be specified for --server-side");
    }
    if !call.text("applyset").is_empty() {
        return failed("--applyset is not supported by this version of k3rs yet");
    }
    if call.is("prune") && !call.is("all") && call.text("selector").is_empty() {
        return failed(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
        );
    }
    if call.is("all") && !call.text("selector").is_empty() {
        return failed("cannot set --all and --selector at the same time");
    }
    Ok(())
}

fn by_client(call: &Call<'_>, mut info: Info, printer: Option<&Printer>) -> Outcome<Info> {
    let told =
        |failure: Failure, verb: &str, info: &Info| write::with_source(failure, verb, &info.source);
    if info.name.is_empty() {
        return failed(format!(
            "from {}: cannot use generate name with apply",
            info.object.str("metadata.generateName")
        ));
    }
    let current = match call.rest()?.get(&info.path()) {
        Ok(current) => current,
        Err(failure) if failure.is_not_found() => {
            write::remember(&mut info.object);
            if call.dry_run()? != DryRun::Client {
                let made = write::create(call, &info, CLIENT)
                    .map_err(|failure| told(failure, "creating", &info))?;
                info.refresh(made);
            }
            done(call, printer, &info, "created")?;
            return Ok(info);
        }
        Err(failure) => {
            let source = if info.source.is_empty() {
                String::new()
            } else {
                format!(" for: {:?}", info.source)
            };
            return Err(failure.during(&format!(
                "error when retrieving current configuration of:\n{}\nfrom server{source}",
                described(&info)
            )));
        }
    };
    if current.entry("metadata.annotations", write::LAST_APPLIED).is_none() {
        out::tell(&format!(
            "Warning: resource {}/{} is missing the {} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            info.resource.plural,
            info.name,
            write::LAST_APPLIED
        ));
    }
    if call.dry_run()? == DryRun::Client {
        info.object = current;
        done(call, printer, &info, "configured")?;
        return Ok(info);
    }
    let (answer, is_changed) = patched(call, &info, current).map_err(|(failure, patch)| {
        let told = told(failure, "patching", &info);
        told.during(&format!(
            "error when applying patch:\n{patch}\nto:\n{}\nfor: {:?}",
            described(&info),
            info.source
        ))
    })?;
    info.refresh(answer);
    warn_if_deleting(&info);
    let verb = if is_changed { "configured" } else { "unchanged" };
    done(call, printer, &info, verb)?;
    Ok(info)
}

pub(super) fn warn_if_deleting(info: &Info) {
    if info.object.has("metadata.deletionTimestamp") {
        out::tell(&format!(
            "Warning: Detected changes to resource {} which is currently being deleted.",
            info.name
        ));
    }
}

/// An object as the messages of `apply` show it.
fn described(info: &Info) -> String {
    let kind = match info.resource.group.as_str() {
        "" => format!("/{}, Kind={}", info.resource.version, info.resource.kind),
        group => format!("{group}/{}, Kind={}", info.resource.version, info.resource.kind),
    };
    let resource = match info.resource.group.as_str() {
        "" => format!("/{}, Resource={}", info.resource.version, info.resource.plural),
        group => format!("{group}/{}, Resource={}", info.resource.version, info.resource.plural),
    };
    format!(
        "Resource: {resource:?}, GroupVersionKind: {kind:?}\nName: {:?}, Namespace: {:?}",
        info.name, info.namespace
    )
}

/// The patch of an object, and its kind.
pub(crate) fn patch_of(info: &Info, current: &Value) -> (Value, &'static str) {
    let mut modified = info.object.clone();
    write::remember(&mut modified);
    let original = current.entry("metadata.annotations", write::LAST_APPLIED);
    let original: Value =
        original.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let of = merge3::type_of(info.object.str("apiVersion"), info.object.str("kind"));
    let patch = merge3::patch(&original, current, &modified, of);
    (patch, if of.is_some() { write::STRATEGIC } else { write::MERGE })
}

/// Patches until nobody is in the way; the object then, and whether it was changed.
fn patched(
    call: &Call<'_>,
    info: &Info,
    mut current: Value,
) -> Result<(Value, bool), (Failure, String)> {
    let mut attempt = 1;
    loop {
        let (patch, media) = patch_of(info, &current);
        if merge3::is_empty(&patch) {
            return Ok((current, false));
        }
        let with = |failure: Failure| (failure, patch.to_string());
        match write::patch(call, info, "", media, &patch, CLIENT) {
            Ok(answer) => return Ok((answer, true)),
            Err(failure) if failure.reason() == "Conflict" && attempt < ATTEMPTS_MAX => {
                attempt += 1;
                current = call.rest().and_then(|rest| rest.get(&info.path())).map_err(with)?;
            }
            Err(failure)
                if call.is("force") && matches!(failure.reason(), "Conflict" | "Invalid") =>
            {
                return anew(call, info).map(|answer| (answer, true)).map_err(with);
            }
            Err(failure) => return Err(with(failure)),
        }
    }
}

/// Deletes an object and creates it as it is wanted.
fn anew(call: &Call<'_>, info: &Info) -> Outcome<Value> {
    let how = super::delete::How {
        grace: Some(call.int("grace-period")).filter(|it| *it >= 0),
        propagation: super::delete::propagation(call)?,
    };
    super::delete::delete(call, info, &how)?;
    if call.dry_run()? == DryRun::None {
        wait::gone(call, info, "", call.duration("timeout"))?;
    }
    let mut info = info.clone();
    write::remember(&mut info.object);
    info.object.remove("metadata.resourceVersion");
    write::create(call, &info, CLIENT)
}
