//! The server's tables.

use api::{Lens, Value};

use super::jsonpath::go_value;
use super::tabs::Tabs;
use crate::discovery::Resource;
use crate::out;

/// How tables look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    pub(crate) is_wide: bool,
    pub(crate) no_headers: bool,
    pub(crate) with_namespace: bool,
    pub(crate) with_kind: bool,
    pub(crate) show_labels: bool,
    pub(crate) label_columns: Vec<String>,
}

/// Prints tables one after another, each kind with its header.
pub(crate) struct Tables {
    look: Look,
    tabs: Tabs,
    /// The kind of the table before.
    last: Option<String>,
    /// Its columns: events after the first do not tell them again.
    columns: Vec<Value>,
    rows: Vec<Vec<String>>,
    is_printed: bool,
}

impl Tables {
    pub(crate) fn new(look: Look) -> Tables {
        Tables {
            look,
            tabs: Tabs::new(),
            last: None,
            columns: Vec::new(),
            rows: Vec::new(),
            is_printed: false,
        }
    }

    /// Whether something was printed.
    pub(crate) fn has_printed(&self) -> bool {
        self.is_printed || !self.rows.is_empty()
    }

    /// Adds a table, or an object that the server did not make one of.
    pub(crate) fn add(&mut self, resource: &Resource, tree: &Value) {
        let own;
        let table = match tree.str("kind") == "Table" {
            true => tree,
            false => {
                own = simple(tree);
                &own
            }
        };
        if table.list("rows").is_empty() {
            return;
        }
        if !table.list("columnDefinitions").is_empty() {
            self.columns = table.list("columnDefinitions").to_vec();
        }
        let columns: Vec<usize> = (0..)
            .zip(&self.columns)
            .filter(|(_, column)| self.look.is_wide || column.int("priority").unwrap_or(0) == 0)
            .map(|(idx, _)| idx)
            .collect();
        let qualified = resource.qualified();
        if self.last.as_deref() != Some(&qualified) {
            self.flush();
            if self.is_printed && !self.look.no_headers {
                out::print("\n");
            }
            if self.last.is_some() {
                self.tabs = Tabs::new();
            }
            if !self.look.no_headers {
                self.header(&columns, resource);
            }
            self.last = Some(qualified);
        }
        for row in table.list("rows") {
            self.row(row, &columns, resource);
        }
    }

    fn header(&mut self, columns: &[usize], resource: &Resource) {
        let mut cells = Vec::new();
        if self.look.with_namespace && resource.namespaced {
            cells.push("NAMESPACE".to_owned());
        }
        for idx in columns {
            cells.push(self.columns[*idx].str("name").to_uppercase());
        }
        for label in &self.look.label_columns {
            cells.push(label.rsplit('/').next().unwrap_or(label).to_uppercase());
        }
        if self.look.show_labels {
            cells.push("LABELS".to_owned());
        }
        self.rows.push(cells);
    }

    fn row(&mut self, row: &Value, columns: &[usize], resource: &Resource) {
        let meta = row.at("object.metadata");
        let mut cells = Vec::new();
        if self.look.with_namespace && resource.namespaced {
            cells.push(meta.str("namespace").to_owned());
        }
        for idx in columns {
            let cell = row.list("cells").get(*idx).unwrap_or(&Value::Null);
            let mut text = match cell {
                Value::Null => String::new(),
                Value::String(text) => one_line(text),
                other => go_value(other),
            };
            let is_name = self.columns[*idx].str("name") == "Name";
            if self.look.with_kind && is_name {
                text = format!("{}/{text}", resource.result_name());
            }
            cells.push(text);
        }
        for label in &self.look.label_columns {
            cells.push(meta.entry("labels", label).unwrap_or("").to_owned());
        }
        if self.look.show_labels {
            let pairs: Vec<String> =
                meta.pairs("labels").map(|(key, value)| format!("{key}={value}")).collect();
            cells.push(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") });
        }
        self.rows.push(cells);
    }

    /// Makes the first column wide enough for any kind of event.
    pub(crate) fn reserve_events(&mut self) {
        self.tabs.reserve("MODIFIED".len());
    }

    /// Prints what was added.
    pub(crate) fn flush(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        out::print(&self.tabs.format(&self.rows));
        self.rows.clear();
        self.is_printed = true;
    }
}

/// The first line of a cell.
fn one_line(text: &str) -> String {
    match text.find(['\n', '\r', '\u{c}']) {
        Some(at) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A table of names and ages, for what is no table.
fn simple(tree: &Value) -> Value {
    let now = rt::now().wall;
    let rows: Vec<Value> = super::list_items(tree)
        .into_iter()
        .map(|item| {
            let age = match api::time::parse(item.str("metadata.creationTimestamp")) {
                Some(made) => age(now.since(made).as_secs()),
                None => "<unknown>".to_owned(),
            };
            api::json!({"cells": [item.str("metadata.name"), age], "object": item})
        })
        .collect();
    api::json!({
        "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Age", "priority": 0}],
        "rows": rows,
    })
}

/// A time as tables show it.
pub(crate) fn age(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    let both = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match secs {
        0..120 => format!("{secs}s"),
        120..600 => both(minutes, "m", secs % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => both(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => both(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => both(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}
