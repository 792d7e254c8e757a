//! In the end, nothing is left of what is gone: no object without its owner or its namespace.

use std::collections::BTreeSet;

use api::kinds::{EVENT, NAMESPACE};

use super::{Check, Known, Verdict};
use crate::controllers;

pub(super) struct Orphans;

impl Check for Orphans {
    fn settled(&mut self, known: &Known) -> Verdict {
        let uids: BTreeSet<&str> = known.all().map(|object| object.uid()).collect();
        for object in known.all() {
            let owners = object.owners();
            if !owners.is_empty() && !owners.iter().any(|owner| uids.contains(&*owner.uid)) {
                return Err(format!("{object:?} is left without its owners"));
            }
            let namespace = object.namespace();
            if controllers::has("namespace-controller")
                && object.kind().namespaced()
                && *object.kind() != EVENT
                && known.get(&NAMESPACE, "", namespace).is_none()
            {
                return Err(format!("{object:?} is left without its namespace"));
            }
        }
        Ok(())
    }
}
