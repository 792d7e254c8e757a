//! Terms of node and pod affinity.

use api::selector::Selector;
use api::{Lens, Value};

use crate::node::Node;
use crate::pod::Pod;

/// True if a node fulfils `spec.nodeSelector` and the required node affinity.
pub(crate) fn node_matches(pod: &Value, node: &Node) -> bool {
    let selected =
        pod.pairs("spec.nodeSelector").all(|(key, value)| node.label(key) == Some(value));
    selected && required_matches(pod.at("spec.affinity.nodeAffinity"), node)
}

/// True if a node fulfils what a node affinity requires, if anything.
pub(crate) fn required_matches(affinity: &Value, node: &Node) -> bool {
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution");
    required.is_null()
        || required.list("nodeSelectorTerms").iter().any(|term| term_matches(term, node))
}

/// One `NodeSelectorTerm`: all its requirements; an empty one matches nothing.
pub(crate) fn term_matches(term: &Value, node: &Node) -> bool {
    let (labels, fields) = (term.list("matchExpressions"), term.list("matchFields"));
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    labels
        .iter()
        .all(|requirement| requirement_holds(requirement, node.label(requirement.str("key"))))
        && fields.iter().all(|requirement| {
            let value = (requirement.str("key") == "metadata.name").then_some(node.name.as_str());
            requirement_holds(requirement, value)
        })
}

fn requirement_holds(requirement: &Value, value: Option<&str>) -> bool {
    let values = || requirement.list("values").iter().filter_map(Value::as_str);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    match requirement.str("operator") {
        "In" => value.is_some_and(|value| values().any(|want| want == value)),
        "NotIn" => value.is_none_or(|value| values().all(|not| not != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values().next())).is_some_and(|(have, than)| have > than),
        "Lt" => number(value).zip(number(values().next())).is_some_and(|(have, than)| have < than),
        _ => false,
    }
}

/// One `PodAffinityTerm`, with what it says resolved against the pod it belongs to.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) topology_key: String,
    selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
}

impl Term {
    /// `owner` is the pod that carries the term.
    pub(crate) fn new(term: &Value, owner: &Pod) -> Term {
        let mut selector = Selector::from_label_selector(term.at("labelSelector"));
        // KEP-3633: keys whose values come from the pod itself.
        for (list, negate) in [("matchLabelKeys", false), ("mismatchLabelKeys", true)] {
            for key in term.list(list).iter().filter_map(Value::as_str) {
                let Some(value) = owner.labels().get(key).and_then(Value::as_str) else { continue };
                let values = vec![value.to_owned()];
                selector.requirements.push(match negate {
                    false => api::selector::Requirement::In(key.to_owned(), values),
                    true => api::selector::Requirement::NotIn(key.to_owned(), values),
                });
            }
        }
        let mut namespaces: Vec<String> = term
            .list("namespaces")
            .iter()
            .filter_map(|ns| ns.as_str().map(str::to_owned))
            .collect();
        let namespace_selector = term
            .has("namespaceSelector")
            .then(|| Selector::from_label_selector(term.at("namespaceSelector")));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(owner.namespace().to_owned());
        }
        Term {
            topology_key: term.str("topologyKey").to_owned(),
            selector,
            namespaces,
            namespace_selector,
        }
    }

    /// True if `pod` is one the term speaks of; `namespace_labels` gives a namespace's labels.
    pub(crate) fn matches(&self, pod: &Pod, namespace_labels: &dyn Fn(&str) -> Value) -> bool {
        let in_namespace = self.namespaces.iter().any(|namespace| namespace == pod.namespace())
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| selector.matches_map(&namespace_labels(pod.namespace())));
        in_namespace && self.selector.matches_map(pod.labels())
    }
}

/// The required terms of `podAffinity` or `podAntiAffinity`.
pub(crate) fn required_terms(pod: &Pod, which: &str) -> Vec<Term> {
    let path = format!("spec.affinity.{which}.requiredDuringSchedulingIgnoredDuringExecution");
    pod.tree.list(&path).iter().map(|term| Term::new(term, pod)).collect()
}

/// The preferred terms with their weights.
pub(crate) fn preferred_terms(pod: &Pod, which: &str) -> Vec<(i64, Term)> {
    let path = format!("spec.affinity.{which}.preferredDuringSchedulingIgnoredDuringExecution");
    pod.tree
        .list(&path)
        .iter()
        .map(|term| (term.int("weight").unwrap_or(0), Term::new(term.at("podAffinityTerm"), pod)))
        .collect()
}
