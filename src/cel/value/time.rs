//! Timestamps and durations as Go reads and writes them.

use stdx::time::{civil, days_from_civil as days};

use super::{Out, Val, fail};

const NANOS: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z and the last second of the year 9999.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// A moment, and the zone in which it was written.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Since the Unix epoch.
    pub seconds: i64,
    pub nanos: u32,
    /// East of UTC, in seconds.
    pub offset: i32,
}

/// The first moment there is.
pub(crate) const ZERO: Stamp = Stamp { seconds: SECONDS_MIN, nanos: 0, offset: 0 };

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        self.key() == other.key()
    }
}

impl Stamp {
    /// What moments are ordered by.
    pub(crate) fn key(self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// A moment, if it lies within the years 1 to 9999.
    pub(crate) fn at(seconds: i64, nanos: u32, offset: i32) -> Option<Stamp> {
        let known = (SECONDS_MIN..=SECONDS_MAX).contains(&seconds);
        known.then_some(Stamp { seconds, nanos, offset })
    }

    /// This moment and `nanos` more.
    pub(crate) fn plus(self, nanos: i64) -> Out<Stamp> {
        let total = i64::from(self.nanos) + nanos.rem_euclid(NANOS);
        let seconds = self.seconds.checked_add(nanos.div_euclid(NANOS));
        let seconds = seconds.and_then(|seconds| seconds.checked_add(total / NANOS));
        let stamp = seconds.and_then(|at| Stamp::at(at, (total % NANOS) as u32, self.offset));
        stamp.map_or_else(|| fail("timestamp overflow"), Ok)
    }

    /// The time since `other`, in nanoseconds.
    pub(crate) fn since(self, other: Stamp) -> Out<i64> {
        let seconds = self.seconds - other.seconds;
        let nanos = i64::from(self.nanos) - i64::from(other.nanos);
        let scaled = seconds.checked_mul(NANOS).and_then(|scaled| scaled.checked_add(nanos));
        scaled.map_or_else(|| fail("integer overflow"), Ok)
    }

    /// In RFC 3339, as short as it is exact.
    pub(crate) fn shown(self) -> String {
        let local = self.seconds + i64::from(self.offset);
        let (year, month, day) = civil(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let mut out = format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        if self.nanos > 0 {
            out.push_str(format!(".{:09}", self.nanos).trim_end_matches('0'));
        }
        if self.offset == 0 {
            out.push('Z');
        } else {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let minutes = self.offset.abs() / 60;
            out.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
        out
    }
}

/// A moment in RFC 3339.
pub(crate) fn stamp(text: &str) -> Option<Stamp> {
    let (date, rest) = text.split_once('T')?;
    let number = |text: &str, width: usize| -> Option<i64> {
        (text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().ok())?
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let next = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
    if day > next - days(year, month, 1) {
        return None;
    }
    let zone = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let (clock, fraction) = match clock.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, fraction),
        None => (clock, "0"),
    };
    let mut parts = clock.split(':');
    let hour = parts.next()?;
    let hour = number(hour, hour.len().clamp(1, 2))?;
    let (minute, second) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let offset = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let east = (hours * 60 + minutes) * 60;
            if zone.starts_with('-') { -east } else { east }
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Stamp { seconds, nanos: nanos.parse().ok()?, offset: offset as i32 })
}

/// Whether a moment that was read lies within what can be written.
pub(crate) fn within(stamp: Stamp) -> bool {
    (SECONDS_MIN..=SECONDS_MAX).contains(&stamp.seconds)
}

/// A duration in seconds, as `string()` shows it.
pub(crate) fn shown(nanos: i64) -> String {
    // Go's `Seconds`: whole seconds and the rest, added as doubles.
    let seconds = (nanos / NANOS) as f64 + (nanos % NANOS) as f64 / 1e9;
    format!("{seconds}s")
}

/// What a method of a timestamp asks for.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Year,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// A part of a moment in a zone: UTC if none is given.
pub(crate) fn part(of: Stamp, what: Part, zone: Option<&str>) -> Out<Val<'static>> {
    let offset = match zone {
        None => 0,
        Some(zone) => offset(zone, of.seconds)?,
    };
    let local = of.seconds + offset;
    let day = local.div_euclid(86_400);
    let second = local.rem_euclid(86_400);
    let (year, month, date) = civil(day);
    Ok(Val::Int(match what {
        Part::Year => year,
        Part::Month => month - 1,
        Part::DayOfYear => day - days(year, 1, 1),
        Part::DayOfMonth => date - 1,
        Part::Date => date,
        Part::DayOfWeek => (day + 4).rem_euclid(7),
        Part::Hours => second / 3600,
        Part::Minutes => second / 60 % 60,
        Part::Seconds => second % 60,
        Part::Milliseconds => i64::from(of.nanos) / 1_000_000,
    }))
}

/// A part of a duration: all of it in that unit, but of milliseconds.
pub(crate) fn duration_part(nanos: i64, what: Part) -> Val<'static> {
    Val::Int(match what {
        Part::Hours => nanos / (3600 * NANOS),
        Part::Minutes => nanos / (60 * NANOS),
        Part::Seconds => nanos / NANOS,
        _ => nanos / 1_000_000,
    })
}

/// How far east of UTC a zone is at a moment, in seconds: `+01:30` or a name.
fn offset(zone: &str, at: i64) -> Out<i64> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| -> Out<i64> {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match text.trim_start_matches('+').parse::<i64>() {
                Ok(number) if plain => Ok(number.clamp(-1_000_000, 1_000_000)),
                _ => fail(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")),
            }
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes = if zone.starts_with('-') { -minutes } else { minutes };
        return Ok((hours * 60 + minutes) * 60);
    }
    if matches!(zone, "" | "UTC") {
        return Ok(0);
    }
    let known = wire::zones::find(zone).and_then(|data| tz::TimeZone::from_tz_data(data).ok());
    let found = known.as_ref().and_then(|known| known.find_local_time_type(at).ok());
    match found {
        Some(found) => Ok(i64::from(found.ut_offset())),
        None => fail(format!("unknown time zone {zone}")),
    }
}

#[cfg(test)]
mod tests {
    use super::stamp;

    #[test]
    fn zones_begin_with_their_sign() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:30:00+01:30", Some(0)),
            ("1970-01-01T00:00:00-00:01", Some(60)),
            ("1970-01-01T00:00:00Z01:00", None),
            ("1970-01-01T00:00:00+0100", None),
        ] {
            assert_eq!(stamp(text).map(|stamp| stamp.seconds), seconds, "{text}");
        }
    }
}
