//! The garbage collector deletes nothing whose owner is there all the while.

use std::collections::{BTreeMap, BTreeSet};

use api::Object;
use client::{Request, Verb};

use super::{Check, Known, Verdict};

const NAME: &str = "generic-garbage-collector";

/// The live owners of what is about to be deleted, by request.
#[derive(Default)]
pub(super) struct Collector(BTreeMap<String, BTreeSet<String>>);

impl Check for Collector {
    fn before(&mut self, known: &Known, name: &str, request: &Request) {
        if name == NAME && request.verb == Verb::Delete {
            self.0.insert(id(request), live_owners(known, request));
        }
    }

    fn after(&mut self, known: &Known, name: &str, request: &Request, ok: bool) -> Verdict {
        let Some(owners) = self.0.remove(&id(request)).filter(|_| name == NAME) else {
            return Ok(());
        };
        let uids: BTreeSet<String> = known.all().filter(|o| !o.deleting()).map(uid).collect();
        match owners.iter().find(|owner| uids.contains(*owner)) {
            Some(owner) if ok => Err(format!(
                "the garbage collector deleted {}, whose owner {owner} is there",
                id(request)
            )),
            _ => Ok(()),
        }
    }
}

fn id(request: &Request) -> String {
    format!("{} {}/{}", request.kind.name, request.namespace, request.name)
}

fn uid(object: &Object) -> String {
    object.uid().to_owned()
}

fn live_owners(known: &Known, request: &Request) -> BTreeSet<String> {
    let Some(object) = known.get(request.kind, &request.namespace, &request.name) else {
        return BTreeSet::new();
    };
    if request.delete.uid.as_deref().is_some_and(|uid| uid != object.uid()) {
        return BTreeSet::new();
    }
    let owners: BTreeSet<String> =
        object.owners().iter().map(|owner| owner.uid.to_string()).collect();
    known.all().filter(|o| !o.deleting() && owners.contains(o.uid())).map(uid).collect()
}
