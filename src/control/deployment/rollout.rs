//! The two strategies: RollingUpdate and Recreate, one step a reconcile.

use api::kinds::POD;
use api::{Lens, Next};

use super::{Rollout, Set};
use crate::support::pods::Pod;

impl Rollout<'_> {
    pub(super) fn roll(&mut self, new: Option<usize>) -> Next {
        self.sync_revision(new);
        let Some(new) = new.or_else(|| self.create_new()) else { return Next::Done };
        if self.sets[new].made {
            return self.finish(Some(new), true);
        }
        // Up first, then down, never both in one step: each step waits for what it caused.
        if self.grow_new(new) || self.shrink_old(new) {
            return self.finish(Some(new), true);
        }
        if self.is_complete(&self.counts(Some(new))) {
            self.clean_up(Some(new));
        }
        self.finish(Some(new), true)
    }

    fn grow_new(&mut self, new: usize) -> bool {
        let present = self.sets[new].replicas();
        let size = match present > self.replicas() {
            true => self.replicas(),
            false if present == self.replicas() => return false,
            false => self.new_replicas(new),
        };
        self.scale_set(new, size)
    }

    fn shrink_old(&mut self, new: usize) -> bool {
        let old_total: i64 = Self::old(&self.sets, Some(new)).map(|(_, set)| set.replicas()).sum();
        if old_total == 0 {
            return false;
        }
        let total = old_total + self.sets[new].replicas();
        let min_available = self.replicas() - self.max_unavailable();
        let new_unavailable = self.sets[new].replicas() - self.sets[new].available();
        let may_go = total - min_available - new_unavailable;
        if may_go <= 0 {
            return false;
        }
        // Pods that are no use are taken first, and count for nothing below.
        let mut gone = 0;
        for idx in self.old_indexes(new) {
            let set = &self.sets[idx];
            let unhealthy = set.replicas() - set.available();
            let take = unhealthy.min(may_go - gone);
            if set.replicas() > 0 && take > 0 {
                self.scale_set(idx, self.sets[idx].replicas() - take);
                gone += take;
            }
        }
        let available: i64 = self.sets.iter().map(Set::available).sum();
        let spare = available - min_available;
        let mut taken = 0;
        for idx in self.old_indexes(new) {
            let take = self.sets[idx].replicas().min(spare - taken);
            if take > 0 {
                self.scale_set(idx, self.sets[idx].replicas() - take);
                taken += take;
            }
        }
        gone + taken > 0
    }

    fn old_indexes(&self, new: usize) -> Vec<usize> {
        (0..self.sets.len()).filter(|idx| *idx != new).collect()
    }

    pub(super) fn recreate(&mut self, new: Option<usize>) -> Next {
        self.sync_revision(new);
        let active: Vec<usize> = Self::old(&self.sets, new)
            .filter(|(_, set)| set.replicas() > 0)
            .map(|(idx, _)| idx)
            .collect();
        for idx in &active {
            self.scale_set(*idx, 0);
        }
        if !active.is_empty() || self.old_pods_run(new) {
            return self.finish(new, true);
        }
        let Some(new) = new.or_else(|| self.create_new()) else { return Next::Done };
        if self.sets[new].made {
            return self.finish(Some(new), true);
        }
        self.scale_set(new, self.replicas());
        if self.is_complete(&self.counts(Some(new))) {
            self.clean_up(Some(new));
        }
        self.finish(Some(new), true)
    }

    /// True while any pod of an old set may still run.
    fn old_pods_run(&self, new: Option<usize>) -> bool {
        let old = || Self::old(&self.sets, new).map(|(_, set)| set);
        if old().map(|set: &Set| set.status("replicas")).sum::<i64>() > 0 {
            return true;
        }
        let namespace = self.object.namespace();
        old().any(|set| {
            let pods = self.view.owned(&POD, namespace, set.tree.str("metadata.uid"));
            pods.into_iter().map(Pod::new).any(|pod| !pod.finished())
        })
    }
}
