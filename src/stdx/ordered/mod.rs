//! A map and a set that keep their order, in half the code of the library's: its B-tree is made anew, five to eight
//! kilobytes, for each pair of types, and this program has a hundred of them.
//!
//! A map is a list of chunks, each a sorted list of a few kilobytes at most. A search is two binary searches; an insertion moves
//! half a chunk on average, so that it costs the same with ten entries and with a hundred thousand. What ascends
//! is packed without gaps.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, Index, RangeBounds};

mod entry;
mod iter;
mod serde;
mod set;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Occupied, Vacant};
pub use iter::{IntoIter, Iter, IterMut, Keys, Values};
pub use set::OrdSet;

/// Entries in the order of their keys, each key once. For what an informed reader would use `BTreeMap` for; the methods have its names
/// and do what its do.
pub struct OrdMap<K, V> {
    /// No chunk is empty or longer than `MAX`, and all keys ascend.
    chunks: Vec<Vec<(K, V)>>,
    len: usize,
}

/// The chunk of an entry, and its place in there.
type Place = (usize, usize);

impl<K, V> OrdMap<K, V> {
    /// As many entries as fill a page, within reason.
    const MAX: usize = {
        let fit = 4096 / if size_of::<(K, V)>() == 0 { 1 } else { size_of::<(K, V)>() };
        if fit < 8 {
            8
        } else if fit > 128 {
            128
        } else {
            fit
        }
    };

    /// A map without entries, which takes no memory.
    pub const fn new() -> OrdMap<K, V> {
        OrdMap { chunks: Vec::new(), len: 0 }
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        *self = OrdMap::new();
    }

    /// All entries, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { front: [].iter(), middle: self.chunks.iter(), back: [].iter() }
    }

    /// All entries, in order, the values to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut { front: [].iter_mut(), middle: self.chunks.iter_mut(), back: [].iter_mut() }
    }

    /// All keys, in order.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// All values, to be changed, in the order of their keys.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// The keys alone.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }

    /// The values alone.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// The entry with the least key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.chunks.first()?.first().map(|(key, value)| (key, value))
    }

    /// The entry with the greatest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.chunks.last()?.last().map(|(key, value)| (key, value))
    }

    /// Takes the entry with the least key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (self.len > 0).then(|| self.take((0, 0)))
    }

    /// Takes the entry with the greatest key out.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let at = self.chunks.len().checked_sub(1)?;
        Some(self.take((at, self.chunks[at].len() - 1)))
    }

    /// Keeps the entries of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.chunks.retain_mut(|chunk| {
            chunk.retain_mut(|(key, value)| keep(key, value));
            !chunk.is_empty()
        });
        self.len = self.chunks.iter().map(Vec::len).sum();
    }

    fn at(&self, (chunk, at): Place) -> &(K, V) {
        &self.chunks[chunk][at]
    }

    fn at_mut(&mut self, (chunk, at): Place) -> &mut (K, V) {
        &mut self.chunks[chunk][at]
    }

    /// Puts an entry at the place that `find` gave for it; returns where it is then.
    #[inline(never)]
    fn put(&mut self, mut place: Place, entry: (K, V)) -> Place {
        self.len += 1;
        match self.chunks.get(place.0) {
            Some(full) if full.len() >= Self::MAX => place = self.split(place),
            Some(_) => {}
            None => self.chunks.push(Vec::new()),
        }
        self.chunks[place.0].insert(place.1, entry);
        place
    }

    /// Makes room at a place in a full chunk; returns where the place is then.
    #[inline(never)]
    fn split(&mut self, (chunk, at): Place) -> Place {
        let chunks = self.chunks.len();
        let full = &mut self.chunks[chunk];
        // Behind everything begins a new chunk, and the one before stays full.
        let is_last = at == full.len() && chunk + 1 == chunks;
        let kept = if is_last { at } else { full.len() / 2 };
        let tail = full.split_off(kept);
        full.shrink_to_fit();
        self.chunks.insert(chunk + 1, tail);
        if at > kept || is_last { (chunk + 1, at - kept) } else { (chunk, at) }
    }

    /// Takes the entry at a place out; chunks that became small are joined.
    #[inline(never)]
    fn take(&mut self, (chunk, at): Place) -> (K, V) {
        self.len -= 1;
        let entry = self.chunks[chunk].remove(at);
        let left = self.chunks[chunk].len();
        if left == 0 {
            drop(self.chunks.remove(chunk));
        } else if left < Self::MAX / 4 {
            let joins = |next: Option<&Vec<(K, V)>>| {
                next.is_some_and(|next| next.len() + left <= Self::MAX / 2)
            };
            if joins(self.chunks.get(chunk + 1)) {
                let mut next = self.chunks.remove(chunk + 1);
                self.chunks[chunk].append(&mut next);
            } else if joins(chunk.checked_sub(1).and_then(|before| self.chunks.get(before))) {
                let mut this = self.chunks.remove(chunk);
                self.chunks[chunk - 1].append(&mut this);
            }
        }
        entry
    }
}

impl<K: Ord, V> OrdMap<K, V> {
    /// Where a key's entry is, or where it would be put.
    #[inline(never)]
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first.0.borrow() <= key));
        let chunk = after.saturating_sub(1);
        let Some(entries) = self.chunks.get(chunk) else { return Err((0, 0)) };
        match entries.binary_search_by(|entry| entry.0.borrow().cmp(key)) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|place| &self.at(place).1)
    }

    /// The entry of a key.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|place| self.at(place)).map(|(key, value)| (key, value))
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|place| &mut self.at_mut(place).1)
    }

    /// Whether the key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives the key a value, and returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.at_mut(place).1, value)),
            Err(place) => {
                self.put(place, (key, value));
                None
            }
        }
    }

    /// Takes the value of a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Takes the entry of a key out.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|place| self.take(place))
    }

    /// The place of a key, with a value or without.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        match self.find(&key) {
            Ok(place) => Entry::Occupied(Occupied { map: self, place }),
            Err(place) => Entry::Vacant(Vacant { map: self, place, key }),
        }
    }

    /// The entries whose keys lie in a range, in order; none where the range ends before it begins.
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let ((first, from), (last, to)) = self.bounds(range);
        let (front, middle, back): (&[_], &[_], &[_]) = match first.cmp(&last) {
            _ if (first, from) >= (last, to) => (&[], &[], &[]),
            Ordering::Equal => (&self.chunks[first][from..to], &[], &[]),
            _ => (
                &self.chunks[first][from..],
                &self.chunks[first + 1..last],
                self.chunks.get(last).map_or(&[], |chunk| &chunk[..to]),
            ),
        };
        Iter { front: front.iter(), middle: middle.iter(), back: back.iter() }
    }

    /// The entries whose keys lie in a range, in order, the values to be changed.
    pub fn range_mut<Q: Ord + ?Sized>(&mut self, range: impl RangeBounds<Q>) -> IterMut<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let ((first, from), (last, to)) = self.bounds(range);
        let (front, middle, back): (&mut [_], &mut [_], &mut [_]) = match first.cmp(&last) {
            _ if (first, from) >= (last, to) => (&mut [], &mut [], &mut []),
            Ordering::Equal => (&mut self.chunks[first][from..to], &mut [], &mut []),
            _ => {
                let (head, tail) = self.chunks.split_at_mut(last);
                let (front, middle) = head[first..].split_at_mut(1);
                let back: &mut [_] = match tail.first_mut() {
                    Some(chunk) => &mut chunk[..to],
                    None => &mut [],
                };
                (&mut front[0][from..], middle, back)
            }
        };
        IterMut { front: front.iter_mut(), middle: middle.iter_mut(), back: back.iter_mut() }
    }

    /// Where a range begins, and the place behind its end.
    fn bounds<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> (Place, Place)
    where
        K: Borrow<Q>,
    {
        let edge = |key: &Q, behind: bool| match self.find(key) {
            Ok((chunk, at)) => (chunk, at + usize::from(behind)),
            Err(place) => place,
        };
        let from = match range.start_bound() {
            Bound::Included(key) => edge(key, false),
            Bound::Excluded(key) => edge(key, true),
            Bound::Unbounded => (0, 0),
        };
        let to = match range.end_bound() {
            Bound::Included(key) => edge(key, true),
            Bound::Excluded(key) => edge(key, false),
            Bound::Unbounded => (self.chunks.len(), 0),
        };
        (from, to)
    }

    /// Moves all entries of another map in; where both have a key, its value is kept.
    pub fn append(&mut self, other: &mut OrdMap<K, V>) {
        self.extend(std::mem::take(other));
    }
}

impl<K: Ord, V> Extend<(K, V)> for OrdMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for OrdMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> OrdMap<K, V> {
        let mut map = OrdMap::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for OrdMap<K, V> {
    fn from(entries: [(K, V); N]) -> OrdMap<K, V> {
        entries.into_iter().collect()
    }
}

impl<K, V> Default for OrdMap<K, V> {
    fn default() -> OrdMap<K, V> {
        OrdMap::new()
    }
}

impl<K: Clone, V: Clone> Clone for OrdMap<K, V> {
    fn clone(&self) -> OrdMap<K, V> {
        OrdMap { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for OrdMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for OrdMap<K, V> {
    fn eq(&self, other: &OrdMap<K, V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for OrdMap<K, V> {}

impl<K: Ord, V: Ord> Ord for OrdMap<K, V> {
    fn cmp(&self, other: &OrdMap<K, V>) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl<K: PartialOrd, V: PartialOrd> PartialOrd for OrdMap<K, V> {
    fn partial_cmp(&self, other: &OrdMap<K, V>) -> Option<Ordering> {
        self.iter().partial_cmp(other.iter())
    }
}

impl<K: Hash, V: Hash> Hash for OrdMap<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for OrdMap<K, V> {
    type Output = V;

    /// # Panics
    /// If the key has no value.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key has a value")
    }
}
