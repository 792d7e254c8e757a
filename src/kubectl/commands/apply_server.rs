//! `kubectl apply --server-side`: the server applies. What this kubectl applied by itself before is moved to what the server
//! keeps of it, so that fields which a file no longer has go.

use api::{Lens, LensMut, Value, json};
use http::Method;

use super::apply::warn_if_deleting;
use crate::call::Call;
use crate::discovery::escape;
use crate::failure::{Failure, Outcome, failed};
use crate::print::{Printer, done};
use crate::rest::Body;
use crate::select::Info;
use crate::{out, write};

const APPLY: &str = "application/apply-patch+yaml";
const MANAGER: &str = "kubectl";
/// Who applies the annotation of client-side apply, which no file has.
const ANNOTATOR: &str = "kubectl-last-applied";
/// A conflict with somebody who wrote meanwhile is looked at again so often.
const ATTEMPTS_MAX: u32 = 5;

/// Has the server apply one object, and says so.
///
/// # Errors
/// What the server says; that fields could not be moved is a warning only.
pub(super) fn run(call: &Call<'_>, mut info: Info, printer: Option<&Printer>) -> Outcome<Info> {
    if info.name.is_empty() {
        let kind = info.resource.kind.clone();
        return failed(format!("from {}: cannot use generate name with apply", kind));
    }
    let force = if call.is("force-conflicts") { "true" } else { "false" };
    let query = write::query(call, MANAGER, &[("force", force)])?;
    let wanted = info.object.clone();
    match send(call, &info, &wanted, &query) {
        Ok(answer) => info.refresh(answer),
        Err(failure) if failure.reason() == "Conflict" => {
            return failed(format!(
                "{}\nPlease review the fields above--they currently have other managers. Here\nare the ways you can resolve this warning:\n* If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n* If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n* You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\nSee https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
                failure.text()
            ));
        }
        Err(failure) => return Err(failure),
    }
    if !call.text("subresource").is_empty() {
        // What client-side apply has written is not there.
        return done(call, printer, &info, "serverside-applied").map(|()| info);
    }
    let warned = |what: &str, failure: &Failure| {
        out::tell(&format!(
            "Warning: {what}. This is non-fatal and will be retried next time you apply. Error: {}",
            failure.text()
        ));
    };
    if let Err(failure) = keep_annotation(call, &mut info) {
        let what = format!("failed to migrate {} for Server-Side Apply", write::LAST_APPLIED);
        warned(&what, &failure);
    } else {
        match upgrade(call, &mut info) {
            Ok(false) => {}
            // Once more: now what the file no longer has can go.
            Ok(true) => match send(call, &info, &wanted, &query) {
                Ok(answer) => info.refresh(answer),
                Err(failure) => warned(
                    "failed to re-apply configuration after performing Server-Side Apply migration",
                    &failure,
                ),
            },
            Err(failure) => {
                warned("server rejected managed fields migration to Server-Side Apply", &failure);
            }
        }
    }
    warn_if_deleting(&info);
    done(call, printer, &info, "serverside-applied")?;
    Ok(info)
}

fn send(call: &Call<'_>, info: &Info, object: &Value, query: &str) -> Outcome<Value> {
    let body = Body { media: APPLY, bytes: format!("{object}\n").into_bytes() };
    let part = match call.text("subresource") {
        "" => String::new(),
        name => format!("/{}", escape(name)),
    };
    call.rest()?.tree(Method::Patch, &format!("{}{part}{query}", info.path()), Some(body))
}

/// Has the annotation of client-side apply applied by a manager of its own, for what is moved would drop it.
fn keep_annotation(call: &Call<'_>, info: &mut Info) -> Outcome {
    // As upstream: of another manager's the server does not keep the annotation up to date.
    if !matches!(call.text("field-manager"), "" | MANAGER) {
        return Ok(());
    }
    let Some(text) = info.object.entry("metadata.annotations", write::LAST_APPLIED) else {
        return Ok(());
    };
    if !apply::annotators(&info.object, true).is_empty() {
        return Ok(());
    }
    let mut only = json!({
        "apiVersion": info.object.str("apiVersion"), "kind": info.object.str("kind"),
        "metadata": {"name": info.name},
    });
    if !info.namespace.is_empty() {
        only.set("metadata.namespace", info.namespace.as_str());
    }
    only.map_mut("metadata.annotations").insert(write::LAST_APPLIED.to_owned(), text.into());
    let answer = send(call, info, &only, &write::query_as(call, ANNOTATOR, &[])?)?;
    info.refresh(answer);
    Ok(())
}

/// Moves what client-side apply manages to the one who applies now, and says whether there was anything.
fn upgrade(call: &Call<'_>, info: &mut Info) -> Outcome<bool> {
    let from = apply::annotators(&info.object, false);
    let to = match call.text("field-manager") {
        "" => MANAGER,
        named => named,
    };
    let mut attempt = 1;
    loop {
        let Some(entries) = apply::upgraded(&info.object, &from, to) else { return Ok(false) };
        // The version is replaced, not tested: so one who wrote meanwhile makes it a conflict.
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion",
             "value": info.object.str("metadata.resourceVersion")},
        ]);
        match write::patch(call, info, "", write::JSON_PATCH, &patch, MANAGER) {
            Ok(answer) => {
                info.refresh(answer);
                return Ok(true);
            }
            Err(failure) if failure.reason() == "Conflict" && attempt < ATTEMPTS_MAX => {
                attempt += 1;
                info.refresh(call.rest()?.get(&info.path())?);
            }
            Err(failure) => return Err(failure),
        }
    }
}
