//! Which kinds the controllers over everything look at.

use api::Kind;
use api::kinds::EVENT;

/// What the garbage collector looks at: everything stored but Events, which never have owners.
pub(crate) fn is_collected(kind: &Kind) -> bool {
    kind.stored() && *kind != EVENT
}

/// What a namespace holds.
pub(crate) fn is_content(kind: &Kind) -> bool {
    kind.stored() && kind.namespaced()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds::{LEASE, NAMESPACE, POD, SUBJECT_ACCESS_REVIEW};

    #[test]
    fn kinds_are_told_apart() {
        for (kind, collected, content) in [
            (&POD, true, true),
            (&NAMESPACE, true, false),
            (&LEASE, true, true),
            (&EVENT, false, true),
            (&SUBJECT_ACCESS_REVIEW, false, false),
        ] {
            assert_eq!((is_collected(kind), is_content(kind)), (collected, content), "{kind:?}");
        }
    }
}
