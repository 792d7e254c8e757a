//! `kubectl get`

use std::rc::Rc;

use api::{Lens, LensMut, Value, json};
use http::Method;
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::discovery::Resource;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{list, switch, switched_on, text};
use crate::print::jsonpath::{self, JsonPath};
use crate::print::table::{Look, Tables};
use crate::print::{Form, Printer};
use crate::select::{self, Info, Pick, Target};
use crate::{options, out};

pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

pub(crate) static COMMAND: Command = Command {
    name: "get",
    about: "Display one or many resources.",
    usage: "[(-o|--output=)json|yaml|name|go-template|go-template-file|template|templatefile|jsonpath|jsonpath-as-json|jsonpath-file|custom-columns|custom-columns-file|wide] (TYPE[.VERSION][.GROUP] [NAME | -l label] | TYPE[.VERSION][.GROUP]/NAME ...) [flags]",
    flags: &[
        options::ALL_NAMESPACES,
        options::CHUNKS,
        options::FIELD_SELECTOR,
        options::SELECTOR,
        options::FILES,
        options::PRINT,
        &[
            switch("ignore-not-found", "What does not exist is no failure"),
            list("label-columns", "Labels that are columns").short('L'),
            switch("no-headers", "Do not print headers"),
            switch("output-watch-events", "Print the events of a watch as they come"),
            text("raw", "", "Path on the server to ask for"),
            switched_on("server-print", "Print the server's table"),
            switch("show-kind", "Name the type with each object"),
            switch("show-labels", "Print all labels as the last column"),
            text("sort-by", "", "JSONPath of the field to sort by"),
            text("subresource", "", "status, scale or resize of the object"),
            switch("watch", "After listing, watch for changes").short('w'),
            switch("watch-only", "Watch for changes, without listing first"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let raw = call.text("raw");
    if !raw.is_empty() {
        return get_raw(call, raw);
    }
    if call.is("output-watch-events") && !(call.is("watch") || call.is("watch-only")) {
        return failed(
            "--output-watch-events option can only be used with --watch or --watch-only",
        );
    }
    let printer = Printer::of(call, true)?;
    let mut pick = Pick::of(call, call.args());
    pick.all = true;
    if call.args().is_empty() && !pick.has_files() {
        out::tell(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n",
        );
        return call.usage(
            "Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).",
        );
    }
    select::check(&pick)?;
    if pick.has_files() && !pick.args.is_empty() {
        return failed(select::FILES_AND_ARGS);
    }
    if call.is("watch") || call.is("watch-only") {
        return super::get_watch::get(call, &pick, printer.as_ref());
    }
    match &printer {
        None | Some(Printer { form: Form::Table, .. }) => tables(call, &pick, printer.is_some()),
        Some(printer) => generic(call, &pick, printer),
    }
}

fn get_raw(call: &Call<'_>, path: &str) -> Outcome {
    if !call.args().is_empty() {
        return call.usage("arguments may not be passed when --raw is specified");
    }
    if !path.starts_with('/') {
        return failed(format!(
            "--raw must be a valid URL path: parse {path:?}: invalid URI for request"
        ));
    }
    let rest = call.rest()?;
    rt::block_on(async {
        let mut response = rest.open(Method::Get, path, "application/json, */*", None).await?;
        while let Some(chunk) = response.body.next().await {
            out::bytes(&chunk.map_err(|error| rest.unreachable(&error))?);
        }
        Ok(())
    })
}

/// How the tables of this call look.
pub(crate) fn look(call: &Call<'_>, is_wide: bool, with_kind: bool) -> Look {
    Look {
        is_wide,
        no_headers: call.is("no-headers"),
        with_namespace: call.is("all-namespaces"),
        with_kind: with_kind || call.is("show-kind"),
        show_labels: call.is("show-labels"),
        label_columns: call.list("label-columns"),
    }
}

/// Tables of what there is, one type after another.
fn tables(call: &Call<'_>, pick: &Pick, is_wide: bool) -> Outcome {
    let (namespace, _) = call.namespace()?;
    let mut found: Vec<(Rc<Resource>, Value)> = Vec::new();
    let mut failures = Vec::new();
    if !pick.has_files() {
        for target in select::targets(call, pick)? {
            let resource = Rc::clone(target.resource());
            match table(call, pick, &target, &namespace) {
                Ok(tree) => found.push((resource, tree)),
                Err(failure) => failures.push(failure),
            }
        }
    } else {
        for info in select::read(call, pick).map_err(Failure::bare)? {
            let info = match info {
                Ok(info) => info,
                Err(failure) => {
                    failures.push(failure.bare());
                    continue;
                }
            };
            let target = Target::Named(Rc::clone(&info.resource), info.name.clone());
            match table(call, pick, &target, &info.namespace) {
                Ok(tree) => found.push((info.resource, tree)),
                Err(failure) => failures.push(failure),
            }
        }
    }
    if call.is("ignore-not-found") {
        failures.retain(|failure| !failure.is_not_found());
    }
    sort(call, &mut found)?;
    let first = found.first().map(|(resource, _)| resource.qualified());
    let has_kinds = found.iter().any(|(resource, _)| Some(resource.qualified()) != first);
    let mut tables = Tables::new(look(call, is_wide, has_kinds));
    for (resource, tree) in &found {
        tables.add(resource, tree);
    }
    tables.flush();
    if !tables.has_printed() && failures.is_empty() && !call.is("ignore-not-found") {
        let is_within =
            !pick.all_namespaces && found.iter().all(|(resource, _)| resource.namespaced);
        out::tell(&match is_within {
            true => format!("No resources found in {namespace} namespace."),
            false => "No resources found".to_owned(),
        });
    }
    Failure::all(failures)
}

/// The server's table of a target, all its pages.
pub(crate) fn table(
    call: &Call<'_>,
    pick: &Pick,
    target: &Target,
    namespace: &str,
) -> Outcome<Value> {
    let resource = target.resource();
    let within = if pick.all_namespaces { "" } else { namespace };
    let accept = if call.is("server-print") { TABLE } else { "application/json" };
    let objects = if call.text("sort-by").is_empty() { "" } else { "Object" };
    let ask = |target: &str| -> Outcome<Value> {
        let (bytes, _) = call.rest()?.ask(Method::Get, target, accept, None)?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Message(error.to_string()))
    };
    let plain = Pick::default();
    match target {
        Target::Named(_, name) => {
            let mut path = resource.path(within, name);
            if !pick.subresource.is_empty() {
                path = format!("{path}/{}", pick.subresource);
            }
            ask(&format!("{path}{}", select::list_query(&plain, &[("includeObject", objects)])))
        }
        Target::Listed(_) => {
            let path = resource.path(within, "");
            let limit = if pick.chunk > 0 { pick.chunk.to_string() } else { String::new() };
            let mut whole = Value::Null;
            let mut token = String::new();
            loop {
                let more = [
                    ("includeObject", objects),
                    ("limit", limit.as_str()),
                    ("continue", token.as_str()),
                ];
                let mut page = ask(&format!("{path}{}", select::list_query(pick, &more)))
                    .map_err(|failure| select::unlisted(failure, resource, pick))?;
                token = page.str("metadata.continue").to_owned();
                let rows = if page.str("kind") == "Table" { "rows" } else { "items" };
                match (whole.get_mut(rows), page.get_mut(rows)) {
                    (Some(Value::Array(all)), Some(Value::Array(more))) => all.append(more),
                    _ => whole = page,
                }
                if token.is_empty() {
                    return Ok(whole);
                }
            }
        }
    }
}

/// Sorts the rows by the field that `--sort-by` names.
fn sort(call: &Call<'_>, found: &mut [(Rc<Resource>, Value)]) -> Outcome {
    let by = call.text("sort-by");
    if by.is_empty() {
        return Ok(());
    }
    let path = sort_path(by)?;
    for (_, tree) in found {
        let list = if tree.str("kind") == "Table" { "rows" } else { "items" };
        let at = if list == "rows" { "object" } else { "" };
        let Some(Value::Array(rows)) = tree.get_mut(list) else { continue };
        if order(rows, at, &path, by).is_err() {
            // As upstream: what cannot be sorted is not shown.
            rows.clear();
        }
    }
    Ok(())
}

fn sort_path(by: &str) -> Outcome<JsonPath> {
    let relaxed = jsonpath::relaxed(by).map_err(Failure::Message)?;
    JsonPath::parse(&relaxed).map_err(Failure::Message)
}

/// Sorts items by what a path leads to below `at`; those without it come first.
fn order(items: &mut [Value], at: &str, path: &JsonPath, by: &str) -> Outcome {
    let mut has_any = items.is_empty();
    let mut keyed: Vec<(Option<Value>, Value)> = Vec::new();
    for item in items.iter_mut() {
        let found = path.find(item.at(at), true).map_err(Failure::Message)?;
        has_any |= !found.is_empty();
        keyed.push((found.into_iter().next(), item.take()));
    }
    if !has_any {
        return failed(format!(
            "couldn't find any field with path {:?} in the list of objects",
            jsonpath::relaxed(by).unwrap_or_default()
        ));
    }
    keyed.arrange_by(|a, b| compare(a.0.as_ref(), b.0.as_ref()));
    for (slot, (_, item)) in items.iter_mut().zip(keyed) {
        *slot = item;
    }
    Ok(())
}

fn compare(left: Option<&Value>, right: Option<&Value>) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(Value::String(a)), Some(Value::String(b))) => {
            match (a.parse::<api::Quantity>(), b.parse::<api::Quantity>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                _ => natural(a, b),
            }
        }
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
    }
}

/// Texts with the numbers in them as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) else {
            return left.len().cmp(&right.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let number = |text: &str| {
                let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                (text[..end].parse::<u64>().unwrap_or(u64::MAX), end)
            };
            let ((n, n_end), (m, m_end)) = (number(left), number(right));
            if n != m {
                return n.cmp(&m);
            }
            left = &left[n_end..];
            right = &right[m_end..];
            continue;
        }
        if x != y {
            return x.cmp(&y);
        }
        left = &left[x.len_utf8()..];
        right = &right[y.len_utf8()..];
    }
}

/// Objects in one of the other forms: one alone, or all as a list.
fn generic(call: &Call<'_>, pick: &Pick, printer: &Printer) -> Outcome {
    let (mut infos, mut failures) =
        select::infos(call, pick).map_err(|failure| match pick.has_files() {
            true => failure.bare(),
            false => failure,
        })?;
    if call.is("ignore-not-found") {
        failures.retain(|failure| !failure.is_not_found());
        if infos.is_empty() && failures.is_empty() && pick.is_single() {
            return Ok(());
        }
    }
    let is_single = pick.is_single() || pick.args.is_empty() && infos.len() == 1;
    if is_single && infos.len() <= 1 {
        Failure::all(failures)?;
        return match infos.pop() {
            Some(info) => printer.print(&info.object),
            None => Ok(()),
        };
    }
    let mut items: Vec<Value> = infos.into_iter().map(|Info { object, .. }| object).collect();
    let by = call.text("sort-by");
    if !by.is_empty() {
        order(&mut items, "", &sort_path(by)?, by)?;
    }
    if matches!(printer.form, Form::Name | Form::Columns(_)) && items.is_empty() {
        let shown = Failure::all(failures);
        if matches!(printer.form, Form::Columns(_)) && shown.is_ok() {
            printer.print(&json!({"kind": "List", "items": []}))?;
        }
        return shown;
    }
    let mut list = json!({
        "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [],
    });
    list.set("items", Value::Array(items));
    printer.print(&list)?;
    Failure::all(failures)
}
