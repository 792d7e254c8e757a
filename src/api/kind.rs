//! What a kind is: one declaration that every engine reads.

use serde_json::Value;

use crate::status::Cause;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// How durable a write of this kind is (house.md, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged means on disk.
    Durable,
    /// May be lost on power cut; flushed rarely (Leases, Events).
    Lazy,
    /// Never stored: reviews and other request-only kinds (create only).
    Virtual,
}

/// A subresource and, where it needs them, its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub {
    Status,
    Scale {
        spec: &'static str,
        status: &'static str,
        selector: &'static str,
    },
    /// Pods: `binding`, `eviction`, `log`, `exec`, `attach`, `portforward`, `proxy`, `ephemeralcontainers`, `resize`;
    /// service accounts: `token`; namespaces: `finalize`; ... The server knows what each does.
    Named(&'static str),
}

/// A printed column of `kubectl get`.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, ...
    pub kind: &'static str,
    pub format: &'static str,
    /// 0 shows always, 1 only with `-o wide`.
    pub priority: i32,
    pub cell: Cell,
    pub description: &'static str,
}

/// Where a cell comes from.
#[derive(Clone, Copy)]
pub enum Cell {
    Path(&'static str),
    /// As `Path`, 0 where nothing is there.
    Number(&'static str),
    With(fn(&Value, stdx::time::Wall) -> Value),
    /// Time since `metadata.creationTimestamp`, as `kubectl get` shows ages.
    Age,
}

/// One group/version more that serves the same stored object, with the conversions both ways.
#[derive(Clone, Copy)]
pub struct Served {
    pub group: &'static str,
    pub version: &'static str,
    /// The schema's root type in this version, if it differs from the stored one.
    pub root: &'static str,
    pub from_stored: fn(&mut Value),
    pub to_stored: fn(&mut Value),
    /// What field selectors may name in this version, and where the stored form has it;
    /// empty where both have the same.
    pub fields: &'static [(&'static str, &'static str)],
}

/// One kind. Everything the engines need to serve it.
#[derive(Clone, Copy)]
pub struct Kind {
    pub group: &'static str,
    /// The stored version, served first.
    pub version: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    /// The sentence `kubectl explain` shows.
    pub doc: &'static str,
    /// Schema text of this kind's own types (see `schema`); shared types are found by name.
    pub schema: &'static str,
    pub subresources: &'static [Sub],
    pub columns: &'static [Column],
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: the paths that may be selected on.
    pub fields: &'static [&'static str],
    /// The path under `/registry/`, as kube-apiserver lays it out.
    pub storage: &'static str,
    pub durability: Durability,
    pub also: &'static [Served],
    /// Defaults that the schema text cannot say. Idempotent.
    pub default: fn(&mut Value),
    /// What create (old absent) and update (old present) reset before validation,
    /// beyond status/spec split and system metadata, which the engine does.
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// Rules that the schema text cannot say. `old` is present on update.
    pub validate: fn(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>),
    /// Rules for what comes through the `status` subresource.
    pub validate_status: fn(new: &Value, causes: &mut Vec<Cause>),
    /// How names are checked: DNS subdomain for most.
    pub name_rule: NameRule,
    /// `metadata.generation` counts spec changes.
    pub generation: bool,
    /// Deletion waits `metadata.deletionGracePeriodSeconds` for someone else to finish it (pods).
    pub graceful: bool,
}

/// What `metadata.name` may look like (apimachinery `validation.NameIs...`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253.
    Subdomain,
    /// RFC 1123 label, at most 63.
    Label,
    /// RFC 1035 label (services).
    Label1035,
    /// Any path segment: no '/', '%', not '.' or '..' (rbac).
    PathSegment,
}

/// A kind in one of the versions it is served in. Engines that meet JSON take a form;
/// a plain `&Kind` converts into its stored form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub kind: &'static Kind,
    /// `None`: the stored version.
    pub served: Option<&'static Served>,
}

impl Form {
    pub fn group(self) -> &'static str {
        self.served.map_or(self.kind.group, |served| served.group)
    }

    pub fn version(self) -> &'static str {
        self.served.map_or(self.kind.version, |served| served.version)
    }

    /// The stored form's path of what a field selector of this form names, beyond name and namespace.
    pub fn selectable(self, path: &str) -> Option<&'static str> {
        let renamed = self.served.map_or(&[][..], |served| served.fields);
        match renamed {
            [] => self.kind.fields.iter().find(|field| **field == path).copied(),
            renamed => renamed.iter().find(|(name, _)| *name == path).map(|(_, stored)| *stored),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// Turns a tree of the stored form into this one.
    pub fn convert_from_stored(self, tree: &mut Value) {
        if let Some(served) = self.served {
            (served.from_stored)(tree);
        }
    }

    /// Turns a tree of this form into the stored one.
    pub fn convert_to_stored(self, tree: &mut Value) {
        if let Some(served) = self.served {
            (served.to_stored)(tree);
        }
    }
}

impl From<&'static Kind> for Form {
    fn from(kind: &'static Kind) -> Form {
        Form { kind, served: None }
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.kind.name)
    }
}

impl PartialEq for Served {
    fn eq(&self, other: &Served) -> bool {
        self.group == other.group && self.version == other.version
    }
}

impl Eq for Served {}

impl Kind {
    /// This kind as served at `group`/`version`.
    pub fn form(&'static self, group: &str, version: &str) -> Option<Form> {
        if self.group == group && self.version == version {
            return Some(Form { kind: self, served: None });
        }
        let served =
            self.also.iter().find(|also| also.group == group && also.version == version)?;
        Some(Form { kind: self, served: Some(served) })
    }

    /// The stored form first, then the others.
    pub fn forms(&'static self) -> impl Iterator<Item = Form> {
        let others = self.also.iter().map(move |served| Form { kind: self, served: Some(served) });
        std::iter::once(Form { kind: self, served: None }).chain(others)
    }

    /// What most kinds are: namespaced, durable, v1, no hooks.
    pub const BASE: Kind = Kind {
        group: "",
        version: "v1",
        name: "",
        plural: "",
        short: &[],
        categories: &[],
        scope: Scope::Namespaced,
        doc: "",
        schema: "",
        subresources: &[],
        columns: &[],
        fields: &[],
        storage: "",
        durability: Durability::Durable,
        also: &[],
        default: |_| {},
        prepare: |_, _| {},
        validate: |_, _, _| {},
        validate_status: |_, _| {},
        name_rule: NameRule::Subdomain,
        generation: true,
        graceful: false,
    };

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `pods` or `deployments.apps`, as error messages name resources.
    pub fn qualified_plural(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The lower-case name, as discovery's `singularName`.
    pub fn singular(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The path under `/registry/`.
    pub fn storage_prefix(&self) -> &'static str {
        if self.storage.is_empty() { self.plural } else { self.storage }
    }

    pub fn stored(&self) -> bool {
        self.durability != Durability::Virtual
    }

    pub fn has_status(&self) -> bool {
        self.subresources.contains(&Sub::Status)
    }
}

/// Two kinds are the same when group and name are; versions are forms of one kind.
impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.name == other.name && self.group == other.group
    }
}

impl Eq for Kind {}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.group.hash(state);
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Kind) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Kind) -> std::cmp::Ordering {
        (self.group, self.name).cmp(&(other.group, other.name))
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.name)
    }
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Column({})", self.name)
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cell")
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.version)
    }
}
