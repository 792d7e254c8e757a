//! Sizes of a deployment's sets: one change, with its event and annotations, and proportional
//! scaling of a rollout that is under way.

use api::LensMut;
use stdx::Arrange;

use super::{Rollout, Set, revisions};

impl Rollout<'_> {
    /// Sets one set's size and tells of it; true if the size changes.
    pub(super) fn scale_set(&mut self, idx: usize, size: i64) -> bool {
        let (desired, max) = (self.replicas(), self.replicas() + self.max_surge());
        let set = &mut self.sets[idx];
        let old = set.replicas();
        if old != size {
            set.tree.set("spec.replicas", size);
            set.changed = true;
            let way = if size > old { "up" } else { "down" };
            let name = set.name();
            let message = format!("Scaled {way} replica set {name} from {old} to {size}");
            self.actions.event(self.object, "ScalingReplicaSet", message);
        }
        set.annotate(revisions::DESIRED, &desired.to_string());
        set.annotate(revisions::MAX_REPLICAS, &max.to_string());
        old != size
    }

    /// How many pods the new set may have now.
    pub(super) fn new_replicas(&self, new: usize) -> i64 {
        let present = self.sets[new].replicas();
        if !self.is_rolling() {
            return self.replicas();
        }
        let total: i64 = self.sets.iter().map(Set::replicas).sum();
        let max = self.replicas() + self.max_surge();
        match total >= max {
            true => present,
            false => present + (max - total).min(self.replicas() - present),
        }
    }

    /// The deployment's size changed, or it is paused: no rollout steps, only sizes.
    pub(super) fn scale(&mut self, new: Option<usize>) {
        let active: Vec<usize> =
            (0..self.sets.len()).filter(|idx| self.sets[*idx].replicas() > 0).collect();
        let alone = match active.as_slice() {
            [] => new.or_else(|| self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        };
        if let Some(alone) = alone {
            if self.sets[alone].replicas() != self.replicas() {
                self.scale_set(alone, self.replicas());
            } else if self.sets[alone].replicas() > 0 {
                // The size is right already, but not what the set says of it.
                self.scale_set(alone, self.replicas());
            }
            return;
        }
        let saturated = new.is_some_and(|new| {
            let set = &self.sets[new];
            let desired = set.annotation(revisions::DESIRED).and_then(|t| t.parse::<i64>().ok());
            let wanted = self.replicas();
            set.replicas() == wanted
                && desired == Some(wanted)
                && set.status("availableReplicas") == wanted
        });
        if saturated {
            for idx in active.into_iter().filter(|idx| Some(*idx) != new) {
                self.scale_set(idx, 0);
            }
        } else if self.is_rolling() {
            self.scale_proportionally(active);
        }
    }

    /// Shares what is to be added or taken among the active sets, by their sizes.
    fn scale_proportionally(&mut self, mut active: Vec<usize>) {
        let total: i64 = active.iter().map(|idx| self.sets[*idx].replicas()).sum();
        let allowed = match self.replicas() {
            0 => 0,
            replicas => replicas + self.max_surge(),
        };
        let to_add = allowed - total;
        // The largest first; among equals the newest when growing, the oldest when shrinking.
        // `active` is oldest first, and both sorts are stable.
        if to_add > 0 {
            active.reverse();
        }
        active.arrange_by_key(|idx| -self.sets[*idx].replicas());
        let mut added = 0;
        let mut sizes = Vec::new();
        for idx in &active {
            let share = match to_add {
                0 => 0,
                _ => self.share(&self.sets[*idx], to_add - added, to_add),
            };
            added += share;
            sizes.push(self.sets[*idx].replicas() + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (idx, size) in active.into_iter().zip(sizes) {
            self.scale_set(idx, size);
        }
    }

    /// One set's part of the change, at most what is left of it.
    fn share(&self, set: &Set, left: i64, to_add: i64) -> i64 {
        let size = set.replicas();
        if size == 0 || left == 0 {
            return 0;
        }
        let fraction = match self.replicas() {
            0 => -size,
            replicas => {
                let before = set
                    .annotation(revisions::MAX_REPLICAS)
                    .and_then(|text| text.parse::<i64>().ok())
                    .filter(|max| *max > 0)
                    .unwrap_or_else(|| {
                        use api::Lens;
                        self.tree.int("status.replicas").unwrap_or(0)
                    })
                    .max(1);
                let product = size * (replicas + self.max_surge());
                // Rounded half away from zero; all of it is positive.
                (2 * product + before) / (2 * before) - size
            }
        };
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }
}
