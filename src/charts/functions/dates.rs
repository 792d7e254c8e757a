//! Times, by Go's layouts. The local zone is UTC, as it is where Helm runs in a cluster.

use stdx::duration;
use template::{Heap, Object, Run, Value};
use tz::TimeZone;

use super::text::{int, made, text};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("now", "", |engine, _, _| Ok(Value::object(now(engine)))),
    ("date", "sa", |engine, run, args| formatted(engine, run, &text(&args[0]), &args[1], "Local")),
    ("date_in_zone", "sas", in_zone),
    ("dateInZone", "sas", in_zone),
    ("htmlDate", "a", |engine, run, args| formatted(engine, run, "2006-01-02", &args[0], "Local")),
    ("htmlDateInZone", "as", |engine, run, args| {
        formatted(engine, run, "2006-01-02", &args[0], &text(&args[1]))
    }),
    ("dateModify", "sa", |_, _, args| modified(args, false)),
    ("date_modify", "sa", |_, _, args| modified(args, false)),
    ("mustDateModify", "sa", |_, _, args| modified(args, true)),
    ("must_date_modify", "sa", |_, _, args| modified(args, true)),
    ("toDate", "ss", |_, _, args| {
        Ok(Value::object(parse(&text(&args[0]), &text(&args[1])).unwrap_or(ZERO)))
    }),
    ("mustToDate", "ss", |_, _, args| {
        let (layout, source) = (text(&args[0]), text(&args[1]));
        match parse(&layout, &source) {
            Some(time) => Ok(Value::object(time)),
            None => Err(format!("parsing time {source:?} as {layout:?}: cannot parse {source:?}")),
        }
    }),
    ("unixEpoch", "a", |_, _, args| match as_time(&args[0]) {
        Some(time) => Ok(Value::text(time.seconds.to_string())),
        None => {
            Err(format!("wrong type for value; expected time.Time; got {}", args[0].type_name()))
        }
    }),
    ("ago", "a", |engine, run, args| {
        let then = moment(engine, &args[0]);
        let (now, then) = (now(engine).nanos(), then.nanos());
        let seconds = (now - then + 500_000_000).div_euclid(1_000_000_000);
        made(run.heap, span(seconds * 1_000_000_000))
    }),
    ("duration", "a", |_, run, args| {
        let seconds = match &args[0] {
            Value::Text(_) => text(&args[0]).parse().unwrap_or(0),
            Value::Int(n, template::Int::Int64) => *n,
            _ => 0,
        };
        made(run.heap, duration::format(seconds.wrapping_mul(1_000_000_000)))
    }),
    ("durationRound", "a", |engine, run, args| made(run.heap, rounded(engine, &args[0]))),
];

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment in a zone.
#[derive(Clone)]
struct Time {
    /// Since 1970, UTC.
    seconds: i64,
    nanos: u32,
    /// East of UTC, in seconds.
    offset: i32,
    zone: String,
}

/// Go's zero time: the first of January of the year 1.
const ZERO: Time = Time { seconds: -62_135_596_800, nanos: 0, offset: 0, zone: String::new() };

fn utc(seconds: i64, nanos: u32) -> Time {
    // Years of four digits, so that no arithmetic on them overflows.
    Time {
        seconds: seconds.clamp(ZERO.seconds, 253_402_300_799),
        nanos,
        offset: 0,
        zone: "UTC".into(),
    }
}

fn now(engine: &Engine<'_>) -> Time {
    let (seconds, nanos) = engine.world.now();
    utc(seconds, nanos)
}

fn as_time(value: &Value) -> Option<&Time> {
    match value {
        Value::Object(object) => object.as_any().downcast_ref(),
        _ => None,
    }
}

/// sprig's reading of a date: a time, seconds since 1970, or else now.
fn moment(engine: &Engine<'_>, value: &Value) -> Time {
    match (as_time(value), value) {
        (Some(time), _) => time.clone(),
        (_, Value::Int(seconds, _)) => utc(*seconds, 0),
        _ => now(engine),
    }
}

fn in_zone(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    formatted(engine, run, &text(&args[0]), &args[1], &text(&args[2]))
}

fn formatted(engine: &Engine<'_>, run: &Run<'_>, layout: &str, value: &Value, zone: &str) -> Out {
    let mut time = moment(engine, value);
    (time.offset, time.zone) = zone_at(zone, time.seconds);
    run.heap.charge(layout.len() * 4)?;
    made(run.heap, time.format(layout))
}

/// What a zone's clocks show at a moment; UTC's where it is not known.
fn zone_at(name: &str, at: i64) -> (i32, String) {
    let zone = wire::zones::find(name).and_then(|data| TimeZone::from_tz_data(data).ok());
    let found = zone.as_ref().and_then(|zone| zone.find_local_time_type(at).ok());
    match found {
        Some(found) => (found.ut_offset(), found.time_zone_designation().to_owned()),
        None => (0, "UTC".to_owned()),
    }
}

fn modified(args: Given<'_>, must: bool) -> Out {
    let Some(time) = as_time(&args[1]) else {
        let found = args[1].type_name();
        return Err(format!("wrong type for value; expected time.Time; got {found}"));
    };
    let by = text(&args[0]);
    match duration::parse(&by) {
        Some(nanos) => Ok(Value::object(time.plus(nanos))),
        None if must => Err(format!("time: invalid duration {by:?}")),
        None => Ok(args[1].clone()),
    }
}

fn rounded(engine: &Engine<'_>, value: &Value) -> String {
    let nanos = match (as_time(value), value) {
        (Some(time), _) => now(engine).nanos() - time.nanos(),
        (_, Value::Text(_)) => i128::from(duration::parse(&text(value)).unwrap_or(0)),
        (_, Value::Int(n, template::Int::Int64)) => i128::from(*n),
        _ => 0,
    };
    let seconds = nanos.unsigned_abs() / 1_000_000_000;
    const UNITS: [(u128, &str); 6] =
        [(31_536_000, "y"), (2_592_000, "mo"), (86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let has_more = |unit: u128| nanos.unsigned_abs() > unit * 1_000_000_000;
    match UNITS.iter().find(|(unit, _)| has_more(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => "0s".to_owned(),
    }
}

/// What Go prints of the time between two moments, which it holds for 292 years.
fn span(nanos: i128) -> String {
    let end = if nanos < 0 { i64::MIN } else { i64::MAX };
    duration::format(i64::try_from(nanos).unwrap_or(end))
}

/// The parts of layouts, longer ones before their beginnings.
const PARTS: &[&str] = &[
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "__2",
    "_2006",
    "_2",
    "15",
    "PM",
    "pm",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// The part that a layout begins with; a fraction of a second is one too.
fn part(layout: &str) -> Option<&str> {
    let bytes = layout.as_bytes();
    if matches!(bytes.first(), Some(b'.' | b','))
        && let Some(digit @ (b'0' | b'9')) = bytes.get(1)
    {
        let n = bytes[1..].iter().take_while(|byte| *byte == digit).count();
        if !bytes.get(n + 1).is_some_and(u8::is_ascii_digit) {
            return layout.get(..n + 1);
        }
    }
    let found = PARTS.iter().find(|part| layout.starts_with(**part))?;
    // `Janet` and `Monty` are no parts.
    let is_word = matches!(*found, "Jan" | "Mon")
        && layout[3..].starts_with(|c: char| c.is_ascii_lowercase());
    if is_word {
        return None;
    }
    if *found == "_2006" {
        return None;
    }
    layout.get(..found.len())
}

impl Time {
    fn nanos(&self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    fn plus(&self, nanos: i64) -> Time {
        let sum = self.nanos() + i128::from(nanos);
        let seconds = i64::try_from(sum.div_euclid(1_000_000_000)).unwrap_or(ZERO.seconds);
        let nanos = u32::try_from(sum.rem_euclid(1_000_000_000)).unwrap_or(0);
        Time { offset: self.offset, zone: self.zone.clone(), ..utc(seconds, nanos) }
    }

    /// Days since 1970 and seconds of the day, as the zone shows them.
    fn local(&self) -> (i64, i64) {
        let local = self.seconds + i64::from(self.offset);
        (local.div_euclid(86_400), local.rem_euclid(86_400))
    }

    fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        while let Some(c) = rest.chars().next() {
            match part(rest) {
                Some(part) => {
                    self.put(part, &mut out);
                    rest = &rest[part.len()..];
                }
                None if rest.starts_with("_2006") => {
                    out.push('_');
                    rest = &rest[1..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    fn put(&self, part: &str, out: &mut String) {
        let (days, second) = self.local();
        let (year, month, day) = stdx::time::civil(days);
        let weekday = DAYS[usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0)];
        let month_name = MONTHS[usize::try_from(month - 1).unwrap_or(0).min(11)];
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let half = if hour % 12 == 0 { 12 } else { hour % 12 };
        let year_day = days - stdx::time::days_from_civil(year, 1, 1) + 1;
        let text = match part {
            "January" => month_name.to_owned(),
            "Jan" => month_name[..3].to_owned(),
            "Monday" => weekday.to_owned(),
            "Mon" => weekday[..3].to_owned(),
            "MST" if self.zone.is_empty() => "UTC".to_owned(),
            "MST" => self.zone.clone(),
            "2006" => format!("{year:04}"),
            "06" => format!("{:02}", year % 100),
            "01" => format!("{month:02}"),
            "1" => month.to_string(),
            "002" => format!("{year_day:03}"),
            "__2" => format!("{year_day:3}"),
            "02" => format!("{day:02}"),
            "_2" => format!("{day:2}"),
            "2" => day.to_string(),
            "15" => format!("{hour:02}"),
            "03" => format!("{half:02}"),
            "3" => half.to_string(),
            "04" => format!("{minute:02}"),
            "4" => minute.to_string(),
            "05" => format!("{second:02}"),
            "5" => second.to_string(),
            "PM" => if hour >= 12 { "PM" } else { "AM" }.to_owned(),
            "pm" => if hour >= 12 { "pm" } else { "am" }.to_owned(),
            part if part.starts_with(['Z', '-']) => self.shift(part),
            fraction => {
                let digits = format!("{:09}", self.nanos);
                let n = (fraction.len() - 1).min(9);
                match fraction.ends_with('0') {
                    true => format!("{}{}", &fraction[..1], &digits[..n]),
                    false => match digits[..n].trim_end_matches('0') {
                        "" => String::new(),
                        digits => format!("{}{digits}", &fraction[..1]),
                    },
                }
            }
        };
        out.push_str(&text);
    }

    /// How far from UTC the zone is.
    fn shift(&self, part: &str) -> String {
        if part.starts_with('Z') && self.offset == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let offset = self.offset.unsigned_abs();
        let (hours, minutes, seconds) = (offset / 3600, offset / 60 % 60, offset % 60);
        match &part[1..] {
            "07" => format!("{sign}{hours:02}"),
            "0700" => format!("{sign}{hours:02}{minutes:02}"),
            "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
            "070000" => format!("{sign}{hours:02}{minutes:02}{seconds:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
        }
    }
}

/// A time by a layout, in UTC where it names no zone.
fn parse(layout: &str, source: &str) -> Option<Time> {
    let (mut year, mut month, mut day) = (1i64, 1i64, 1i64);
    let (mut hour, mut minute, mut second, mut nanos, mut offset) = (0i64, 0i64, 0i64, 0u32, 0i64);
    let (mut is_late, mut year_day) = (None, None);
    let mut zone = "UTC".to_owned();
    let (mut layout, mut rest) = (layout, source);
    let number = |rest: &mut &str, n_min: usize, n_max: usize| -> Option<i64> {
        let n = rest.bytes().take(n_max).take_while(u8::is_ascii_digit).count();
        let value = rest.get(..n).filter(|_| n >= n_min)?.parse().ok()?;
        *rest = &rest[n..];
        Some(value)
    };
    let name = |rest: &mut &str, names: &[&str], is_short: bool| -> Option<i64> {
        let found = names.iter().position(|name| {
            let name = if is_short { &name[..3] } else { *name };
            rest.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        })?;
        *rest = &rest[if is_short { 3 } else { names[found].len() }..];
        i64::try_from(found).ok()
    };
    while let Some(c) = layout.chars().next() {
        let Some(part) = part(layout) else {
            rest = rest.strip_prefix(c)?;
            layout = &layout[c.len_utf8()..];
            continue;
        };
        layout = &layout[part.len()..];
        match part {
            "January" => month = name(&mut rest, &MONTHS, false)? + 1,
            "Jan" => month = name(&mut rest, &MONTHS, true)? + 1,
            "Monday" => drop(name(&mut rest, &DAYS, false)?),
            "Mon" => drop(name(&mut rest, &DAYS, true)?),
            "MST" => {
                let n = rest.bytes().take_while(u8::is_ascii_uppercase).count();
                zone = rest.get(..n).filter(|_| n >= 3)?.to_owned();
                rest = &rest[n..];
            }
            "2006" => year = number(&mut rest, 4, 4)?,
            "06" => {
                let two = number(&mut rest, 2, 2)?;
                year = if two >= 69 { 1900 + two } else { 2000 + two };
            }
            "01" => month = number(&mut rest, 2, 2)?,
            "1" => month = number(&mut rest, 1, 2)?,
            "002" => year_day = Some(number(&mut rest, 3, 3)?),
            "__2" => {
                rest = rest.trim_start_matches(' ');
                year_day = Some(number(&mut rest, 1, 3)?);
            }
            "02" => day = number(&mut rest, 2, 2)?,
            "_2" => {
                rest = rest.strip_prefix(' ').unwrap_or(rest);
                day = number(&mut rest, 1, 2)?;
            }
            "2" => day = number(&mut rest, 1, 2)?,
            "15" => hour = number(&mut rest, 1, 2)?,
            "03" => hour = number(&mut rest, 2, 2)?,
            "3" => hour = number(&mut rest, 1, 2)?,
            "04" => minute = number(&mut rest, 2, 2)?,
            "4" => minute = number(&mut rest, 1, 2)?,
            "05" | "5" => {
                second = number(&mut rest, if part == "05" { 2 } else { 1 }, 2)?;
                // A fraction is taken even where the layout has none.
                if rest.starts_with(['.', ',']) && !layout.starts_with(['.', ',']) {
                    nanos = fraction(&mut rest)?;
                }
            }
            "PM" | "pm" => {
                let half = rest.get(..2)?;
                is_late = Some(match half.to_ascii_uppercase().as_str() {
                    "PM" => true,
                    "AM" => false,
                    _ => return None,
                });
                rest = &rest[2..];
            }
            part if part.starts_with('Z') && rest.starts_with('Z') => rest = &rest[1..],
            part if part.starts_with(['Z', '-']) => {
                let sign = match rest.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                rest = &rest[1..];
                let mut sum = number(&mut rest, 2, 2)? * 3600;
                for (idx, scale) in [60, 1].into_iter().enumerate() {
                    if part.bytes().filter(u8::is_ascii_digit).count() > 2 + 2 * idx {
                        if part.contains(':') {
                            rest = rest.strip_prefix(':')?;
                        }
                        sum += number(&mut rest, 2, 2)? * scale;
                    }
                }
                offset = sign * sum;
                zone = String::new();
            }
            part if part.ends_with('9') && !rest.starts_with(['.', ',']) => {}
            _ => nanos = fraction(&mut rest)?,
        }
    }
    if let Some(is_late) = is_late {
        hour = hour % 12 + if is_late { 12 } else { 0 };
    }
    let is_valid = (1..=12).contains(&month)
        && (1..=stdx::time::days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !rest.is_empty() || !is_valid {
        return None;
    }
    let days = match year_day {
        Some(nth) => stdx::time::days_from_civil(year, 1, 1) + nth - 1,
        None => stdx::time::days_from_civil(year, month, day),
    };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let offset = i32::try_from(offset).ok()?;
    Some(Time { offset, zone, ..utc(seconds, nanos) })
}

/// `.123`, in nanoseconds.
fn fraction(rest: &mut &str) -> Option<u32> {
    let digits = rest.strip_prefix(['.', ','])?;
    let n = digits.bytes().take_while(u8::is_ascii_digit).count();
    *rest = &digits[n..];
    format!("{:0<9}", &digits[..n.min(9)]).parse().ok()
}

impl Object for Time {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn method(&self, _: &Heap, name: &str, args: &[Value]) -> Option<Out> {
        let (days, second) = self.local();
        let (year, month, day) = stdx::time::civil(days);
        let other = args.first().and_then(as_time);
        Some(Ok(match (name, other) {
            ("Unix", _) => Value::int64(self.seconds),
            ("UnixMilli", _) => Value::int64(i64::try_from(self.nanos() / 1_000_000).ok()?),
            ("UnixMicro", _) => Value::int64(i64::try_from(self.nanos() / 1000).ok()?),
            ("UnixNano", _) => Value::int64(i64::try_from(self.nanos()).ok()?),
            ("Year", _) => Value::int(year),
            ("Month", _) => Value::text(MONTHS[usize::try_from(month - 1).ok()?]),
            ("Day", _) => Value::int(day),
            ("Hour", _) => Value::int(second / 3600),
            ("Minute", _) => Value::int(second / 60 % 60),
            ("Second", _) => Value::int(second % 60),
            ("Nanosecond", _) => Value::int(i64::from(self.nanos)),
            ("YearDay", _) => Value::int(days - stdx::time::days_from_civil(year, 1, 1) + 1),
            ("Weekday", _) => Value::text(DAYS[usize::try_from((days + 4).rem_euclid(7)).ok()?]),
            ("IsZero", _) => Value::Bool(self.seconds == ZERO.seconds && self.nanos == 0),
            ("UTC" | "Local", _) => Value::object(utc(self.seconds, self.nanos)),
            ("String", _) => Value::text(self.show()),
            ("Format", _) if args.len() == 1 => Value::text(self.format(&text(&args[0]))),
            ("AddDate", _) if args.len() == 3 => {
                let months = year * 12 + month - 1 + int(&args[0]) * 12 + int(&args[1]);
                let first = stdx::time::days_from_civil(
                    months.div_euclid(12).clamp(1, 9999),
                    months.rem_euclid(12) + 1,
                    1,
                );
                let days = first.saturating_add(day - 1).saturating_add(int(&args[2]));
                let seconds = days.saturating_mul(86_400).saturating_add(second);
                let seconds = seconds.saturating_sub(i64::from(self.offset));
                let time = utc(seconds, self.nanos);
                Value::object(Time { offset: self.offset, zone: self.zone.clone(), ..time })
            }
            ("Before", Some(other)) => Value::Bool(self.nanos() < other.nanos()),
            ("After", Some(other)) => Value::Bool(self.nanos() > other.nanos()),
            ("Equal", Some(other)) => Value::Bool(self.nanos() == other.nanos()),
            ("Sub", Some(other)) => Value::text(span(self.nanos() - other.nanos())),
            _ => return None,
        }))
    }

    fn show(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    fn plain(&self) -> Value {
        Value::text(self.format("2006-01-02T15:04:05.999999999Z07:00"))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
