//! RBAC: an index of roles and bindings that follows the store, and decisions over it.
//!
//! The index holds a watch that is drained before each decision, so that a binding counts as soon
//! as its write was acknowledged, without a task of its own.

use std::collections::HashMap;
use std::sync::Arc;

use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{Kind, Lens, Value};
use rt::lock::{Mutex, MutexGuard};
use stdx::OrdMap;
use store::{Query, Store, Watch};

use super::rules::Rule;
use super::{Attributes, Decision};
use crate::storage;
use crate::user::User;

/// Roles and bindings, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Rbac(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    watch: Option<Watch>,
    /// By namespace ("" for cluster roles), then name.
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    bindings: OrdMap<String, OrdMap<String, Binding>>,
}

#[derive(Debug, Clone)]
struct Binding {
    subjects: Box<[Subject]>,
    /// True when the role is a ClusterRole.
    cluster: bool,
    role: Box<str>,
}

#[derive(Debug, Clone)]
struct Subject {
    kind: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
}

/// The kinds it follows.
static KINDS: [&Kind; 4] = [&ROLE, &CLUSTER_ROLE, &ROLE_BINDING, &CLUSTER_ROLE_BINDING];

impl Rbac {
    /// Whether a rule bound to the user allows this.
    pub(crate) async fn decide(
        &self,
        store: &Store,
        user: &User,
        attributes: &Attributes,
    ) -> Decision {
        let mut reason = None;
        let mut missing = Vec::new();
        self.visit(store, user, &attributes.namespace, |found| {
            match found {
                Found::Rules { rules, because } => {
                    if rules.iter().any(|rule| rule.allows(attributes)) {
                        reason = Some(format!("RBAC: allowed by {}", because()));
                    }
                }
                Found::NoRole(role) => missing.push(role),
            }
            reason.is_none()
        })
        .await;
        match (reason, missing.as_slice()) {
            (Some(reason), _) => Decision::allowed(reason),
            (None, []) => Decision::default(),
            (None, [one]) => Decision::no_opinion(format!("RBAC: {one}")),
            (None, many) => Decision::no_opinion(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// Every rule the user has in a namespace, and whether roles were missing.
    pub(crate) async fn rules(
        &self,
        store: &Store,
        user: &User,
        namespace: &str,
    ) -> (Vec<Rule>, Vec<String>) {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        self.visit(store, user, namespace, |found| {
            match found {
                Found::Rules { rules, .. } => all.extend(rules.iter().cloned()),
                Found::NoRole(role) => missing.push(role),
            }
            true
        })
        .await;
        (all, missing)
    }

    /// The rules of a role; `namespace` is "" for cluster roles.
    pub(crate) async fn role(
        &self,
        store: &Store,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<[Rule]>> {
        self.fresh(store).await.role(namespace, name)
    }

    /// Calls `each` with the rules of every binding that applies, until it answers false.
    async fn visit(
        &self,
        store: &Store,
        user: &User,
        namespace: &str,
        mut each: impl FnMut(Found<'_>) -> bool,
    ) {
        let index = self.fresh(store).await;
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            for (name, binding) in index.bindings.get(*scope).into_iter().flatten() {
                let Some(subject) = binding.subjects.iter().find(|subject| subject.is(user, scope))
                else {
                    continue;
                };
                let role_namespace = if binding.cluster { "" } else { scope };
                let found = match index.role(role_namespace, &binding.role) {
                    Some(rules) => {
                        let because = || describe(scope, name, binding, subject);
                        each(Found::Rules { rules: &rules, because: &because })
                    }
                    None => {
                        let kind = if binding.cluster { "clusterrole" } else { "role" };
                        each(Found::NoRole(format!(
                            "{kind}.rbac.authorization.k8s.io {:?} not found",
                            binding.role
                        )))
                    }
                };
                if !found {
                    return;
                }
            }
        }
    }

    /// The index with every acknowledged change in it.
    async fn fresh(&self, store: &Store) -> MutexGuard<'_, Index> {
        let mut index = self.0.lock().await;
        index.catch_up(store).await;
        index
    }
}

enum Found<'a> {
    Rules { rules: &'a [Rule], because: &'a dyn Fn() -> String },
    NoRole(String),
}

impl Index {
    fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.roles.get(namespace)?.get(name).cloned()
    }

    async fn catch_up(&mut self, store: &Store) {
        loop {
            let next = match &mut self.watch {
                Some(watch) => watch.try_next(),
                None => {
                    if !self.load(store).await {
                        return;
                    }
                    continue;
                }
            };
            match next {
                Ok(None) => return,
                Ok(Some(event)) => {
                    let value = event.now.as_ref().map(|version| version.value.clone());
                    self.put(&event.key, value);
                }
                // Cut off (nobody asked for long): read everything anew.
                Err(_) => self.watch = None,
            }
        }
    }

    /// Reads everything; false if the store is closed.
    async fn load(&mut self, store: &Store) -> bool {
        self.roles.clear();
        self.bindings.clear();
        let revision = store.revision();
        let spans = KINDS.iter().map(|kind| storage::span(kind, "")).collect();
        let Ok(watch) = store.watch(spans, Some(revision)).await else { return false };
        for kind in KINDS {
            let mut query = Query::prefix(storage::prefix(kind, ""));
            query.at = Some(revision);
            let Ok(range) = store.range(&query).await else { return false };
            for version in range.items {
                self.put(&version.key, Some(version.value));
            }
        }
        self.watch = Some(watch);
        true
    }

    fn put(&mut self, key: &[u8], value: Option<Arc<[u8]>>) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        let Some((kind, rest)) = KINDS.iter().find_map(|kind| {
            let rest = key.strip_prefix(&storage::prefix(kind, ""))?;
            Some((*kind, rest))
        }) else {
            return;
        };
        let (namespace, name) = match kind.namespaced() {
            true => rest.split_once('/').unwrap_or(("", rest)),
            false => ("", rest),
        };
        let tree =
            value.and_then(|bytes| api::Object::from_bytes(kind, 0, bytes).ok()).map(|o| o.tree());
        let role = matches!(kind.name, "Role" | "ClusterRole");
        match (role, tree) {
            (true, Some(tree)) => {
                let rules = Rule::all_of(&tree).into();
                self.roles.entry(namespace.into()).or_default().insert(name.into(), rules);
            }
            (true, None) => {
                if let Some(roles) = self.roles.get_mut(namespace) {
                    roles.remove(name);
                }
            }
            (false, Some(tree)) => {
                let binding = Binding::of(&tree);
                self.bindings.entry(namespace.into()).or_default().insert(name.into(), binding);
            }
            (false, None) => {
                if let Some(bindings) = self.bindings.get_mut(namespace) {
                    bindings.remove(name);
                }
            }
        }
    }
}

impl Binding {
    fn of(tree: &Value) -> Binding {
        let subjects = tree.list("subjects").iter().map(|subject| Subject {
            kind: subject.str("kind").into(),
            namespace: subject.str("namespace").into(),
            name: subject.str("name").into(),
        });
        Binding {
            subjects: subjects.collect(),
            cluster: tree.str("roleRef.kind") == "ClusterRole",
            role: tree.str("roleRef.name").into(),
        }
    }
}

impl Subject {
    fn is(&self, user: &User, binding_namespace: &str) -> bool {
        match &*self.kind {
            "User" => *self.name == *user.name,
            "Group" => user.in_group(&self.name),
            "ServiceAccount" => {
                let namespace =
                    if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                user.service_account_name() == Some((namespace, &self.name))
            }
            _ => false,
        }
    }
}

fn describe(namespace: &str, name: &str, binding: &Binding, subject: &Subject) -> String {
    let role_kind = if binding.cluster { "ClusterRole" } else { "Role" };
    let who = match &*subject.kind {
        "ServiceAccount" => {
            format!("ServiceAccount {:?}", format!("{}/{}", subject.name, subject.namespace))
        }
        kind => format!("{kind} {:?}", subject.name),
    };
    match namespace {
        "" => format!("ClusterRoleBinding {name:?} of {role_kind} {:?} to {who}", binding.role),
        namespace => format!(
            "RoleBinding {:?} of {role_kind} {:?} to {who}",
            format!("{name}/{namespace}"),
            binding.role
        ),
    }
}
