//! Functions of texts: positions are counted in characters.

use crate::value::spend::ELEMENT;
use crate::value::spend::Spent;
use crate::value::{Out, Val, fail};

fn out_of_range<T>(at: i64) -> Out<T> {
    fail(format!("index out of range: {at}"))
}

/// The place in bytes of the character `at`, which may be one past the last.
fn place(text: &str, at: i64) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(at)
}

pub(crate) fn char_at(text: &str, at: i64) -> Out<Val<'static>> {
    match place(text, at) {
        Some(byte) => Ok(Val::text(&text[byte..].chars().take(1).collect::<String>())),
        None => out_of_range(at),
    }
}

pub(crate) fn index_of(text: &str, part: &str, from: i64) -> Out<Val<'static>> {
    if part.is_empty() {
        return Ok(Val::Int(from));
    }
    if from < 0 {
        return out_of_range(from);
    }
    let found = place(text, from).and_then(|from| Some(from + text[from..].find(part)?));
    Ok(Val::Int(found.map_or(-1, |byte| text[..byte].chars().count() as i64)))
}

pub(crate) fn last_index_of(text: &str, part: &str, from: Option<i64>) -> Out<Val<'static>> {
    let length = text.chars().count() as i64;
    if part.is_empty() {
        return Ok(Val::Int(from.unwrap_or(length)));
    }
    let from = from.unwrap_or(length - 1);
    if from < 0 {
        return out_of_range(from);
    }
    if from >= length {
        return Ok(Val::Int(-1));
    }
    let last = length - part.chars().count() as i64;
    let found = place(text, from.min(last)).and_then(|byte| {
        let end = (byte + part.len()).min(text.len());
        // A part that begins at `byte` ends at `end` at the latest.
        let end = (end..=text.len()).find(|end| text.is_char_boundary(*end))?;
        text[..end].rfind(part).filter(|found| *found <= byte)
    });
    Ok(Val::Int(found.map_or(-1, |byte| text[..byte].chars().count() as i64)))
}

pub(crate) fn substring(text: &str, from: i64, to: Option<i64>) -> Out<Val<'static>> {
    if let Some(to) = to.filter(|to| from > *to) {
        return fail(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let Some(begin) = place(text, from) else { return out_of_range(from) };
    let end = match to {
        None => text.len(),
        Some(to) => match place(text, to) {
            Some(end) => end,
            None => return out_of_range(to),
        },
    };
    Ok(Val::text(&text[begin..end]))
}

/// Replaces up to `most` occurrences; all of them if that is negative.
pub(crate) fn replace(
    text: &str,
    old: &str,
    new: &str,
    most: i64,
    spent: &mut Spent,
) -> Out<Val<'static>> {
    let count = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let count = usize::try_from(most).map_or(count, |most| most.min(count));
    spent.bytes(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Val::text(&text.replacen(old, new, count)))
}

/// The parts between separators, at most `most` unless that is negative.
pub(crate) fn split(text: &str, by: &str, most: i64, spent: &mut Spent) -> Out<Val<'static>> {
    let mut parts: Vec<Val<'static>> = Vec::new();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Val::list(parts));
    }
    let mut rest = text;
    while parts.len() + 1 < most {
        let (part, after) = if by.is_empty() {
            let Some(first) = rest.chars().next() else { break };
            let (part, after) = rest.split_at(first.len_utf8());
            if after.is_empty() {
                break;
            }
            (part, after)
        } else {
            let Some(split) = rest.split_once(by) else { break };
            split
        };
        spent.bytes(part.len() + ELEMENT)?;
        parts.push(Val::text(part));
        rest = after;
    }
    if !(by.is_empty() && rest.is_empty()) {
        parts.push(Val::text(rest));
    }
    Ok(Val::list(parts))
}

pub(crate) fn join(list: &Val<'_>, by: &str, spent: &mut Spent) -> Out<Val<'static>> {
    let mut out = String::new();
    let mut at = 0;
    while let Some(element) = list.nth(at) {
        let element = element?;
        let Some(text) = element.as_str() else {
            return fail(format!("join: invalid input: {}", crate::value::go::go_shown(&element)));
        };
        let by = if at == 0 { "" } else { by };
        spent.bytes(by.len() + text.len())?;
        out.push_str(by);
        out.push_str(text);
        at += 1;
    }
    Ok(Val::text(&out))
}

/// In double quotes, with everything escaped that the language escapes.
pub(crate) fn quote(text: &str) -> Val<'static> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    Val::text(&out)
}
