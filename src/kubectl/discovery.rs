//! What the server serves, and which of it a word means.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use api::{Lens, Value};
use http::Method;

use crate::failure::{Failure, Outcome, failed};
use crate::out;
use crate::rest::Rest;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
/// Resources of all groups together; a server may say what it likes.
const RESOURCES_MAX: usize = 20_000;

/// A resource in a version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    pub(crate) short: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) subresources: Vec<String>,
}

impl Resource {
    /// `apps/v1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`, as a resource is called where groups matter.
    pub(crate) fn qualified(&self) -> String {
        with_group(&self.plural, &self.group)
    }

    /// `deployment.apps`, as results call it.
    pub(crate) fn result_name(&self) -> String {
        with_group(&self.kind.to_lowercase(), &self.group)
    }

    /// The path of its objects; all namespaces' for "".
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{}", escape(namespace)));
        }
        path.push_str(&format!("/{}", self.plural));
        if !name.is_empty() {
            path.push_str(&format!("/{}", escape(name)));
        }
        path
    }

    /// Whether a word in small letters is its name.
    fn is_named(&self, word: &str) -> bool {
        self.plural == word || self.singular == word
    }

    /// Whether a word is one of its short names, which have their case.
    fn is_short(&self, word: &str) -> bool {
        self.short.iter().any(|short| short == word)
    }
}

fn with_group(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    }
}

/// A segment of a path, or a value of a query.
pub(crate) fn escape(text: &str) -> String {
    api::query::escape(text)
}

/// What the server serves, asked for when it is needed: the core group first, which holds what is asked for most.
#[derive(Default)]
pub(crate) struct Mapper {
    core: RefCell<Option<Rc<Vec<Rc<Resource>>>>>,
    groups: RefCell<Option<Rc<Vec<Rc<Resource>>>>>,
    is_warned: Cell<bool>,
}

impl Mapper {
    fn core(&self, rest: &Rest) -> Outcome<Rc<Vec<Rc<Resource>>>> {
        if self.core.borrow().is_none() {
            let resources = fetch(rest, "/api")?;
            *self.core.borrow_mut() = Some(Rc::new(resources));
        }
        self.core.borrow().clone().ok_or(Failure::Exit(1))
    }

    fn groups(&self, rest: &Rest) -> Outcome<Rc<Vec<Rc<Resource>>>> {
        if self.groups.borrow().is_none() {
            let resources = fetch(rest, "/apis")?;
            *self.groups.borrow_mut() = Some(Rc::new(resources));
        }
        self.groups.borrow().clone().ok_or(Failure::Exit(1))
    }

    /// Everything, in the server's order.
    pub(crate) fn all(&self, rest: &Rest) -> Outcome<Vec<Rc<Resource>>> {
        let (core, groups) = (self.core(rest)?, self.groups(rest)?);
        Ok(core.iter().chain(groups.iter()).cloned().collect())
    }

    fn first(
        &self,
        rest: &Rest,
        is_it: &dyn Fn(&Resource) -> bool,
    ) -> Outcome<Option<Rc<Resource>>> {
        let core = self.core(rest)?;
        if let Some(found) = core.iter().find(|resource| is_it(resource)) {
            return Ok(Some(Rc::clone(found)));
        }
        let groups = self.groups(rest)?;
        Ok(groups.iter().find(|resource| is_it(resource)).cloned())
    }

    /// The resource that a word of the command line means: `pods`, `po`, `deploy.apps`, `deployments.v1.apps`.
    pub(crate) fn find(&self, rest: &Rest, word: &str) -> Outcome<Rc<Resource>> {
        let lower = word.to_lowercase();
        let short = word.split('.').next().unwrap_or(word);
        let (name, group) = lower.split_once('.').unwrap_or((&lower, ""));
        let is_called = |it: &Resource| it.is_named(name) || it.is_short(short);
        let found = match group {
            "" => {
                let found = self.first(rest, &is_called)?;
                if let Some(found) = found.as_ref().filter(|found| !found.is_named(name)) {
                    self.warn_of_others(rest, found, short)?;
                }
                found
            }
            group => {
                let (version, rest_of) = group.split_once('.').unwrap_or((group, ""));
                let begins = format!("{group}.");
                // The version of a short name does not count, as upstream.
                let ways: [&dyn Fn(&Resource) -> bool; 4] = [
                    &|it| it.version == version && it.group == rest_of && it.is_named(name),
                    &|it| it.group == rest_of && it.is_short(short),
                    &|it| it.group == group && is_called(it),
                    &|it| it.group.starts_with(&begins) && is_called(it),
                ];
                let mut found = None;
                for is_it in ways {
                    if found.is_none() {
                        found = self.first(rest, is_it)?;
                    }
                }
                found
            }
        };
        match found {
            Some(found) => Ok(found),
            None => {
                let bare = word.split('.').next().unwrap_or(word);
                failed(format!("the server doesn't have a resource type {bare:?}"))
            }
        }
    }

    /// Tells once of another type that has the same short name.
    fn warn_of_others(&self, rest: &Rest, found: &Resource, short: &str) -> Outcome {
        let is_other = |it: &&Rc<Resource>| {
            it.is_short(short) && (&it.group, &it.plural) != (&found.group, &found.plural)
        };
        let all = self.all(rest)?;
        if let (Some(other), false) = (all.iter().find(is_other), self.is_warned.replace(true)) {
            out::tell(&format!(
                "Warning: short name {short:?} could also match lower priority resource {}",
                other.qualified()
            ));
        }
        Ok(())
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub(crate) fn of_kind(
        &self,
        rest: &Rest,
        api_version: &str,
        kind: &str,
    ) -> Outcome<Option<Rc<Resource>>> {
        let is_it = |it: &Resource| it.kind == kind && it.api_version() == api_version;
        let found = match api_version.contains('/') {
            true => self.groups(rest)?,
            false => self.core(rest)?,
        };
        Ok(found.iter().find(|resource| is_it(resource)).cloned())
    }

    /// The resources of a category.
    pub(crate) fn category(&self, rest: &Rest, name: &str) -> Outcome<Vec<Rc<Resource>>> {
        let mut found: Vec<Rc<Resource>> = Vec::new();
        for resource in self.all(rest)? {
            let is_in = resource.categories.iter().any(|category| category == name);
            let is_new = !found
                .iter()
                .any(|own| own.group == resource.group && own.plural == resource.plural);
            if is_in && is_new {
                found.push(resource);
            }
        }
        Ok(found)
    }
}

fn fetch(rest: &Rest, root: &str) -> Outcome<Vec<Rc<Resource>>> {
    let (bytes, media) = rest.ask(Method::Get, &format!("{root}?timeout=32s"), AGGREGATED, None)?;
    let tree: Value =
        serde_json::from_slice(&bytes).map_err(|error| Failure::Message(error.to_string()))?;
    let mut found = Vec::new();
    if media.contains("APIGroupDiscoveryList") {
        for group in tree.list("items") {
            for version in group.list("versions") {
                for resource in version.list("resources") {
                    found.extend(aggregated(
                        group.str("metadata.name"),
                        version.str("version"),
                        resource,
                    ));
                }
            }
        }
    } else {
        plain(rest, root, &tree, &mut found)?;
    }
    found.truncate(RESOURCES_MAX);
    Ok(found.into_iter().map(Rc::new).collect())
}

fn texts(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn aggregated(group: &str, version: &str, tree: &Value) -> Option<Resource> {
    let kind = tree.str("responseKind.kind");
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: tree.str("resource").to_owned(),
        singular: tree.str("singularResource").to_owned(),
        namespaced: tree.str("scope") == "Namespaced",
        verbs: texts(tree.list("verbs")),
        short: texts(tree.list("shortNames")),
        categories: texts(tree.list("categories")),
        subresources: tree
            .list("subresources")
            .iter()
            .map(|sub| sub.str("subresource").to_owned())
            .collect(),
    })
    .filter(|resource| !resource.plural.is_empty() && !kind.is_empty())
}

/// A server that does not put everything into one document.
fn plain(rest: &Rest, root: &str, tree: &Value, found: &mut Vec<Resource>) -> Outcome {
    let mut versions: Vec<(String, String)> = Vec::new();
    for version in tree.list("versions").iter().filter_map(Value::as_str) {
        versions.push((String::new(), version.to_owned()));
    }
    for group in tree.list("groups") {
        for version in group.list("versions") {
            versions.push((group.str("name").to_owned(), version.str("version").to_owned()));
        }
    }
    for (group, version) in versions {
        let path = match group.as_str() {
            "" => format!("{root}/{version}"),
            group => format!("{root}/{group}/{version}"),
        };
        // One group that does not answer takes only its own with it.
        let Ok(tree) = rest.get(&format!("{path}?timeout=32s")) else { continue };
        let all = tree.list("resources");
        for resource in all.iter().filter(|resource| !resource.str("name").contains('/')) {
            let name = resource.str("name");
            let subs =
                all.iter().filter_map(|it| it.str("name").strip_prefix(name)?.strip_prefix('/'));
            found.push(Resource {
                group: group.clone(),
                version: version.clone(),
                kind: resource.str("kind").to_owned(),
                plural: name.to_owned(),
                singular: match resource.str("singularName") {
                    "" => resource.str("kind").to_lowercase(),
                    own => own.to_owned(),
                },
                namespaced: resource.flag("namespaced"),
                verbs: texts(resource.list("verbs")),
                short: texts(resource.list("shortNames")),
                categories: texts(resource.list("categories")),
                subresources: subs.map(str::to_owned).collect(),
            });
        }
    }
    Ok(())
}
