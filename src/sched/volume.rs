//! Volumes of a pod: which nodes its claims allow, and what must be bound first.

use api::pod::ephemeral::check_owner;
use api::pod::references;
use api::quantity::Quantity;
use api::selector::Selector;
use api::{Lens, Object, Value, View, kinds};

use crate::affinity;
use crate::limits::Limits;
use crate::node::Node;
use crate::pod::Pod;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The claims of one pod, resolved.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// Why the pod can run nowhere yet.
    pub(crate) blocked: Option<String>,
    /// Node affinities of bound volumes.
    bound: Vec<Value>,
    /// Claims that one pod may use at a time (`ReadWriteOncePod`).
    exclusive: Vec<String>,
    /// Claims that wait for the pod's node, with the free volumes that would do.
    waiting: Vec<Waiting>,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
struct Waiting {
    claim: Object,
    candidates: Vec<Value>,
    provisioned: bool,
    topologies: Vec<Value>,
    /// Selectors of the nodes that its driver says it has room for; nothing where it does not say such.
    rooms: Option<Vec<Selector>>,
}

impl Volumes {
    pub(crate) fn of(pod: &Pod, view: &View<'_>) -> Volumes {
        let mut volumes = Volumes { limits: Limits::of(pod, view), ..Volumes::default() };
        for volume in pod.tree.list("spec.volumes") {
            let Some(name) = references::claim_of(pod.object.name(), volume) else { continue };
            let Some(claim) = view.get(&kinds::PERSISTENT_VOLUME_CLAIM, pod.namespace(), &name)
            else {
                let what = match volume.has("ephemeral") {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    ),
                    false => format!("persistentvolumeclaim {name:?} not found"),
                };
                volumes.blocked.get_or_insert(what);
                continue;
            };
            let tree = claim.tree();
            if volume.has("ephemeral")
                && let Err(why) = check_owner(&pod.tree, &tree)
            {
                volumes.blocked.get_or_insert(why);
                continue;
            }
            let modes = tree.list("spec.accessModes");
            if modes.iter().any(|mode| mode.as_str() == Some("ReadWriteOncePod")) {
                volumes.exclusive.push(claim.name().to_owned());
            }
            volumes.add(claim, view);
        }
        volumes
    }

    fn add(&mut self, claim: Object, view: &View<'_>) {
        let tree = claim.tree();
        if claim.deleting() {
            self.blocked.get_or_insert(format!(
                "persistentvolumeclaim {:?} is being deleted",
                claim.name()
            ));
            return;
        }
        let volume_name = tree.str("spec.volumeName");
        if !volume_name.is_empty() {
            match view.get(&kinds::PERSISTENT_VOLUME, "", volume_name) {
                Some(volume) => {
                    self.bound.push(volume.tree().at("spec.nodeAffinity.required").clone())
                }
                None => {
                    self.blocked
                        .get_or_insert(format!("persistentvolume {volume_name:?} not found"));
                }
            }
            return;
        }
        let class = view
            .get(&kinds::STORAGE_CLASS, "", tree.str("spec.storageClassName"))
            .map(|class| class.tree());
        match class {
            Some(class) if class.str("volumeBindingMode") == "WaitForFirstConsumer" => {
                let candidates = candidates(&tree, view);
                let provisioned =
                    !matches!(class.str("provisioner"), "" | "kubernetes.io/no-provisioner");
                let topologies = class.list("allowedTopologies").to_vec();
                let rooms = rooms(&tree, &class, view);
                self.waiting.push(Waiting { claim, candidates, provisioned, topologies, rooms });
            }
            _ => {
                self.blocked
                    .get_or_insert("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
        }
    }

    /// Why `node` cannot have these volumes.
    pub(crate) fn refusal(&self, node: &Node) -> Option<String> {
        if self.bound.iter().any(|required| !allows(required, node)) {
            return Some("node(s) had volume node affinity conflict".to_owned());
        }
        for waiting in &self.waiting {
            let tree = waiting.claim.tree();
            let selected = tree.entry("metadata.annotations", SELECTED_NODE);
            let other_node = selected.is_some_and(|selected| selected != node.name);
            let found = waiting.candidates.iter().any(|required| allows(required, node));
            let provisionable =
                waiting.provisioned && !other_node && in_topologies(&waiting.topologies, node);
            if !found && !provisionable {
                return Some("node(s) didn't find available persistent volumes to bind".to_owned());
            }
            let has_room = |rooms: &Vec<Selector>| {
                rooms.iter().any(|room| room.matches_map(node.tree.at("metadata.labels")))
            };
            if !found && !waiting.rooms.as_ref().is_none_or(has_room) {
                return Some("node(s) did not have enough free storage".to_owned());
            }
        }
        None
    }

    /// True if another pod uses a claim that this one wants for itself.
    pub(crate) fn excluded(&self, pod: &Pod, other: &Pod) -> bool {
        !self.exclusive.is_empty()
            && other.namespace() == pod.namespace()
            && other.object.uid() != pod.object.uid()
            && other
                .tree
                .list("spec.volumes")
                .iter()
                .filter_map(|volume| references::claim_of(other.object.name(), volume))
                .any(|name| self.exclusive.iter().any(|claim| *claim == name))
    }

    /// Claims that must hear of the chosen node before the pod is bound.
    pub(crate) fn to_select(&self, node: &str) -> impl Iterator<Item = &Object> {
        self.waiting.iter().map(|waiting| &waiting.claim).filter(move |claim| {
            claim.tree().entry("metadata.annotations", SELECTED_NODE) != Some(node)
        })
    }

    /// True if the pod can be bound now: every claim has its volume.
    pub(crate) fn ready(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn select_patch(node: &str) -> Value {
        api::json!({"metadata": {"annotations": {SELECTED_NODE: node}}})
    }
}

/// The nodes for which there is room for a claim, where the class's driver says such (`storageCapacity`).
fn rooms(claim: &Value, class: &Value, view: &View<'_>) -> Option<Vec<Selector>> {
    let size = Quantity::from_tree(claim.at("spec.resources.requests.storage"))?.units();
    let driver = view.get(&kinds::CSI_DRIVER, "", class.str("provisioner"))?;
    if !driver.tree().flag("spec.storageCapacity") {
        return None;
    }
    let capacities = view.list(&kinds::CSI_STORAGE_CAPACITY, None);
    let rooms = capacities.into_iter().map(|capacity| capacity.tree()).filter(|capacity| {
        let limit = Quantity::from_tree(capacity.at("maximumVolumeSize"))
            .or_else(|| Quantity::from_tree(capacity.at("capacity")));
        capacity.str("storageClassName") == class.str("metadata.name")
            && capacity.has("nodeTopology")
            && limit.is_some_and(|limit| limit.units() >= size)
    });
    Some(rooms.map(|room| Selector::from_label_selector(room.at("nodeTopology"))).collect())
}

/// Node affinities of the free volumes that fit a claim.
fn candidates(claim: &Value, view: &View<'_>) -> Vec<Value> {
    let wanted =
        Quantity::from_tree(claim.at("spec.resources.requests.storage")).map_or(0, Quantity::units);
    let modes = claim.list("spec.accessModes");
    let selector = claim
        .has("spec.selector")
        .then(|| Selector::from_label_selector(claim.at("spec.selector")));
    let volumes =
        view.list(&kinds::PERSISTENT_VOLUME, None).into_iter().map(|volume| volume.tree());
    let fits = volumes.filter(|volume| {
        volume.str("status.phase") == "Available"
            && volume.str("spec.storageClassName") == claim.str("spec.storageClassName")
            && is_block(volume) == is_block(claim)
            && Quantity::from_tree(volume.at("spec.capacity.storage")).map_or(0, Quantity::units)
                >= wanted
            && modes.iter().all(|mode| volume.list("spec.accessModes").contains(mode))
            && selector
                .as_ref()
                .is_none_or(|selector| selector.matches_map(volume.at("metadata.labels")))
    });
    fits.map(|volume| volume.at("spec.nodeAffinity.required").clone()).collect()
}

fn is_block(tree: &Value) -> bool {
    tree.str("spec.volumeMode") == "Block"
}

fn allows(required: &Value, node: &Node) -> bool {
    required.is_null()
        || required.list("nodeSelectorTerms").iter().any(|term| affinity::term_matches(term, node))
}

fn in_topologies(topologies: &[Value], node: &Node) -> bool {
    let holds = |term: &Value| {
        term.list("matchLabelExpressions").iter().all(|expression| {
            let label = node.label(expression.str("key"));
            label.is_some_and(|label| {
                expression.list("values").iter().any(|value| value.as_str() == Some(label))
            })
        })
    };
    topologies.is_empty() || topologies.iter().any(holds)
}
