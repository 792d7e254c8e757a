//! Node IPAM: gives each node its block of the cluster's pod addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::kinds::{CONFIG_MAP, NODE};
use api::{Actions, Controller, Key, Lens, Next, Object, Value, View, Wakes, Watch, json};

use crate::support::settings::Settings;

/// Prefix length of a node's IPv6 block.
const NODE_MASK_V6: u8 = 64;
/// Blocks looked at in one cluster block; more nodes than this are not served.
const BLOCKS_MAX: u128 = 1 << 16;

pub(crate) struct Ipam;

impl Controller for Ipam {
    /// Upstream's allocator acts as the node controller, too.
    const NAME: &'static str = "node-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&NODE, Wakes::With(wakes)),
        Watch::new(&CONFIG_MAP, Wakes::With(wakes_of_settings)),
    ];

    /// All nodes share one key, so that two of them are never given one block at a time.
    fn reconcile(view: &View<'_>, _: &Key, actions: &mut Actions) -> Next {
        let settings = Settings::of(view);
        let nodes = view.list(&NODE, None);
        let blocks_of = |tree: &Value| -> Vec<String> {
            let list = tree.list("spec.podCIDRs").iter().filter_map(Value::as_str);
            list.chain(tree.at("spec.podCIDR").as_str()).map(str::to_owned).collect()
        };
        let trees: Vec<Value> = nodes.iter().map(Object::tree).collect();
        let mut taken: BTreeSet<String> = trees.iter().flat_map(blocks_of).collect();
        for (node, tree) in nodes.iter().zip(&trees) {
            if !tree.str("spec.podCIDR").is_empty() || node.deleting() {
                continue;
            }
            let mut blocks = Vec::new();
            for cidr in settings.cluster_cidrs() {
                let Some(block) = free_block(cidr, settings.node_mask(), &taken) else {
                    let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
                    actions.event(node, "CIDRNotAvailable", message);
                    blocks.clear();
                    break;
                };
                taken.insert(block.clone());
                blocks.push(block);
            }
            if let Some(first) = blocks.first().cloned() {
                let patch = json!({"spec": {"podCIDR": first, "podCIDRs": blocks}});
                actions.patch_exact(node, patch);
            }
        }
        Next::Done
    }
}

fn the_key() -> Key {
    Key::new(&NODE, "", "")
}

fn wakes(view: &View<'_>, node: &Object) -> Vec<Key> {
    let waits = |node: &Object| node.tree().str("spec.podCIDR").is_empty();
    // A node that went away may leave the block that another waits for.
    let gone = view.at(&Key::of(node)).is_none();
    let wanted = waits(node) || (gone && view.list(&NODE, None).iter().any(waits));
    wanted.then(the_key).into_iter().collect()
}

fn wakes_of_settings(_: &View<'_>, map: &Object) -> Vec<Key> {
    let ours = map.name() == "k3rs-settings" && map.namespace() == "kube-system";
    ours.then(the_key).into_iter().collect()
}

/// The first block of `cidr` that no node has, as text.
fn free_block(cidr: &str, mask_v4: Option<u8>, taken: &BTreeSet<String>) -> Option<String> {
    let (address, prefix) = cidr.split_once('/')?;
    let prefix: u8 = prefix.parse().ok()?;
    let (base, bits, mask) = match address.parse().ok()? {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32, mask_v4?.max(prefix)),
        IpAddr::V6(v6) => (u128::from(v6), 128, NODE_MASK_V6.max(prefix)),
    };
    if prefix > bits || mask > bits {
        return None;
    }
    let host =
        |length: u8| 1u128.checked_shl(u32::from(bits - length)).map_or(u128::MAX, |n| n - 1);
    let start = base & !host(prefix);
    let step = host(mask).checked_add(1)?;
    let n = 1u128.checked_shl(u32::from(mask - prefix)).unwrap_or(BLOCKS_MAX).min(BLOCKS_MAX);
    let blocks = (0..n).map(|idx| {
        let first = start + idx * step;
        match bits {
            32 => format!("{}/{mask}", Ipv4Addr::from(u32::try_from(first).unwrap_or(0))),
            _ => format!("{}/{mask}", Ipv6Addr::from(first)),
        }
    });
    blocks.into_iter().find(|block| !taken.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn blocks() {
        let taken = ["10.42.0.0/24".to_owned(), "fd00::/64".to_owned()].into();
        for (cidr, want) in [
            ("10.42.0.0/16", Some("10.42.1.0/24")),
            ("10.42.7.9/16", Some("10.42.1.0/24")),
            ("10.42.0.0/24", None),
            ("fd00::/56", Some("fd00:0:0:1::/64")),
            ("10.0.0.0/8", Some("10.0.0.0/24")),
            ("nonsense", None),
            ("10.0.0.0/40", None),
        ] {
            assert_eq!(free_block(cidr, Some(24), &taken).as_deref(), want, "{cidr}");
        }
    }

    #[test]
    fn each_node_has_its_own() {
        let node =
            |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        let cidr = |world: &World, name: &str| {
            world.get(&NODE, "", name).unwrap().str("spec.podCIDR").to_owned()
        };
        let mut world = World::new(&[], [node("b"), node("a")]);
        world.settle();
        assert_eq!(cidr(&world, "a"), "", "nobody has said from where");
        world.create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "k3rs-settings"},
            "data": {"cluster-cidr": "10.42.0.0/23,fd42::/63"},
        }));
        world.settle();
        assert_eq!([cidr(&world, "a"), cidr(&world, "b")], ["10.42.0.0/24", "10.42.1.0/24"]);
        let tree = world.get(&NODE, "", "b").unwrap();
        assert_eq!(tree.at("spec.podCIDRs"), &json!(["10.42.1.0/24", "fd42:0:0:1::/64"]));
        world.create(node("c"));
        world.settle();
        assert_eq!(cidr(&world, "c"), "", "none is left");
        world.delete(&NODE, "", "a", "Background");
        world.settle();
        assert_eq!(cidr(&world, "c"), "10.42.0.0/24");
        world.assert_fixpoint();
    }
}
