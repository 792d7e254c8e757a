//! `format()`: the clauses of its text and what they make of their arguments.

use stdx::Arrange;

use crate::value::go::{go_float, go_quote, go_shown};
use crate::value::spend::Spent;
use crate::value::{Out, Val, fail};

/// More digits behind the point than any number has.
const PRECISION_MAX: usize = 1000;

/// The text with each clause replaced by its argument.
pub(crate) fn format(text: &str, args: &Val<'_>, spent: &mut Spent) -> Out<Val<'static>> {
    let mut out = String::new();
    let mut nth = 0;
    clauses(text, &mut |piece| {
        let (clause, precision) = match piece {
            Piece::Text(text) => {
                spent.bytes(text.len())?;
                out.push_str(text);
                return Ok(());
            }
            Piece::Begins => {
                let there = (nth as u64) < args.size().unwrap_or(0);
                return if there { Ok(()) } else { fail(format!("index {nth} out of range")) };
            }
            Piece::Clause(clause, precision) => (clause, precision),
        };
        let Some(arg) = args.nth(nth) else { return fail(format!("index {nth} out of range")) };
        nth += 1;
        let before = out.len();
        let written = clause_of(&mut out, clause, precision, &arg?, spent);
        spent.bytes(out.len() - before)?;
        written.or_else(|why| match why.cancelled {
            true => Err(why),
            false => fail(format!("error during formatting: {}", why.message)),
        })
    })?;
    Ok(Val::text(&out))
}

/// A part of a text for `format()`.
pub(crate) enum Piece<'t> {
    Text(&'t str),
    /// A clause begins: there must be an argument for it.
    Begins,
    /// A letter, and how many digits it wants.
    Clause(char, Option<usize>),
}

/// Calls `see` for each part of a text for `format()`.
pub(crate) fn clauses(text: &str, see: &mut dyn FnMut(Piece<'_>) -> Out<()>) -> Out<()> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        see(Piece::Text(&rest[..at]))?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            see(Piece::Text("%"))?;
            rest = after;
            continue;
        }
        see(Piece::Begins)?;
        let Some(mut clause) = rest.chars().next() else {
            return fail("unexpected end of string");
        };
        let mut precision = None;
        if clause == '.' {
            let frame = "could not parse formatting clause: error while parsing precision: ";
            let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest[1..].split_at(digits);
            let Some(next) = after.chars().next() else {
                return fail(format!("{frame}could not find end of precision specifier"));
            };
            let Some(read) = number.parse().ok().filter(|read| *read <= PRECISION_MAX) else {
                let why = format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(number));
                return fail(format!("{frame}error while converting precision to integer: {why}"));
            };
            (precision, clause, rest) = (Some(read), next, after);
        }
        if !"sdfebxXo".contains(clause) {
            // Upstream looks at a byte.
            let byte = char::from(rest.as_bytes()[0]);
            let why = format!("unrecognized formatting clause \"{byte}\"");
            return fail(format!("could not parse formatting clause: {why}"));
        }
        see(Piece::Clause(clause, precision))?;
        rest = &rest[clause.len_utf8()..];
    }
    see(Piece::Text(rest))
}

/// What a clause takes, in upstream's words.
pub(crate) fn takes(clause: char) -> &'static str {
    match clause {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        _ => "only integers, byte buffers, and strings can be formatted as hex",
    }
}

fn clause_of(
    out: &mut String,
    clause: char,
    precision: Option<usize>,
    arg: &Val<'_>,
    spent: &mut Spent,
) -> Out<()> {
    let digits = precision.unwrap_or(6);
    match (clause, arg) {
        ('s', arg) => return shown(out, arg, false, spent),
        ('d', Val::Int(int)) => out.push_str(&int.to_string()),
        ('d', Val::Uint(uint)) => out.push_str(&uint.to_string()),
        ('f' | 'e', arg) => {
            let number = match (arg, arg.as_str()) {
                (Val::Double(number), _) => *number,
                (_, Some("NaN")) => f64::NAN,
                (_, Some("Infinity")) => f64::INFINITY,
                (_, Some("-Infinity")) => f64::NEG_INFINITY,
                _ => return fail(format!("{}, was given {}", takes(clause), arg.kind())),
            };
            number_in_english(out, number, digits, clause == 'e');
        }
        ('b', Val::Bool(is)) => out.push(if *is { '1' } else { '0' }),
        ('b' | 'o' | 'x' | 'X', Val::Int(int)) => {
            if *int < 0 {
                out.push('-');
            }
            radix(out, clause, int.unsigned_abs());
        }
        ('b' | 'o' | 'x' | 'X', Val::Uint(uint)) => radix(out, clause, *uint),
        ('x' | 'X', Val::Bytes(bytes)) => hex(out, clause, bytes),
        ('x' | 'X', arg) if arg.as_str().is_some() => {
            hex(out, clause, arg.as_str().unwrap_or("").as_bytes());
        }
        (clause, arg) => return fail(format!("{}, was given {}", takes(clause), arg.kind())),
    }
    Ok(())
}

fn radix(out: &mut String, clause: char, number: u64) {
    out.push_str(&match clause {
        'b' => format!("{number:b}"),
        'o' => format!("{number:o}"),
        'x' => format!("{number:x}"),
        _ => format!("{number:X}"),
    });
}

fn hex(out: &mut String, clause: char, bytes: &[u8]) {
    for byte in bytes {
        let pair = format!("{byte:02x}");
        out.push_str(&if clause == 'X' { pair.to_ascii_uppercase() } else { pair });
    }
}

/// A number as English writes it: thousands apart, powers of ten raised.
fn number_in_english(out: &mut String, number: f64, digits: usize, scientific: bool) {
    if number.is_nan() {
        return out.push_str("NaN");
    }
    if number.is_infinite() {
        return out.push_str(if number > 0.0 { "∞" } else { "-∞" });
    }
    if scientific {
        // Upstream takes the precision for the width.
        let begins = out.chars().count();
        let written = format!("{number:.6e}");
        let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        out.push_str(mantissa);
        out.push_str("\u{202f}×\u{202f}10");
        if exponent.starts_with('-') {
            out.push('⁻');
        }
        let exponent = exponent.trim_start_matches('-');
        for digit in format!("{exponent:0>2}").bytes() {
            let raised = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
            out.push(raised[usize::from(digit - b'0') % 10]);
        }
        let width = out.chars().count() - begins;
        let at = out.char_indices().nth(begins).map_or(0, |(at, _)| at);
        out.insert_str(at, &" ".repeat(digits.saturating_sub(width)));
        return;
    }
    let written = format!("{:.digits$}", number.abs());
    let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
    if number.is_sign_negative() {
        out.push('-');
    }
    for (nth, digit) in whole.char_indices() {
        if nth > 0 && (whole.len() - nth) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
}

/// A value as `%s` shows it; inside of a list or map as the language writes it.
fn shown(out: &mut String, of: &Val<'_>, inside: bool, spent: &mut Spent) -> Out<()> {
    spent.work(1)?;
    let before = out.len();
    match of {
        Val::Null => out.push_str("null"),
        Val::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
        Val::Int(int) => out.push_str(&int.to_string()),
        Val::Uint(uint) => out.push_str(&uint.to_string()),
        Val::Double(double) if inside => {
            let text =
                if double.is_finite() { format!("{double:.6}") } else { go_float(*double, 6) };
            out.push_str(&if double.is_finite() { text } else { go_quote(&text) });
        }
        Val::Double(double) => out.push_str(&go_float(*double, 6)),
        Val::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if inside => out.push_str(&format!("b{}", go_quote(text))),
            Ok(text) => out.push_str(text),
            Err(_) => {
                return fail(
                    "could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string",
                );
            }
        },
        Val::Time(stamp) if inside => out.push_str(&format!("timestamp(\"{}\")", stamp.shown())),
        Val::Duration(nanos) if inside => {
            out.push_str(&format!("duration(\"{}\")", crate::value::time::shown(*nanos)));
        }
        Val::Time(_) | Val::Duration(_) => out.push_str(&go_shown(of)),
        Val::Type(name) => out.push_str(name),
        list if list.is_list() => {
            out.push('[');
            let mut nth = 0;
            while let Some(element) = list.nth(nth) {
                out.push_str(if nth > 0 { ", " } else { "" });
                shown(out, &element?, true, spent)?;
                nth += 1;
            }
            out.push(']');
        }
        map if map.is_map() => map_shown(out, map, spent)?,
        other => match other.as_str() {
            Some(text) if inside => out.push_str(&go_quote(text)),
            Some(text) => out.push_str(text),
            None if inside => {
                return fail(format!("no formatting function for {}", other.kind()));
            }
            None => return fail(format!("{}, was given {}", takes('s'), other.kind())),
        },
    }
    spent.bytes(out.len() - before)
}

fn map_shown(out: &mut String, map: &Val<'_>, spent: &mut Spent) -> Out<()> {
    let mut pairs = Vec::new();
    for key in map.keys() {
        if !matches!(key, Val::Bool(_) | Val::Int(_) | Val::Uint(_)) && key.as_str().is_none() {
            return fail(format!("no formatting function for map key of type {}", key.kind()));
        }
        let mut pair = String::new();
        shown(&mut pair, &key, true, spent)?;
        let length = pair.len();
        pair.push(':');
        if let Some(value) = map.find(&key, spent)? {
            shown(&mut pair, &value, true, spent)?;
        }
        pairs.push((length, pair));
    }
    pairs.arrange_by(|(one, a), (other, b)| a[..*one].cmp(&b[..*other]));
    let texts: Vec<String> = pairs.into_iter().map(|(_, pair)| pair).collect();
    out.push('{');
    out.push_str(&texts.join(", "));
    out.push('}');
    Ok(())
}
