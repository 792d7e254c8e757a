//! Maps and sets of what an iterator yields, in little code.

/// `collect` for the maps of JSON, which are the library's trees. Theirs builds a list, sorts it and makes a tree of it, each anew for each type: five
/// kilobytes of code a type, for nothing where there are a few elements. This inserts one after the other.
pub trait Gather: Iterator + Sized {
    /// All that comes; of equal keys the last.
    fn gather<C: Default + Extend<Self::Item>>(self) -> C {
        let mut gathered = C::default();
        gathered.extend(self);
        gathered
    }
}

impl<I: Iterator> Gather for I {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn what_is_gathered_is_what_the_library_collects() {
        let pairs = [(3, 'a'), (1, 'b'), (3, 'c')];
        let gathered: BTreeMap<i32, char> = pairs.into_iter().gather();
        assert_eq!(gathered, pairs.into_iter().collect());
        assert_eq!([2, 1, 2].into_iter().gather::<BTreeSet<i32>>(), BTreeSet::from([1, 2]));
    }
}
