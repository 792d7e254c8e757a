//! What a cron job's schedule may look like; what it means is the controller's.
//!
//! Source: github.com/robfig/cron/v3, `ParseStandard`, and its complaints.

/// A month or a day of the week by name.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Five fields, or one of the words that stand for them, after an optional time zone.
///
/// # Errors
/// The complaint about the first fault.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if let Some(zoned) = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ="))
    {
        let (zone, after) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if !matches!(zone, "" | "Local") && !is_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != 5 {
        let n_fields = fields.len();
        return Err(format!("expected exactly 5 fields, found {n_fields}: [{}]", fields.join(" ")));
    }
    let bounds = [(0, 59, &[][..]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    for (field, (low, high, names)) in fields.iter().zip(bounds) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            range(part, low, high, names)?;
        }
    }
    Ok(())
}

/// Whether the database knows a zone by exactly this name.
pub(super) fn is_zone(name: &str) -> bool {
    api::zones::is_known(name)
}

fn descriptor(word: &str) -> Result<(), String> {
    let known = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if known.contains(&word) {
        return Ok(());
    }
    let Some(every) = word.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {word}"));
    };
    match stdx::duration::parse(every) {
        Some(_) => Ok(()),
        None => Err(format!("failed to parse duration {word}: time: invalid duration {every:?}")),
    }
}

/// `3`, `1-5`, `*/10`, `mon-fri`.
fn range(part: &str, min: i64, max: i64, names: &[&str]) -> Result<(), String> {
    let range_and_step: Vec<&str> = part.split('/').collect();
    let limits: Vec<&str> = range_and_step[0].split('-').collect();
    let (start, mut end) = match limits[..] {
        ["*" | "?", ..] => (min, max),
        [one] => {
            let one = number(one, min, names)?;
            (one, one)
        }
        [low, high] => (number(low, min, names)?, number(high, min, names)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = match range_and_step[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step, min, &[])?;
            if limits.len() == 1 {
                end = max;
            }
            step
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {part}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {part}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

fn number(text: &str, min: i64, names: &[&str]) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(idx) = names.iter().position(|name| *name == lower) {
        return Ok(i64::try_from(idx).unwrap_or(0) + min);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        ));
    }
    match text.parse::<i64>() {
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range"
        )),
        Ok(negative) if negative < 0 => {
            Err(format!("negative number ({negative}) not allowed: {text}"))
        }
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for good in [
            "* * * * *",
            "*/10 0-5 1,15 jan-MAR sun",
            "@daily",
            "@every 1h30m",
            "? ? ? ? ?",
            "TZ=Asia/Tokyo 0 0 * * *",
            "3/5 * * * *",
            "0 0 30 2 *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("a b", "expected exactly 5 fields, found 2: [a b]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@never", "unrecognized descriptor: @never"),
            (
                "@every soon",
                "failed to parse duration @every soon: time: invalid duration \"soon\"",
            ),
            (
                "TZ=Mars/Base * * * * *",
                "provided bad location Mars/Base: unknown time zone Mars/Base",
            ),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }

    #[test]
    fn zones_are_found_by_their_exact_names() {
        for known in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(is_zone(known), "{known}");
        }
        for unknown in ["", "Local", "europe/berlin", "Mars/Base"] {
            assert!(!is_zone(unknown), "{unknown}");
        }
    }
}
