//! The place of a key in a map, with a value or without.

use std::fmt;

use super::{OrdMap, Place};

/// The place of a key in a map.
pub enum Entry<'a, K, V> {
    /// It has a value.
    Occupied(Occupied<'a, K, V>),
    /// It has none.
    Vacant(Vacant<'a, K, V>),
}

/// The place of a key that has a value.
pub struct Occupied<'a, K, V> {
    pub(super) map: &'a mut OrdMap<K, V>,
    pub(super) place: Place,
}

/// The place of a key that has none.
pub struct Vacant<'a, K, V> {
    pub(super) map: &'a mut OrdMap<K, V>,
    pub(super) place: Place,
    pub(super) key: K,
}

impl<'a, K, V> Entry<'a, K, V> {
    /// The value, the given one where there was none.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// The value, made where there was none.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        match self {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(make()),
        }
    }

    /// The value, made from the key where there was none.
    pub fn or_insert_with_key(self, make: impl FnOnce(&K) -> V) -> &'a mut V {
        match self {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let value = make(place.key());
                place.insert(value)
            }
        }
    }

    /// The value, the type's default where there was none.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

impl<'a, K, V> Occupied<'a, K, V> {
    /// The value.
    pub fn get(&self) -> &V {
        &self.map.at(self.place).1
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self) -> &mut V {
        &mut self.map.at_mut(self.place).1
    }

    /// The value, to be changed, for as long as the map is lent.
    fn into_mut(self) -> &'a mut V {
        &mut self.map.at_mut(self.place).1
    }

    /// Gives the key another value, and returns the one that it had.
    pub fn insert(&mut self, value: V) -> V {
        std::mem::replace(self.get_mut(), value)
    }

    /// Takes the entry out.
    pub fn remove(self) -> V {
        self.map.take(self.place).1
    }
}

impl<'a, K, V> Vacant<'a, K, V> {
    /// Gives the key a value.
    pub fn insert(self, value: V) -> &'a mut V {
        let place = self.map.put(self.place, (self.key, value));
        &mut self.map.at_mut(place).1
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K, V> fmt::Debug for Occupied<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Occupied")
    }
}

impl<K, V> fmt::Debug for Vacant<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vacant")
    }
}

impl<K, V> fmt::Debug for Entry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Entry::Occupied(_) => "Occupied",
            Entry::Vacant(_) => "Vacant",
        })
    }
}
