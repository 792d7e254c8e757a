//! Equality and union of lists and maps; lists that are sets or maps by their schema are so here too.

use crate::library::apply::{equal, has};
use crate::schema::Identity;
use crate::value::spend::ELEMENT;
use crate::value::spend::Spent;
use crate::value::{Out, Val};

fn identity<'a>(of: &Val<'a>) -> Identity<'a> {
    match of {
        Val::Json(_, Some(place)) => place.of.identity(place.at),
        _ => Identity::Place,
    }
}

/// The element of `list` that has the keys of `like`.
fn with_keys<'a>(
    list: &Val<'a>,
    like: &Val<'_>,
    keys: &[Box<str>],
    spent: &mut Spent,
) -> Out<Option<Val<'a>>> {
    let mut nth = 0;
    'next: while let Some(element) = list.nth(nth) {
        nth += 1;
        let element = element?;
        for key in keys {
            let key = crate::schema::escaped(key);
            spent.work(1)?;
            let same = match (element.get(&key).transpose()?, like.get(&key).transpose()?) {
                (Some(one), Some(other)) => equal(&one, &other, spent)?,
                (one, other) => one.is_none() && other.is_none(),
            };
            if !same {
                continue 'next;
            }
        }
        return Ok(Some(element));
    }
    Ok(None)
}

/// Whether two lists are equal.
pub(crate) fn lists(one: &Val<'_>, other: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    if one.size() != other.size() {
        return Ok(false);
    }
    let by = identity(one);
    let mut nth = 0;
    while let Some(wanted) = other.nth(nth) {
        let wanted = wanted?;
        let same = match by {
            Identity::Value => has(one, &wanted, spent)?,
            Identity::Keys(keys) => match with_keys(one, &wanted, keys, spent)? {
                Some(element) => equal(&element, &wanted, spent)?,
                None => false,
            },
            Identity::Place => match one.nth(nth) {
                Some(element) => equal(&element?, &wanted, spent)?,
                None => false,
            },
        };
        if !same {
            return Ok(false);
        }
        nth += 1;
    }
    Ok(true)
}

/// Whether two maps or objects are equal.
pub(crate) fn maps(one: &Val<'_>, other: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    if one.size() != other.size() {
        return Ok(false);
    }
    for key in one.keys() {
        let (Some(value), Some(wanted)) = (one.find(&key, spent)?, other.find(&key, spent)?) else {
            return Ok(false);
        };
        if !equal(&value, &wanted, spent)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What `+` makes of a set, or of a list whose elements have keys; nothing for other lists.
pub(crate) fn union<'a>(one: &Val<'a>, other: &Val<'a>, spent: &mut Spent) -> Option<Out<Val<'a>>> {
    let by = identity(one);
    (by != Identity::Place).then(|| united(one, other, by, spent))
}

fn united<'a>(one: &Val<'a>, other: &Val<'a>, by: Identity<'_>, spent: &mut Spent) -> Out<Val<'a>> {
    let count = one.size().unwrap_or(0) + other.size().unwrap_or(0);
    spent.bytes((count as usize).saturating_mul(ELEMENT))?;
    let mut all = Vec::new();
    let mut nth = 0;
    while let Some(element) = one.nth(nth) {
        let element = element?;
        // An element of the other that has the same keys takes this one's place.
        let replaced = match by {
            Identity::Keys(keys) => with_keys(other, &element, keys, spent)?,
            _ => None,
        };
        all.push(replaced.unwrap_or(element));
        nth += 1;
    }
    nth = 0;
    while let Some(element) = other.nth(nth) {
        let element = element?;
        let known = match by {
            Identity::Keys(keys) => with_keys(one, &element, keys, spent)?.is_some(),
            _ => has(one, &element, spent)?,
        };
        if !known {
            all.push(element);
        }
        nth += 1;
    }
    Ok(Val::list(all))
}
