//! What each function does with its arguments.

use std::cmp::Ordering;

use super::{format, regex, text};
use crate::functions::{FUNCTIONS, Op};
use crate::library::apply_net::{nets, others};
use crate::value::auth::Host;
use crate::value::go;
use crate::value::spend::ELEMENT;
use crate::value::spend::Spent;
use crate::value::time::{self, Part};
use crate::value::{NO_OVERLOAD, Out, Val, fail, numbers, scalar_equal};

/// What `op` makes of its arguments.
pub(crate) fn apply<'a>(
    op: Op,
    overload: Option<u16>,
    args: &[Val<'a>],
    host: &dyn Host,
    spent: &mut Spent,
) -> Out<Val<'a>> {
    let done = match op {
        Op::Not
        | Op::Negate
        | Op::Equals
        | Op::Differs
        | Op::Add
        | Op::Subtract
        | Op::Multiply
        | Op::Divide
        | Op::Modulo
        | Op::Less
        | Op::LessEquals
        | Op::Greater
        | Op::GreaterEquals => Some(operator(op, args, spent)),
        Op::In
        | Op::Size
        | Op::TypeOf
        | Op::OptionalOf
        | Op::OptionalOfNonZero
        | Op::OptionalNone
        | Op::OptionalValue
        | Op::HasValue
        | Op::SetsContains
        | Op::SetsEquivalent
        | Op::SetsIntersects
        | Op::IsSorted
        | Op::Sum
        | Op::Max
        | Op::Min => {
            collection(op, args, spent).map(|found| match (op, found) {
                // The sum of nothing is of the list's type.
                (Op::Sum, Ok(Val::Optional(None))) => Ok(zero(overload)),
                (_, found) => found,
            })
        }
        Op::FormatConstant => {
            Some(Ok(Val::Format((u16::MAX - overload.unwrap_or(u16::MAX)) as u8)))
        }
        _ => conversion(op, args)
            .or_else(|| texts(op, args, spent))
            .or_else(|| moments(op, args))
            .or_else(|| nets(op, args))
            .or_else(|| others(op, args, host)),
    };
    done.unwrap_or_else(|| no_overload(op, args))
}

fn zero(overload: Option<u16>) -> Val<'static> {
    match overload.map(crate::functions::signature).unwrap_or("").bytes().last() {
        Some(b'u') => Val::Uint(0),
        Some(b'd') => Val::Double(0.0),
        Some(b'w') => Val::Duration(0),
        _ => Val::Int(0),
    }
}

fn name(op: Op) -> &'static str {
    FUNCTIONS.iter().find(|(_, known, _)| *known == op).map_or("", |(name, ..)| name)
}

/// No overload takes such arguments.
pub(crate) fn no_overload<'a>(op: Op, args: &[Val<'a>]) -> Out<Val<'a>> {
    let name = name(op);
    match op {
        Op::Size | Op::Matches => return fail(format!("no such overload: {name}")),
        Op::Contains | Op::StartsWith | Op::EndsWith => return fail(NO_OVERLOAD),
        _ => {}
    }
    let kinds: Vec<&str> = args.iter().map(Val::kind).collect();
    fail(format!("no such overload: {name}({})", kinds.join(", ")))
}

/// Whether a value knows the operation at all, whatever the other one is.
fn knows(op: Op, of: &Val<'_>) -> bool {
    let number = matches!(of, Val::Int(_) | Val::Uint(_) | Val::Double(_));
    let span = matches!(of, Val::Time(_) | Val::Duration(_));
    let text = matches!(of, Val::Bytes(_)) || of.as_str().is_some();
    match op {
        Op::Equals | Op::Differs | Op::Not => true,
        Op::Negate => number || matches!(of, Val::Duration(_) | Val::Bool(_)),
        Op::Add => number || span || text || of.is_list(),
        Op::Subtract => number || span,
        Op::Multiply | Op::Divide => number,
        Op::Modulo => number && !matches!(of, Val::Double(_)),
        _ => number || span || text || matches!(of, Val::Bool(_)),
    }
}

fn operator<'a>(op: Op, args: &[Val<'a>], spent: &mut Spent) -> Out<Val<'a>> {
    let receives =
        |of: &Val<'_>| of.as_str().is_some() || matches!(of, Val::Duration(_) | Val::Time(_));
    if args.first().is_some_and(|first| !knows(op, first) && !receives(first)) {
        return fail(format!("no such overload: {}", name(op)));
    }
    match (op, args) {
        (Op::Not, [Val::Bool(is)]) => Ok(Val::Bool(!is)),
        (Op::Negate, [Val::Int(int)]) => {
            int.checked_neg().map_or_else(|| fail("integer overflow"), |int| Ok(Val::Int(int)))
        }
        (Op::Negate, [Val::Double(double)]) => Ok(Val::Double(-double)),
        (Op::Negate, [Val::Duration(nanos)]) => match nanos.checked_neg() {
            Some(nanos) => Ok(Val::Duration(nanos)),
            None => fail("integer overflow"),
        },
        (Op::Equals, [one, other]) => equal(one, other, spent).map(Val::Bool),
        (Op::Differs, [one, other]) => equal(one, other, spent).map(|same| Val::Bool(!same)),
        (Op::Add, [one, other]) => add(one, other, spent),
        (Op::Subtract | Op::Multiply | Op::Divide | Op::Modulo, [one, other]) => {
            arithmetic(op, one, other)
        }
        (_, [one, other]) => {
            let order = compare(one, other)?;
            Ok(Val::Bool(match op {
                Op::Less => order == Ordering::Less,
                Op::LessEquals => order != Ordering::Greater,
                Op::Greater => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        _ => fail(NO_OVERLOAD),
    }
}

/// The sum of two values of one type.
pub(crate) fn add<'a>(one: &Val<'a>, other: &Val<'a>, spent: &mut Spent) -> Out<Val<'a>> {
    match (one, other) {
        (Val::Int(_) | Val::Uint(_) | Val::Double(_), _) => arithmetic(Op::Add, one, other),
        (Val::Duration(one), Val::Duration(other)) => match one.checked_add(*other) {
            Some(sum) => Ok(Val::Duration(sum)),
            None => fail("integer overflow"),
        },
        (Val::Duration(nanos), Val::Time(stamp)) | (Val::Time(stamp), Val::Duration(nanos)) => {
            stamp.plus(*nanos).map(Val::Time)
        }
        (Val::Bytes(one), Val::Bytes(other)) => {
            spent.bytes(one.len() + other.len())?;
            Ok(Val::Bytes([&one[..], &other[..]].concat().into()))
        }
        (one, other) if one.is_list() && other.is_list() => {
            if let Some(union) = crate::library::equality::union(one, other, spent) {
                return union;
            }
            let count = one.size().unwrap_or(0) + other.size().unwrap_or(0);
            spent.bytes((count as usize).saturating_mul(ELEMENT))?;
            let mut all = Vec::with_capacity(count as usize);
            for list in [one, other] {
                let mut nth = 0;
                while let Some(element) = list.nth(nth) {
                    all.push(element?);
                    nth += 1;
                }
            }
            Ok(Val::list(all))
        }
        _ => match (one.as_str(), other.as_str()) {
            (Some(one), Some(other)) => {
                spent.bytes(one.len() + other.len())?;
                Ok(Val::text(&[one, other].concat()))
            }
            _ => fail(NO_OVERLOAD),
        },
    }
}

fn arithmetic<'a>(op: Op, one: &Val<'a>, other: &Val<'a>) -> Out<Val<'a>> {
    let zero = if op == Op::Divide { "division by zero" } else { "modulus by zero" };
    let divides = matches!(op, Op::Divide | Op::Modulo);
    match (one, other) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) if divides => fail(zero),
        (Val::Int(one), Val::Int(other)) => {
            let result = match op {
                Op::Add => one.checked_add(*other),
                Op::Subtract => one.checked_sub(*other),
                Op::Multiply => one.checked_mul(*other),
                Op::Divide => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            result.map_or_else(|| fail("integer overflow"), |result| Ok(Val::Int(result)))
        }
        (Val::Uint(one), Val::Uint(other)) => {
            let result = match op {
                Op::Add => one.checked_add(*other),
                Op::Subtract => one.checked_sub(*other),
                Op::Multiply => one.checked_mul(*other),
                Op::Divide => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            result.map_or_else(|| fail("unsigned integer overflow"), |sum| Ok(Val::Uint(sum)))
        }
        (Val::Double(one), Val::Double(other)) if op != Op::Modulo => Ok(Val::Double(match op {
            Op::Add => one + other,
            Op::Subtract => one - other,
            Op::Multiply => one * other,
            _ => one / other,
        })),
        (Val::Duration(one), Val::Duration(other)) if op == Op::Subtract => {
            match one.checked_sub(*other) {
                Some(rest) => Ok(Val::Duration(rest)),
                None => fail("integer overflow"),
            }
        }
        (Val::Time(stamp), Val::Duration(nanos)) if op == Op::Subtract => {
            match nanos.checked_neg() {
                Some(nanos) => stamp.plus(nanos).map(Val::Time),
                None => fail("integer overflow"),
            }
        }
        (Val::Time(one), Val::Time(other)) if op == Op::Subtract => {
            one.since(*other).map(Val::Duration)
        }
        _ => fail(NO_OVERLOAD),
    }
}

/// The order of two values.
pub(crate) fn compare(one: &Val<'_>, other: &Val<'_>) -> Out<Ordering> {
    let numeric = |of: &Val<'_>| matches!(of, Val::Int(_) | Val::Uint(_) | Val::Double(_));
    Ok(match (one, other) {
        (one, other) if numeric(one) && numeric(other) => match numbers(one, other) {
            Some(order) => order,
            None => return fail("NaN values cannot be ordered"),
        },
        (Val::Bool(one), Val::Bool(other)) => one.cmp(other),
        (Val::Bytes(one), Val::Bytes(other)) => one.cmp(other),
        (Val::Time(one), Val::Time(other)) => one.key().cmp(&other.key()),
        (Val::Duration(one), Val::Duration(other)) => one.cmp(other),
        _ => match (one.as_str(), other.as_str()) {
            (Some(one), Some(other)) => one.cmp(other),
            _ => return fail(NO_OVERLOAD),
        },
    })
}

/// Whether two values are equal, all the way down.
pub(crate) fn equal(one: &Val<'_>, other: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    spent.work(1)?;
    match (one, other) {
        (Val::Null, _) | (_, Val::Null) => {
            Ok(matches!(one, Val::Null) && matches!(other, Val::Null))
        }
        (Val::Optional(None), Val::Optional(None)) => Ok(true),
        (Val::Optional(Some(one)), Val::Optional(Some(other))) => equal(one, other, spent),
        (Val::Ip(one), Val::Ip(other)) => Ok(one == other),
        (Val::Cidr(one, bits), Val::Cidr(other, other_bits)) => {
            Ok(one == other && bits == other_bits)
        }
        (Val::Url(one), Val::Url(other)) => Ok(one.whole() == other.whole()),
        (Val::Quantity(one), Val::Quantity(other)) => Ok(one.of == other.of),
        (Val::Format(one), Val::Format(other)) => Ok(one == other),
        (Val::Ip(_) | Val::Cidr(..) | Val::Url(_) | Val::Quantity(_) | Val::Format(_), _)
        | (Val::Auth(_), _) => fail(NO_OVERLOAD),
        (one, other) if one.is_list() && other.is_list() => {
            crate::library::equality::lists(one, other, spent)
        }
        (one, other) if one.is_map() && other.is_map() => {
            crate::library::equality::maps(one, other, spent)
        }
        (one, other) => Ok(scalar_equal(one, other)),
    }
}

/// Whether a list has an element, as `in` asks.
pub(crate) fn has(list: &Val<'_>, wanted: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    let mut failed = None;
    let mut nth = 0;
    while let Some(element) = list.nth(nth) {
        match element.and_then(|element| equal(&element, wanted, spent)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) if why.cancelled => return Err(why),
            Err(why) => failed = failed.or(Some(why)),
        }
        nth += 1;
    }
    failed.map_or(Ok(false), Err)
}

fn has_all(list: &Val<'_>, wanted: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    let mut nth = 0;
    while let Some(element) = wanted.nth(nth) {
        if !has(list, &element?, spent)? {
            return Ok(false);
        }
        nth += 1;
    }
    Ok(true)
}

fn collection<'a>(op: Op, args: &[Val<'a>], spent: &mut Spent) -> Option<Out<Val<'a>>> {
    Some(match (op, args) {
        (Op::In, [wanted, list]) if list.is_list() => has(list, wanted, spent).map(Val::Bool),
        (Op::In, [wanted, map]) if map.is_map() => {
            map.find(wanted, spent).map(|found| Val::Bool(found.is_some()))
        }
        (Op::In, _) => fail(NO_OVERLOAD),
        (Op::Size, [of]) if !matches!(of, Val::Ip(_) | Val::Cidr(..)) => {
            Ok(Val::Int(of.size()? as i64))
        }
        (Op::TypeOf, [of]) => Ok(Val::Type(of.kind())),
        (Op::OptionalOf, [of]) => Ok(Val::some(of.clone())),
        (Op::OptionalOfNonZero, [of]) if of.is_zero() => Ok(Val::Optional(None)),
        (Op::OptionalOfNonZero, [of]) => Ok(Val::some(of.clone())),
        (Op::OptionalNone, []) => Ok(Val::Optional(None)),
        (Op::OptionalValue, [Val::Optional(Some(inner))]) => Ok((**inner).clone()),
        (Op::OptionalValue, [Val::Optional(None)]) => fail("optional.none() dereference"),
        (Op::HasValue, [Val::Optional(inner)]) => Ok(Val::Bool(inner.is_some())),
        (_, [one, other]) if one.is_list() && other.is_list() => match op {
            Op::SetsContains => has_all(one, other, spent).map(Val::Bool),
            Op::SetsEquivalent => match has_all(one, other, spent) {
                Ok(true) => has_all(other, one, spent).map(Val::Bool),
                answer => answer.map(Val::Bool),
            },
            Op::SetsIntersects => intersects(one, other, spent).map(Val::Bool),
            _ => return None,
        },
        (_, [list]) if list.is_list() => statistic(op, list, spent)?,
        _ => return None,
    })
}

fn intersects(one: &Val<'_>, other: &Val<'_>, spent: &mut Spent) -> Out<bool> {
    let mut nth = 0;
    while let Some(element) = one.nth(nth) {
        match has(other, &element?, spent) {
            Ok(true) => return Ok(true),
            Err(why) if why.cancelled => return Err(why),
            _ => {}
        }
        nth += 1;
    }
    Ok(false)
}

fn statistic<'a>(op: Op, list: &Val<'a>, spent: &mut Spent) -> Option<Out<Val<'a>>> {
    let mut so_far: Option<Val<'a>> = None;
    let mut nth = 0;
    while let Some(element) = list.nth(nth) {
        nth += 1;
        let element = match element {
            Ok(element) => element,
            Err(why) => return Some(Err(why)),
        };
        let Some(known) = &so_far else {
            so_far = Some(element);
            continue;
        };
        if op == Op::Sum {
            match add(known, &element, spent) {
                Ok(sum) => so_far = Some(sum),
                Err(why) => return Some(Err(why)),
            }
            continue;
        }
        let order = match compare(known, &element) {
            Ok(order) => order,
            Err(_) if op == Op::IsSorted => Ordering::Equal,
            Err(_) => continue,
        };
        match (op, order) {
            (Op::IsSorted, Ordering::Greater) => return Some(Ok(Val::Bool(false))),
            (Op::IsSorted, _) | (Op::Max, Ordering::Less) | (Op::Min, Ordering::Greater) => {
                so_far = Some(element);
            }
            _ => {}
        }
    }
    Some(match (op, so_far) {
        (Op::IsSorted, _) => Ok(Val::Bool(true)),
        (Op::Max | Op::Min | Op::Sum, Some(found)) => Ok(found),
        (Op::Max, None) => fail("max called on empty list"),
        (Op::Min, None) => fail("min called on empty list"),
        (Op::Sum, None) => Ok(Val::Optional(None)),
        _ => return None,
    })
}

/// Conversions between types.
pub(crate) fn conversion<'a>(op: Op, args: &[Val<'a>]) -> Option<Out<Val<'a>>> {
    let [of] = args else { return None };
    let wrong = |to: &str| fail(format!("type conversion error from '{}' to '{to}'", of.kind()));
    let overflow = || fail("integer overflow");
    Some(match (op, of) {
        (Op::ToDyn, _)
        | (Op::ToBool, Val::Bool(_))
        | (Op::ToBytes, Val::Bytes(_))
        | (Op::ToDouble, Val::Double(_))
        | (Op::ToDuration, Val::Duration(_))
        | (Op::ToInt, Val::Int(_))
        | (Op::ToTimestamp, Val::Time(_))
        | (Op::ToUint, Val::Uint(_))
        | (Op::ToString, Val::Str(_) | Val::Text(_)) => Ok(of.clone()),
        (Op::ToDouble, Val::Int(int)) => Ok(Val::Double(*int as f64)),
        (Op::ToDouble, Val::Uint(uint)) => Ok(Val::Double(*uint as f64)),
        (Op::ToInt, Val::Uint(uint)) => {
            i64::try_from(*uint).map_or_else(|_| overflow(), |int| Ok(Val::Int(int)))
        }
        (Op::ToInt, Val::Double(double)) => {
            let fits = *double > i64::MIN as f64 && *double < i64::MAX as f64;
            if fits { Ok(Val::Int(*double as i64)) } else { overflow() }
        }
        (Op::ToInt, Val::Duration(nanos)) => Ok(Val::Int(*nanos)),
        (Op::ToInt, Val::Time(stamp)) => Ok(Val::Int(stamp.seconds)),
        (Op::ToUint, Val::Int(int)) => match u64::try_from(*int) {
            Ok(uint) => Ok(Val::Uint(uint)),
            Err(_) => fail("unsigned integer overflow"),
        },
        (Op::ToUint, Val::Double(double)) => {
            let fits = *double >= 0.0 && *double < u64::MAX as f64;
            if fits { Ok(Val::Uint(*double as u64)) } else { fail("unsigned integer overflow") }
        }
        (Op::ToTimestamp, Val::Int(int)) => match time::Stamp::at(*int, 0, 0) {
            Some(stamp) => Ok(Val::Time(stamp)),
            None => fail("timestamp overflow"),
        },
        (Op::ToDuration, Val::Int(_)) => wrong("google.protobuf.Duration"),
        (Op::ToString, Val::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Val::text(text)),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        (Op::ToString, Val::Double(double)) => Ok(Val::text(&go::go_float(*double, 6))),
        (Op::ToString, Val::Ip(address)) => Ok(Val::text(&address.to_string())),
        (Op::ToString, Val::Cidr(address, bits)) => Ok(Val::text(&format!("{address}/{bits}"))),
        (
            Op::ToString,
            Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Time(_) | Val::Duration(_),
        ) => Ok(Val::text(&go::go_shown(of))),
        (_, of) => return from_text(op, of.as_str()?).map(|made| made.unwrap_or_else(wrong)),
    })
}

/// A text as another type; the type's name if it is none.
fn from_text(op: Op, text: &str) -> Option<Result<Out<Val<'static>>, &'static str>> {
    let digits = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (read, name) = match op {
        Op::ToBool => {
            let read = match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            };
            (read.map(Val::Bool), "bool")
        }
        Op::ToBytes => (Some(Val::Bytes(text.as_bytes().into())), "bytes"),
        Op::ToInt => (text.parse().ok().filter(|_| digits(text)).map(Val::Int), "int"),
        Op::ToUint => {
            let plain = digits(text) && !text.starts_with(['+', '-']);
            (text.parse().ok().filter(|_| plain).map(Val::Uint), "uint")
        }
        Op::ToDouble => {
            let read: Option<f64> = text.parse().ok();
            let named = text.trim_start_matches(['+', '-']);
            let infinite =
                named.eq_ignore_ascii_case("inf") || named.eq_ignore_ascii_case("infinity");
            (read.filter(|read| infinite || !read.is_infinite()).map(Val::Double), "double")
        }
        Op::ToDuration => {
            (stdx::duration::parse(text).map(Val::Duration), "google.protobuf.Duration")
        }
        Op::ToTimestamp => {
            let read = time::stamp(text);
            if read.is_some_and(|read| !time::within(read)) {
                return Some(Ok(fail("timestamp overflow")));
            }
            (read.map(Val::Time), "google.protobuf.Timestamp")
        }
        _ => return None,
    };
    Some(read.map(Ok).ok_or(name))
}

fn texts<'a>(op: Op, args: &[Val<'a>], spent: &mut Spent) -> Option<Out<Val<'a>>> {
    if op == Op::Join && args.first()?.is_list() {
        if let Some(Ok(first)) = args[0].nth(0) {
            first.as_str()?;
        }
        let by = args.get(1).map_or(Some(""), Val::as_str)?;
        return Some(text::join(&args[0], by, spent));
    }
    if matches!(op, Op::IndexOf | Op::LastIndexOf) && args.first()?.is_list() {
        let [list, wanted] = args else { return None };
        return Some(place_of(op == Op::LastIndexOf, list, wanted, spent));
    }
    let of = args.first()?.as_str()?;
    if let Err(why) = spent.work(of.len() / 8) {
        return Some(Err(why));
    }
    let one = args.get(1).and_then(Val::as_str);
    let two = args.get(2).and_then(Val::as_str);
    Some(match (op, args) {
        (Op::Contains, [_, _]) => Ok(Val::Bool(of.contains(one?))),
        (Op::StartsWith, [_, _]) => Ok(Val::Bool(of.starts_with(one?))),
        (Op::EndsWith, [_, _]) => Ok(Val::Bool(of.ends_with(one?))),
        (Op::Matches, [_, _]) => regex::matches(of, one?, spent),
        (Op::Find, [_, _]) => regex::find(of, one?, spent),
        (Op::FindAll, [_, _]) => regex::find_all(of, one?, -1, spent),
        (Op::FindAll, [_, _, Val::Int(most)]) => regex::find_all(of, one?, *most, spent),
        (Op::CharAt, [_, Val::Int(at)]) => text::char_at(of, *at),
        (Op::IndexOf, [_, _]) => text::index_of(of, one?, 0),
        (Op::IndexOf, [_, _, Val::Int(from)]) => text::index_of(of, one?, *from),
        (Op::LastIndexOf, [_, _]) => text::last_index_of(of, one?, None),
        (Op::LastIndexOf, [_, _, Val::Int(from)]) => text::last_index_of(of, one?, Some(*from)),
        (Op::LowerAscii, [_]) => Ok(Val::text(&of.to_ascii_lowercase())),
        (Op::UpperAscii, [_]) => Ok(Val::text(&of.to_ascii_uppercase())),
        (Op::Replace, [_, _, _]) => text::replace(of, one?, two?, -1, spent),
        (Op::Replace, [_, _, _, Val::Int(most)]) => text::replace(of, one?, two?, *most, spent),
        (Op::Split, [_, _]) => text::split(of, one?, -1, spent),
        (Op::Split, [_, _, Val::Int(most)]) => text::split(of, one?, *most, spent),
        (Op::Substring, [_, Val::Int(from)]) => text::substring(of, *from, None),
        (Op::Substring, [_, Val::Int(from), Val::Int(to)]) => text::substring(of, *from, Some(*to)),
        (Op::Trim, [_]) => Ok(Val::text(of.trim())),
        (Op::Format, [_, list]) if list.is_list() => format::format(of, list, spent),
        (Op::Quote, [_]) => Ok(text::quote(of)),
        _ => return None,
    })
}

fn place_of<'a>(last: bool, list: &Val<'a>, wanted: &Val<'a>, spent: &mut Spent) -> Out<Val<'a>> {
    let count = list.size().unwrap_or(0) as usize;
    for step in 0..count {
        let nth = if last { count - 1 - step } else { step };
        if let Some(Ok(element)) = list.nth(nth)
            && equal(&element, wanted, spent).unwrap_or(false)
        {
            return Ok(Val::Int(nth as i64));
        }
    }
    Ok(Val::Int(-1))
}

fn moments<'a>(op: Op, args: &[Val<'a>]) -> Option<Out<Val<'a>>> {
    let what = match op {
        Op::Year => Part::Year,
        Op::Month => Part::Month,
        Op::DayOfYear => Part::DayOfYear,
        Op::DayOfMonth => Part::DayOfMonth,
        Op::Date => Part::Date,
        Op::DayOfWeek => Part::DayOfWeek,
        Op::Hours => Part::Hours,
        Op::Minutes => Part::Minutes,
        Op::Seconds => Part::Seconds,
        Op::Milliseconds => Part::Milliseconds,
        _ => return None,
    };
    Some(match args {
        [Val::Time(stamp)] => time::part(*stamp, what, None),
        [Val::Time(stamp), zone] => time::part(*stamp, what, Some(zone.as_str()?)),
        [Val::Duration(nanos)]
            if matches!(op, Op::Hours | Op::Minutes | Op::Seconds | Op::Milliseconds) =>
        {
            Ok(time::duration_part(*nanos, what))
        }
        _ => return None,
    })
}
