//! Stable sorting, once for all types: the library's own is made anew, some four kilobytes, for each type and each order.

use std::cmp::Ordering;

/// Sorts as the methods of slices do whose names begin with `sort`: equal elements keep their order. For lists
/// that fit in memory many times over; each element costs four bytes beside it.
pub trait Arrange<T> {
    /// In the elements' own order.
    fn arrange(&mut self)
    where
        T: Ord;

    /// In the order that `compare` says.
    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering);

    /// In the order of keys, which are made for each comparison.
    fn arrange_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K);
}

impl<T> Arrange<T> for [T] {
    fn arrange(&mut self)
    where
        T: Ord,
    {
        self.arrange_by(T::cmp);
    }

    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) {
        let (len, this) = (self.len(), &*self);
        let mut order = order(len, &|a, b| compare(&this[a as usize], &this[b as usize]));
        swap_into(&mut order, &mut |a, b| self.swap(a, b));
    }

    fn arrange_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        self.arrange_by(|a, b| key(a).cmp(&key(b)));
    }
}

/// Runs of this many are sorted by insertion.
const RUN: usize = 8;

/// The indexes of a list's elements in their order; `compare` gets two of them.
///
/// # Panics
/// If the list has more elements than `u32` counts.
fn order(len: usize, compare: &dyn Fn(u32, u32) -> Ordering) -> Vec<u32> {
    let len = u32::try_from(len).unwrap_or_else(|_| panic!("too long a list to sort: {len}"));
    let mut from: Vec<u32> = (0..len).collect();
    for run in from.chunks_mut(RUN) {
        for end in 1..run.len() {
            let mut at = end;
            while at > 0 && compare(run[at - 1], run[at]).is_gt() {
                run.swap(at - 1, at);
                at -= 1;
            }
        }
    }
    let mut width = RUN;
    let mut into = Vec::with_capacity(from.len());
    while width < from.len() {
        into.clear();
        for pair in from.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let ([a, rest @ ..], [b, others @ ..]) = (left, right) {
                // Of equal ones the earlier goes first.
                if compare(*a, *b).is_gt() {
                    into.push(*b);
                    right = others;
                } else {
                    into.push(*a);
                    left = rest;
                }
            }
            into.extend_from_slice(left);
            into.extend_from_slice(right);
        }
        std::mem::swap(&mut from, &mut into);
        width *= 2;
    }
    from
}

/// Swaps elements until each place has the one that `order` names; `order` is used up.
fn swap_into(order: &mut [u32], swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..order.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut order[at], at as u32) as usize;
            if from == start {
                break;
            }
            swap(at, from);
            at = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    #[test]
    fn sorts_as_the_library_does() {
        let mut random = Prng::new(7);
        for len in (0..70).chain([255, 256, 257, 1000]) {
            for values in [2, 10, 1000] {
                let list: Vec<(u64, usize)> =
                    (0..len).map(|at| (random.below(values), at)).collect();
                let (mut ours, mut theirs) = (list.clone(), list);
                ours.arrange_by_key(|(value, _)| *value);
                theirs.sort_by_key(|(value, _)| *value);
                assert_eq!(ours, theirs, "{len} of {values}");
                ours.arrange_by(|a, b| b.cmp(a));
                theirs.sort_by(|a, b| b.cmp(a));
                assert_eq!(ours, theirs, "{len} of {values}, backwards");
                ours.arrange();
                theirs.sort();
                assert_eq!(ours, theirs, "{len} of {values}, whole");
            }
        }
    }

    #[test]
    fn a_comparison_that_contradicts_itself_only_gives_some_order() {
        let mut list: Vec<usize> = (0..100).collect();
        list.arrange_by(|_, _| Ordering::Greater);
        list.arrange();
        assert!(list.iter().copied().eq(0..100));
    }
}
