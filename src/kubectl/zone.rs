//! The local time zone: what `TZ` names, or the machine's own.

use crate::call::Call;

/// A zone's file.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The rules of a time zone; none for UTC.
pub(crate) struct Zone(Option<tz::TimeZone>);

impl Zone {
    /// As Go's `time.Local`: an empty or unknown `TZ` is UTC.
    pub(crate) fn of(call: &Call<'_>) -> Zone {
        let read = |path: &str| rt::fs::read_within(path, FILE_MAX_BYTES).ok();
        let bytes = match (call.world.env)("TZ") {
            None => read("/etc/localtime"),
            Some(name) => match name.trim_start_matches(':') {
                "" => None,
                path if path.starts_with('/') => read(path),
                name => wire::zones::find(name).map(<[u8]>::to_vec),
            },
        };
        Zone(bytes.and_then(|bytes| tz::TimeZone::from_tz_data(&bytes).ok()))
    }

    /// How many seconds local time is ahead at a moment, and what it is called.
    pub(crate) fn at(&self, unix_secs: i64) -> (i64, String) {
        let found = self.0.as_ref().and_then(|zone| zone.find_local_time_type(unix_secs).ok());
        match found {
            Some(kind) => (i64::from(kind.ut_offset()), kind.time_zone_designation().to_owned()),
            None => (0, "UTC".to_owned()),
        }
    }
}
