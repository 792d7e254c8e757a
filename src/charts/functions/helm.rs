//! Helm's own functions: templates in templates, YAML and JSON, lookups, and what stops a rendering.

use std::rc::Rc;

use serde_json::Value as Json;
use template::{Map, Run, Value};

use super::text::{made, text};
use super::{ASKED_MAX, Engine, Entry, Given, Out, toml};
use crate::values::floats;
use crate::world::{Asked, Lookup};

pub(super) const TABLE: &[Entry] = &[
    ("include", "sa", include),
    ("tpl", "sa", tpl),
    ("required", "sa", required),
    ("fail", "s", |_, _, args| Err(stop(&text(&args[0])))),
    ("lookup", "ssss", lookup),
    ("toYaml", "a", |_, run, args| yaml(run, &args[0], Lists::Flush)),
    ("toYamlPretty", "a", |_, run, args| yaml(run, &args[0], Lists::Indented)),
    ("fromYaml", "s", |_, run, args| from(run, args, Format::Yaml, false)),
    ("fromYamlArray", "s", |_, run, args| from(run, args, Format::Yaml, true)),
    ("fromJson", "s", |_, run, args| from(run, args, Format::Json, false)),
    ("fromJsonArray", "s", |_, run, args| from(run, args, Format::Json, true)),
    ("fromToml", "s", |_, run, args| from(run, args, Format::Toml, false)),
    ("toToml", "a", |_, run, args| {
        made(run.heap, toml::emit(&args[0], run.heap).unwrap_or_else(|error| error))
    }),
    // Names are not resolved, as Helm does not without a flag.
    ("getHostByName", "s", |_, _, _| Ok(Value::text(""))),
];

/// How often one name may be included inside itself.
const INCLUDED_MAX: usize = 1000;

/// Marks what a chart's author says when a rendering must not go on; [`stopped`] finds it in an error.
const STOP_START: &str = "HELM_ERR_START";
const STOP_END: &str = "HELM_ERR_END";

fn stop(what: &str) -> String {
    format!("{STOP_START}{what}{STOP_END}")
}

/// An error as Helm tells it: what `fail` and `required` say, without the way there.
pub(crate) fn stopped(error: &str) -> String {
    let said = error.find(STOP_START).and_then(|start| {
        let end = error.rfind(STOP_END)?;
        error.get(start + STOP_START.len()..end)
    });
    let place = error.strip_prefix("template: ").and_then(|rest| rest.split(": ").next());
    match (said, place) {
        (Some(said), Some(place)) => format!("execution error at ({place}): {said}"),
        _ => error.to_owned(),
    }
}

fn include(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let name = text(&args[0]).into_owned();
    {
        let mut included = engine.included.borrow_mut();
        let n = included.entry(name.clone()).or_insert(0);
        if *n > INCLUDED_MAX {
            return Err(format!(
                "rendering template has a nested reference name: {name}: unable to execute template"
            ));
        }
        *n += 1;
    }
    let done = run.execute(&name, &nothing(&args[1]));
    if let Some(n) = engine.included.borrow_mut().get_mut(&name) {
        *n -= 1;
    }
    Ok(Value::Text(Rc::from(done?)))
}

/// A nil that becomes the dot of a template is no value there.
fn nothing(value: &Value) -> Value {
    match value {
        Value::Nil => Value::Invalid,
        value => value.clone(),
    }
}

fn tpl(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let source = text(&args[0]);
    if !source.contains("{{") && !source.contains("<no value>") {
        return Ok(args[0].clone());
    }
    let quoted = || template::quote(source.as_bytes());
    let done = run.execute_text("gotpl", &source, &nothing(&args[1]));
    let out = done.map_err(|error| match error.contains(": executing ") {
        true => format!("error during tpl function execution for {}: {error}", quoted()),
        false => format!("cannot parse template {}: {error}", quoted()),
    })?;
    made(run.heap, String::from_utf8_lossy(&out).replace("<no value>", ""))
}

fn required(_: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    match &args[1] {
        Value::Nil | Value::Invalid => Err(stop(&text(&args[0]))),
        Value::Text(value) if value.is_empty() => Err(stop(&text(&args[0]))),
        value => Ok(value.clone()),
    }
}

fn lookup(engine: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    let word = |idx: usize| text(&args[idx]).into_owned();
    let asked = Asked { api_version: word(0), kind: word(1), namespace: word(2), name: word(3) };
    match engine.world.lookup(&asked) {
        Lookup::Known(mut object) => {
            floats(&mut object);
            Ok(Value::from_json(&object))
        }
        Lookup::Unknown => {
            let mut known = engine.asked.borrow_mut();
            if !known.contains(&asked) {
                if known.len() >= ASKED_MAX {
                    return Err(format!("more than {ASKED_MAX} objects are looked up"));
                }
                known.push(asked);
            }
            Ok(Value::map(stdx::OrdMap::new()))
        }
    }
}

/// Where lists stand below their keys.
#[derive(Clone, Copy)]
enum Lists {
    Flush,
    Indented,
}

fn yaml(run: &Run<'_>, value: &Value, lists: Lists) -> Out {
    // Helm gives nothing where this fails.
    let Ok(tree) = value.to_json(run.heap) else { return Ok(Value::text("")) };
    let written = match lists {
        Lists::Flush => wire::yaml_text::text(&tree),
        Lists::Indented => wire::yaml_text::indented_text(&tree),
    };
    made(run.heap, written.strip_suffix('\n').unwrap_or(&written))
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Yaml,
    Json,
    Toml,
}

/// Reads a text; an error becomes the value.
fn from(run: &Run<'_>, args: Given<'_>, format: Format, wants_list: bool) -> Out {
    let source = text(&args[0]);
    run.heap.charge(source.len() * 4)?;
    let read: Result<Json, String> = match format {
        Format::Yaml => wire::yaml::parse_loose(&source)
            .map_err(|error| format!("error converting YAML to JSON: {error}"))
            .map(|documents| documents.into_iter().next().unwrap_or(Json::Null)),
        Format::Json => serde_json::from_str(&source).map_err(|error| error.to_string()),
        Format::Toml => toml::parse(&source),
    };
    let read = read.and_then(|tree| match (&tree, wants_list) {
        (Json::Null, true) => Ok(Json::Array(Vec::new())),
        (Json::Null, false) => Ok(Json::Object(serde_json::Map::new())),
        (Json::Array(_), true) | (Json::Object(_), false) => Ok(tree),
        (other, wants_list) => {
            let into = if wants_list { "[]interface {}" } else { "map[string]interface {}" };
            let what = match other {
                Json::Array(_) => "array",
                Json::Object(_) => "object",
                Json::String(_) => "string",
                Json::Bool(_) => "bool",
                _ => "number",
            };
            Err(format!("json: cannot unmarshal {what} into Go value of type {into}"))
        }
    });
    Ok(match read {
        Ok(mut tree) => {
            if format != Format::Toml {
                floats(&mut tree);
            }
            Value::from_json(&tree)
        }
        Err(error) if wants_list => Value::list(vec![Value::text(error)]),
        Err(error) => Value::map([(Rc::from("Error"), Value::text(error))].into()),
    })
}

/// Methods of `.Values`.
pub(super) fn values_method(
    run: &mut Run<'_>,
    map: &Rc<Map>,
    name: &str,
    args: Given<'_>,
) -> Option<Out> {
    if map.type_name != "chartutil.Values" {
        return None;
    }
    let path = args.first().map(|arg| text(arg).into_owned()).unwrap_or_default();
    let find = || {
        path.split('.').try_fold(Value::Map(map.clone()), |value, part| match &value {
            Value::Map(map) => map.get(part),
            _ => None,
        })
    };
    Some(match (name, args.len()) {
        ("AsMap", 0) => Ok(Value::map(map.entries.borrow().clone())),
        ("YAML", 0) => yaml(run, &Value::Map(map.clone()), Lists::Flush)
            .and_then(|value| made(run.heap, format!("{}\n", text(&value)))),
        ("Table", 1) => match find() {
            Some(table @ Value::Map(_)) => Ok(table),
            _ => Err(format!("{path:?} is not a table")),
        },
        ("PathValue", 1) => match find() {
            Some(value) if !matches!(value, Value::Map(_)) => Ok(value),
            _ => Err(format!("{path:?} is not a value")),
        },
        _ => return None,
    })
}
