//! No two controllers own one object, and an owner is never swapped for another at once.

use api::kinds::{POD, REPLICA_SET};

use super::{Change, Check, Known, Verdict};

pub(super) struct Ownership;

impl Check for Ownership {
    fn changed(&mut self, _known: &Known, change: &Change) -> Verdict {
        let Some(now) = &change.now else { return Ok(()) };
        if *now.kind() != POD && *now.kind() != REPLICA_SET {
            return Ok(());
        }
        let controllers = now.owners().iter().filter(|owner| owner.controller).count();
        if controllers > 1 {
            return Err(format!("{now:?} has {controllers} controllers"));
        }
        let old = change.before.as_ref().and_then(|before| before.controller());
        match (old, now.controller()) {
            (Some(old), Some(new)) if old.uid != new.uid => Err(format!(
                "{now:?} passed from {} {} to {} {}",
                old.kind, old.name, new.kind, new.name
            )),
            _ => Ok(()),
        }
    }
}
