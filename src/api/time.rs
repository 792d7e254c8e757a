//! RFC 3339 times as the API writes them: `Time` in whole seconds, `MicroTime` with six digits, UTC.

use stdx::time::Wall;

/// A moment as objects may hold it: the years 0 to 9999, more than `Wall` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    secs: i64,
    nanos: u32,
}

impl Stamp {
    /// 0000-01-01T00:00:00Z
    const SECS_MIN: i64 = -62_167_219_200;
    /// 9999-12-31T23:59:59Z
    const SECS_MAX: i64 = 253_402_300_799;
    /// 0001-01-01T00:00:00Z
    const ZERO_SECS: i64 = -62_135_596_800;

    /// A moment outside the calendar becomes its nearest one.
    pub fn new(secs: i64, nanos: i64) -> Stamp {
        let nanos = u32::try_from(nanos.clamp(0, 999_999_999)).unwrap_or(0);
        Stamp { secs: secs.clamp(Stamp::SECS_MIN, Stamp::SECS_MAX), nanos }
    }

    /// Reads RFC 3339 as Go does: any offset, a fraction of any length.
    pub fn parse(text: &str) -> Option<Stamp> {
        parse_stamp(text)
    }

    /// Go's zero time, which is written as null.
    pub fn is_zero(self) -> bool {
        self.secs == Stamp::ZERO_SECS && self.nanos == 0
    }

    pub fn secs(self) -> i64 {
        self.secs
    }

    pub fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// `2024-01-01T00:00:00Z`, as metav1.Time prints it.
    pub fn format(self) -> String {
        let (year, month, day, secs) = civil(self.secs);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            secs / 3600,
            secs / 60 % 60,
            secs % 60
        )
    }

    /// `2024-01-01T00:00:00.000000Z`, as metav1.MicroTime prints it.
    pub fn format_micro(self) -> String {
        let mut text = self.format();
        text.pop();
        text.push_str(&format!(".{:06}Z", self.nanos / 1000));
        text
    }
}

impl From<Wall> for Stamp {
    fn from(time: Wall) -> Stamp {
        Stamp::new(time.secs(), i64::from(time.subsec_nanos()))
    }
}

/// `2024-01-01T00:00:00Z`, as metav1.Time prints it.
pub fn format(time: Wall) -> String {
    Stamp::from(time).format()
}

/// `2024-01-01T00:00:00.000000Z`, as metav1.MicroTime prints it.
pub fn format_micro(time: Wall) -> String {
    Stamp::from(time).format_micro()
}

/// Reads RFC 3339; what is too far away for a `Wall` becomes the nearest one.
pub fn parse(text: &str) -> Option<Wall> {
    let stamp = parse_stamp(text)?;
    let nanos = i64::from(stamp.nanos);
    Some(Wall(stamp.secs.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

fn parse_stamp(text: &str) -> Option<Stamp> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(idx, want)| bytes[*idx] != *want) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > stdx::time::days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut idx = 19;
    let mut nanos = 0i64;
    if matches!(bytes[idx], b'.' | b',') {
        let start = idx + 1;
        idx = start;
        while idx < bytes.len() && bytes[idx].is_ascii_digit() {
            idx += 1;
        }
        if idx == start {
            return None;
        }
        // What is finer than nanoseconds does not count.
        let end = idx.min(start + 9);
        nanos = number(start, end)?;
        for _ in end - start..9 {
            nanos *= 10;
        }
    }
    let offset_secs = match bytes.get(idx)? {
        b'Z' if idx + 1 == bytes.len() => 0,
        sign @ (b'+' | b'-') if idx + 6 == bytes.len() && bytes[idx + 3] == b':' => {
            let (hours, minutes) = (number(idx + 1, idx + 3)?, number(idx + 4, idx + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let secs = hours * 3600 + minutes * 60;
            if *sign == b'+' { secs } else { -secs }
        }
        _ => return None,
    };
    let days = stdx::time::days_from_civil(year, month, day);
    let secs = days * 86_400 + hour * 3600 + minute * 60 + second - offset_secs;
    Some(Stamp::new(secs, nanos))
}

/// Year, month, day and second of the day of a Unix time.
pub fn civil(unix_secs: i64) -> (i64, i64, i64, i64) {
    let (days, secs) = (unix_secs.div_euclid(86_400), unix_secs.rem_euclid(86_400));
    let (year, month, day) = stdx::time::civil(days);
    (year, month, day, secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_rejects() {
        for secs in [0, 951_782_400, 1_704_067_200, 4_102_444_799, -1] {
            let time = Wall::from_secs(secs);
            assert_eq!(parse(&format(time)), Some(time));
        }
        assert_eq!(format(Wall::from_secs(1_709_164_800)), "2024-02-29T00:00:00Z");
        assert_eq!(parse("2024-01-01T01:00:00.5+01:00"), Some(Wall(1_704_067_200_500_000_000)));
        assert_eq!(format_micro(Wall(1_704_067_200_123_456_789)), "2024-01-01T00:00:00.123456Z");
        for text in [
            "0000-01-01T00:00:00Z",
            "1600-02-29T12:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
        ] {
            let stamp = Stamp::parse(text).unwrap();
            assert_eq!(stamp.format(), text);
            assert_eq!(Stamp::new(stamp.secs(), 0), stamp);
        }
        assert!(Stamp::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        let fine = Stamp::parse("1960-01-01T00:00:00,1234567891Z").unwrap();
        assert_eq!(fine.format_micro(), "1960-01-01T00:00:00.123456Z");
        for bad in [
            "",
            "2024-01-01T00:00:60Z",
            "2024-01-01t00:00:00z",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
