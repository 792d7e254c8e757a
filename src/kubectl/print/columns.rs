//! `-o custom-columns`: a header and a path for each column.

use std::cell::{Cell, RefCell};

use api::Value;

use super::jsonpath::{self, JsonPath};
use super::list_items;
use super::tabs::Tabs;
use crate::failure::{Failure, Outcome, failed};
use crate::out;

pub(crate) struct Columns {
    columns: Vec<(String, JsonPath)>,
    no_headers: bool,
    is_begun: Cell<bool>,
    tabs: RefCell<Tabs>,
}

impl Columns {
    /// Reads `NAME:.path,NAME:.path`.
    pub(crate) fn parse(spec: &str, no_headers: bool) -> Outcome<Columns> {
        if spec.is_empty() {
            return failed("custom-columns format specified but no custom columns given");
        }
        let mut pairs = Vec::new();
        for part in spec.split(',') {
            let Some((header, path)) = part.split_once(':') else {
                return failed(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                ));
            };
            pairs.push((header, path));
        }
        Columns::of(&pairs, no_headers)
    }

    /// Reads a line of headers and a line of paths.
    pub(crate) fn parse_file(text: &str, no_headers: bool) -> Outcome<Columns> {
        let mut lines = text.lines();
        let n_lines = lines.clone().take(2).count();
        if n_lines < 2 {
            return failed(format!(
                "invalid template, missing {} line. Expected format is one line of space separated headers, one line of space separated column specs.",
                ["header", "spec"][n_lines]
            ));
        }
        let headers: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        let paths: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        if headers.len() != paths.len() {
            return failed(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            ));
        }
        let pairs: Vec<(&str, &str)> = headers.into_iter().zip(paths).collect();
        Columns::of(&pairs, no_headers)
    }

    fn of(pairs: &[(&str, &str)], no_headers: bool) -> Outcome<Columns> {
        let mut columns = Vec::new();
        for (header, path) in pairs {
            let path = jsonpath::relaxed(path).map_err(Failure::Message)?;
            let path = JsonPath::parse(&path).map_err(Failure::Message)?;
            columns.push(((*header).to_owned(), path));
        }
        Ok(Columns {
            columns,
            no_headers,
            is_begun: Cell::new(false),
            tabs: RefCell::new(Tabs::new()),
        })
    }

    /// Prints an object, or each of a list.
    pub(crate) fn print(&self, object: &Value) -> Outcome {
        let mut rows = Vec::new();
        if !self.no_headers && !self.is_begun.replace(true) {
            rows.push(self.columns.iter().map(|(header, _)| header.clone()).collect());
        }
        for item in list_items(object) {
            let mut row = Vec::new();
            for (_, path) in &self.columns {
                let found = path.find(item, true).map_err(Failure::Message)?;
                let texts: Vec<String> = found
                    .iter()
                    .map(|value| match value {
                        Value::Null => "<nil>".to_owned(),
                        value => jsonpath::go_value(value),
                    })
                    .collect();
                row.push(if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") });
            }
            rows.push(row);
        }
        out::print(&self.tabs.borrow_mut().format(&rows));
        Ok(())
    }
}
