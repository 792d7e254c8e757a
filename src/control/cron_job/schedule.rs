//! Cron schedules: five fields, `@daily` and its like, `@every`, in any time zone.
//!
//! A schedule matches every moment whose wall-clock reading in its zone matches: a time that the
//! clocks skip does not come, one that they repeat comes twice (robfig/cron's meaning).

use api::time::civil;
use stdx::time::Wall;

/// Schedules that match nothing within this many days match never (`0 0 30 2 *`).
const SEARCH_MAX_DAYS: usize = 5 * 366;

/// The moments at which a CronJob starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Schedule {
    Fields(Fields),
    /// Every so many seconds.
    Every(i64),
}

/// One bit per value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days and weekdays are alternatives, unless one of them is a star.
    any_day: bool,
}

/// A time zone: seconds east of UTC at a moment.
pub(super) struct Zone(Option<tz::TimeZone>);

impl Zone {
    pub(super) const UTC: Zone = Zone(None);

    /// A zone of the IANA database.
    pub(super) fn named(name: &str) -> Option<Zone> {
        match name {
            "UTC" | "Etc/UTC" => Some(Zone::UTC),
            _ => api::zones::find(name)
                .and_then(|data| tz::TimeZone::from_tz_data(data).ok())
                .map(|zone| Zone(Some(zone))),
        }
    }

    fn offset(&self, unix_secs: i64) -> i64 {
        let local = self.0.as_ref().and_then(|zone| zone.find_local_time_type(unix_secs).ok());
        local.map_or(0, |local| i64::from(local.ut_offset()))
    }

    /// RFC 3339 with the zone's own offset.
    pub(super) fn format(&self, at: Wall) -> String {
        let offset = self.offset(at.secs());
        let mut text = api::time::format(Wall::from_secs(at.secs() + offset));
        if offset != 0 {
            text.pop();
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
            text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
        text
    }
}

impl Schedule {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Schedule, String> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('@') {
            let fields = match name {
                "yearly" | "annually" => "0 0 1 1 *",
                "monthly" => "0 0 1 * *",
                "weekly" => "0 0 * * 0",
                "daily" | "midnight" => "0 0 * * *",
                "hourly" => "0 * * * *",
                _ => {
                    let every = name.strip_prefix("every ").and_then(duration_secs);
                    return every
                        .map(|secs| Schedule::Every(secs.max(1)))
                        .ok_or_else(|| format!("unrecognized descriptor: @{name}"));
                }
            };
            return Schedule::parse(fields);
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
            let (n, what) = (parts.len(), parts.join(" "));
            return Err(format!("expected exactly 5 fields, found {n}: [{what}]"));
        };
        let star = |field: &str| field.split(',').any(|part| part.starts_with(['*', '?']));
        Ok(Schedule::Fields(Fields {
            minutes: bits(minutes, 0, 59, &[])?,
            hours: bits(hours, 0, 23, &[])?,
            days: bits(days, 1, 31, &[])?,
            months: bits(months, 1, 12, MONTHS)?,
            weekdays: bits(weekdays, 0, 6, WEEKDAYS)?,
            any_day: !star(days) && !star(weekdays),
        }))
    }

    /// The first moment after `after`, if there ever is one.
    pub(super) fn next(&self, after: Wall, zone: &Zone) -> Option<Wall> {
        let fields = match self {
            Schedule::Every(secs) => return Some(Wall::from_secs(after.secs() + secs)),
            Schedule::Fields(fields) => fields,
        };
        let mut at = (after.secs().div_euclid(60) + 1) * 60;
        let mut days = 0;
        while days < SEARCH_MAX_DAYS {
            let local = at + zone.offset(at);
            let (_, month, day, secs) = civil(local);
            let weekday = (local.div_euclid(86_400) + 4).rem_euclid(7);
            if !fields.has_day(month, day, weekday) {
                days += 1;
                at = start_of_next_day(at, secs, zone);
            } else if !has(fields.hours, secs / 3600) {
                // Half an hour at a time, because some clocks change by that.
                at += 1800 - secs % 1800;
            } else if !has(fields.minutes, secs / 60 % 60) {
                at += 60 - secs % 60;
            } else {
                return Some(Wall::from_secs(at));
            }
        }
        None
    }
}

impl Fields {
    fn has_day(&self, month: i64, day: i64, weekday: i64) -> bool {
        let (by_day, by_weekday) = (has(self.days, day), has(self.weekdays, weekday));
        let day_matches = if self.any_day { by_day || by_weekday } else { by_day && by_weekday };
        has(self.months, month) && day_matches
    }
}

/// The first moment whose local date is a later one. `secs` is the local time of day at `at`.
fn start_of_next_day(at: i64, secs: i64, zone: &Zone) -> i64 {
    let next = at + 86_400 - secs;
    let local = next + zone.offset(next);
    // Clocks that went forward in between have passed midnight already.
    let past = local.rem_euclid(86_400);
    let back = next - past;
    let back_is_new_day = (back + zone.offset(back)).div_euclid(86_400) == local.div_euclid(86_400);
    if past > 0 && past < 43_200 && back > at && back_is_new_day { back } else { next }
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

fn has(bits: u64, value: i64) -> bool {
    u32::try_from(value).ok().and_then(|value| bits.checked_shr(value)).unwrap_or(0) & 1 == 1
}

/// A field's values: comma-separated `*`, `n`, `n-m`, each with an optional `/step`.
fn bits(field: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(idx) = names.iter().position(|name| *name == lower) {
            return Ok(min + u32::try_from(idx).unwrap_or(0));
        }
        text.parse().map_err(|_| format!("failed to parse int from {text}"))
    };
    let mut bits = 0u64;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (min, max),
            (_, Some((first, last))) => (number(first)?, number(last)?),
            // `n/step` goes to the end.
            (n, None) => (number(n)?, if step.is_some() { max } else { number(n)? }),
        };
        let step = step.unwrap_or(1);
        if first < min {
            return Err(format!("beginning of range ({first}) below minimum ({min}): {part}"));
        }
        if last > max {
            return Err(format!("end of range ({last}) above maximum ({max}): {part}"));
        }
        if first > last {
            return Err(format!(
                "beginning of range ({first}) beyond end of range ({last}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        for value in (first..=last).step_by(usize::try_from(step).unwrap_or(1)) {
            bits |= 1 << value;
        }
    }
    Ok(bits)
}

/// Go's duration text (`1h30m`), in whole seconds; the fraction is dropped as robfig/cron does.
fn duration_secs(text: &str) -> Option<i64> {
    let nanos = stdx::duration::parse(text.trim()).filter(|nanos| *nanos >= 0)?;
    Some(nanos / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_moments() {
        #[rustfmt::skip]
        let cases = [
            ("* * * * *", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2024-01-01T00:45:01Z", "2024-01-01T01:00:00Z"),
            ("0 3 * * *", "UTC", "2024-02-28T04:00:00Z", "2024-02-29T03:00:00Z"),
            ("0 0 29 2 *", "UTC", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 6 * * MON-FRI", "UTC", "2024-01-05T07:00:00Z", "2024-01-08T06:30:00Z"),
            ("0 0 13 * 5", "UTC", "2024-01-01T00:00:00Z", "2024-01-05T00:00:00Z"),
            ("0 0 1,15 jun *", "UTC", "2024-06-02T00:00:00Z", "2024-06-15T00:00:00Z"),
            ("5/20 * * * *", "UTC", "2024-01-01T00:26:00Z", "2024-01-01T00:45:00Z"),
            ("@hourly", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("@weekly", "UTC", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
            ("@monthly", "UTC", "2024-01-31T12:00:00Z", "2024-02-01T00:00:00Z"),
            ("@yearly", "UTC", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            ("@every 1h30m", "UTC", "2024-01-01T00:10:00Z", "2024-01-01T01:40:00Z"),
            ("0 9 * * *", "Europe/Berlin", "2024-07-01T00:00:00Z", "2024-07-01T07:00:00Z"),
            ("0 9 * * *", "Europe/Berlin", "2024-01-01T08:00:00Z", "2024-01-02T08:00:00Z"),
            ("0 9 * * *", "Asia/Kolkata", "2024-01-01T00:00:00Z", "2024-01-01T03:30:00Z"),
            // Clocks go forward at 02:00: 02:30 does not come that day.
            ("30 2 * * *", "America/New_York", "2024-03-10T05:00:00Z", "2024-03-11T06:30:00Z"),
            // Clocks go back at 02:00: 01:30 comes twice.
            ("30 1 * * *", "America/New_York", "2024-11-03T04:00:00Z", "2024-11-03T05:30:00Z"),
            ("30 1 * * *", "America/New_York", "2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"),
            // Clocks go forward at midnight.
            ("30 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T02:30:00Z"),
            // Half an hour back.
            ("40 1 * * *", "Australia/Lord_Howe", "2024-04-06T14:40:00Z", "2024-04-06T15:10:00Z"),
        ];
        for (text, zone, after, want) in cases {
            let schedule = Schedule::parse(text).unwrap();
            let zone = Zone::named(zone).unwrap();
            let next = schedule.next(api::time::parse(after).unwrap(), &zone).unwrap();
            assert_eq!(api::time::format(next), want, "{text} after {after}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next(Wall::default(), &Zone::UTC), None);
    }

    #[test]
    fn refusals() {
        for (text, why) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(Schedule::parse(text), Err(why.to_owned()), "{text}");
        }
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn times_in_zones() {
        let at = api::time::parse("2024-07-01T07:00:00Z").unwrap();
        let text = |zone: &str| Zone::named(zone).unwrap().format(at);
        assert_eq!(text("UTC"), "2024-07-01T07:00:00Z");
        assert_eq!(text("Europe/Berlin"), "2024-07-01T09:00:00+02:00");
        assert_eq!(text("America/St_Johns"), "2024-07-01T04:30:00-02:30");
    }
}
