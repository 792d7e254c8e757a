//! `kubectl create`: from files, and one generator a kind.

mod config;
mod ingress;
mod rbac;
mod service;
mod simple;
mod token;
mod workload;

use std::rc::Rc;

use api::{Lens, LensMut, Value, json};
use http::Method;

use crate::call::{BLANK, Call, Command, DryRun};
use crate::editor;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch, text};
use crate::print::{Printer, done};
use crate::rest::Body;
use crate::select::{self, Info, Pick, guessed};
use crate::{options, out, write};
pub(super) use simple::selector;

pub(crate) static COMMAND: Command = Command {
    name: "create",
    about: "Create a resource from a file or from stdin.",
    usage: "-f FILENAME",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SAVE_CONFIG,
        options::SELECTOR,
        options::VALIDATE,
        &[
            switch("edit", "Edit the resource before creating"),
            text("field-manager", "", "Name of who manages the fields"),
            text("raw", "", "Path on the server to POST to"),
            switch("windows-line-endings", "Line endings of the edited file"),
        ],
    ],
    subs: &[
        &simple::NAMESPACE,
        &simple::QUOTA,
        &config::SECRET,
        &config::CONFIG_MAP,
        &simple::SERVICE_ACCOUNT,
        &service::SERVICE,
        &workload::DEPLOYMENT,
        &rbac::CLUSTER_ROLE,
        &rbac::CLUSTER_ROLE_BINDING,
        &rbac::ROLE,
        &rbac::ROLE_BINDING,
        &simple::DISRUPTION_BUDGET,
        &simple::PRIORITY_CLASS,
        &workload::JOB,
        &workload::CRON_JOB,
        &ingress::INGRESS,
        &token::TOKEN,
    ],
    run: Some(run),
    ..BLANK
};

/// A file that is sent as it is.
const RAW_MAX_BYTES: u64 = 64 << 20;

/// What every generator has.
pub(super) const GENERATOR: &[&[Flag]] = &[
    options::DRY_RUN,
    options::PRINT,
    options::SAVE_CONFIG,
    options::VALIDATE,
    &[text("field-manager", "", "Name of who manages the fields")],
];

fn run(call: &Call<'_>) -> Outcome {
    let raw = call.text("raw");
    if !call.has_files() && !call.args().is_empty() {
        return call.usage(&format!("Unexpected args: [{}]", call.args().join(" ")));
    }
    write::needs_files(call)?;
    if !call.args().is_empty() {
        return call.usage(&format!("Unexpected args: [{}]", call.args().join(" ")));
    }
    if !raw.is_empty() {
        return send_raw(call, Method::Post, raw);
    }
    let printer = Printer::of(call, false)?;
    // What the flags say is looked at before anything is done.
    write::query(call, "", &[])?;
    let mut infos = select::read(call, &Pick { all: true, ..Pick::of(call, &[]) })?;
    if call.is("edit") {
        let read = infos.into_iter().collect::<Outcome<Vec<Info>>>()?;
        infos = editor::before_creating(call, read)?.into_iter().map(Ok).collect();
    }
    if infos.is_empty() {
        return failed("no objects passed to create");
    }
    select::visit(infos, |info| one(call, info, printer.as_ref()))
}

fn one(call: &Call<'_>, mut info: Info, printer: Option<&Printer>) -> Outcome {
    write::remember_if(call, &mut info.object);
    if call.dry_run()? != DryRun::Client {
        let made = write::create(call, &info, "kubectl-create");
        let made = made.map_err(|failure| write::with_source(failure, "creating", &info.source))?;
        info.refresh(made);
    }
    done(call, printer, &info, "created")
}

/// Sends a file as it is.
pub(crate) fn send_raw(call: &Call<'_>, method: Method, path: &str) -> Outcome {
    use std::io::Read;
    let files = call.list("filename");
    let [file] = files.as_slice() else {
        return call.usage("--raw can only use a single local file or stdin");
    };
    let mut bytes = Vec::new();
    match file.as_str() {
        "-" => {
            let read = std::io::stdin().take(RAW_MAX_BYTES).read_to_end(&mut bytes);
            read.map_err(|error| Failure::Message(error.to_string()))?;
        }
        path => bytes = rt::fs::read_within(path, RAW_MAX_BYTES)?,
    }
    let body = Body { media: "application/json", bytes };
    let (bytes, _) = call.rest()?.ask(method, path, "application/json, */*", Some(body))?;
    out::bytes(&bytes);
    Ok(())
}

/// The one name that a generator needs.
pub(super) fn name<'a>(call: &'a Call<'_>) -> Outcome<&'a str> {
    let n_args = call.given.dash.unwrap_or(call.args().len());
    match n_args {
        1 => Ok(&call.args()[0]),
        n => call.usage(&format!("exactly one NAME is required, got {n}")),
    }
}

/// Makes what a generator generated, and says so.
pub(super) fn finish(call: &Call<'_>, object: Value) -> Outcome {
    finish_as(call, object, "created", "kubectl-create")
}

/// The same for other commands that make something.
pub(crate) fn finish_as(call: &Call<'_>, mut object: Value, verb: &str, manager: &str) -> Outcome {
    let printer = Printer::of(call, false)?;
    let (api_version, kind) = (object.str("apiVersion").to_owned(), object.str("kind").to_owned());
    let is_within = !CLUSTER_KINDS.contains(&kind.as_str());
    let (namespace, is_named) = if is_within { call.namespace()? } else { (String::new(), false) };
    if is_named {
        object.set("metadata.namespace", namespace.as_str());
    }
    // As upstream: what run only shows has not been made by anybody.
    if manager != "kubectl-run" || call.dry_run()? != DryRun::Client {
        write::remember_if(call, &mut object);
    }
    let mut resource = guessed(&api_version, &kind);
    resource.namespaced = is_within;
    let is_client = call.dry_run()? == DryRun::Client;
    if !is_client {
        // The server's names; ours are those of the kinds that are made here.
        if let Some(own) = call.mapper()?.of_kind(call.rest()?, &api_version, &kind)? {
            resource = (*own).clone();
        }
    }
    let name = object.str("metadata.name").to_owned();
    let mut info =
        Info { resource: Rc::new(resource), namespace, name, object, source: String::new() };
    if !is_client {
        let what = if manager == "kubectl-create" { word_of(&info.object) } else { String::new() };
        // As upstream, which keeps the text alone.
        let made = write::create(call, &info, manager).map_err(|failure| match what.as_str() {
            "" => failure,
            what => Failure::Message(format!("failed to create {what} {}", failure.text())),
        });
        info.refresh(made?);
    }
    done(call, printer.as_ref(), &info, verb)
}

const CLUSTER_KINDS: [&str; 4] =
    ["Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass"];

/// How the messages of generators call an object; "" where the server's own words are told.
fn word_of(object: &Value) -> String {
    match object.str("kind") {
        "Namespace" | "Role" | "ClusterRole" => String::new(),
        "Secret" => "secret".to_owned(),
        "ResourceQuota" => "quota:".to_owned(),
        "PodDisruptionBudget" => "poddisruptionbudgets:".to_owned(),
        "Service" => format!("{} service:", object.str("spec.type")),
        kind => format!("{}:", kind.to_lowercase()),
    }
}

/// The beginning of every object that is generated.
pub(super) fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "creationTimestamp": null},
    })
}

/// `key=value` pairs as a map.
pub(super) fn pairs(texts: &[String], what: &str) -> Outcome<api::Map<String, Value>> {
    let mut map = api::Map::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return failed(format!("unexpected {what} spec: {text}"));
        };
        map.insert(key.to_owned(), value.into());
    }
    Ok(map)
}
