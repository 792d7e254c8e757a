//! `kubectl certificate`: signing requests approved and denied.

use api::{Lens, LensMut, Value, json};
use http::Method;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch};
use crate::print::{Printer, done};
use crate::rest::Body;
use crate::select::{self, Info, Pick};
use crate::{help, options, out};

const OWN: &[Flag] = &[switch("force", "Update the CSR even if it is already approved or denied.")];
const FLAGS: &[&[Flag]] = &[OWN, options::FILES, options::PRINT];

pub(crate) static COMMAND: Command = Command {
    name: "certificate",
    about: "Modify certificate resources.",
    usage: "SUBCOMMAND",
    subs: &[&APPROVE, &DENY],
    run: Some(|call| {
        out::print(&help::text(call.command, &call.path));
        Ok(())
    }),
    ..BLANK
};
static APPROVE: Command = Command {
    name: "approve",
    about: "Approve a certificate signing request.",
    usage: "(-f FILENAME | NAME)",
    flags: FLAGS,
    run: Some(|call| modify(call, ["Approved", "Denied", "KubectlApprove", "approve"], "approved")),
    ..BLANK
};
static DENY: Command = Command {
    name: "deny",
    about: "Deny a certificate signing request.",
    usage: "(-f FILENAME | NAME)",
    flags: FLAGS,
    run: Some(|call| modify(call, ["Denied", "Approved", "KubectlDeny", "deny"], "denied")),
    ..BLANK
};

/// Tried again after somebody else's write.
const TRIES_MAX: usize = 10;

/// Adds a condition to each request: its type, the one that must not be there, the reason, and the verb.
fn modify(call: &Call<'_>, words: [&str; 4], said: &str) -> Outcome {
    let printer = Printer::of(call, false)?;
    let mut args = call.args().to_vec();
    if args.is_empty() && !call.has_files() {
        return failed("one or more CSRs must be specified as <name> or -f <filename>");
    }
    if !args.is_empty() {
        args.insert(0, "certificatesigningrequests".into());
    }
    let (infos, mut failures) = select::infos(call, &Pick::of(call, &args))?;
    let n_infos = infos.len();
    for info in infos {
        match one(call, &info, words) {
            Ok(()) => done(call, printer.as_ref(), &info, said)?,
            Err(failure) => failures.push(failure),
        }
    }
    if n_infos == 0 && failures.is_empty() {
        out::line("No resources found");
    }
    Failure::all(failures)
}

fn one(call: &Call<'_>, info: &Info, [wanted, other, reason, verb]: [&str; 4]) -> Outcome {
    if info.resource.qualified() != "certificatesigningrequests.certificates.k8s.io" {
        return failed(format!(
            "can only handle CertificateSigningRequest.certificates.k8s.io objects, got {}.{}",
            info.resource.kind, info.resource.group
        ));
    }
    let path = ["/apis/certificates.k8s.io/v1/certificatesigningrequests/", &info.name].concat();
    for attempt in 1.. {
        let mut request = call.rest()?.get(&path)?;
        let has = |kind: &str| {
            request.list("status.conditions").iter().any(|own| own.str("type") == kind)
        };
        if has(other) {
            return failed(format!(
                "certificate signing request {:?} is already {other}",
                info.name
            ));
        }
        let is_there = has(wanted);
        if is_there && !call.is("force") {
            return Ok(());
        }
        if !is_there {
            let said = if verb == "deny" { "denied" } else { "approved" };
            let condition = json!({
                "type": wanted, "status": "True", "reason": reason,
                "message": format!("This CSR was {said} by kubectl certificate {verb}."),
                "lastUpdateTime": api::time::format(rt::now().wall), "lastTransitionTime": Value::Null,
            });
            request.list_mut("status.conditions").push(condition);
        }
        match call.rest()?.tree(Method::Put, &[&path, "/approval"].concat(), Body::json(&request)) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.reason() == "Conflict" && attempt < TRIES_MAX => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
