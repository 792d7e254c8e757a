//! `kubectl get --watch`

use std::rc::Rc;

use api::{Lens, Value, json};

use crate::call::Call;
use crate::commands::get::{TABLE, look, table};
use crate::discovery::Resource;
use crate::failure::{Outcome, failed};
use crate::out;
use crate::print::table::Tables;
use crate::print::{Form, Printer};
use crate::select::{self, Pick, Target};
use crate::watch::follow;

/// Lists and follows one type.
pub(crate) fn get(call: &Call<'_>, pick: &Pick, printer: Option<&Printer>) -> Outcome {
    let targets = match pick.has_files() {
        false => select::targets(call, pick)?,
        true => {
            let read = select::all_read(call, pick)?;
            read.into_iter().map(|info| Target::Named(info.resource, info.name)).collect()
        }
    };
    let [target] = targets.as_slice() else {
        return failed("you may only specify a single resource type");
    };
    let (namespace, _) = call.namespace()?;
    let is_table = match printer {
        None => true,
        Some(printer) => matches!(printer.form, Form::Table),
    };
    let mut shown = Shown {
        tables: Tables::new(look(call, printer.is_some(), false)),
        printer: printer.filter(|_| !is_table),
        resource: Rc::clone(target.resource()),
        with_events: call.is("output-watch-events"),
        is_headed: false,
    };
    if shown.with_events {
        shown.tables.reserve_events();
    }
    let within = if pick.all_namespaces { "" } else { &namespace };
    let mut pick = pick.clone();
    let listed = match is_table {
        true => table(call, &pick, target, &namespace)?,
        false => match target {
            Target::Named(_, name) => call.rest()?.get(&shown.resource.path(within, name))?,
            Target::Listed(_) => select::list(call, &shown.resource, within, &pick)?,
        },
    };
    let mut version = listed.str("metadata.resourceVersion").to_owned();
    if let Target::Named(_, name) = target {
        pick.field_selector = format!("metadata.name={name}");
        if is_table && version.is_empty() {
            version = listed.str("rows.0.object.metadata.resourceVersion").to_owned();
        }
    }
    if !call.is("watch-only") {
        shown.listed(&listed)?;
    }
    let accept = if is_table { TABLE } else { "application/json" };
    let query = select::list_query(&pick, &[("resourceVersion", &version), ("watch", "true")]);
    let path = format!("{}{query}", shown.resource.path(within, ""));
    let rest = call.rest()?;
    rt::block_on(follow(rest, &path, accept, &mut |event, object| {
        shown.event(event, object).map(|()| true)
    }))
}

struct Shown<'a> {
    tables: Tables,
    printer: Option<&'a Printer>,
    resource: Rc<Resource>,
    with_events: bool,
    is_headed: bool,
}

impl Shown<'_> {
    fn listed(&mut self, listed: &Value) -> Outcome {
        match self.printer {
            None => {
                let is_table = listed.str("kind") == "Table" && self.with_events;
                if is_table {
                    for row in listed.list("rows") {
                        let mut one = listed.clone();
                        one["rows"] = json!([row]);
                        self.event("ADDED", one)?;
                    }
                    return Ok(());
                }
                self.tables.add(&self.resource, listed);
                self.tables.flush();
                Ok(())
            }
            Some(_) if listed.str("kind").ends_with("List") => {
                for item in select::items(&self.resource, listed.clone()) {
                    self.event("ADDED", item)?;
                }
                Ok(())
            }
            Some(_) => self.event("ADDED", listed.clone()),
        }
    }

    fn event(&mut self, kind: &str, mut object: Value) -> Outcome {
        if kind == "BOOKMARK" {
            return Ok(());
        }
        match self.printer {
            None => {
                if self.with_events && object.str("kind") == "Table" {
                    with_event(&mut object, kind);
                }
                self.tables.add(&self.resource, &object);
                self.tables.flush();
                self.is_headed = true;
                Ok(())
            }
            Some(printer) if self.with_events => match printer.form {
                Form::Json | Form::Yaml => printer.print(&json!({"type": kind, "object": object})),
                Form::Name => {
                    out::print(&format!("{kind}   "));
                    printer.print(&object)
                }
                _ => printer.print(&object),
            },
            Some(printer) => printer.print(&object),
        }
    }
}

/// Puts the kind of an event before its row.
fn with_event(table: &mut Value, kind: &str) {
    if let Some(Value::Array(columns)) = table.get_mut("columnDefinitions") {
        columns.insert(0, json!({"name": "Event", "priority": 0}));
    }
    if let Some(Value::Array(rows)) = table.get_mut("rows") {
        for row in rows {
            if let Some(Value::Array(cells)) = row.get_mut("cells") {
                cells.insert(0, kind.into());
            }
        }
    }
}
