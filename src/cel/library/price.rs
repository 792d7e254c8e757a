//! What calls cost when they are made: upstream's numbers.
//!
//! Source: github.com/google/cel-go/interpreter/runtimecost.go, k8s.io/apiserver/pkg/cel/library/cost.go.

use crate::functions::{FORMATS, Op, signature};
use crate::value::Val;

/// What reading a character costs.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// What a character of a regular expression costs.
pub(crate) const REGEX: f64 = 0.25;
/// What asking the authorizer costs.
pub(crate) const CHECK: u64 = 350_000;

/// The cost of reading `size` characters `times` times.
pub(crate) fn traversal(size: u64, times: f64) -> u64 {
    (size as f64 * times * TRAVERSAL).ceil() as u64
}

/// The cost of matching a text against an expression.
fn matching(text: u64, pattern: u64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul((pattern as f64 * REGEX).ceil() as u64)
}

/// The cost of a selector's requirements, and of reading it.
pub(crate) fn selector(length: u64) -> u64 {
    let requirements = (length as f64 * 0.5).ceil();
    10u64.saturating_add(traversal(length, 1.0)).saturating_add((requirements * 50.0).ceil() as u64)
}

/// Whether the list of constants becomes a set, which costs nothing to look into.
pub(crate) fn is_set(overload: Option<u16>, list: &[Val<'_>]) -> bool {
    let scalar = |of: &Val<'_>| {
        let simple = matches!(of, Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_));
        simple || of.as_str().is_some()
    };
    overload.is_some_and(|overload| signature(overload) == "ALA:b") && list.iter().all(scalar)
}

/// What a call cost with these arguments and this result.
pub(crate) fn of_call(
    op: Op,
    overload: Option<u16>,
    args: &[Val<'_>],
    result: Option<&Val<'_>>,
) -> u64 {
    let size = |nth: usize| args.get(nth).and_then(Val::size).unwrap_or(1);
    let known = overload.map_or("", signature);
    match op {
        Op::AuthCheck => CHECK,
        Op::AuthFieldSelector | Op::AuthLabelSelector => selector(size(1)),
        Op::IsSorted | Op::Sum | Op::Max | Op::Min | Op::IndexOf | Op::LastIndexOf => {
            args.first().map_or(0, visited)
        }
        Op::Url
        | Op::LowerAscii
        | Op::UpperAscii
        | Op::Substring
        | Op::Trim
        | Op::Cidr
        | Op::IsIp
        | Op::IsCidr
        | Op::Quantity
        | Op::IsQuantity => traversal(size(0), 1.0),
        Op::Ip if matches!(args.first(), Some(Val::Cidr(..))) => 1,
        Op::Ip => traversal(size(0), 1.0),
        Op::Replace | Op::Split | Op::IpIsCanonical => traversal(size(0), 2.0),
        Op::Join => traversal(result.and_then(Val::size).unwrap_or(1), 2.0),
        Op::Find | Op::FindAll => matching(size(0), size(1)),
        Op::ContainsIp => {
            let text = if known == ".cs:b" { traversal(size(1), 1.0) } else { 0 };
            traversal(size(0), 2.0) + text
        }
        Op::ContainsCidr => {
            let text = if known == ".cs:b" { traversal(size(1), 1.0) } else { 0 };
            traversal(size(0), 2.0) + traversal(size(0), 1.0) + 1 + text
        }
        Op::FormatValidate => match args.first() {
            Some(Val::Format(at)) => matching(size(1), pattern_of(*at)),
            _ => 1,
        },
        Op::SetsContains | Op::SetsIntersects => size(0).saturating_mul(size(1)) + 1,
        Op::SetsEquivalent => size(0).saturating_mul(size(1)).saturating_mul(2) + 1,
        Op::Equals | Op::Differs => traversal(size(0).min(size(1)), 1.0),
        Op::StartsWith | Op::EndsWith => traversal(size(0), 1.0),
        Op::Matches if known == ".ss:b" => matching(size(0), size(1)),
        Op::Contains => traversal(size(0), 1.0).saturating_mul(traversal(size(1), 1.0)),
        Op::In if known == "ALA:b" => size(1),
        Op::ToBytes if known == "s:y" => traversal(size(0), 1.0),
        Op::ToString if known == "y:s" => traversal(size(0), 1.0),
        Op::Quote | Op::Format => traversal(size(0), 1.0),
        Op::Less | Op::LessEquals | Op::Greater | Op::GreaterEquals
            if matches!(known, "ss:b" | "yy:b") =>
        {
            traversal(size(0).min(size(1)), 1.0)
        }
        Op::Add if matches!(known, "ss:s" | "yy:y") => traversal(size(0) + size(1), 1.0),
        _ => 1,
    }
}

/// How long upstream takes a named format's expression to be.
fn pattern_of(at: u8) -> u64 {
    FORMATS.get(usize::from(at)).map_or(0, |(_, length)| *length)
}

/// The cost of looking at everything in a value.
fn visited(of: &Val<'_>) -> u64 {
    if let Some(text) = of.as_str() {
        return (text.len() as f64 * TRAVERSAL) as u64;
    }
    if let Val::Bytes(bytes) = of {
        return (bytes.len() as f64 * TRAVERSAL) as u64;
    }
    let count = of.size().unwrap_or(0) as usize;
    if of.is_list() {
        let all = (0..count).filter_map(|nth| of.nth(nth)?.ok());
        return all.map(|element| visited(&element)).fold(0, u64::saturating_add);
    }
    if of.is_map() {
        let pair = |key: Val<'_>| {
            let value = key.as_str().and_then(|key| of.get(key)?.ok());
            visited(&key).saturating_add(value.as_ref().map_or(1, visited))
        };
        return of.keys().into_iter().map(pair).fold(0, u64::saturating_add);
    }
    1
}
