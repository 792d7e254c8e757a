//! `kubectl create token`

use std::io::IsTerminal;

use api::{Lens, LensMut, json};
use http::Method;

use super::name;
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{array, duration, text};
use crate::print::Printer;
use crate::rest::Body;
use crate::{options, out};

pub(super) static TOKEN: Command = Command {
    name: "token",
    about: "Request a service account token.",
    usage: "SERVICE_ACCOUNT_NAME",
    flags: &[
        options::PRINT,
        &[
            array("audience", "Who takes the token"),
            text("bound-object-kind", "", "Pod, Secret or Node that the token ends with"),
            text("bound-object-name", "", "Its name"),
            text("bound-object-uid", "", "Its uid"),
            duration("duration", "0s", "How long it lasts; 0 for what the server says"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    if call.nanos("duration") < 0 {
        return failed("--duration must be greater than or equal to 0");
    }
    if call.nanos("duration") % 1_000_000_000 != 0 {
        return failed("--duration cannot be expressed in units less than seconds");
    }
    let (kind, object_name, uid) = (
        call.text("bound-object-kind"),
        call.text("bound-object-name"),
        call.text("bound-object-uid"),
    );
    let mut request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let audiences: Vec<String> = call.list("audience");
    if !audiences.is_empty() {
        request["spec"]["audiences"] = json!(audiences);
    }
    if call.nanos("duration") > 0 {
        request.set("spec.expirationSeconds", call.nanos("duration") / 1_000_000_000);
    }
    match kind {
        "" if !object_name.is_empty() => {
            return failed(
                "--bound-object-name can only be set if --bound-object-kind is provided",
            );
        }
        "" if !uid.is_empty() => {
            return failed("--bound-object-uid can only be set if --bound-object-kind is provided");
        }
        "" => {}
        "Pod" | "Secret" | "Node" => {
            if object_name.is_empty() {
                return failed(
                    "--bound-object-name is required if --bound-object-kind is provided",
                );
            }
            request["spec"]["boundObjectRef"] =
                json!({"kind": kind, "apiVersion": "v1", "name": object_name});
            if !uid.is_empty() {
                request.set("spec.boundObjectRef.uid", uid);
            }
        }
        _ => return failed("supported --bound-object-kind values are Node, Pod, Secret"),
    }
    let (namespace, _) = call.namespace()?;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{own}/token");
    let answer =
        call.rest()?.tree(Method::Post, &path, Body::json(&request)).map_err(|failure| {
            Failure::Message(format!("failed to create token: {}", failure.text()))
        })?;
    match Printer::of(call, false)? {
        Some(printer) => printer.print(&answer),
        None if answer.str("status.token").is_empty() => {
            failed("failed to create token: no token in server response")
        }
        None => {
            // As upstream: what another program reads has no newline.
            let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
            out::print(&format!("{}{end}", answer.str("status.token")));
            Ok(())
        }
    }
}
