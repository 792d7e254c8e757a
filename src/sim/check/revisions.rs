//! Versions only grow: revisions, generations; identity and deletion never change back.

use api::Lens;

use super::{Change, Check, Known, Verdict};

pub(super) struct Revisions;

impl Check for Revisions {
    fn changed(&mut self, _known: &Known, change: &Change) -> Verdict {
        let (Some(before), Some(now)) = (&change.before, &change.now) else { return Ok(()) };
        if now.revision() <= before.revision() {
            return Err(format!("{now:?} follows {before:?}"));
        }
        let (old, new) = (before.tree(), now.tree());
        for path in ["metadata.uid", "metadata.creationTimestamp", "metadata.name"] {
            if old.at(path) != new.at(path) {
                return Err(format!(
                    "{now:?}: {path} changed from {} to {}",
                    old.at(path),
                    new.at(path)
                ));
            }
        }
        if new.int("metadata.generation") < old.int("metadata.generation") {
            return Err(format!("{now:?}: the generation went back"));
        }
        if before.deleting() && !now.deleting() {
            return Err(format!("{now:?}: the deletion was taken back"));
        }
        Ok(())
    }
}
