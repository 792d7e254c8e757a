//! What a kind is: an identity that lasts, and for kinds in code one declaration that every engine reads.
//!
//! A kind that is defined at run time has an identity too, interned; what is known of it is its
//! [`Definition`](crate::Definition), which can be replaced. Engines ask a [`Form`](crate::Form), which knows both.

use serde_json::Value;

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
    /// Group and version of each form of a kind in code: the stored one first, then the others.
    pub fn versions(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static str, Option<&'static Served>)> + use<> {
        let stored = (self.group, self.declared.version, None);
        let others = self.declared.also.iter();
        let others = others.map(|served| (served.group, served.version, Some(served)));
        self.declared.built_in.then_some(stored).into_iter().chain(others)
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

    pub(crate) fn identity(&self) -> (&'static str, &'static str, &'static str, Scope) {
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
