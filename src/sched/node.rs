//! A node with what is on it.

use stdx::OrdMap;

use api::{Lens, Object, Value};

use crate::pod::{HostPort, Pod, Resources, amount};

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) tree: Value,
    pub(crate) allocatable: Resources,
    pub(crate) requested: Resources,
    pub(crate) pods: Vec<Pod>,
}

impl Node {
    pub(crate) fn new(object: &Object) -> Node {
        let tree = object.tree();
        let allocatable = tree.at("status.allocatable").as_object().into_iter().flatten();
        let allocatable =
            allocatable.map(|(name, quantity)| (name.clone(), amount(name, quantity))).collect();
        Node {
            name: object.name().to_owned(),
            tree,
            allocatable,
            requested: Resources::new(),
            pods: Vec::new(),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.tree.entry("metadata.labels", key)
    }

    pub(crate) fn add(&mut self, pod: Pod) {
        for (name, amount) in &pod.requests {
            *self.requested.entry(name.clone()).or_default() += amount;
        }
        self.pods.push(pod);
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(idx) = self.pods.iter().position(|pod| pod.object.uid() == uid) else { return };
        let pod = self.pods.remove(idx);
        for (name, amount) in &pod.requests {
            *self.requested.entry(name.clone()).or_default() -= amount;
        }
    }

    /// True if a host port is taken on this node.
    pub(crate) fn port_taken(&self, wanted: &HostPort) -> bool {
        self.pods.iter().flat_map(|pod| &pod.ports).any(|used| {
            used.port == wanted.port
                && used.protocol == wanted.protocol
                && (used.address == wanted.address
                    || used.address == "0.0.0.0"
                    || wanted.address == "0.0.0.0")
        })
    }

    /// The share of a resource that is asked for, in thousandths, with `extra` on top.
    pub(crate) fn used_permille(&self, name: &str, extra: i128) -> Option<i64> {
        let allocatable = *self.allocatable.get(name).filter(|n| **n > 0)?;
        let requested = self.requested.get(name).copied().unwrap_or(0) + extra;
        Some(i64::try_from(requested * 1000 / allocatable).unwrap_or(i64::MAX))
    }
}

/// Every node by name, with the pods that are on it.
pub(crate) fn gather(nodes: &[Object], pods: Vec<Pod>) -> OrdMap<String, Node> {
    let mut gathered: OrdMap<String, Node> =
        nodes.iter().map(|object| (object.name().to_owned(), Node::new(object))).collect();
    for pod in pods {
        if let Some(node) = gathered.get_mut(pod.node()) {
            node.add(pod);
        }
    }
    gathered
}
