//! What else is to be fetched to describe an object.

use api::selector::Selector;
use api::{Lens, Value};
use stdx::OrdSet;

use crate::{Sort, kinds};

/// What something that was fetched is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Events,
    Pods,
    ReplicaSets,
    Secrets,
    Quotas,
    LimitRanges,
    Lease,
    /// EndpointSlices of the service of this name.
    Slices(String),
    Service(String),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub part: Part,
    /// The path of the API.
    pub path: String,
    /// `labelSelector` or `fieldSelector`, and the selector; neither is encoded yet.
    pub selector: Option<(&'static str, String)>,
    /// Whether it is a list, to be fetched in chunks; its elements are the answer.
    pub is_list: bool,
    /// Whether the description fails with the request; a code of which it does not, or 0.
    pub fails: bool,
    pub fails_not_with: u16,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP's, 0 without an answer.
    pub code: u16,
    pub message: String,
}

/// An object, or the elements of a list.
pub type Answer = Result<Value, Failure>;

/// What was fetched. Several answers of one part are one after another.
pub type Related = Vec<(Part, Answer)>;

/// What to fetch for the description of an object; in kubectl's order.
pub fn needs(sort: Sort<'_>, object: &Value, show_events: bool) -> Vec<Need> {
    let known = kinds::find(sort);
    let (name, namespace) = (object.str("metadata.name"), object.str("metadata.namespace"));
    let mut needs = Vec::new();
    let mut add = |part, path: String, selector, is_list, fails, fails_not_with| {
        needs.push(Need { part, path, selector, is_list, fails, fails_not_with });
    };
    let of_namespace =
        |group: &str, plural: &str| ["/", group, "/namespaces/", namespace, "/", plural].concat();
    let labels = |path: &str| Some(("labelSelector", Selector::text(object.at(path))));
    match known.map_or("", |kind| kind.kind) {
        "ReplicationController" | "StatefulSet" | "DaemonSet" => {
            add(Part::Pods, of_namespace(CORE, "pods"), labels("spec.selector"), true, true, 0);
        }
        "ReplicaSet" => {
            add(Part::Pods, of_namespace(CORE, "pods"), labels("spec.selector"), true, false, 0);
        }
        "Deployment" => {
            let path = of_namespace("apis/apps/v1", "replicasets");
            add(Part::ReplicaSets, path, labels("spec.selector"), true, false, 0);
        }
        "PersistentVolumeClaim" => add(Part::Pods, of_namespace(CORE, "pods"), None, true, true, 0),
        "ServiceAccount" => add(Part::Secrets, of_namespace(CORE, "secrets"), None, true, false, 0),
        "Service" => {
            let (path, selector) = slices(namespace, name);
            add(Part::Slices(name.into()), path, selector, true, false, 0);
        }
        "Ingress" => {
            for service in backends(object) {
                let (path, selector) = slices(namespace, service);
                add(Part::Slices(service.into()), path, selector, true, false, 0);
                let path = of_namespace(CORE, "services") + "/" + service;
                add(Part::Service(service.into()), path, None, false, false, 0);
            }
        }
        "Namespace" => {
            for (part, plural) in
                [(Part::Quotas, "resourcequotas"), (Part::LimitRanges, "limitranges")]
            {
                let path = ["/api/v1/namespaces/", name, "/", plural].concat();
                add(part, path, None, true, true, 404);
            }
        }
        "Node" => {
            let selector =
                ["spec.nodeName=", name, ",status.phase!=Succeeded,status.phase!=Failed"];
            let selector = Some(("fieldSelector", selector.concat()));
            add(Part::Pods, "/api/v1/pods".into(), selector, true, true, 403);
            let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/".to_owned();
            add(Part::Lease, path + name, None, false, false, 0);
        }
        _ => {}
    }
    if show_events && known.is_none_or(|kind| kind.template.ends_with("%events")) {
        for (kind, uid) in identities(sort, object) {
            let path = match namespace {
                "" => "/api/v1/events".to_owned(),
                _ => of_namespace(CORE, "events"),
            };
            let selector = Some(("fieldSelector", about(name, namespace, kind, uid)));
            // Of a ConfigMap kubectl looks at the error.
            add(
                Part::Events,
                path,
                selector,
                true,
                sort.kind == "ConfigMap" && sort.group.is_empty(),
                0,
            );
        }
    }
    needs
}

const CORE: &str = "api/v1";

fn slices(namespace: &str, service: &str) -> (String, Option<(&'static str, String)>) {
    let path = ["/apis/discovery.k8s.io/v1/namespaces/", namespace, "/endpointslices"].concat();
    (path, Some(("labelSelector", "kubernetes.io/service-name=".to_owned() + service)))
}

/// The services that an Ingress names, each once.
fn backends(ingress: &Value) -> OrdSet<&str> {
    let paths = ingress.list("spec.rules").iter().flat_map(|rule| rule.list("http.paths"));
    let names = paths.map(|path| path.str("backend.service.name"));
    let names = names.chain([ingress.str("spec.defaultBackend.service.name")]);
    names.filter(|name| !name.is_empty()).collect()
}

/// What events about an object call it: kind and uid.
fn identities<'a>(sort: Sort<'a>, object: &'a Value) -> Vec<(&'a str, &'a str)> {
    let uid = object.str("metadata.uid");
    match (sort.group, sort.kind) {
        // Of a mirror pod the node knows another uid, and the kind does not count.
        ("", "Pod") => {
            let mirror = object.entry("metadata.annotations", "kubernetes.io/config.mirror");
            vec![("", mirror.unwrap_or(uid))]
        }
        // The node itself writes its name for the uid.
        ("", "Node") => vec![("Node", uid), ("Node", object.str("metadata.name"))],
        (_, kind) => vec![(kind, uid)],
    }
}

fn about(name: &str, namespace: &str, kind: &str, uid: &str) -> String {
    let terms = [("kind", kind), ("uid", uid)].into_iter().filter(|(_, value)| !value.is_empty());
    let terms = [("name", name), ("namespace", namespace)].into_iter().chain(terms);
    terms
        .map(|(field, value)| ["involvedObject.", field, "=", &escaped(value)].concat())
        .collect::<Vec<_>>()
        .join(",")
}

/// A value in a field selector.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn each_kind_asks_for_its_own() {
        let object = json!({
            "metadata": {"name": "x", "namespace": "n", "uid": "u"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "defaultBackend": {"service": {"name": "s"}},
                "rules": [{"http": {"paths": [{"backend": {"service": {"name": "s"}}}, {"backend": {"service": {"name": "t"}}}]}}],
            },
        });
        let events = "/api/v1/namespaces/n/events involvedObject.name=x,involvedObject.namespace=n";
        for (group, kind, want) in [
            ("", "Pod", vec![format!("{events},involvedObject.uid=u")]),
            ("", "Secret", vec![]),
            (
                "apps",
                "Deployment",
                vec![
                    "/apis/apps/v1/namespaces/n/replicasets a=b".into(),
                    format!("{events},involvedObject.kind=Deployment,involvedObject.uid=u"),
                ],
            ),
            (
                "networking.k8s.io",
                "Ingress",
                vec![
                    "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices kubernetes.io/service-name=s".into(),
                    "/api/v1/namespaces/n/services/s ".into(),
                    "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices kubernetes.io/service-name=t".into(),
                    "/api/v1/namespaces/n/services/t ".into(),
                    format!("{events},involvedObject.kind=Ingress,involvedObject.uid=u"),
                ],
            ),
            ("example.com", "Pod", vec![format!("{events},involvedObject.kind=Pod,involvedObject.uid=u")]),
        ] {
            let needs = needs(Sort { group, kind }, &object, true);
            let text = |need: &Need| {
                format!("{} {}", need.path, need.selector.as_ref().map_or("", |(_, text)| text))
            };
            assert_eq!(needs.iter().map(text).collect::<Vec<_>>(), want, "{kind}");
        }
    }
}
