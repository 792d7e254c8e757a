//! `matches`, `find` and `findAll`: what they cost is paid before they look.

use crate::pattern::{PROGRAM_BYTES_MAX, Regex};
use crate::value::spend::{ELEMENT, Spent};
use crate::value::{Out, Val, fail};

/// How many steps of matching are made in the time in which two values are compared.
const STEPS_PER_COMPARISON: usize = 8;

/// An expression, and what it costs to look for it once in a text is paid.
fn compiled(text: &str, pattern: &str, spent: &mut Spent) -> Out<Result<Regex, String>> {
    let regex = match spent.regexes.get(pattern) {
        Some(regex) => regex,
        None => {
            spent.work(pattern.len())?;
            let made = Regex::new(pattern);
            let [.., largest] = PROGRAM_BYTES_MAX;
            spent.work(made.as_ref().map_or(largest, Regex::size))?;
            let Ok(regex) = made else { return Ok(made) };
            spent.regexes.keep(pattern, regex.clone());
            regex
        }
    };
    spent.work(regex.steps(text.len()) / STEPS_PER_COMPARISON)?;
    Ok(Ok(regex))
}

pub(crate) fn matches(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    match compiled(text, pattern, spent)? {
        Ok(regex) => Ok(Val::Bool(regex.is_match(text))),
        Err(why) => fail(why),
    }
}

pub(crate) fn find(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    match compiled(text, pattern, spent)? {
        Ok(regex) => Ok(Val::text(regex.program.find(text).map_or("", |found| found.as_str()))),
        Err(why) => fail(format!("Illegal regex: {why}")),
    }
}

/// Up to `most` matches; all if that is negative.
pub(crate) fn find_all(
    text: &str,
    pattern: &str,
    most: i64,
    spent: &mut Spent,
) -> Out<Val<'static>> {
    let regex = match compiled(text, pattern, spent)? {
        Ok(regex) => regex,
        Err(why) => return fail(format!("Illegal regex: {why}")),
    };
    let mut found = Vec::new();
    for part in regex.program.find_iter(text).take(usize::try_from(most).unwrap_or(usize::MAX)) {
        // Each may look through all of the rest.
        spent.work(regex.steps(text.len() - part.end()) / STEPS_PER_COMPARISON)?;
        spent.bytes(part.len() + ELEMENT)?;
        found.push(Val::text(part.as_str()));
    }
    Ok(Val::list(found))
}
