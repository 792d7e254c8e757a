//! `kubectl events`

use api::{Lens, LensMut, Value, json};
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, list, switch, text};
use crate::print::{Form, Printer};
use crate::select::{self, Pick};
use crate::{options, out, watch};

const OWN: &[Flag] = &[
    text("for", "", "Filter events to only those pertaining to the specified resource."),
    switch("no-headers", "When using the default output format, don't print headers."),
    list("types", "Output only events of given types."),
    switch("watch", "After listing the requested events, watch for more events.").short('w'),
];

pub(crate) static COMMAND: Command = Command {
    name: "events",
    about: "Display events.",
    short: "List events",
    usage: "[(-o|--output=)json|yaml|name|go-template|go-template-file|template|templatefile|jsonpath|jsonpath-as-json|jsonpath-file] [--for TYPE/NAME] [--watch] [--types=Normal,Warning]",
    flags: &[OWN, options::ALL_NAMESPACES, options::CHUNKS, options::PRINT],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let (namespace, _) = call.namespace()?;
    let is_all = call.is("all-namespaces");
    let mut pick = Pick { chunk: call.int("chunk-size"), ..Pick::default() };
    if !call.text("for").is_empty() {
        pick.field_selector = about(call)?;
    }
    let printer = Printer::of(call, false)?;
    let types = call.list("types");
    if types
        .iter()
        .any(|one| !one.eq_ignore_ascii_case("normal") && !one.eq_ignore_ascii_case("warning"))
    {
        return failed("valid --types are Normal or Warning");
    }
    let is_meant = |event: &Value| {
        types.is_empty() || types.iter().any(|one| one.eq_ignore_ascii_case(event.str("type")))
    };
    let resource = call.mapper()?.find(call.rest()?, "events")?;
    let within = if is_all { "" } else { &namespace };
    if call.is("watch") {
        let query = select::list_query(&pick, &[("watch", "true")]);
        let path = resource.path(within, "") + &query;
        let mut is_headed = call.is("no-headers");
        return rt::block_on(watch::follow(
            call.rest()?,
            &path,
            "application/json",
            &mut |kind, mut event| {
                if !matches!(kind, "DELETED" | "BOOKMARK") && is_meant(&event) {
                    event.set_default("apiVersion", "v1");
                    event.set_default("kind", "Event");
                    match &printer {
                        Some(printer) => printer.print(&event)?,
                        None => print(&[&event], is_all, std::mem::replace(&mut is_headed, true)),
                    }
                }
                Ok(true)
            },
        ));
    }
    let mut events = select::items(&resource, select::list(call, &resource, within, &pick)?);
    events.retain(is_meant);
    if events.is_empty() {
        out::tell(&match is_all {
            true => "No events found.".to_owned(),
            false => format!("No events found in {namespace} namespace."),
        });
        return Ok(());
    }
    events.arrange_by(|a, b| moment(a).cmp(&moment(b)));
    match printer {
        // As upstream, whose printer of names refuses lists of events, and nobody hears it.
        Some(Printer { form: Form::Name, .. }) => Ok(()),
        Some(printer) => printer.print(
            &json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": events}),
        ),
        None => {
            print(&events.iter().collect::<Vec<_>>(), is_all, call.is("no-headers"));
            Ok(())
        }
    }
}

/// The field selector of what `--for` names.
fn about(call: &Call<'_>) -> Outcome<String> {
    let wanted = call.text("for");
    let Some((kind, name)) = wanted.split_once('/') else {
        return failed("--for must be in resource/name form");
    };
    if name.contains('/') {
        return failed("arguments in resource/name form may not have more than one slash");
    }
    let resource = call.mapper()?.find(call.rest()?, kind);
    let resource = resource.map_err(|failure| Failure::Said(failure.text()))?;
    Ok(format!(
        "involvedObject.kind={},involvedObject.apiVersion={},involvedObject.name={name}",
        resource.kind,
        resource.api_version()
    ))
}

/// When an event happened last, by which they are sorted.
fn moment(event: &Value) -> i64 {
    let time = |path: &str| api::time::parse(event.str(path)).map(|time| time.0);
    match event.has("series") {
        true => time("series.lastObservedTime"),
        false => time("lastTimestamp").or_else(|| time("eventTime")),
    }
    .unwrap_or(i64::MIN)
}

fn print(events: &[&Value], with_namespace: bool, is_headed: bool) {
    let mut text = String::new();
    if !is_headed {
        text.push_str(if with_namespace { "NAMESPACE\t" } else { "" });
        text.push_str("LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE\n");
    }
    for event in events {
        if with_namespace {
            text.push_str(event.str("metadata.namespace"));
            text.push('\t');
        }
        let age = describe::event_age(rt::now().wall, event);
        let (kind, reason, message) =
            (event.str("type"), event.str("reason"), event.str("message").trim());
        let line = [&age, "\t", kind, "\t", reason, "\t", event.str("involvedObject.kind"), "/"]
            .concat()
            + &[event.str("involvedObject.name"), "\t", message, "\n"].concat();
        text.push_str(&line.replace('\x1b', "^[").replace('\r', "\\r"));
    }
    out::print(&describe::align(&text, 6, 3));
}
