//! How many volumes of a storage driver a node may have (`allocatable.count` of its CSINode): upstream's NodeVolumeLimits.

use api::csi::unique_name;
use api::pod::references;
use api::{Lens, Object, Value, View, kinds};
use stdx::{OrdMap, OrdSet};

use crate::node::Node;
use crate::pod::Pod;

/// What is known of drivers' limits for one pod. Empty where its volumes have none.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// The pod's volumes that count, by the names that Nodes have for them.
    wanted: OrdSet<String>,
    /// Node, driver, and how many volumes it may have there.
    most: Vec<(String, String, i64)>,
    /// Namespace and name of every claim whose volume counts, to that volume's name.
    claims: OrdMap<String, String>,
    /// Node and volume, for each VolumeAttachment: what is being detached counts as well.
    attached: Vec<(String, String)>,
}

impl Limits {
    pub(crate) fn of(pod: &Pod, view: &View<'_>) -> Limits {
        let mut limits = Limits::default();
        let names = claim_names(pod);
        let wanted: Vec<(String, String)> = names
            .filter_map(|name| view.get(&kinds::PERSISTENT_VOLUME_CLAIM, pod.namespace(), &name))
            .filter_map(|claim| volume_of(&claim, view))
            .collect();
        if wanted.is_empty() {
            return limits;
        }
        for node in view.list(&kinds::CSI_NODE, None) {
            for driver in node.tree().list("spec.drivers") {
                let name = driver.str("name");
                if let Some(most) = driver.int("allocatable.count")
                    && wanted.iter().any(|(wanted, _)| wanted == name)
                {
                    limits.most.push((node.name().to_owned(), name.to_owned(), most));
                }
            }
        }
        let most = &limits.most;
        let counts = |driver: &str| most.iter().any(|(_, limited, _)| limited == driver);
        let named = |(driver, handle): (String, String)| {
            counts(&driver).then(|| unique_name(&driver, &handle))
        };
        limits.wanted = wanted.into_iter().filter_map(named).collect();
        if limits.wanted.is_empty() {
            return limits;
        }
        for claim in view.list(&kinds::PERSISTENT_VOLUME_CLAIM, None) {
            if let Some(volume) = volume_of(&claim, view).and_then(named) {
                limits.claims.insert(key(claim.namespace(), claim.name()), volume);
            }
        }
        for attachment in view.list(&kinds::VOLUME_ATTACHMENT, None) {
            let tree = attachment.tree();
            let volume = tree.str("spec.source.persistentVolumeName");
            let volume = view.get(&kinds::PERSISTENT_VOLUME, "", volume);
            let driver = tree.str("spec.attacher").to_owned();
            let handle = volume.map(|volume| volume.tree().str("spec.csi.volumeHandle").to_owned());
            let handle = handle.filter(|handle| !handle.is_empty());
            if let Some(volume) = handle.and_then(|handle| named((driver, handle))) {
                limits.attached.push((tree.str("spec.nodeName").to_owned(), volume));
            }
        }
        limits
    }

    /// Whether the pod's volumes are more than `node` may have, with those that it has.
    pub(crate) fn exceeded(&self, node: &Node) -> bool {
        self.most.iter().filter(|(name, _, _)| *name == node.name).any(|(_, driver, most)| {
            let prefix = unique_name(driver, "");
            let mut there: OrdSet<&str> = OrdSet::new();
            for pod in &node.pods {
                let claims = claim_names(pod).map(|name| key(pod.namespace(), &name));
                let volumes = claims.filter_map(|claim| Some(self.claims.get(&claim)?.as_str()));
                there.extend(volumes.filter(|volume| volume.starts_with(&prefix)));
            }
            let wanted = self.wanted.iter().map(String::as_str);
            let new: Vec<&str> = wanted
                .filter(|volume| volume.starts_with(&prefix) && !there.contains(volume))
                .collect();
            if new.is_empty() {
                return false;
            }
            let attached = self.attached.iter().filter(|(name, _)| *name == node.name);
            let attached = attached.map(|(_, volume)| volume.as_str());
            there.extend(attached.filter(|volume| volume.starts_with(&prefix)));
            there.extend(new);
            i64::try_from(there.len()).unwrap_or(i64::MAX) > *most
        })
    }
}

fn claim_names(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.tree.list("spec.volumes").iter();
    let names = volumes.filter_map(|volume| references::claim_of(pod.object.name(), volume));
    names.map(std::borrow::Cow::into_owned)
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Driver and handle of a claim's volume. Of one that is not made yet the driver is the class's, and its handle the claim.
fn volume_of(claim: &Object, view: &View<'_>) -> Option<(String, String)> {
    let tree = claim.tree();
    let named = tree.str("spec.volumeName");
    if let Some(volume) =
        view.get(&kinds::PERSISTENT_VOLUME, "", named).filter(|_| !named.is_empty())
    {
        let source: &Value = &volume.tree();
        let source = source.at("spec.csi");
        let (driver, handle) = (source.str("driver"), source.str("volumeHandle"));
        return (!driver.is_empty()).then(|| (driver.to_owned(), handle.to_owned()));
    }
    let class = view.get(&kinds::STORAGE_CLASS, "", tree.str("spec.storageClassName"))?;
    let driver = class.tree().str("provisioner").to_owned();
    Some((driver, key(claim.namespace(), claim.name())))
}
