//! Printed columns: what `kubectl get` shows of a kind, and where each cell comes from.

use api::definition::Printed;
use serde_json::Value;
use stdx::time::Wall;

/// A printed column of `kubectl get`.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    pub name: &'a str,
    /// `string`, `integer`, `date`, ...
    pub kind: &'a str,
    pub format: &'a str,
    /// 0 shows always, 1 only with `-o wide`.
    pub priority: i32,
    pub cell: Cell<'a>,
    pub description: &'a str,
}

/// Where a cell comes from.
#[derive(Clone, Copy)]
pub enum Cell<'a> {
    Path(&'a str),
    /// As `Path`, 0 where nothing is there.
    Number(&'a str),
    /// What a JSON path finds first; times as ages where the column is a `date`.
    JsonPath(&'a str),
    With(fn(&Value, Wall) -> Value),
    /// Time since `metadata.creationTimestamp`, as `kubectl get` shows ages.
    Age,
}

impl Column<'static> {
    /// What most columns are: a string, always shown.
    pub(crate) const BASE: Column<'static> = Column {
        name: "",
        kind: "string",
        format: "",
        priority: 0,
        cell: Cell::Age,
        description: "",
    };

    /// The string (or whatever is there) at `path`.
    pub(crate) const fn path(name: &'static str, path: &'static str) -> Column<'static> {
        Column { name, cell: Cell::Path(path), ..Column::BASE }
    }

    /// The number at `path`; 0 where it is absent.
    pub(crate) const fn number(name: &'static str, path: &'static str) -> Column<'static> {
        Column { name, kind: "integer", cell: Cell::Number(path), ..Column::BASE }
    }

    /// The same, told to clients as text, as some of upstream's columns are.
    pub(crate) const fn number_as_text(name: &'static str, path: &'static str) -> Column<'static> {
        Column { kind: Column::BASE.kind, ..Column::number(name, path) }
    }

    pub(crate) const fn with(
        name: &'static str,
        make: fn(&Value, Wall) -> Value,
    ) -> Column<'static> {
        Column { name, cell: Cell::With(make), ..Column::BASE }
    }

    /// Time since creation.
    pub(crate) const AGE: Column<'static> = Column { name: "Age", ..Column::BASE };

    /// The time of creation: what upstream shows of kinds that it has no columns for.
    pub(crate) const CREATED_AT: Column<'static> = Column {
        name: "Created At",
        kind: "date",
        cell: Cell::Path("metadata.creationTimestamp"),
        ..Column::BASE
    };

    /// Shown with `-o wide` only.
    pub(crate) const fn wide(self) -> Column<'static> {
        Column { priority: 1, ..self }
    }

    /// Whole numbers.
    pub(crate) const fn integer(self) -> Column<'static> {
        Column { kind: "integer", ..self }
    }
}

impl<'a> Column<'a> {
    /// A column of a kind that is defined at run time.
    pub(crate) fn printed(of: &'a Printed) -> Column<'a> {
        Column {
            name: &of.name,
            kind: &of.kind,
            format: &of.format,
            priority: of.priority,
            cell: Cell::JsonPath(&of.path),
            description: &of.description,
        }
    }
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Column({})", self.name)
    }
}

impl std::fmt::Debug for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cell")
    }
}
