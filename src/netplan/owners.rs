//! Who holds which element of a set, where several want the same one.

use stdx::OrdMap;

use crate::table::{Changes, Key, Set, Value};

/// Namespace and name.
pub type Name = (Box<str>, Box<str>);

/// The node's own DNS, which steps back for everybody.
pub(crate) const OWNER_DNS: u32 = 0;

/// Who holds each element, and who would like to. The first to ask holds it until it lets go.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    pub(crate) held: OrdMap<(Set, Key), (u32, Value)>,
    waiting: OrdMap<(Set, Key), Vec<(u32, Value)>>,
    /// What the elements that changed hands or values were when the last changes were told.
    before: OrdMap<(Set, Key), Option<Value>>,
}

impl Owners {
    /// Makes what an owner has of one element `after`, which was `before`.
    pub(crate) fn put(
        &mut self,
        owner: u32,
        at: (Set, Key),
        before: Option<&Value>,
        after: Option<Value>,
    ) {
        match (before, after) {
            (Some(before), Some(after)) if *before == after => {}
            (Some(_), Some(after)) => self.change(owner, at, after),
            (Some(_), None) => self.release(owner, at),
            (None, Some(after)) => self.claim(owner, at, after),
            (None, None) => {}
        }
    }

    /// Moves an owner from its `old` elements to its `new` ones; both are sorted.
    pub(crate) fn replace(
        &mut self,
        owner: u32,
        old: &[(Set, Key, Value)],
        new: &[(Set, Key, Value)],
    ) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(o), Some(n)) => (o.0, o.1).cmp(&(n.0, n.1)),
            };
            let before = if order.is_le() { old.next() } else { None };
            let after = if order.is_ge() { new.next() } else { None };
            match (before, after) {
                (Some(before), Some(after)) if before.2 == after.2 => {}
                (Some((set, key, _)), Some((.., value))) => {
                    self.change(owner, (*set, *key), value.clone());
                }
                (Some((set, key, _)), None) => self.release(owner, (*set, *key)),
                (None, Some((set, key, value))) => self.claim(owner, (*set, *key), value.clone()),
                (None, None) => {}
            }
        }
    }

    /// Tells what is different since the last time.
    pub(crate) fn tell(&mut self, changes: &mut Changes) {
        for ((set, key), before) in std::mem::take(&mut self.before) {
            let now = self.held.get(&(set, key)).map(|(_, value)| value);
            if before.as_ref() == now {
                continue;
            }
            changes.add_elements.extend(now.map(|value| (set, key, value.clone())));
            changes.delete_elements.extend(before.map(|value| (set, key, value)));
        }
    }

    pub(crate) fn claim(&mut self, owner: u32, at: (Set, Key), value: Value) {
        let Some((holder, held)) = self.held.get(&at).cloned() else {
            return self.hold(at, Some((owner, value)));
        };
        let line = self.waiting.entry(at).or_default();
        if holder == OWNER_DNS {
            // Someone runs a cluster DNS of his own: ours steps back until that has no endpoints.
            line.push((holder, held));
            return self.hold(at, Some((owner, value)));
        }
        if held != value {
            log::warn!("{} {}: already taken, waits until it is free", at.0.name(), at.1);
        }
        // Our DNS stays last.
        let place = line.iter().position(|(waiter, _)| *waiter == OWNER_DNS);
        line.insert(place.unwrap_or(line.len()), (owner, value));
    }

    pub(crate) fn change(&mut self, owner: u32, at: (Set, Key), value: Value) {
        if self.held.get(&at).is_some_and(|(holder, _)| *holder == owner) {
            return self.hold(at, Some((owner, value)));
        }
        if let Some(place) = self.place_in_line(owner, at) {
            *place = value;
        }
    }

    pub(crate) fn release(&mut self, owner: u32, at: (Set, Key)) {
        let waiting = self.waiting.get_mut(&at);
        if self.held.get(&at).is_some_and(|(holder, _)| *holder == owner) {
            let heir = waiting.filter(|line| !line.is_empty()).map(|line| line.remove(0));
            self.hold(at, heir);
        } else if let Some(waiting) = waiting {
            waiting.retain(|(waiter, _)| *waiter != owner);
        }
        if self.waiting.get(&at).is_some_and(Vec::is_empty) {
            self.waiting.remove(&at);
        }
    }

    fn place_in_line(&mut self, owner: u32, at: (Set, Key)) -> Option<&mut Value> {
        let line = self.waiting.get_mut(&at)?;
        line.iter_mut().find(|(waiter, _)| *waiter == owner).map(|(_, value)| value)
    }

    fn hold(&mut self, at: (Set, Key), new: Option<(u32, Value)>) {
        let old = match new {
            Some(new) => self.held.insert(at, new),
            None => self.held.remove(&at),
        };
        self.before.entry(at).or_insert(old.map(|(_, value)| value));
    }
}
