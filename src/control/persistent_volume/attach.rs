//! Attaching volumes of storage drivers to nodes, and detaching them: VolumeAttachments for what pods of a node have.
//!
//! A node at a time. What is attached stands in the Node's `volumesAttached`, which its kubelet waits for; what the kubelet
//! uses stands in `volumesInUse`. A volume that no pod wants goes from the first list before it is detached, in a write that
//! fails if the Node was written meanwhile: so a kubelet that saw it in both lists keeps it.

use std::time::Duration;

use api::csi::{attachment_name, unique_name};
use api::kinds::{
    CSI_DRIVER, NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, VOLUME_ATTACHMENT,
};
use api::pod::references::{self, Target};
use api::{Actions, Controller, Expect, Key, Lens, Next, Object, Value, View, Wakes, Watch, json};
use stdx::OrdMap;

use crate::support::conditions;
use crate::support::pods::Pod;

/// What a node that is not ready has in use is detached all the same after this long.
const UNMOUNT_MAX: Duration = Duration::from_secs(360);
/// Its administrator says that the node is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) struct AttachDetach;

impl Controller for AttachDetach {
    const NAME: &'static str = "attachdetach-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&POD, Wakes::With(wakes_of_pod)),
        Watch::new(&NODE, Wakes::With(wakes_of_node)),
        Watch::new(&VOLUME_ATTACHMENT, Wakes::With(wakes_of_attachment)),
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::With(wakes_of_claim)),
        Watch::new(&CSI_DRIVER, Wakes::With(wakes_of_driver)),
    ];
    const READS: &'static [&'static api::Kind] = &[&PERSISTENT_VOLUME];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let attachments = attachments_of(view, &key.name);
        let wanted = wanted(view, &key.name);
        if attachments.is_empty() && wanted.is_empty() {
            // Most nodes. One that had something says so until the list is empty.
            let node = view.at(key).filter(|node| node.tree().has("status.volumesAttached"));
            if let Some(node) = node {
                actions.patch_status_exact(&node, json!({"status": {"volumesAttached": null}}));
            }
            return Next::Done;
        }
        let Some(node) = view.at(key) else {
            attachments.values().for_each(|attachment| delete(attachment, actions));
            return Next::Done;
        };
        attach(view, &key.name, &wanted, &attachments, actions);
        settle(view, &node, &wanted, &attachments, actions)
    }
}

/// A volume that pods of a node want attached.
struct Wanted {
    volume: Object,
    driver: String,
    unique: String,
    pod: Object,
}

fn node_key(name: &str) -> Vec<Key> {
    match name {
        "" => Vec::new(),
        name => vec![Key::new(&NODE, "", name)],
    }
}

fn wakes_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    if view.list(&PERSISTENT_VOLUME, None).is_empty() {
        return Vec::new();
    }
    let tree = pod.tree();
    let names = references::names(&tree, Target::Claim);
    let is_attached = |name: &String| {
        let volume = bound(view, pod.namespace(), name);
        volume.is_some_and(|volume| attaches(view, volume.tree().str("spec.csi.driver")))
    };
    match names.iter().any(is_attached) {
        true => node_key(tree.str("spec.nodeName")),
        false => Vec::new(),
    }
}

fn wakes_of_node(view: &View<'_>, node: &Object) -> Vec<Key> {
    let tree = node.tree();
    let has = ["status.volumesAttached", "status.volumesInUse"].iter().any(|list| tree.has(list));
    match has || !attachments_of(view, node.name()).is_empty() {
        true => node_key(node.name()),
        false => Vec::new(),
    }
}

fn wakes_of_attachment(_: &View<'_>, attachment: &Object) -> Vec<Key> {
    node_key(attachment.tree().str("spec.nodeName"))
}

/// A claim that was bound after its pods found their node.
fn wakes_of_claim(view: &View<'_>, claim: &Object) -> Vec<Key> {
    if bound(view, claim.namespace(), claim.name()).is_none() {
        return Vec::new();
    }
    let pods = naming(view, Some(claim.namespace()), claim.name()).map(|pod| pod.tree());
    let users = pods.filter(|pod| references::refers(pod, Target::Claim, claim.name()));
    users.flat_map(|pod| node_key(pod.str("spec.nodeName"))).collect()
}

/// Whether its volumes are attached at all may be another answer now.
fn wakes_of_driver(view: &View<'_>, _: &Object) -> Vec<Key> {
    view.list(&NODE, None).iter().map(Key::of).collect()
}

/// The pods whose bytes have this name somewhere: few to read of all that a cluster has.
fn naming<'a>(
    view: &View<'_>,
    namespace: Option<&str>,
    name: &'a str,
) -> impl Iterator<Item = Object> + use<'a> {
    let name = name.as_bytes();
    let has = move |pod: &Object| pod.bytes().windows(name.len().max(1)).any(|part| part == name);
    view.list(&POD, namespace).into_iter().filter(has)
}

/// The volume that a claim is bound to, if a driver has it.
fn bound(view: &View<'_>, namespace: &str, claim: &str) -> Option<Object> {
    let claim = view.get(&PERSISTENT_VOLUME_CLAIM, namespace, claim)?.tree();
    let name = claim.str("spec.volumeName");
    let volume = view.get(&PERSISTENT_VOLUME, "", name).filter(|_| !name.is_empty())?;
    volume.tree().has("spec.csi").then_some(volume)
}

/// Whether a driver's volumes are attached; so it is unless it says something else.
fn attaches(view: &View<'_>, driver: &str) -> bool {
    let about = view.get(&CSI_DRIVER, "", driver).map(|driver| driver.tree());
    about.is_none_or(|about| about.at("spec.attachRequired").as_bool() != Some(false))
}

/// The VolumeAttachments of a node, by name.
fn attachments_of(view: &View<'_>, node: &str) -> OrdMap<String, Object> {
    let all = view.list(&VOLUME_ATTACHMENT, None).into_iter();
    let ours = all.filter(|attachment| {
        // Of others' making are those with another name.
        attachment.name().starts_with("csi-") && attachment.tree().str("spec.nodeName") == node
    });
    ours.map(|attachment| (attachment.name().to_owned(), attachment)).collect()
}

/// What the pods of a node want, by the name of its VolumeAttachment.
fn wanted(view: &View<'_>, node: &str) -> OrdMap<String, Wanted> {
    let mut wanted = OrdMap::new();
    for pod in naming(view, None, node).map(Pod::new) {
        if pod.node() != node || pod.finished() {
            continue;
        }
        for claim in references::names(&pod.tree, Target::Claim) {
            let Some(volume) = bound(view, pod.object.namespace(), &claim) else { continue };
            let source = volume.tree().at("spec.csi").clone();
            let (driver, handle) = (source.str("driver"), source.str("volumeHandle"));
            if attaches(view, driver) {
                let one = Wanted {
                    unique: unique_name(driver, handle),
                    driver: driver.to_owned(),
                    pod: pod.object.clone(),
                    volume,
                };
                wanted.insert(attachment_name(driver, handle, node), one);
            }
        }
    }
    wanted
}

/// Makes the VolumeAttachments that are not there.
fn attach(
    view: &View<'_>,
    node: &str,
    wanted: &OrdMap<String, Wanted>,
    attachments: &OrdMap<String, Object>,
    actions: &mut Actions,
) {
    for (name, one) in wanted.iter().filter(|(name, _)| !attachments.contains_key(*name)) {
        let volume = one.volume.name();
        if let Some(elsewhere) = elsewhere(view, one, node) {
            let users = match elsewhere.as_str() {
                "" => "Volume is already exclusively attached to one node and can't be attached to another".to_owned(),
                pods => format!("Volume is already used by pod(s) {pods}"),
            };
            let message = format!("Multi-Attach error for volume \"{volume}\" {users}");
            actions.warning(&one.pod, "FailedAttachVolume", message);
            continue;
        }
        let tree = json!({
            "metadata": {"name": name},
            "spec": {
                "attacher": one.driver, "nodeName": node,
                "source": {"persistentVolumeName": volume},
            },
        });
        actions.create(&VOLUME_ATTACHMENT, tree);
    }
}

/// Whether a volume that one node may have is attached to another; the answer is the pods there.
fn elsewhere(view: &View<'_>, wanted: &Wanted, node: &str) -> Option<String> {
    let tree = wanted.volume.tree();
    let modes = tree.list("spec.accessModes");
    if modes.iter().any(|mode| matches!(mode.as_str(), Some("ReadWriteMany" | "ReadOnlyMany"))) {
        return None;
    }
    let volume = wanted.volume.name();
    let all = view.list(&VOLUME_ATTACHMENT, None).into_iter().map(|attachment| attachment.tree());
    let other = all.into_iter().find(|attachment| {
        attachment.str("spec.source.persistentVolumeName") == volume
            && attachment.str("spec.nodeName") != node
    })?;
    let there = other.str("spec.nodeName");
    let claim = tree.at("spec.claimRef");
    let pods = naming(view, Some(claim.str("namespace")), there).map(Pod::new);
    let users = pods.filter(|pod| {
        pod.node() == there && references::refers(&pod.tree, Target::Claim, claim.str("name"))
    });
    let users: Vec<String> = users.map(|pod| pod.name().to_owned()).collect();
    Some(users.join(", "))
}

/// Writes what is attached into the Node, and deletes what nobody wants or uses.
fn settle(
    view: &View<'_>,
    node: &Object,
    wanted: &OrdMap<String, Wanted>,
    attachments: &OrdMap<String, Object>,
    actions: &mut Actions,
) -> Next {
    let tree = node.tree();
    let listed: Vec<&str> =
        tree.list("status.volumesAttached").iter().map(|it| it.str("name")).collect();
    let in_use = |attachment: &str| {
        let mut used = tree.list("status.volumesInUse").iter().filter_map(Value::as_str);
        used.any(|name| name_of(name, node.name()).as_deref() == Some(attachment))
    };
    let mut attached = Vec::new();
    let mut next = Next::Done;
    for (name, attachment) in attachments {
        let about = attachment.tree();
        let going = about.has("metadata.deletionTimestamp");
        match wanted.get(name) {
            Some(one) if !going && about.flag("status.attached") => {
                attached.push(one.unique.clone());
                if !listed.contains(&one.unique.as_str()) {
                    let volume = one.volume.name();
                    let message = format!("AttachVolume.Attach succeeded for volume \"{volume}\" ");
                    actions.event(&one.pod, "SuccessfulAttachVolume", message);
                }
            }
            Some(one) => {
                let why = about.str("status.attachError.message");
                if !why.is_empty() && !going {
                    let volume = one.volume.name();
                    let message =
                        format!("AttachVolume.Attach failed for volume \"{volume}\" : {why}");
                    actions.warning(&one.pod, "FailedAttachVolume", message);
                }
            }
            None if going => {}
            None => {
                let still =
                    listed.iter().find(|it| name_of(it, node.name()).as_ref() == Some(name));
                let wait = if in_use(name) { held_for(view, &tree) } else { Some(Duration::ZERO) };
                match (wait, still) {
                    (Some(Duration::ZERO), None) => {
                        let (key, revision) = (Key::of(node), node.revision());
                        actions.expect(Expect::Unchanged { key, revision });
                        delete(attachment, actions);
                    }
                    // It goes from the list first.
                    (Some(Duration::ZERO), Some(_)) => {}
                    (wait, still) => {
                        attached.extend(still.map(|it| (*it).to_owned()));
                        next = wait.map_or(next, |wait| next.or(Next::After(wait)));
                    }
                }
            }
        }
    }
    if attached != listed {
        let list: Vec<Value> =
            attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let list = if list.is_empty() { Value::Null } else { Value::from(list) };
        actions.patch_status_exact(node, json!({"status": {"volumesAttached": list}}));
    }
    next
}

/// The VolumeAttachment of what a Node calls a volume.
fn name_of(unique: &str, node: &str) -> Option<String> {
    let (driver, handle) = unique.strip_prefix("kubernetes.io/csi/")?.split_once('^')?;
    Some(attachment_name(driver, handle, node))
}

/// How long a node keeps what it says that it uses; for ever if it is well.
fn held_for(view: &View<'_>, node: &Value) -> Option<Duration> {
    if node.list("spec.taints").iter().any(|taint| taint.str("key") == OUT_OF_SERVICE) {
        return Some(Duration::ZERO);
    }
    let ready = conditions::find(node, "Ready")?;
    if ready.str("status") == "True" {
        return None;
    }
    let since = api::time::parse(ready.str("lastTransitionTime"))?;
    Some(UNMOUNT_MAX.saturating_sub(view.now.age(since)))
}

fn delete(attachment: &Object, actions: &mut Actions) {
    if !attachment.tree().has("metadata.deletionTimestamp") {
        actions.delete(attachment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn objects() -> Vec<Value> {
        vec![
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "status": {
                "conditions": [{"type": "Ready", "status": "True"}]}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "claimRef": {"namespace": "d", "name": "c"},
                "csi": {"driver": "x.io", "volumeHandle": "h"}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "d", "name": "c"},
                "spec": {"volumeName": "pv"}}),
            pod("p", "a"),
        ]
    }

    fn pod(name: &str, node: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": name}, "spec": {
            "nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}})
    }

    fn world() -> World {
        let mut world = World::new(&["attachdetach-controller"], objects());
        world.settle();
        world
    }

    /// As a driver's attacher says it.
    fn attached(world: &mut World) {
        let name = attachment_name("x.io", "h", "a");
        world.edit(&VOLUME_ATTACHMENT, "", &name, |tree| {
            api::patch::merge(tree, &json!({"status": {"attached": true}}));
        });
        world.settle();
    }

    fn used(world: &mut World, volumes: Value) {
        world.edit(&NODE, "", "a", |tree| {
            api::patch::merge(tree, &json!({"status": {"volumesInUse": volumes}}));
        });
        world.settle();
    }

    fn listed(world: &World) -> String {
        let node = world.get(&NODE, "", "a").unwrap();
        let names = node.list("status.volumesAttached").iter().map(|it| it.str("name"));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_volume_follows_its_pods_and_stays_while_it_is_used() {
        let mut world = world();
        let made = world.list(&VOLUME_ATTACHMENT);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].str("spec.source.persistentVolumeName"), "pv");
        assert_eq!(listed(&world), "");
        attached(&mut world);
        assert_eq!(listed(&world), "kubernetes.io/csi/x.io^h");
        assert!(world.events.iter().any(|event| event.contains("SuccessfulAttachVolume")));
        used(&mut world, json!(["kubernetes.io/csi/x.io^h"]));
        world.edit(&POD, "d", "p", |tree| tree["status"] = json!({"phase": "Succeeded"}));
        world.settle();
        assert_eq!(listed(&world), "kubernetes.io/csi/x.io^h", "the kubelet still has it");
        used(&mut world, Value::Null);
        assert_eq!((listed(&world).as_str(), world.list(&VOLUME_ATTACHMENT).len()), ("", 0));
        world.assert_fixpoint();
    }

    #[test]
    fn one_node_at_a_time_has_a_volume_for_one() {
        let mut world = world();
        attached(&mut world);
        world.create(pod("q", "b"));
        world.settle();
        assert_eq!(world.list(&VOLUME_ATTACHMENT).len(), 1);
        let told = "Multi-Attach error for volume \"pv\" Volume is already used by pod(s) p";
        assert!(world.events.iter().any(|event| event.contains(told)), "{:?}", world.events);
        world.edit(&PERSISTENT_VOLUME, "", "pv", |tree| {
            tree["spec"]["accessModes"] = json!(["ReadWriteMany"]);
        });
        world.edit(&POD, "d", "q", |tree| tree["metadata"]["labels"] = json!({"again": "1"}));
        world.settle();
        assert_eq!(world.list(&VOLUME_ATTACHMENT).len(), 2);
    }

    #[test]
    fn a_node_that_is_lost_keeps_it_for_six_minutes() {
        let mut world = world();
        attached(&mut world);
        used(&mut world, json!(["kubernetes.io/csi/x.io^h"]));
        let since = api::time::format(world.now().wall);
        world.edit(&NODE, "", "a", |tree| {
            tree["status"]["conditions"] =
                json!([{"type": "Ready", "status": "Unknown", "lastTransitionTime": since}]);
        });
        world.edit(&POD, "d", "p", |tree| tree["status"] = json!({"phase": "Succeeded"}));
        world.settle();
        world.advance(300);
        assert_eq!(world.list(&VOLUME_ATTACHMENT).len(), 1);
        world.advance(61);
        assert_eq!((listed(&world).as_str(), world.list(&VOLUME_ATTACHMENT).len()), ("", 0));
    }

    #[test]
    fn drivers_that_attach_nothing_get_nothing() {
        let driver = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "x.io"},
            "spec": {"attachRequired": false}});
        let mut world =
            World::new(&["attachdetach-controller"], objects().into_iter().chain([driver]));
        world.settle();
        assert!(world.list(&VOLUME_ATTACHMENT).is_empty());
    }
}
