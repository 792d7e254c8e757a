//! Lists of kinds that controllers over everything need at compile time.

use api::kind::{Durability, Scope};
use api::kinds::{EVENT, KINDS, NAMESPACE};
use api::{Kind, Wakes, Watch};

const fn is_stored(kind: &Kind) -> bool {
    !matches!(kind.durability, Durability::Virtual)
}

const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut idx = 0;
    while idx < a.len() && idx < b.len() && a[idx] == b[idx] {
        idx += 1;
    }
    idx == a.len() && idx == b.len()
}

/// What the garbage collector looks at: everything stored but Events, which never have owners.
const fn is_collected(kind: &Kind) -> bool {
    is_stored(kind) && !same_text(kind.plural, EVENT.plural)
}

const fn count(namespaced: bool) -> usize {
    let (mut n, mut idx) = (0, 0);
    while idx < KINDS.len() {
        let kind = KINDS[idx];
        n += match namespaced {
            true => (is_stored(kind) && matches!(kind.scope, Scope::Namespaced)) as usize,
            false => is_collected(kind) as usize,
        };
        idx += 1;
    }
    n
}

/// One watch for each kind that may own or be owned.
pub(crate) const fn collected(wakes: Wakes) -> [Watch; count(false)] {
    let mut watches = [Watch::new(&NAMESPACE, wakes); count(false)];
    let (mut n, mut idx) = (0, 0);
    while idx < KINDS.len() {
        if is_collected(KINDS[idx]) {
            watches[n] = Watch::new(KINDS[idx], wakes);
            n += 1;
        }
        idx += 1;
    }
    watches
}

/// A watch for namespaces, and one for each kind whose objects live in them.
pub(crate) const fn contents(namespace: Wakes, content: Wakes) -> [Watch; count(true) + 1] {
    let mut watches = [Watch::new(&NAMESPACE, namespace); count(true) + 1];
    let mut idx = 0;
    while idx < NAMESPACED.len() {
        watches[idx + 1] = Watch::new(NAMESPACED[idx], content);
        idx += 1;
    }
    watches
}

/// The kinds whose objects live in namespaces.
pub(crate) static NAMESPACED: [&Kind; count(true)] = {
    let mut kinds = [&NAMESPACE; count(true)];
    let (mut n, mut idx) = (0, 0);
    while idx < KINDS.len() {
        if is_stored(KINDS[idx]) && matches!(KINDS[idx].scope, Scope::Namespaced) {
            kinds[n] = KINDS[idx];
            n += 1;
        }
        idx += 1;
    }
    kinds
};

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds::{LEASE, POD, SUBJECT_ACCESS_REVIEW};

    #[test]
    fn lists_hold_what_they_should() {
        let collected = collected(Wakes::Itself).map(|watch| watch.kind);
        assert!(collected.contains(&&POD) && collected.contains(&&NAMESPACE));
        assert!(!collected.contains(&&EVENT) && !collected.contains(&&SUBJECT_ACCESS_REVIEW));
        assert!(NAMESPACED.contains(&&LEASE) && NAMESPACED.contains(&&EVENT));
        assert!(!NAMESPACED.contains(&&NAMESPACE));
        assert_eq!(collected.iter().filter(|kind| ***kind == NAMESPACE).count(), 1);
    }
}
