//! Flags as kubectl's library reads them, and its words for what is wrong with one.

use crate::failure::{Failure, Outcome};

/// What a flag's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Switch,
    Int,
    Duration,
    /// Values between commas, and given several times.
    List,
    /// Given several times, each a value with its commas.
    Array,
    /// `key=value` between commas, and given several times.
    Pairs,
}

/// A flag. A table of them is a constant; several tables make a command's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// `'\0'` for none.
    pub(crate) short: char,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// Its value when it is given without one; "" if it must have one.
    pub(crate) bare: &'static str,
    pub(crate) about: &'static str,
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Flag {
    Flag { name, short: '\0', kind, default, bare: "", about }
}

pub(crate) const fn text(name: &'static str, default: &'static str, about: &'static str) -> Flag {
    flag(name, Kind::Text, default, about)
}

pub(crate) const fn switch(name: &'static str, about: &'static str) -> Flag {
    Flag { bare: "true", ..flag(name, Kind::Switch, "false", about) }
}

/// A switch that is on unless it is switched off.
pub(crate) const fn switched_on(name: &'static str, about: &'static str) -> Flag {
    Flag { bare: "true", ..flag(name, Kind::Switch, "true", about) }
}

pub(crate) const fn int(name: &'static str, default: &'static str, about: &'static str) -> Flag {
    flag(name, Kind::Int, default, about)
}

pub(crate) const fn duration(
    name: &'static str,
    default: &'static str,
    about: &'static str,
) -> Flag {
    flag(name, Kind::Duration, default, about)
}

pub(crate) const fn list(name: &'static str, about: &'static str) -> Flag {
    flag(name, Kind::List, "", about)
}

pub(crate) const fn array(name: &'static str, about: &'static str) -> Flag {
    flag(name, Kind::Array, "", about)
}

pub(crate) const fn pairs(name: &'static str, about: &'static str) -> Flag {
    flag(name, Kind::Pairs, "", about)
}

/// The pairs in one value of such a flag. One with a single `=` is one pair, whatever commas it has.
pub(crate) fn split_pairs(value: &str) -> Vec<&str> {
    match value.matches('=').count() {
        1 => vec![value],
        _ => value.split(',').collect(),
    }
}

impl Flag {
    pub(crate) const fn short(self, short: char) -> Flag {
        Flag { short, ..self }
    }

    /// It may stand without a value, and then means `bare`.
    pub(crate) const fn bare(self, bare: &'static str) -> Flag {
        Flag { bare, ..self }
    }

    /// How messages call it.
    fn shown(&self) -> String {
        match self.short {
            '\0' => format!("--{}", self.name),
            short => format!("-{short}, --{}", self.name),
        }
    }

    fn check(&self, value: &str) -> Outcome {
        let why = match self.kind {
            Kind::Switch if truth(value).is_none() => {
                format!("strconv.ParseBool: parsing {value:?}: invalid syntax")
            }
            Kind::Int if value.parse::<i64>().is_err() => {
                format!("strconv.ParseInt: parsing {value:?}: invalid syntax")
            }
            Kind::Pairs => match split_pairs(value).iter().find(|pair| !pair.contains('=')) {
                Some(pair) => format!("{pair} must be formatted as key=value"),
                None => return Ok(()),
            },
            Kind::Duration => match parse_duration(value) {
                Some(_) => return Ok(()),
                None if value.parse::<u64>().is_ok_and(|n| n > 0) => {
                    format!("time: missing unit in duration {value:?}")
                }
                None => format!("time: invalid duration {value:?}"),
            },
            _ => return Ok(()),
        };
        Err(Failure::Message(format!(
            "invalid argument {value:?} for {:?} flag: {why}",
            self.shown()
        )))
    }
}

/// A truth as Go reads it.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go reads it (`1h2m3.5s`), in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..at].parse().ok()?;
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1f64,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        nanos += number * unit;
        rest = &rest[end..];
    }
    // Far beyond any duration that somebody means.
    if nanos.is_nan() || nanos > 9e18 || text.len() < 2 {
        return None;
    }
    let nanos = nanos as i64;
    Some(if negative { -nanos } else { nanos })
}

/// What was given on a command line.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) flags: Vec<(&'static str, String)>,
    pub(crate) args: Vec<String>,
    /// How many arguments stand before `--`, if there is one.
    pub(crate) dash: Option<usize>,
}

/// Reads `args`, of which those at `skip` name the command.
///
/// # Errors
/// For a flag that is unknown, lacks its value or has a bad one.
pub(crate) fn read(args: &[String], skip: &[usize], known: &[&'static [Flag]]) -> Outcome<Given> {
    let mut given = Given::default();
    let mut idx = 0;
    while let Some(arg) = args.get(idx) {
        idx += 1;
        if skip.contains(&(idx - 1)) {
            continue;
        }
        let next = args.get(idx).map(String::as_str);
        let took = if arg == "--" {
            given.dash = Some(given.args.len());
            given.args.extend(args[idx..].iter().cloned());
            return Ok(given);
        } else if let Some(long) = arg.strip_prefix("--") {
            read_long(long, next, known, &mut given)?
        } else if arg.len() > 1 && arg.starts_with('-') {
            read_short(&arg[1..], next, known, &mut given)?
        } else {
            given.args.push(arg.clone());
            false
        };
        idx += usize::from(took);
    }
    Ok(given)
}

fn find(known: &[&'static [Flag]], is_it: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    known.iter().flat_map(|table| table.iter()).find(|flag| is_it(flag))
}

/// Reads `name` or `name=value`; true if the next argument was its value.
fn read_long(
    long: &str,
    next: Option<&str>,
    known: &[&'static [Flag]],
    given: &mut Given,
) -> Outcome<bool> {
    let (name, inline) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(Failure::Message(format!("bad flag syntax: --{long}")));
    }
    let Some(flag) = find(known, |flag| flag.name == name.replace('_', "-")) else {
        if name == "help" {
            return Err(Failure::Exit(HELP));
        }
        return Err(Failure::Message(format!("unknown flag: --{name}")));
    };
    let (value, took) = match (inline, flag.bare, next) {
        (Some(value), ..) => (value, false),
        (None, "", Some(next)) => (next, true),
        (None, "", None) => {
            return Err(Failure::Message(format!("flag needs an argument: --{name}")));
        }
        (None, bare, _) => (bare, false),
    };
    flag.check(value)?;
    given.flags.push((flag.name, value.to_owned()));
    Ok(took)
}

/// What [`read`] gives as an exit code where help is wanted; nobody exits with it.
pub(crate) const HELP: u8 = 255;

/// Reads one-letter flags, of which the last may have a value.
fn read_short(
    letters: &str,
    next: Option<&str>,
    known: &[&'static [Flag]],
    given: &mut Given,
) -> Outcome<bool> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let Some(flag) = find(known, |flag| flag.short == letter) else {
            if letter == 'h' {
                return Err(Failure::Exit(HELP));
            }
            return Err(Failure::Message(format!(
                "unknown shorthand flag: {letter:?} in -{letters}"
            )));
        };
        let (value, took) = match (rest.strip_prefix('='), flag.bare, next) {
            (Some(value), ..) => (value, false),
            (None, "", _) if !rest.is_empty() => (rest, false),
            (None, "", Some(next)) => (next, true),
            (None, "", None) => {
                let text = format!("flag needs an argument: {letter:?} in -{letters}");
                return Err(Failure::Message(text));
            }
            (None, bare, _) => {
                flag.check(bare)?;
                given.flags.push((flag.name, bare.to_owned()));
                continue;
            }
        };
        flag.check(value)?;
        given.flags.push((flag.name, value.to_owned()));
        return Ok(took);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        switch("watch", "").short('w'),
        text("output", "", "").short('o'),
        text("dry-run", "none", "").bare("unchanged"),
        duration("timeout", "0s", ""),
    ];

    fn check(line: &str) -> String {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match read(&args, &[], &[KNOWN]) {
            Ok(given) => {
                let flags: Vec<String> =
                    given.flags.iter().map(|(n, v)| format!("{n}={v}")).collect();
                format!("{} | {} | {:?}", flags.join(" "), given.args.join(" "), given.dash)
            }
            Err(failure) => failure.text(),
        }
    }

    #[test]
    fn flags_are_read_as_upstream_reads_them() {
        assert_eq!(
            check("a -wo yaml b --dry-run c"),
            "watch=true output=yaml dry-run=unchanged | a b c | None"
        );
        assert_eq!(
            check("-oyaml -w=false a -- -x --y"),
            "output=yaml watch=false | a -x --y | Some(1)"
        );
        assert_eq!(check("--output"), "flag needs an argument: --output");
        assert_eq!(check("-zq"), "unknown shorthand flag: 'z' in -zq");
        assert_eq!(
            check("--watch=maybe"),
            "invalid argument \"maybe\" for \"-w, --watch\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
        assert_eq!(
            check("--timeout 5"),
            "invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\""
        );
        assert_eq!(parse_duration("1h2m3.5s"), Some(3_723_500_000_000));
    }
}
