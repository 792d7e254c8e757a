//! A kind in one of its versions, with all that is known of it: what engines are asked with.

use serde_json::Value;

use crate::definition::{Conversion, Definition, Held, Version};
use crate::kind::{Kind, Served, Sub, api_version};
use crate::schema::{Schema, TypeId, schema};
use crate::structural::Structural;

/// A kind in one of the versions it is served in, with what is known of it. Engines that meet JSON take
/// a form; a plain `&Kind` converts into its stored form, which of a kind that is defined at run time
/// knows no schema: everything passes.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub kind: &'static Kind,
    /// `None`: the stored version, or a kind that is defined at run time.
    pub served: Option<&'static Served>,
    pub defined: Option<&'a Held>,
}

impl<'a> Form<'a> {
    pub fn group(self) -> &'static str {
        self.served.map_or(self.kind.group, |served| served.group)
    }

    pub fn version(self) -> &'a str {
        match (self.served, self.defined) {
            (Some(served), _) => served.version,
            (_, Some(held)) => &held.version().name,
            _ => self.kind.declared.version,
        }
    }

    /// How the kind is defined, and the version that this is, if it is at run time.
    pub fn definition(self) -> Option<(&'a Definition, &'a Version)> {
        self.defined.map(|held| (&*held.definition, held.version()))
    }

    /// True of the version that objects are stored in.
    pub fn is_stored(self) -> bool {
        self.served.is_none() && self.defined.is_none_or(|held| held.version().stored)
    }

    /// The form that objects are in after `rules::to_stored`. Versions that are defined at run
    /// time are all of one shape, so theirs is the same.
    #[must_use]
    pub fn stored(self) -> Form<'a> {
        Form { served: None, ..self }
    }

    /// The stored form's path of what a field selector of this form names, beyond name and namespace.
    pub fn selectable(self, path: &str) -> Option<&'a str> {
        match (self.served.map_or(&[][..], |served| served.fields), self.defined) {
            ([], Some(held)) => {
                held.version().selectable.iter().map(|field| &**field).find(|field| *field == path)
            }
            ([], None) => self.kind.declared.fields.iter().find(|field| **field == path).copied(),
            (renamed, _) => {
                renamed.iter().find(|(name, _)| *name == path).map(|(_, stored)| *stored)
            }
        }
    }

    /// Whether anything but name and namespace may be selected by.
    pub fn has_selectable(self) -> bool {
        match self.defined {
            Some(held) => !held.version().selectable.is_empty(),
            None => !self.kind.declared.fields.is_empty(),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(self) -> String {
        api_version(self.group(), self.version())
    }

    /// The webhook that makes other versions of objects, and the stamp of its definition; `None` where
    /// the versions are all of one shape.
    pub fn webhook(self) -> Option<(&'a Conversion, &'a str)> {
        let definition = &self.defined?.definition;
        Some((definition.conversion.as_deref()?, &definition.stamp))
    }

    /// The version that objects are written in: `apps/v1`.
    pub fn written_version(self) -> String {
        let version = self
            .defined
            .map_or(self.kind.declared.version, |held| held.definition.stored_version());
        api_version(self.kind.group, version)
    }

    /// Takes out what the stored version of a kind that is defined at run time does not know.
    pub fn prune_written(self, tree: &mut Value) {
        if let Some(held) = self.defined
            && let Some(stored) = held.definition.versions.iter().find(|it| it.stored)
            && stored.name != held.version().name
        {
            stored.schema.read().prune(tree);
        }
    }

    /// Turns a tree of the stored form into this one. What was stored shows in every version. Where a
    /// webhook makes other versions, the tree is of this one already.
    pub fn convert_from_stored(self, tree: &mut Value) {
        use crate::lens::LensMut;
        if let Some(served) = self.served {
            (served.from_stored)(tree);
        }
        if self.defined.is_some() {
            tree.set("apiVersion", self.api_version());
            self.settle(tree);
        }
    }

    /// What is done to every object that is read from the store, of kinds that are defined at run time:
    /// what this version does not know any more goes, and defaults that came later are filled in.
    pub fn settle(self, tree: &mut Value) {
        if let Some(held) = self.defined {
            held.schema().prune(tree);
            held.schema().fill(tree);
        }
    }

    /// The lower-case name, as discovery's `singularName`.
    pub fn singular(self) -> String {
        match self.defined {
            Some(held) => held.definition.singular.to_string(),
            None => self.kind.singular(),
        }
    }

    /// The kind of its lists.
    pub fn list_kind(self) -> String {
        match self.defined {
            Some(held) => held.definition.list_kind.to_string(),
            None => format!("{}List", self.kind.name),
        }
    }

    pub fn short(self) -> Vec<&'a str> {
        match self.defined {
            Some(held) => held.definition.short.iter().map(|name| &**name).collect(),
            None => self.kind.declared.short.to_vec(),
        }
    }

    pub fn categories(self) -> Vec<&'a str> {
        match self.defined {
            Some(held) => held.definition.categories.iter().map(|name| &**name).collect(),
            None => self.kind.declared.categories.to_vec(),
        }
    }

    pub fn subresources(self) -> Vec<Sub<'a>> {
        match self.defined {
            Some(held) => held.version().subresources(),
            None => self.kind.declared.subresources.to_vec(),
        }
    }

    pub fn has_status(self) -> bool {
        self.subresources().contains(&Sub::Status)
    }
}

impl PartialEq for Form<'_> {
    fn eq(&self, other: &Form<'_>) -> bool {
        self.kind == other.kind
            && self.group() == other.group()
            && self.version() == other.version()
    }
}

impl Eq for Form<'_> {}

impl From<&'static Kind> for Form<'_> {
    fn from(kind: &'static Kind) -> Self {
        Form { kind, served: None, defined: None }
    }
}

impl std::fmt::Debug for Form<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.kind.name)
    }
}

/// How the values of a form are described.
#[derive(Debug, Clone, Copy)]
pub enum Types<'a> {
    /// A kind in code: a type of the table.
    Table(TypeId),
    /// A kind that is defined at run time.
    Structural(&'a Structural),
    /// Such a kind, met without its definition: everything passes.
    Unknown,
}

impl<'a> Form<'a> {
    pub fn types(self) -> Types<'a> {
        match self.defined {
            Some(held) => Types::Structural(held.schema()),
            None if self.kind.is_built_in() => {
                Types::Table(schema().root_of(self.kind, self.served))
            }
            None => Types::Unknown,
        }
    }

    /// The root type of a kind in code.
    pub fn table(self) -> Option<TypeId> {
        self.kind.is_built_in().then(|| schema().root_of(self.kind, self.served))
    }
}

impl Schema {
    /// The root type of a kind in code in a form.
    ///
    /// # Panics
    /// If the kind is not in `KINDS` or a served root names no type; the meta-tests cover every form.
    /// Where any kind may come, ask [`Form::types`].
    pub fn root<'f>(&self, form: impl Into<Form<'f>>) -> TypeId {
        let form = form.into();
        self.root_of(form.kind, form.served)
    }
}

impl Kind {
    /// A kind in code as it is served at `group`/`version`.
    pub fn form(&'static self, group: &str, version: &str) -> Option<Form<'static>> {
        self.forms().find(|form| form.group() == group && form.version() == version)
    }

    /// The forms of a kind in code: the stored one first, then the others.
    pub fn forms(&'static self) -> impl Iterator<Item = Form<'static>> {
        self.versions().map(move |(_, _, served)| Form { served, ..Form::from(self) })
    }
}

/// A kind as served in one version. It keeps its definition alive, so it can be held as long as it
/// takes; whether it is still what is served, [`Kinds::is_current`](crate::Kinds::is_current) says.
/// A copy reads the schema anew when it is asked for, so whoever waits for long holds a copy.
#[derive(Debug, Clone)]
pub struct Resource {
    pub kind: &'static Kind,
    pub served: Option<&'static Served>,
    pub defined: Option<Held>,
}

impl Resource {
    pub fn form(&self) -> Form<'_> {
        Form { kind: self.kind, served: self.served, defined: self.defined.as_ref() }
    }

    /// What users of this version are warned of.
    pub fn warning(&self) -> Option<&str> {
        self.defined.as_ref()?.version().warning.as_deref()
    }

    /// Whether its objects are not made any more.
    pub fn is_terminating(&self) -> bool {
        self.defined.as_ref().is_some_and(|held| held.definition.terminating)
    }
}

impl From<Form<'static>> for Resource {
    /// Of a kind in code.
    fn from(form: Form<'static>) -> Resource {
        Resource { kind: form.kind, served: form.served, defined: None }
    }
}
