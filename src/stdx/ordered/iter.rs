//! Walks over a map, from both ends.

use std::fmt;
use std::iter::FusedIterator;
use std::{slice, vec};

use super::OrdMap;

/// Entries in order: [`OrdMap::iter`], [`OrdMap::range`].
pub struct Iter<'a, K, V> {
    pub(super) front: slice::Iter<'a, (K, V)>,
    pub(super) middle: slice::Iter<'a, Vec<(K, V)>>,
    pub(super) back: slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.front.next() {
                return Some((key, value));
            }
            self.front = match self.middle.next() {
                Some(chunk) => chunk.iter(),
                None if self.back.len() == 0 => return None,
                None => std::mem::take(&mut self.back),
            };
        }
    }

    /// At least these; the chunks between are not counted, for that would make each search in a large map a walk over it.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.front.len() + self.middle.len() + self.back.len(), None)
    }
}

impl<'a, K, V> DoubleEndedIterator for Iter<'a, K, V> {
    fn next_back(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.back.next_back() {
                return Some((key, value));
            }
            self.back = match self.middle.next_back() {
                Some(chunk) => chunk.iter(),
                None if self.front.len() == 0 => return None,
                None => std::mem::take(&mut self.front),
            };
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter { front: self.front.clone(), middle: self.middle.clone(), back: self.back.clone() }
    }
}

impl<K, V> Default for Iter<'_, K, V> {
    fn default() -> Self {
        Iter { front: [].iter(), middle: [].iter(), back: [].iter() }
    }
}

/// Entries in order, the values to be changed: [`OrdMap::iter_mut`], [`OrdMap::range_mut`].
pub struct IterMut<'a, K, V> {
    pub(super) front: slice::IterMut<'a, (K, V)>,
    pub(super) middle: slice::IterMut<'a, Vec<(K, V)>>,
    pub(super) back: slice::IterMut<'a, (K, V)>,
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<(&'a K, &'a mut V)> {
        loop {
            if let Some((key, value)) = self.front.next() {
                return Some((key, value));
            }
            self.front = match self.middle.next() {
                Some(chunk) => chunk.iter_mut(),
                None if self.back.len() == 0 => return None,
                None => std::mem::take(&mut self.back),
            };
        }
    }
}

impl<'a, K, V> DoubleEndedIterator for IterMut<'a, K, V> {
    fn next_back(&mut self) -> Option<(&'a K, &'a mut V)> {
        loop {
            if let Some((key, value)) = self.back.next_back() {
                return Some((key, value));
            }
            self.back = match self.middle.next_back() {
                Some(chunk) => chunk.iter_mut(),
                None if self.front.len() == 0 => return None,
                None => std::mem::take(&mut self.front),
            };
        }
    }
}

/// Entries in order, taken from the map.
pub struct IntoIter<K, V> {
    pub(super) front: vec::IntoIter<(K, V)>,
    pub(super) middle: vec::IntoIter<Vec<(K, V)>>,
    pub(super) back: vec::IntoIter<(K, V)>,
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.front.next() {
                return Some(entry);
            }
            self.front = match self.middle.next() {
                Some(chunk) => chunk.into_iter(),
                None if self.back.len() == 0 => return None,
                None => std::mem::take(&mut self.back),
            };
        }
    }
}

impl<K, V> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(entry);
            }
            self.back = match self.middle.next_back() {
                Some(chunk) => chunk.into_iter(),
                None if self.front.len() == 0 => return None,
                None => std::mem::take(&mut self.front),
            };
        }
    }
}

/// Keys in order: [`OrdMap::keys`], [`OrdSet::iter`].
pub struct Keys<'a, K, V>(pub(super) Iter<'a, K, V>);

/// Values in the order of their keys: [`OrdMap::values`].
pub struct Values<'a, K, V>(pub(super) Iter<'a, K, V>);

macro_rules! half {
    ($name:ident, $item:ident, $part:tt) => {
        impl<'a, K, V> Iterator for $name<'a, K, V> {
            type Item = &'a $item;

            fn next(&mut self) -> Option<&'a $item> {
                self.0.next().map(|entry| entry.$part)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<K, V> DoubleEndedIterator for $name<'_, K, V> {
            fn next_back(&mut self) -> Option<Self::Item> {
                self.0.next_back().map(|entry| entry.$part)
            }
        }

        impl<K, V> FusedIterator for $name<'_, K, V> {}

        impl<K, V> Clone for $name<'_, K, V> {
            fn clone(&self) -> Self {
                $name(self.0.clone())
            }
        }
    };
}
half!(Keys, K, 0);
half!(Values, V, 1);

macro_rules! debug_as_type {
    ($($name:ident)*) => {
        $(impl<K, V> fmt::Debug for $name<'_, K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })*
    };
}
debug_as_type!(Iter IterMut Keys Values);

impl<K, V> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoIter")
    }
}

impl<K, V> IntoIterator for OrdMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        IntoIter {
            front: Vec::new().into_iter(),
            middle: self.chunks.into_iter(),
            back: Vec::new().into_iter(),
        }
    }
}

impl<'a, K, V> IntoIterator for &'a OrdMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut OrdMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}
