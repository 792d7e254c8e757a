//! What is known of a kind that is defined at run time: its versions with their schemas, columns and subresources.

mod stored;

use std::sync::{Arc, OnceLock};

use crate::custom::Schema;
use crate::kind::{Kind, Sub};
use crate::names;
use crate::structural::Structural;

/// How many versions a kind may have.
pub const VERSIONS_MAX: usize = 64;
/// How many columns a version may print.
pub const COLUMNS_MAX: usize = 64;

/// A kind's definition. It never changes: a new one takes its place in the next
/// [`Kinds`](crate::Kinds). Only the identity of its kind outlives it.
#[derive(Debug)]
pub struct Definition {
    pub kind: &'static Kind,
    pub singular: Box<str>,
    pub list_kind: Box<str>,
    pub short: Vec<Box<str>>,
    pub categories: Vec<Box<str>>,
    /// In the order in which they were given; just one is stored.
    pub versions: Vec<Version>,
    /// Who turns objects of one version into another one; `None` where only the name of the version changes.
    pub conversion: Option<Box<Conversion>>,
    /// Some of its names are another's: it waits for them.
    pub waiting: bool,
    /// It is being removed: objects are not made any more.
    pub terminating: bool,
    /// Two definitions of a kind with the same stamp say the same.
    pub stamp: Box<str>,
}

/// A webhook that turns objects of one version into another one.
#[derive(Debug)]
pub struct Conversion {
    /// Its `WebhookClientConfig`, as JSON.
    pub client: Box<str>,
    /// The version of `ConversionReview` that it is asked in; `None` if it knows none that there is.
    pub review: Option<&'static str>,
}

/// One version of a kind.
#[derive(Debug)]
pub struct Version {
    pub name: Box<str>,
    pub served: bool,
    /// New objects are written in it.
    pub stored: bool,
    pub schema: Schema,
    pub columns: Vec<Printed>,
    /// It has a `status` subresource.
    pub status: bool,
    /// It has a `scale` subresource.
    pub scale: Option<ScalePaths>,
    /// What field selectors may name beyond name and namespace, as dotted paths.
    pub selectable: Vec<Box<str>>,
    /// What its users are warned of, if it is deprecated.
    pub warning: Option<Box<str>>,
}

/// Where the `scale` subresource finds its numbers, as dotted paths.
#[derive(Debug)]
pub struct ScalePaths {
    pub spec: Box<str>,
    pub status: Box<str>,
    pub selector: Box<str>,
}

/// A printed column.
#[derive(Debug)]
pub struct Printed {
    pub name: Box<str>,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: Box<str>,
    pub format: Box<str>,
    pub priority: i32,
    pub description: Box<str>,
    /// A JSON path: `.spec.replicas`.
    pub path: Box<str>,
}

impl Version {
    pub fn subresources(&self) -> Vec<Sub<'_>> {
        let scale = self.scale.as_ref().map(|paths| Sub::Scale {
            spec: &paths.spec,
            status: &paths.status,
            selector: &paths.selector,
        });
        self.status.then_some(Sub::Status).into_iter().chain(scale).collect()
    }
}

impl Definition {
    /// Whether the definition holds together.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.kind.is_built_in() {
            return Err(format!("{:?} is a kind in code", self.kind));
        }
        if self.versions.is_empty() || self.versions.len() > VERSIONS_MAX {
            return Err(format!("a kind has one to {VERSIONS_MAX} versions"));
        }
        if self.versions.iter().filter(|version| version.stored).count() != 1 {
            return Err("must have exactly one version marked as storage version".into());
        }
        for (idx, version) in self.versions.iter().enumerate() {
            names::label(&version.name)?;
            if self.versions[..idx].iter().any(|other| other.name == version.name) {
                return Err(format!("version {} is there twice", version.name));
            }
            if version.columns.len() > COLUMNS_MAX {
                return Err(format!("version {} has too many columns", version.name));
            }
        }
        Ok(())
    }

    /// As discovery and `kubectl get crd` name it: `gadgets.example.com`.
    pub fn name(&self) -> String {
        self.kind.qualified_plural()
    }

    /// The version that objects are written in.
    pub(crate) fn stored_version(&self) -> &str {
        self.versions.iter().find(|version| version.stored).map_or("", |version| &version.name)
    }
}

/// A definition in one of its versions, and its schema while it is used.
#[derive(Debug)]
pub struct Held {
    pub definition: Arc<Definition>,
    idx: usize,
    schema: OnceLock<Arc<Structural>>,
}

impl Clone for Held {
    fn clone(&self) -> Held {
        Held::new(Arc::clone(&self.definition), self.idx)
    }
}

impl Held {
    /// # Panics
    /// Later, if there is no version of this index.
    pub fn new(definition: Arc<Definition>, idx: usize) -> Held {
        Held { definition, idx, schema: OnceLock::new() }
    }

    pub fn version(&self) -> &Version {
        &self.definition.versions[self.idx]
    }

    pub fn schema(&self) -> &Structural {
        self.schema.get_or_init(|| self.version().schema.read())
    }
}
