//! Reading what Traefik's objects have in common.

use api::{Lens, Value};

/// Items of one list.
pub(crate) const ITEMS_MAX: usize = 256;

/// What is there beside what is done.
pub(crate) fn only(tree: &Value, what: &str, known: &[&str]) -> Result<(), String> {
    let unknown =
        tree.as_object().and_then(|map| map.keys().find(|key| !known.contains(&key.as_str())));
    unknown.map_or(Ok(()), |key| Err(format!("{what}: {key} is not supported")))
}

/// Milliseconds, at least one; a whole number is seconds, what is absent `absent`.
///
/// # Errors
/// If it is no duration.
pub(crate) fn duration_ms(tree: &Value, absent: u64) -> Result<u64, String> {
    const MAX_MS: u64 = 1 << 40;
    let bad = || format!("{tree} is no duration");
    let text = match tree {
        Value::Null => return Ok(absent),
        Value::Number(number) => {
            let seconds = number.as_u64().ok_or_else(bad)?;
            return Ok(seconds.saturating_mul(1000).clamp(1, MAX_MS));
        }
        text => text.as_str().filter(|text| !text.is_empty()).ok_or_else(bad)?,
    };
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().map_err(|_| bad())?;
        let next = rest[end..].find(|c: char| c.is_ascii_digit());
        let unit_end = next.map_or(rest.len(), |at| end + at);
        let unit = match &rest[end..unit_end] {
            "ms" => 1,
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        total = total.saturating_add(number.saturating_mul(unit));
        rest = &rest[unit_end..];
    }
    Ok(total.clamp(1, MAX_MS))
}

pub(crate) fn strings(tree: &Value, name: &str) -> Vec<String> {
    tree.list(name)
        .iter()
        .take(ITEMS_MAX)
        .filter_map(|text| text.as_str().map(Into::into))
        .collect()
}
