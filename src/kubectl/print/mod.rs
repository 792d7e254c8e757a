//! Objects as text, in the forms that `-o` names.

pub(crate) mod columns;
mod json;
pub(crate) mod jsonpath;
pub(crate) mod table;
pub(crate) mod tabs;
mod template;

use std::cell::Cell;

use api::{Lens, LensMut, Value};
use stdx::Arrange;

use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};
use crate::out;
use crate::select::{Info, guessed};
use columns::Columns;
pub(crate) use json::{json, listed, typed_line};
use jsonpath::JsonPath;
use template::Template;

/// How objects are printed.
pub(crate) enum Form {
    Json,
    Yaml,
    Name,
    JsonPath {
        path: JsonPath,
        text: String,
        as_json: bool,
    },
    Columns(Columns),
    Template(Template),
    /// The server's table, with all its columns.
    Table,
}

/// A form with what was printed in it.
pub(crate) struct Printer {
    pub(crate) form: Form,
    shows_managed: bool,
    fills: bool,
    /// JSON has the order of a type's fields.
    is_typed: bool,
    n_printed: Cell<usize>,
}

const NO_TEMPLATE: &str = "template format specified but no template given";
const FORMATS: &str = "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,yaml";

impl Printer {
    /// As `-o` says; `None` where it says nothing. Tables only where the command `has_tables`.
    pub(crate) fn of(call: &Call<'_>, has_tables: bool) -> Outcome<Option<Printer>> {
        let wanted = call.text("output");
        let (name, argument) = match wanted.split_once('=') {
            Some((name, argument)) => (name, Some(argument.to_owned())),
            None => (wanted, None),
        };
        let from_template =
            (!call.text("template").is_empty()).then(|| call.text("template").to_owned());
        let argument = argument.filter(|it| !it.is_empty()).or(from_template.clone());
        let needs = |what: &str| argument.clone().ok_or_else(|| Failure::Message(what.to_owned()));
        let file = |path: &str| {
            rt::fs::read_small_text(path).map_err(|error| match error.io_kind() {
                Some(std::io::ErrorKind::NotFound) => {
                    format!("open {path}: no such file or directory")
                }
                _ => error.to_string(),
            })
        };
        let form = match name {
            "" if from_template.is_none() => return Ok(None),
            "json" => Form::Json,
            "yaml" => Form::Yaml,
            "name" => Form::Name,
            "wide" if has_tables => Form::Table,
            "jsonpath" | "jsonpath-as-json" => {
                let text = needs(NO_TEMPLATE)?;
                jsonpath_form(text, name == "jsonpath-as-json")?
            }
            "jsonpath-file" => {
                let path = needs(NO_TEMPLATE)?;
                let text =
                    file(&path).map_err(|why| format!("error reading --template {path}, {why}"))?;
                jsonpath_form(text, false)?
            }
            "" | "go-template" | "template" => {
                Form::Template(Template::parse(needs(NO_TEMPLATE)?)?)
            }
            "go-template-file" | "templatefile" => {
                let path = needs(NO_TEMPLATE)?;
                let text = file(&path)
                    .map_err(|why| format!("error reading --template {path}, {why}\n"))?;
                Form::Template(Template::parse(text)?)
            }
            "custom-columns" => {
                let spec = needs("custom-columns format specified but no custom columns given")?;
                Form::Columns(Columns::parse(&spec, call.is("no-headers"))?)
            }
            "custom-columns-file" => {
                let path = needs("custom-columns format specified but no custom columns given")?;
                let text =
                    file(&path).map_err(|why| format!("error reading template {path}, {why}"))?;
                Form::Columns(Columns::parse_file(&text, call.is("no-headers"))?)
            }
            _ => {
                let mut names: Vec<&str> = FORMATS.split(',').collect();
                if has_tables {
                    names.extend(["custom-columns", "custom-columns-file", "wide"]);
                }
                names.arrange();
                let names = names.join(",");
                return failed(format!(
                    "unable to match a printer suitable for the output format {wanted:?}, allowed formats are: {names}"
                ));
            }
        };
        let shows_managed = call.is("show-managed-fields");
        let fills = call.is("allow-missing-template-keys");
        let is_typed = call.is_typed();
        Ok(Some(Printer { form, shows_managed, fills, is_typed, n_printed: Cell::new(0) }))
    }

    /// One of YAML or JSON, whatever `-o` says.
    pub(crate) fn plain(form: Form) -> Printer {
        Printer {
            form,
            shows_managed: false,
            fills: true,
            is_typed: false,
            n_printed: Cell::new(0),
        }
    }

    /// Prints an object or a list.
    pub(crate) fn print(&self, object: &Value) -> Outcome {
        let n_before = self.n_printed.replace(self.n_printed.get() + 1);
        match &self.form {
            Form::Json => {
                let shown = self.shown(object);
                let text = if self.is_typed { json::typed(&shown) } else { json(&shown, 4) };
                out::print(&format!("{text}\n"));
            }
            Form::Yaml => {
                if n_before > 0 {
                    out::print("---\n");
                }
                out::print(&wire::yaml_text::text(&self.shown(object)));
            }
            Form::Name => {
                for item in list_items(object) {
                    out::line(&name_of(item));
                }
            }
            Form::JsonPath { path, text, as_json } => {
                let printed = path.print(object, self.fills, *as_json);
                out::print(&printed.map_err(|why| {
                    Failure::Message(format!(
                        "error executing jsonpath {text:?}: Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{text}\n\tobject given to jsonpath engine was:\n\t\t{}\n\n\n",
                        jsonpath::go_syntax(object)
                    ))
                })?);
            }
            Form::Columns(columns) => columns.print(object)?,
            Form::Template(template) => template.print(object, self.fills)?,
            Form::Table => {}
        }
        Ok(())
    }

    fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if !self.shows_managed {
            unmanaged(&mut object);
        }
        object
    }
}

fn jsonpath_form(text: String, as_json: bool) -> Outcome<Form> {
    let path = JsonPath::parse(&text)
        .map_err(|why| Failure::Message(format!("error parsing jsonpath {text}, {why}")))?;
    Ok(Form::JsonPath { path, text, as_json })
}

/// Takes `managedFields` out of an object, or of a list's items.
pub(crate) fn unmanaged(object: &mut Value) {
    object.remove("metadata.managedFields");
    if let Some(Value::Array(items)) = object.get_mut("items") {
        for item in items {
            item.remove("metadata.managedFields");
        }
    }
}

/// A list's items, or the object.
pub(crate) fn list_items(object: &Value) -> Vec<&Value> {
    match object.at("items") {
        Value::Array(items) if object.str("kind").ends_with("List") => items.iter().collect(),
        _ => vec![object],
    }
}

/// `deployment.apps/x`
pub(crate) fn name_of(object: &Value) -> String {
    let resource = guessed(object.str("apiVersion"), object.str("kind"));
    let name = match object.str("metadata.name") {
        "" => "<unknown>",
        name => name,
    };
    format!("{}/{name}", resource.result_name())
}

/// Says what was done to an object: `-o`'s form of it, or a line such as `pod/x created`.
pub(crate) fn done(call: &Call<'_>, printer: Option<&Printer>, info: &Info, verb: &str) -> Outcome {
    match printer {
        Some(printer) => printer.print(&info.object),
        None => {
            let suffix = call.dry_run()?.suffix();
            let unknown = if info.name.is_empty() { "<unknown>" } else { "" };
            out::line(&format!("{}{unknown} {verb}{suffix}", info.result_name()));
            Ok(())
        }
    }
}
