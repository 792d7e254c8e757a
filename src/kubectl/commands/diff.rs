//! `kubectl diff`

use api::{Lens, LensMut, Value};
use http::Method;

use crate::call::{BLANK, Call, Command};
use crate::commands::apply::patch_of;
use crate::failure::{Failure, Outcome};
use crate::flags::{array, int, switch, text};
use crate::rest::Body;
use crate::select::{self, Info, Pick};
use crate::{exec_plugin, merge3, options, out, print, write};

pub(crate) static COMMAND: Command = Command {
    name: "diff",
    about: "Diff configurations specified by file name or stdin between the current online configuration, and the configuration as it would be if applied.",
    short: "Diff the live version against a would-be applied version",
    usage: "-f FILENAME",
    flags: &[
        options::FILES,
        options::SELECTOR,
        &[
            int("concurrency", "1", ""),
            text("field-manager", "kubectl-client-side-apply", "Name of who manages the fields"),
            switch("force-conflicts", "Take over the fields of other managers"),
            switch("prune", "Show what pruning would delete"),
            array("prune-allowlist", "Types to prune, as group/version/Kind"),
            switch("server-side", "The server applies"),
            switch("show-managed-fields", "With the managedFields"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

/// What fails is more than 1, which says that something differs.
const FAILED: u8 = 2;

fn run(call: &Call<'_>) -> Outcome {
    match differ(call) {
        Ok(code) => match code {
            0 => Ok(()),
            code => Err(Failure::Exit(code)),
        },
        Err(failure) => {
            failure.tell();
            Err(Failure::Exit(FAILED))
        }
    }
}

fn differ(call: &Call<'_>) -> Outcome<u8> {
    if !call.args().is_empty() {
        return call.usage(&format!("Unexpected args: [{}]", call.args().join(" ")));
    }
    write::needs_files(call)?;
    let serial = rt::random_u64() % 10_000_000_000;
    let base = std::env::temp_dir();
    let (live, merged) =
        (base.join(format!("LIVE-{serial}")), base.join(format!("MERGED-{serial}")));
    rt::fs::create_dir_all(&live, 0o700)?;
    rt::fs::create_dir_all(&merged, 0o700)?;
    let done = (|| {
        let put = |info: &Info, old: &str, new: Option<&str>| -> Outcome {
            let resource = &info.resource;
            let group = if resource.group.is_empty() {
                String::new()
            } else {
                format!("{}.", resource.group)
            };
            let name = format!(
                "{group}{}.{}.{}.{}",
                resource.version, resource.kind, info.namespace, info.name
            );
            rt::fs::write(live.join(&name), old.as_bytes(), 0o600)?;
            if let Some(new) = new {
                rt::fs::write(merged.join(&name), new.as_bytes(), 0o600)?;
            }
            Ok(())
        };
        let mut applied = Vec::new();
        for mut info in select::all_read(call, &Pick { args: Vec::new(), ..Pick::of(call, &[]) })? {
            let selector = call.text("selector");
            if !selector.is_empty() && !super::prune::selects(selector, &info.object) {
                continue;
            }
            let (old, new) = both(call, &mut info)?;
            put(&info, &old, Some(&new))?;
            applied.push(info);
        }
        if call.is("prune") {
            super::prune::each(call, &applied, &mut |info| {
                let mut pair = (Some(info.object.clone()), Value::Null);
                if is_secret(&info) {
                    mask(&mut pair);
                }
                put(&info, &shown(call, pair.0.as_ref().unwrap_or(&Value::Null)), None)
            })?;
        }
        compare(call, &live.display().to_string(), &merged.display().to_string())
    })();
    let _ = rt::fs::remove_dir_all(&live);
    let _ = rt::fs::remove_dir_all(&merged);
    done
}

fn compare(call: &Call<'_>, live: &str, merged: &str) -> Outcome<u8> {
    let named = call.env("KUBECTL_EXTERNAL_DIFF");
    let words: Vec<&str> = match named.as_str() {
        "" => vec!["diff", "-u", "-N"],
        named => named.split_whitespace().collect(),
    };
    let Some((program, args)) = words.split_first() else { return Ok(0) };
    // As upstream: of what is named only flags are passed on.
    let flags = args.iter().copied().filter(|arg| arg.starts_with('-'));
    let args: Vec<&str> = flags.chain([live, merged]).collect();
    let run = rt::process::foreground(
        &exec_plugin::find(&call.line, program),
        &args,
        &(call.world.all_env)(),
    );
    let code =
        run.map_err(|error| Failure::Message(format!("failed to run {program:?}: {error}")))?;
    if code > 1 {
        out::tell(&format!("error: exit status {code}"));
    }
    Ok(u8::try_from(code).unwrap_or(FAILED))
}

/// The object as it is, and as it would be; "" for none. What is there is put into `info`.
fn both(call: &Call<'_>, info: &mut Info) -> Outcome<(String, String)> {
    let live = match call.rest()?.get(&info.path()) {
        Ok(object) => Some(object),
        Err(failure) if failure.is_not_found() => None,
        Err(failure) => return Err(failure),
    };
    let merged = match (&live, call.is("server-side")) {
        (_, true) => {
            let force = if call.is("force-conflicts") { "true" } else { "false" };
            let manager =
                if call.changed("field-manager") { call.text("field-manager") } else { "kubectl" };
            let query = format!("?dryRun=All&fieldManager={manager}&force={force}");
            let body = Body {
                media: "application/apply-patch+yaml",
                bytes: info.object.to_string().into_bytes(),
            };
            call.rest()?.tree(Method::Patch, &format!("{}{query}", info.path()), Some(body))?
        }
        (None, false) => {
            let mut object = info.object.clone();
            write::remember(&mut object);
            let path = format!(
                "{}?dryRun=All&fieldManager=kubectl-client-side-apply",
                info.resource.path(&info.namespace, "")
            );
            call.rest()?.tree(Method::Post, &path, Body::json(&object))?
        }
        (Some(live), false) => {
            let (patch, media) = patch_of(info, live);
            if merge3::is_empty(&patch) {
                live.clone()
            } else {
                let path =
                    format!("{}?dryRun=All&fieldManager=kubectl-client-side-apply", info.path());
                let body = Body { media, bytes: patch.to_string().into_bytes() };
                call.rest()?.tree(Method::Patch, &path, Some(body))?
            }
        }
    };
    let mut pair = (live, merged);
    if is_secret(info) {
        mask(&mut pair);
    }
    if let Some(live) = &pair.0 {
        info.object = live.clone();
    }
    let old = pair.0.as_ref().map(|live| shown(call, live)).unwrap_or_default();
    Ok((old, shown(call, &pair.1)))
}

/// An object as it is compared.
fn shown(call: &Call<'_>, object: &Value) -> String {
    let mut object = object.clone();
    if !call.is("show-managed-fields") {
        print::unmanaged(&mut object);
    }
    if let Some(map) = object.at_mut("metadata.annotations").and_then(Value::as_object_mut) {
        map.remove(write::LAST_APPLIED);
        if map.is_empty() {
            object.remove("metadata.annotations");
        }
    }
    wire::yaml_text::text(&object)
}

fn is_secret(info: &Info) -> bool {
    info.resource.kind == "Secret" && info.resource.group.is_empty()
}

/// Secrets are not shown; what differs is, as such.
fn mask((live, merged): &mut (Option<Value>, Value)) {
    let before = live.as_ref().map(|object| object.at("data").clone()).unwrap_or_default();
    let after = merged.at("data").clone();
    let word = |own: &Value, other: Option<&Value>, suffix: &str| match other {
        Some(other) if other != own => format!("*** ({suffix})"),
        _ => "***".to_owned(),
    };
    if let Some(map) =
        live.as_mut().and_then(|object| object.at_mut("data")).and_then(Value::as_object_mut)
    {
        for (key, value) in map.iter_mut() {
            *value = word(value, after.get(key), "before").into();
        }
    }
    if let Some(map) = merged.at_mut("data").and_then(Value::as_object_mut) {
        for (key, value) in map.iter_mut() {
            *value = word(value, before.get(key), "after").into();
        }
    }
}
