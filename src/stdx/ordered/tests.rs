//! Beside the library's map.

use std::collections::BTreeMap;

use super::*;
use crate::prng::Prng;

/// What the library's map does, step by step; `T` sets the size of an entry and with it the length of chunks.
fn behaves<T: Copy + PartialEq + fmt::Debug>(
    seed: u64,
    keys: u64,
    steps: u32,
    value: impl Fn(u64) -> T,
) {
    let mut random = Prng::new(seed);
    let (mut ours, mut theirs) = (OrdMap::new(), BTreeMap::new());
    for step in 0..steps {
        // Growth first, then decay.
        let grows = random.below(100) < if step < steps / 2 { 70 } else { 30 };
        let key = random.below(keys);
        match (grows, random.below(4)) {
            (true, 0) => {
                *ours.entry(key).or_insert(value(1)) = *theirs.entry(key).or_insert(value(1))
            }
            (true, 1) => assert_eq!(
                ours.insert(keys + u64::from(step), value(2)),
                theirs.insert(keys + u64::from(step), value(2))
            ),
            (true, _) => assert_eq!(ours.insert(key, value(key)), theirs.insert(key, value(key))),
            (false, 0) => assert_eq!(ours.pop_first(), theirs.pop_first()),
            (false, 1) => assert_eq!(ours.pop_last(), theirs.pop_last()),
            (false, _) => assert_eq!(ours.remove(&key), theirs.remove(&key)),
        }
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(
            (ours.get(&key), ours.contains_key(&key)),
            (theirs.get(&key), theirs.contains_key(&key))
        );
        if step % 16 == 0 {
            assert!(ours.iter().eq(theirs.iter()) && ours.iter().rev().eq(theirs.iter().rev()));
            let (from, to) = (random.below(keys), random.below(keys));
            let bounds = (Bound::Excluded(from.min(to)), Bound::Included(from.max(to) + 1));
            assert!(
                ours.range(bounds).eq(theirs.range(bounds))
                    && ours.range(bounds).rev().eq(theirs.range(bounds).rev())
            );
            assert!(ours.range(bounds).size_hint().0 <= theirs.range(bounds).count());
            assert!(ours.range_mut(from..).eq(theirs.range_mut(from..)));
            let mut both = ours.iter();
            let ends = [both.next(), both.next_back(), both.next(), both.next_back()];
            let mut both = theirs.iter();
            assert_eq!(ends, [both.next(), both.next_back(), both.next(), both.next_back()]);
        }
        if step % 500 == 499 {
            ours.retain(|key, _| key % 3 != 0);
            theirs.retain(|key, _| key % 3 != 0);
        }
        assert!(
            ours.chunks
                .iter()
                .all(|chunk| !chunk.is_empty() && chunk.len() <= OrdMap::<u64, T>::MAX)
        );
    }
    assert_eq!(ours.clone(), ours);
    assert!(
        ours.clone().into_iter().rev().eq(theirs.clone().into_iter().rev())
            && ours.into_iter().eq(theirs)
    );
}

#[test]
fn it_behaves_as_the_librarys() {
    for seed in 0..8 {
        behaves(seed, 40, 1_000, |key| key);
        behaves(seed, 5_000, 4_000, |_| ());
        behaves(seed, 2_000, 3_000, |key| [key; 100]);
    }
}

#[test]
fn what_ascends_is_packed_and_nothing_is_left_in_crumbs() {
    let max = OrdMap::<u32, u32>::MAX;
    let mut map: OrdMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    assert_eq!(map.chunks.len(), 10_000_usize.div_ceil(max));
    // Downwards into a gap.
    let mut gap: OrdMap<u32, u32> =
        (0..128).chain(100_000..100_128).map(|key| (key, key)).collect();
    (200..10_000).rev().for_each(|key| assert!(gap.insert(key, key).is_none()));
    assert!(gap.chunks.len() <= gap.len().div_ceil(max / 2) + 1, "{}", gap.chunks.len());
    (0..10_000).filter(|key| key % 16 != 0).for_each(|key| assert!(map.remove(&key).is_some()));
    assert!(
        map.chunks.len() <= map.len().div_ceil(max / 4) + 1,
        "{} {}",
        map.chunks.len(),
        map.len()
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let map = OrdMap::from([(1, 'a'), (2, 'b')]);
    assert_eq!(
        map.range((Bound::Included(2), Bound::Excluded(1))).count()
            + map.range(5..).count()
            + map.range(..1).count(),
        0
    );
    assert_eq!(OrdMap::<u8, u8>::new().range(..).count(), 0);
}
