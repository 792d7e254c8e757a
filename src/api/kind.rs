//! What a kind is: an identity that lasts, and for kinds in code one declaration that every engine reads.
//!
//! A kind that is defined at run time has an identity too, interned; what is known of it is its
//! [`Definition`](crate::definition::Definition), which can be replaced. Engines ask a [`Form`], which knows both.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::definition::{Conversion, Definition, Held, Version};

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
pub enum Sub<'a> {
    Status,
    Scale {
        spec: &'a str,
        status: &'a str,
        selector: &'a str,
    },
    /// Pods: `binding`, `eviction`, `log`, `exec`, `attach`, `portforward`, `proxy`, `ephemeralcontainers`, `resize`;
    /// service accounts: `token`; namespaces: `finalize`; ... The server knows what each does.
    Named(&'static str),
}

/// One group/version more that serves the same stored object, and how it is made of that. The way back is among the rules of
/// whoever serves it.
#[derive(Clone, Copy)]
pub struct Served {
    pub group: &'static str,
    pub version: &'static str,
    /// The schema's root type in this version, if it differs from the stored one.
    pub root: &'static str,
    pub from_stored: fn(&mut Value),
    /// What field selectors may name in this version, and where the stored form has it;
    /// empty where both have the same.
    pub fields: &'static [(&'static str, &'static str)],
}

/// One kind's identity. It lives as long as the process, so it is held by address and copied at will;
/// kinds that are defined at run time get theirs from [`Kind::intern`](Kind::intern).
#[derive(Clone, Copy)]
pub struct Kind {
    pub group: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
    /// The path under `/registry/`, as kube-apiserver lays it out, where it is not the plural.
    pub storage: &'static str,
    /// Everything else that code says of it.
    pub declared: &'static Declared,
}

/// What code declares of a kind: everything that engines need to serve it.
#[derive(Clone, Copy)]
pub struct Declared {
    /// The stored version, served first.
    pub version: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    /// The sentence `kubectl explain` shows.
    pub doc: &'static str,
    /// Schema text of this kind's own types (see `schema`); shared types are found by name.
    pub schema: &'static str,
    pub subresources: &'static [Sub<'static>],
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: the paths that may be selected on.
    pub fields: &'static [&'static str],
    pub durability: Durability,
    pub also: &'static [Served],
    /// `metadata.generation` counts spec changes.
    pub generation: bool,
    /// Deletion waits `metadata.deletionGracePeriodSeconds` for someone else to finish it (pods).
    pub graceful: bool,
    /// Stored as JSON, as kube-apiserver stores custom resources; protobuf otherwise.
    pub json: bool,
    /// Only the body of a subresource: served nowhere by itself.
    pub subresource_body: bool,
    /// Stored nowhere: the server makes its objects up when they are read (`get` and `list` only).
    pub computed: bool,
    /// `spec` says who asked for it (`username`, `uid`, `groups`, `extra`), whatever the client sends.
    pub names_requester: bool,
    /// `deletecollection` is among its verbs.
    pub deletes_collections: bool,
    /// A finished delete is answered with the object (upstream's `ReturnDeletedObject`).
    pub answers_deleted: bool,
    /// A deletion that does not say what becomes of dependents leaves them (upstream's
    /// `DefaultGarbageCollectionPolicy`).
    pub orphans_dependents: bool,
    /// An update makes what is not there (upstream's `AllowCreateOnUpdate`).
    pub creates_on_update: bool,
    /// An update must name the revision that it replaces (upstream's `AllowUnconditionalUpdate`, negated).
    pub conditional_updates: bool,
    /// Declared by code. False of what is defined at run time.
    pub built_in: bool,
}

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

    /// The form that objects are in after [``rules::to_stored``]. Versions that are defined at run
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

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

impl Declared {
    /// What most kinds are: durable, v1, no hooks.
    pub const BASE: Declared = Declared {
        version: "v1",
        short: &[],
        categories: &[],
        doc: "",
        schema: "",
        subresources: &[],
        fields: &[],
        durability: Durability::Durable,
        also: &[],
        generation: true,
        graceful: false,
        json: false,
        subresource_body: false,
        computed: false,
        names_requester: false,
        deletes_collections: true,
        answers_deleted: false,
        orphans_dependents: false,
        creates_on_update: false,
        conditional_updates: false,
        built_in: true,
    };

    /// What holds of every kind that is defined at run time; the rest is in its definition.
    pub const RUN_TIME: Declared = Declared {
        version: "",
        json: true,
        conditional_updates: true,
        built_in: false,
        ..Declared::BASE
    };
}

impl Kind {
    /// A kind in code as it is served at `group`/`version`.
    pub fn form(&'static self, group: &str, version: &str) -> Option<Form<'static>> {
        self.forms().find(|form| form.group() == group && form.version() == version)
    }

    /// The forms of a kind in code: the stored one first, then the others.
    pub fn forms(&'static self) -> impl Iterator<Item = Form<'static>> {
        let stored = self.declared.built_in.then(|| Form::from(self));
        let others = self.declared.also.iter();
        let others = others.map(move |served| Form { served: Some(served), ..Form::from(self) });
        stored.into_iter().chain(others)
    }

    /// What most kinds are: namespaced, in the core group.
    pub const BASE: Kind = Kind {
        group: "",
        name: "",
        plural: "",
        scope: Scope::Namespaced,
        storage: "",
        declared: &Declared::BASE,
    };

    /// The identity of a kind that is defined at run time: always the same for the same group, name,
    /// plural and scope, so that what is defined anew is the same kind.
    ///
    /// # Errors
    /// If the names are too long, name a kind in code, or too many kinds were known in this process.
    pub fn intern(
        group: &str,
        name: &str,
        plural: &str,
        scope: Scope,
    ) -> Result<&'static Kind, String> {
        if !group.contains('.')
            || [group, name, plural].iter().any(|part| part.len() > NAME_BYTES_MAX)
        {
            return Err(format!("{name:?} in {group:?} cannot be a kind of its own"));
        }
        let is_taken = |kind: &&&Kind| {
            kind.group == group && (kind.name == name || kind.plural == plural)
                || kind
                    .declared
                    .also
                    .iter()
                    .any(|also| also.group == group && kind.plural == plural)
        };
        if let Some(kind) = crate::kinds::KINDS.iter().find(is_taken) {
            return Err(format!("{}.{group} belongs to the server itself", kind.plural));
        }
        // Only grown, by one at a time.
        let mut known = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = (group, name, plural, scope);
        if let Some(kind) = known.iter().find(|kind| kind.identity() == identity) {
            return Ok(kind);
        }
        if known.len() >= IDENTITIES_MAX {
            return Err(format!(
                "no more than {IDENTITIES_MAX} kinds are kept apart until a restart"
            ));
        }
        let kept = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (group, plural) = (kept(group), kept(plural));
        let storage = kept(&format!("{group}/{plural}"));
        let kind: &'static Kind = Box::leak(Box::new(Kind {
            group,
            name: kept(name),
            plural,
            scope,
            storage,
            declared: &Declared::RUN_TIME,
        }));
        known.push(kind);
        Ok(kind)
    }

    fn identity(&self) -> (&'static str, &'static str, &'static str, Scope) {
        (self.group, self.name, self.plural, self.scope)
    }

    /// `v1` or `apps/v1`: the stored version of a kind in code. Versions of others come and go: their
    /// objects say theirs ([`Object::api_version`](crate::Object::api_version)).
    pub fn api_version(&self) -> String {
        api_version(self.group, self.declared.version)
    }

    /// `pods` or `deployments.apps`, as error messages name resources.
    pub fn qualified_plural(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The lower-case name: what kinds in code are called in the singular.
    pub fn singular(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// True of a kind in code.
    pub fn is_built_in(&self) -> bool {
        self.declared.built_in
    }

    /// The path under `/registry/`.
    pub fn storage_prefix(&self) -> &'static str {
        if self.storage.is_empty() { self.plural } else { self.storage }
    }

    pub fn stored(&self) -> bool {
        self.declared.durability != Durability::Virtual
    }
}

/// How many identities of kinds that are defined at run time a process ever keeps. They are small,
/// and are never given back, because whoever holds a kind holds its address.
pub const IDENTITIES_MAX: usize = 4096;

/// The longest group, name or plural of a kind that is defined at run time.
const NAME_BYTES_MAX: usize = 253;

static IDENTITIES: Mutex<Vec<&'static Kind>> = Mutex::new(Vec::new());

/// Two kinds are the same when group, name, plural and scope are; versions are forms of one kind.
impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        std::ptr::eq(self, other) || self.identity() == other.identity()
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
        let order = |kind: &Kind| (kind.group, kind.name, kind.plural, kind.namespaced());
        order(self).cmp(&order(other))
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.declared.version {
            "" => write!(f, "{}/{}", self.group, self.name),
            version => write!(f, "{}/{}", api_version(self.group, version), self.name),
        }
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Declared")
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.version)
    }
}
