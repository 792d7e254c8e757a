//! Numbers: integers as Go has them, decimals for what must be exact, and sequences.

use std::rc::Rc;

use template::{List, Run, Value};

use super::text::{int, made, text, to_float, to_int};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("int", "a", |_, _, args| Ok(Value::int(to_int(&args[0])))),
    ("int64", "a", |_, _, args| Ok(Value::int64(to_int(&args[0])))),
    ("float64", "a", |_, _, args| Ok(Value::Float(to_float(&args[0])))),
    ("atoi", "s", |_, _, args| Ok(Value::int(text(&args[0]).parse().unwrap_or(0)))),
    ("toDecimal", "a", |_, run, args| {
        let shown = template::sprint(&args[0], run.heap)?;
        Ok(Value::int64(i64::from_str_radix(&shown, 8).unwrap_or(0)))
    }),
    ("add1", "a", |_, _, args| Ok(Value::int64(to_int(&args[0]).wrapping_add(1)))),
    ("add", "a*", |_, _, args| {
        Ok(Value::int64(args.iter().map(to_int).fold(0, i64::wrapping_add)))
    }),
    ("sub", "aa", |_, _, args| Ok(Value::int64(to_int(&args[0]).wrapping_sub(to_int(&args[1]))))),
    ("mul", "aa*", |_, _, args| {
        Ok(Value::int64(args.iter().map(to_int).fold(1, i64::wrapping_mul)))
    }),
    ("div", "aa", |_, _, args| match to_int(&args[1]) {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        by => Ok(Value::int64(to_int(&args[0]).wrapping_div(by))),
    }),
    ("mod", "aa", |_, _, args| match to_int(&args[1]) {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        by => Ok(Value::int64(to_int(&args[0]).wrapping_rem(by))),
    }),
    ("max", "aa*", |_, _, args| Ok(Value::int64(args.iter().map(to_int).max().unwrap_or(0)))),
    ("biggest", "aa*", |_, _, args| Ok(Value::int64(args.iter().map(to_int).max().unwrap_or(0)))),
    ("min", "aa*", |_, _, args| Ok(Value::int64(args.iter().map(to_int).min().unwrap_or(0)))),
    ("maxf", "aa*", |_, _, args| {
        Ok(Value::Float(args.iter().map(to_float).fold(f64::MIN, f64::max)))
    }),
    ("minf", "aa*", |_, _, args| {
        Ok(Value::Float(args.iter().map(to_float).fold(f64::MAX, f64::min)))
    }),
    ("ceil", "a", |_, _, args| Ok(Value::Float(to_float(&args[0]).ceil()))),
    ("floor", "a", |_, _, args| Ok(Value::Float(to_float(&args[0]).floor()))),
    ("round", "aia*", round),
    ("add1f", "a", |_, _, args| fold(&[args[0].clone(), Value::int(1)], Decimal::plus)),
    ("addf", "a*", |_, _, args| {
        let mut all = vec![Value::Float(0.0)];
        all.extend_from_slice(args);
        fold(&all, Decimal::plus)
    }),
    ("subf", "aa*", |_, _, args| fold(args, |a, b| a.plus(Decimal { units: -b.units, ..b }))),
    ("mulf", "aa*", |_, _, args| fold(args, Decimal::times)),
    ("divf", "aa*", |_, _, args| match args[1..].iter().any(|arg| to_float(arg) == 0.0) {
        true => Err("decimal division by 0".to_owned()),
        false => fold(args, Decimal::over),
    }),
    ("until", "i", |_, run, args| {
        let end = int(&args[0]);
        sequence(run, 0, end, if end < 0 { -1 } else { 1 })
    }),
    ("untilStep", "iii", |_, run, args| sequence(run, int(&args[0]), int(&args[1]), int(&args[2]))),
    ("seq", "i*", seq),
    ("randInt", "ii", |engine, _, args| {
        let (low, high) = (int(&args[0]), int(&args[1]));
        match u32::try_from(high.saturating_sub(low)) {
            Ok(range) if range > 0 => Ok(Value::int(low + i64::from(engine.below(range)?))),
            _ => Err("invalid argument to Intn".to_owned()),
        }
    }),
];

fn round(_: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    let places = i32::try_from(int(&args[1])).unwrap_or(0).clamp(-300, 300);
    let round_on = args.get(2).map_or(0.5, to_float);
    let power = 10f64.powi(places);
    let digits = to_float(&args[0]) * power;
    let rounded = if digits.fract() >= round_on { digits.ceil() } else { digits.floor() };
    Ok(Value::Float(rounded / power))
}

fn count(start: i64, stop: i64, step: i64) -> usize {
    let distance = i128::from(stop) - i128::from(start);
    let step = i128::from(step);
    if step == 0 || (distance < 0) != (step < 0) || distance == 0 {
        return 0;
    }
    usize::try_from((distance.abs() + step.abs() - 1) / step.abs()).unwrap_or(usize::MAX)
}

fn numbers(run: &Run<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, String> {
    let n = count(start, stop, step);
    run.heap.charge(n.saturating_mul(32))?;
    run.heap.step(n as u64)?;
    let mut out = Vec::with_capacity(n);
    let mut at = start;
    for _ in 0..n {
        out.push(at);
        at = at.saturating_add(step);
    }
    Ok(out)
}

fn sequence(run: &Run<'_>, start: i64, stop: i64, step: i64) -> Out {
    let items = numbers(run, start, stop, step)?.into_iter().map(Value::int).collect();
    Ok(Value::List(Rc::new(List { type_name: "[]int", items })))
}

fn seq(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let n: Vec<i64> = args.iter().map(int).collect();
    let (start, end, step) = match n[..] {
        [end] => (1, end, if end < 1 { -1 } else { 1 }),
        [start, end] => (start, end, if end < start { -1 } else { 1 }),
        [start, step, end] if end < start && step > 0 || step == 0 => return Ok(Value::text("")),
        [start, step, end] => (start, end, step),
        _ => return Ok(Value::text("")),
    };
    let stop = end.saturating_add(step.signum());
    let shown: Vec<String> =
        numbers(run, start, stop, step)?.iter().map(ToString::to_string).collect();
    made(run.heap, shown.join(" "))
}

/// A number of decimal digits, as far as 128 bits hold it.
#[derive(Clone, Copy)]
struct Decimal {
    units: i128,
    /// Digits behind the point.
    places: u32,
}

/// Places of a quotient.
const QUOTIENT_PLACES: u32 = 16;

fn fold(args: &[Value], step: fn(Decimal, Decimal) -> Option<Decimal>) -> Out {
    let mut numbers = args.iter().map(|arg| Decimal::read(to_float(arg)));
    let first = numbers.next().flatten();
    let folded = numbers.fold(first, |sum, next| step(sum?, next?));
    match folded {
        Some(decimal) => Ok(Value::Float(decimal.to_float())),
        None => Err("the numbers are too large for decimal arithmetic".to_owned()),
    }
}

impl Decimal {
    fn read(n: f64) -> Option<Decimal> {
        let raw = format!("{n}");
        let (whole, fraction) = raw.split_once('.').unwrap_or((&raw, ""));
        let units = format!("{whole}{fraction}").parse().ok()?;
        Some(Decimal { units, places: u32::try_from(fraction.len()).ok()? })
    }

    fn at(self, places: u32) -> Option<i128> {
        self.units.checked_mul(10i128.checked_pow(places - self.places)?)
    }

    fn plus(self, other: Decimal) -> Option<Decimal> {
        let places = self.places.max(other.places);
        Some(Decimal { units: self.at(places)?.checked_add(other.at(places)?)?, places })
    }

    fn times(self, other: Decimal) -> Option<Decimal> {
        let units = self.units.checked_mul(other.units)?;
        Some(Decimal { units, places: self.places + other.places })
    }

    fn over(self, other: Decimal) -> Option<Decimal> {
        let places = QUOTIENT_PLACES + other.places;
        let above = match places.checked_sub(self.places) {
            Some(more) => self.units.checked_mul(10i128.checked_pow(more)?)?,
            None => self.units / 10i128.checked_pow(self.places - places)?,
        };
        let (quotient, rest) = (above.checked_div(other.units)?, above % other.units);
        let is_up = rest.checked_abs()?.checked_mul(2)? >= other.units.checked_abs()?;
        let sign = above.signum() * other.units.signum();
        let units = quotient + if is_up { sign } else { 0 };
        Some(Decimal { units, places: QUOTIENT_PLACES })
    }

    fn to_float(self) -> f64 {
        let digits = self.units.unsigned_abs().to_string();
        let places = self.places as usize;
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let sign = if self.units < 0 { "-" } else { "" };
        format!("{sign}{whole}.{fraction}0").parse().unwrap_or(0.0)
    }
}
