//! Rolling updates, node by node: old pods go first, or new ones come first (maxSurge).

use api::{Lens, Value, json};

use super::{Run, placement};
use crate::support::pods::Pod;
use crate::support::scaled;

impl Run<'_> {
    fn fenceposts(&self) -> (i64, i64) {
        let spec = placement::spec(self.tree);
        let desired = self.nodes.iter().filter(|node| placement::fit(&spec, node).run).count();
        let desired = i64::try_from(desired).unwrap_or(0);
        let rolling = self.tree.at("spec.updateStrategy.rollingUpdate");
        let part = |field: &str, default: Value| match rolling.at(field) {
            Value::Null => scaled(&default, desired, true),
            value => scaled(value, desired, true),
        };
        match (part("maxSurge", json!(0)), part("maxUnavailable", json!(1))) {
            (0, 0) => (0, 1),
            both => both,
        }
    }

    pub(super) fn surges(&self) -> bool {
        self.tree.str("spec.updateStrategy.type") != "OnDelete" && self.fenceposts().0 > 0
    }

    pub(super) fn update(&mut self) {
        let (max_surge, max_unavailable) = self.fenceposts();
        let nodes = std::mem::take(&mut self.by_node);
        // What `place` just deleted is not available any more.
        let pods = nodes.iter().map(|(node, pods)| (node.as_str(), self.pair(pods)));
        let pods: Vec<(&str, Option<[Option<&Pod>; 2]>)> = pods.collect();
        match max_surge {
            0 => self.replace(&pods, max_unavailable),
            _ => self.surge(&pods, max_surge),
        }
        self.by_node = nodes;
    }

    /// The new and the old pod of a node; `None` while the node is in between states.
    fn pair<'p>(&self, pods: &'p [Pod]) -> Option<[Option<&'p Pod>; 2]> {
        let mut pair = [None, None];
        for pod in pods {
            let slot = &mut pair[usize::from(!self.is_updated(pod))];
            if pod.deleting() || self.deleted.contains(pod.name()) || slot.is_some() {
                return None;
            }
            *slot = Some(pod);
        }
        Some(pair)
    }

    /// Deletes old pods as far as `max_unavailable` allows; those that are no use always.
    fn replace(&mut self, nodes: &[(&str, Option<[Option<&Pod>; 2]>)], max_unavailable: i64) {
        let (mut unavailable, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for (_, pair) in nodes {
            match pair {
                Some([Some(new), None]) => unavailable += i64::from(!self.is_available(new)),
                Some([None, Some(old)]) if !self.is_available(old) => {
                    useless.push(*old);
                    unavailable += 1;
                }
                Some([None, Some(old)]) => candidates.push(*old),
                None | Some(_) => unavailable += 1,
            }
        }
        let more = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
        for pod in useless.into_iter().chain(candidates.into_iter().take(more)) {
            self.delete(pod);
        }
    }

    /// Makes new pods beside old ones as far as `max_surge` allows; beside useless ones always.
    fn surge(&mut self, nodes: &[(&str, Option<[Option<&Pod>; 2]>)], max_surge: i64) {
        let (mut surging, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for (node, pair) in nodes {
            match pair {
                None => surging += 1,
                Some([None, Some(old)]) if !self.is_available(old) => useless.push(*node),
                Some([None, Some(_)]) => candidates.push(*node),
                Some([Some(new), Some(old)]) => match self.is_available(new) {
                    true => self.delete(old),
                    false => surging += 1,
                },
                Some([_, None]) => {}
            }
        }
        let known = |node: &&str| self.nodes.iter().any(|n| n.str("metadata.name") == *node);
        let more = usize::try_from(max_surge - surging).unwrap_or(0);
        let chosen: Vec<&str> =
            useless.into_iter().chain(candidates.into_iter().take(more)).filter(known).collect();
        chosen.into_iter().for_each(|node| self.create(node));
    }
}
