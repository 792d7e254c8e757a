//! A set in order: a map to nothing.

use std::borrow::Borrow;
use std::fmt;
use std::ops::RangeBounds;

use super::{Entry, IntoIter, Keys, OrdMap};

/// Elements in their order, each once; methods and what they do are those of `BTreeSet`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrdSet<T>(OrdMap<T, ()>);

impl<T> OrdSet<T> {
    /// A set without elements, which takes no memory.
    pub const fn new() -> OrdSet<T> {
        OrdSet(OrdMap::new())
    }

    /// How many elements there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all elements.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All elements, in order.
    pub fn iter(&self) -> Keys<'_, T, ()> {
        self.0.keys()
    }

    /// The least element.
    pub fn first(&self) -> Option<&T> {
        self.0.first_key_value().map(|(element, ())| element)
    }

    /// The greatest element.
    pub fn last(&self) -> Option<&T> {
        self.0.last_key_value().map(|(element, ())| element)
    }

    /// Takes the least element out.
    pub fn pop_first(&mut self) -> Option<T> {
        self.0.pop_first().map(|(element, ())| element)
    }

    /// Takes the greatest element out.
    pub fn pop_last(&mut self) -> Option<T> {
        self.0.pop_last().map(|(element, ())| element)
    }

    /// Keeps the elements of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|element, ()| keep(element));
    }
}

impl<T: Ord> OrdSet<T> {
    /// Puts an element in; false where it was there, which then stays.
    pub fn insert(&mut self, element: T) -> bool {
        match self.0.entry(element) {
            Entry::Vacant(place) => {
                place.insert(());
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Takes an element out; false where it was not there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, element: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(element).is_some()
    }

    /// Takes an element out and returns it.
    pub fn take<Q: Ord + ?Sized>(&mut self, element: &Q) -> Option<T>
    where
        T: Borrow<Q>,
    {
        self.0.remove_entry(element).map(|(element, ())| element)
    }

    /// Whether the element is there.
    pub fn contains<Q: Ord + ?Sized>(&self, element: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(element)
    }

    /// The element that equals this one.
    pub fn get<Q: Ord + ?Sized>(&self, element: &Q) -> Option<&T>
    where
        T: Borrow<Q>,
    {
        self.0.get_key_value(element).map(|(element, ())| element)
    }

    /// The elements in a range, in order.
    pub fn range<Q: Ord + ?Sized>(
        &self,
        range: impl RangeBounds<Q>,
    ) -> impl DoubleEndedIterator<Item = &T> + Clone
    where
        T: Borrow<Q>,
    {
        self.0.range(range).map(|(element, ())| element)
    }

    /// The elements that the other set has not.
    pub fn difference<'a>(&'a self, other: &'a OrdSet<T>) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|element| !other.contains(element))
    }

    /// The elements that both sets have.
    pub fn intersection<'a>(&'a self, other: &'a OrdSet<T>) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|element| other.contains(element))
    }

    /// Moves all elements of another set in.
    pub fn append(&mut self, other: &mut OrdSet<T>) {
        self.0.append(&mut other.0);
    }
}

/// Elements in order, taken from the set.
pub struct IntoElements<T>(IntoIter<T, ()>);

impl<T> Iterator for IntoElements<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next().map(|(element, ())| element)
    }
}

impl<T> DoubleEndedIterator for IntoElements<T> {
    fn next_back(&mut self) -> Option<T> {
        self.0.next_back().map(|(element, ())| element)
    }
}

impl<T> fmt::Debug for IntoElements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoElements")
    }
}

impl<T> IntoIterator for OrdSet<T> {
    type Item = T;
    type IntoIter = IntoElements<T>;

    fn into_iter(self) -> IntoElements<T> {
        IntoElements(self.0.into_iter())
    }
}

impl<'a, T> IntoIterator for &'a OrdSet<T> {
    type Item = &'a T;
    type IntoIter = Keys<'a, T, ()>;

    fn into_iter(self) -> Keys<'a, T, ()> {
        self.iter()
    }
}

impl<T: Ord> Extend<T> for OrdSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.insert(element);
        }
    }
}

impl<'a, T: Ord + Copy + 'a> Extend<&'a T> for OrdSet<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        self.extend(elements.into_iter().copied());
    }
}

impl<T: Ord> FromIterator<T> for OrdSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> OrdSet<T> {
        let mut set = OrdSet::new();
        set.extend(elements);
        set
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for OrdSet<T> {
    fn from(elements: [T; N]) -> OrdSet<T> {
        elements.into_iter().collect()
    }
}

impl<T> Default for OrdSet<T> {
    fn default() -> OrdSet<T> {
        OrdSet::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OrdSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::OrdSet;

    #[test]
    fn sets_are_compared() {
        let (small, large) = (OrdSet::from([2, 1]), OrdSet::from([1, 2, 3]));
        assert!(small < large);
        assert_eq!(large.difference(&small).copied().collect::<Vec<_>>(), [3]);
        assert_eq!(large.intersection(&small).copied().collect::<OrdSet<_>>(), small);
        assert_eq!(large.range(2..).rev().copied().collect::<Vec<_>>(), [3, 2]);
        assert_eq!(large.into_iter().next_back(), Some(3));
    }
}
