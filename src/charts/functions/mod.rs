//! The functions of Helm's templates: sprig's and Helm's own, but those that read the environment.

mod certificates;
mod codecs;
mod dates;
mod dicts;
mod helm;
mod lists;
mod numbers;
mod passwords;
mod strings;
mod text;
mod toml;

pub(crate) use helm::stopped;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use stdx::OrdMap;

use regex_lite::Regex;
use template::{Functions, Map, Names, Run, Signature, Value};

use crate::world::{Asked, World};

/// Regular expressions that are kept.
const REGEXES_MAX: usize = 200;
/// Objects that one rendering asks for.
const ASKED_MAX: usize = 1000;

/// What functions know besides their arguments.
pub(crate) struct Engine<'a> {
    world: &'a dyn World,
    asked: RefCell<Vec<Asked>>,
    /// How often each name is being included.
    included: RefCell<OrdMap<String, usize>>,
    regexes: RefCell<OrdMap<String, Rc<Regex>>>,
    n_random: Cell<usize>,
}

type Given<'v> = &'v [Value];
type Out = Result<Value, String>;
type Function = fn(&Engine<'_>, &mut Run<'_>, Given<'_>) -> Out;
/// Name, what it takes, and what it does.
type Entry = (&'static str, Signature, Function);

const TABLES: &[&[Entry]] = &[
    helm::TABLE,
    strings::TABLE,
    dicts::TABLE,
    lists::TABLE,
    numbers::TABLE,
    codecs::TABLE,
    dates::TABLE,
    passwords::TABLE,
    certificates::TABLE,
];

impl<'a> Engine<'a> {
    pub(crate) fn new(world: &'a dyn World) -> Engine<'a> {
        Engine {
            world,
            asked: RefCell::default(),
            included: RefCell::default(),
            regexes: RefCell::default(),
            n_random: Cell::new(0),
        }
    }

    /// What lookups asked for that was not known.
    pub(crate) fn into_asked(self) -> Vec<Asked> {
        self.asked.into_inner()
    }

    fn regex(&self, pattern: &str) -> Result<Rc<Regex>, String> {
        if let Some(known) = self.regexes.borrow().get(pattern) {
            return Ok(known.clone());
        }
        let made = Regex::new(pattern)
            .map_err(|error| format!("error parsing regexp: {error}: `{pattern}`"))?;
        let made = Rc::new(made);
        let mut known = self.regexes.borrow_mut();
        if known.len() >= REGEXES_MAX {
            known.clear();
        }
        known.insert(pattern.to_owned(), made.clone());
        Ok(made)
    }

    /// A number below `bound`, which must not be 0, without a bias.
    fn below(&self, bound: u32) -> Result<u32, String> {
        self.n_random.set(self.n_random.get() + 1);
        let limit = u32::MAX - u32::MAX % bound;
        for _ in 0..100 {
            let mut bytes = [0; 4];
            self.world.random(&mut bytes);
            let drawn = u32::from_le_bytes(bytes);
            if drawn < limit {
                return Ok(drawn % bound);
            }
        }
        Err("there is no randomness".to_owned())
    }
}

impl Names for Engine<'_> {
    fn find(&self, name: &str) -> Option<(u16, Signature)> {
        for (table, entries) in (0u16..).zip(TABLES) {
            let found = (0u16..).zip(*entries).find(|(_, entry)| entry.0 == name);
            if let Some((idx, entry)) = found {
                return Some((table << 8 | idx, entry.1));
            }
        }
        None
    }
}

impl Functions for Engine<'_> {
    fn call(&self, run: &mut Run<'_>, function: u16, args: &[Value]) -> Out {
        let table = TABLES.get(usize::from(function >> 8)).copied().unwrap_or_default();
        match table.get(usize::from(function & 0xff)) {
            Some(entry) => (entry.2)(self, run, args),
            None => Err("there is no such function".to_owned()),
        }
    }

    fn method(&self, run: &mut Run<'_>, map: &Rc<Map>, name: &str, args: Given<'_>) -> Option<Out> {
        helm::values_method(run, map, name, args)
    }
}

#[cfg(test)]
mod tests;
