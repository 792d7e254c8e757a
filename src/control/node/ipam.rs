//! Node IPAM: gives each node its block of the cluster's pod addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::kinds::{CONFIG_MAP, NODE};
use api::{Actions, Controller, Key, Lens, Next, Object, Value, View, Wakes, Watch, json};
use stdx::Arrange;

use crate::support::settings::Settings;

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
        let taken = trees.iter().flat_map(blocks_of);
        let mut taken: Vec<Span> = taken.filter_map(|block| Span::parse(&block)).collect();
        taken.arrange();
        for (node, tree) in nodes.iter().zip(&trees) {
            if !tree.str("spec.podCIDR").is_empty() || node.deleting() {
                continue;
            }
            let mut blocks = Vec::new();
            for cidr in settings.cluster_cidrs() {
                let Some((block, span)) = free_block(cidr, |ipv6| settings.node_mask(ipv6), &taken)
                else {
                    let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
                    actions.event(node, "CIDRNotAvailable", message);
                    blocks.clear();
                    break;
                };
                let place = taken.partition_point(|held| *held < span);
                taken.insert(place, span);
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

/// The addresses of a block, both ends included, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    ipv6: bool,
    first: u128,
    last: u128,
}

impl Span {
    fn new(ipv6: bool, address: u128, prefix: u8) -> Option<Span> {
        let bits = if ipv6 { 128u8 } else { 32 };
        let host = u32::from(bits.checked_sub(prefix)?);
        let host = 1u128.checked_shl(host).map_or(u128::MAX, |n| n - 1);
        Some(Span { ipv6, first: address & !host, last: address | host })
    }

    fn parse(cidr: &str) -> Option<Span> {
        let (address, prefix) = cidr.split_once('/')?;
        let (ipv6, address) = match address.parse().ok()? {
            IpAddr::V4(v4) => (false, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (true, u128::from(v6)),
        };
        Span::new(ipv6, address, prefix.parse().ok()?)
    }
}

/// The first block of `cidr` that shares no address with one of `taken`, which are sorted. A node may have
/// come with a block of any size.
fn free_block(
    cidr: &str,
    mask: impl Fn(bool) -> Option<u8>,
    taken: &[Span],
) -> Option<(String, Span)> {
    let whole = Span::parse(cidr)?;
    let prefix: u8 = cidr.split_once('/')?.1.parse().ok()?;
    let mask = mask(whole.ipv6)?.max(prefix);
    let mut block = Span::new(whole.ipv6, whole.first, mask)?;
    for held in taken.iter().filter(|held| held.ipv6 == whole.ipv6) {
        if held.first > block.last {
            break;
        }
        if held.last >= block.first {
            // The first block behind it.
            let behind = Span::new(whole.ipv6, held.last, mask)?.last.checked_add(1)?;
            block = Span::new(whole.ipv6, behind, mask)?;
        }
    }
    if block.last > whole.last {
        return None;
    }
    let text = match whole.ipv6 {
        true => format!("{}/{mask}", Ipv6Addr::from(block.first)),
        false => format!("{}/{mask}", Ipv4Addr::from(u32::try_from(block.first).ok()?)),
    };
    Some((text, block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn blocks() {
        let taken = [
            "10.42.0.0/24",
            "10.42.2.0/23",
            "10.42.2.128/25",
            "10.43.0.0/17",
            "10.43.3.0/24",
            "10.44.0.128/25",
            "fd00::/64",
        ];
        let taken = taken.map(|block| Span::parse(block).unwrap());
        for (cidr, want) in [
            ("10.42.0.0/16", Some("10.42.1.0/24")),
            ("10.42.7.9/16", Some("10.42.1.0/24")),
            ("10.42.2.0/23", None),
            ("10.42.0.0/21", Some("10.42.1.0/24")),
            ("10.42.3.0/20", Some("10.42.1.0/24")),
            ("10.43.0.0/16", Some("10.43.128.0/24")),
            ("10.43.16.0/20", None),
            ("10.44.0.0/16", Some("10.44.1.0/24")),
            ("255.255.255.0/24", Some("255.255.255.0/24")),
            ("10.42.0.0/24", None),
            ("fd00::/56", Some("fd00:0:0:1::/64")),
            ("10.0.0.0/8", Some("10.0.0.0/24")),
            ("nonsense", None),
            ("10.0.0.0/40", None),
        ] {
            let found = free_block(cidr, |ipv6| Some(if ipv6 { 64 } else { 24 }), &taken)
                .map(|(block, _)| block);
            assert_eq!(found.as_deref(), want, "{cidr}");
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
