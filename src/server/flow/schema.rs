//! Which flow a request is of: the first FlowSchema, by precedence and name, with a rule that fits.
//!
//! Source: k8s.io/apiserver/pkg/util/flowcontrol, rule.go.

use std::sync::Arc;

use api::kinds::NAMESPACE;
use api::{Lens, Value};

use super::fair::LevelSpec;
use crate::user::User;

/// What of a request decides about its flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Resource { group: &'a str, resource: &'a str, subresource: &'a str, namespace: &'a str },
    Path(&'a str),
}

impl<'a> Asked<'a> {
    /// A request for a resource, as its path names it.
    pub(crate) fn resource(
        user: &'a User,
        verb: &'a str,
        path: &'a api::path::ResourcePath,
    ) -> Asked<'a> {
        // A namespace lies in itself.
        let own = path.group.is_empty() && path.plural == NAMESPACE.plural;
        let namespace = if own { &path.name } else { &path.namespace };
        let target = Target::Resource {
            group: &path.group,
            resource: &path.plural,
            subresource: &path.subresource,
            namespace,
        };
        Asked { user, verb, target }
    }

    pub(crate) fn path(user: &'a User, verb: &'a str, path: &'a str) -> Asked<'a> {
        Asked { user, verb, target: Target::Path(path) }
    }
}

/// A FlowSchema that was read.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    /// Its priority level, by name and UID.
    pub(crate) level: Arc<str>,
    pub(crate) level_uid: Arc<str>,
    precedence: i64,
    tells_apart: TellsApart,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
enum TellsApart {
    Nobody,
    Users,
    Namespaces,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
    /// `system:serviceaccount:NAMESPACE:`, with the name or for all of them.
    Account(Box<str>, bool),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Names,
    paths: Names,
}

/// A list of names; `None` stands for all.
#[derive(Debug)]
struct Names(Option<Box<[Box<str>]>>);

impl Names {
    fn of(tree: &Value, field: &str) -> Names {
        let list = tree.list(field).iter().filter_map(Value::as_str);
        if list.clone().any(|name| name == "*") {
            return Names(None);
        }
        Names(Some(list.map(Box::from).collect()))
    }

    fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|name| test(name)))
    }

    fn has(&self, wanted: &str) -> bool {
        self.any(|name| name == wanted)
    }
}

impl Schema {
    pub(super) fn of(tree: &Value, level: &LevelSpec) -> Schema {
        let text = |path: &str| Arc::from(tree.str(path));
        Schema {
            name: text("metadata.name"),
            uid: text("metadata.uid"),
            level: Arc::clone(&level.name),
            level_uid: Arc::clone(&level.uid),
            precedence: tree.int("spec.matchingPrecedence").unwrap_or(0),
            tells_apart: match tree.str("spec.distinguisherMethod.type") {
                "ByUser" => TellsApart::Users,
                "ByNamespace" => TellsApart::Namespaces,
                _ => TellsApart::Nobody,
            },
            rules: tree.list("spec.rules").iter().map(Rule::of).collect(),
        }
    }

    /// Lower comes first.
    pub(super) fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn fits(&self, asked: &Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.fits(asked))
    }

    /// What tells a flow of this schema from the others.
    pub(super) fn distinguisher<'a>(&self, asked: &Asked<'a>) -> &'a str {
        match (self.tells_apart, asked.target) {
            (TellsApart::Users, _) => &asked.user.name,
            (TellsApart::Namespaces, Target::Resource { namespace, .. }) => namespace,
            _ => "",
        }
    }
}

impl Rule {
    fn of(tree: &Value) -> Rule {
        let resource = |tree: &Value| ResourceRule {
            verbs: Names::of(tree, "verbs"),
            groups: Names::of(tree, "apiGroups"),
            resources: Names::of(tree, "resources"),
            namespaces: Names::of(tree, "namespaces"),
            cluster: tree.flag("clusterScope"),
        };
        let path = |tree: &Value| PathRule {
            verbs: Names::of(tree, "verbs"),
            paths: Names::of(tree, "nonResourceURLs"),
        };
        Rule {
            subjects: tree.list("subjects").iter().filter_map(Subject::of).collect(),
            resources: tree.list("resourceRules").iter().map(resource).collect(),
            paths: tree.list("nonResourceRules").iter().map(path).collect(),
        }
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let verb = asked.verb;
        self.subjects.iter().any(|subject| subject.is(asked.user))
            && match asked.target {
                Target::Resource { group, resource, subresource, namespace } => {
                    self.resources.iter().any(|rule| {
                        rule.verbs.has(verb)
                            && rule.groups.has(group)
                            && rule.resources.any(|name| is_resource(name, resource, subresource))
                            && match namespace {
                                "" => rule.cluster,
                                namespace => rule.namespaces.has(namespace),
                            }
                    })
                }
                Target::Path(path) => self.paths.iter().any(|rule| {
                    rule.verbs.has(verb) && rule.paths.any(|known| is_path(known, path))
                }),
            }
    }
}

/// `pods` or `pods/log`.
fn is_resource(name: &str, resource: &str, subresource: &str) -> bool {
    match name.split_once('/') {
        Some((name, sub)) => name == resource && sub == subresource && !sub.is_empty(),
        None => name == resource && subresource.is_empty(),
    }
}

/// `/healthz`, or all below `/healthz/*`.
fn is_path(known: &str, path: &str) -> bool {
    match known.strip_suffix('*') {
        Some(start) if start.ends_with('/') => path.starts_with(start),
        _ => known == path,
    }
}

impl Subject {
    fn of(tree: &Value) -> Option<Subject> {
        let name = |field: &str| Box::from(tree.str(field));
        match tree.str("kind") {
            "User" => Some(Subject::User(name("user.name"))),
            "Group" => Some(Subject::Group(name("group.name"))),
            "ServiceAccount" => {
                let (namespace, name) =
                    (tree.str("serviceAccount.namespace"), tree.str("serviceAccount.name"));
                let start = format!("system:serviceaccount:{namespace}:");
                Some(match name {
                    "*" => Subject::Account(start.into(), true),
                    name => Subject::Account((start + name).into(), false),
                })
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => matches!(&**name, "*") || **name == *user.name,
            Subject::Group(name) => matches!(&**name, "*") || user.in_group(name),
            Subject::Account(name, true) => user.name.starts_with(&**name),
            Subject::Account(name, false) => **name == *user.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema of each request among those that every server has.
    #[test]
    fn suggested_schemas_fit_whom_they_are_for() {
        let mut schemas: Vec<Schema> = api::flow_control::objects()
            .iter()
            .filter(|object| object.str("kind") == "FlowSchema")
            .map(|tree| Schema::of(tree, &LevelSpec::default()))
            .collect();
        schemas.sort_by(|a, b| a.order().cmp(&b.order()));
        let flow = |user: &User, verb: &str, path: &str| {
            let route = api::path::parse(path);
            let asked = match &route {
                api::path::Route::Resource(parsed) => Asked::resource(user, verb, parsed),
                _ => Asked::path(user, verb, path),
            };
            let found = schemas.iter().find(|schema| schema.fits(&asked))?;
            Some((&*found.name, found.distinguisher(&asked).to_owned()))
        };
        let (node, controller) = (User::node("n1"), User::controller("endpoint-controller"));
        let pod = User::service_account("shop", "web");
        let of = |name: &'static str, flow: &str| Some((name, flow.to_owned()));
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
        for (user, verb, path, expected) in [
            (&User::admin(), "list", "/api/v1/pods", of("exempt", "")),
            (&node, "update", leases, of("system-node-high", "system:node:n1")),
            (&node, "patch", "/api/v1/nodes/n1/status", of("system-node-high", "system:node:n1")),
            (&node, "get", "/api/v1/namespaces/a/pods/b", of("system-nodes", "system:node:n1")),
            (
                &controller,
                "update",
                "/api/v1/namespaces/a/endpoints/b",
                of("endpoint-controller", &controller.name),
            ),
            (
                &controller,
                "list",
                "/api/v1/namespaces/a/pods",
                of("kube-system-service-accounts", "a"),
            ),
            (&pod, "update", leases, of("service-accounts", &pod.name)),
            (&pod, "get", "/healthz", of("probes", "")),
            (&pod, "get", "/healthz/etcd", of("service-accounts", &pod.name)),
            (&User::new("jane", &[]), "get", "/apis", of("global-default", "jane")),
            (&User::anonymous(), "get", "/version", of("global-default", "system:anonymous")),
        ] {
            let found = flow(user, verb, path);
            assert_eq!(found, expected, "{} {verb} {path}", user.name);
        }
    }

    #[test]
    fn names_paths_and_subresources_are_compared_as_upstream_does() {
        for (name, resource, subresource, fits) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/log", "pods", "log", true),
            ("pods/", "pods", "", false),
            ("pod", "pods", "", false),
        ] {
            assert_eq!(is_resource(name, resource, subresource), fits, "{name}");
        }
        for (known, path, fits) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/health*", "/healthz", false),
        ] {
            assert_eq!(is_path(known, path), fits, "{known}");
        }
    }
}
