//! Names of new objects: the prefix and five letters, as from `generateName`, but chosen here.
//!
//! They are a hash of the owner and the state it was seen in. A create that is tried twice (a lost
//! answer, a crash) meets its own first try by name instead of making a second object.

use api::{Kind, Object, View, hash, names};

/// A source of unused names for the dependents of one owner in one reconcile.
pub(crate) struct Names<'a> {
    view: View<'a>,
    owner: &'a Object,
    n: u32,
}

impl<'a> Names<'a> {
    pub(crate) fn new(view: &View<'a>, owner: &'a Object) -> Names<'a> {
        Names { view: *view, owner, n: 0 }
    }

    /// A name that nothing of `kind` in view has.
    pub(crate) fn next(&mut self, kind: &'static Kind, prefix: &str) -> String {
        loop {
            self.n += 1;
            let seed = format!("{}/{}/{}", self.owner.uid(), self.owner.revision(), self.n);
            let low = hash::fnv32a(seed.as_bytes()).to_le_bytes();
            let high = hash::fnv32a(seed.bytes().rev().collect::<Vec<u8>>().as_slice());
            let [b0, b1, b2, b3] = low;
            let name = names::generate(prefix, [b0, b1, b2, b3, high.to_le_bytes()[0]]);
            if self.view.get(kind, self.owner.namespace(), &name).is_none() {
                return name;
            }
        }
    }
}
