//! One line a request on standard output, as Traefik writes it: off unless it is asked for.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stdx::time::Wall;

use crate::flags::LogFormat;

/// Of a field that a client chose, as much is shown.
const SHOWN_MAX_BYTES: usize = 2 << 10;

/// What is known of a request before its answer.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) format: LogFormat,
    pub(crate) at: Wall,
    pub(crate) client: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) protocol: &'static str,
    pub(crate) host: String,
    pub(crate) referer: String,
    pub(crate) agent: String,
    pub(crate) entry: String,
    pub(crate) router: String,
    pub(crate) url: String,
}

impl Line {
    /// Writes it, with how the request ended.
    pub(crate) fn write(&self, code: u16, bytes: u64, took: Duration) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let text = match self.format {
            LogFormat::Common => self.common(code, bytes, took, count),
            LogFormat::Json => self.json(code, bytes, took, count),
        };
        // Whoever reads it may be gone; requests go on.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    fn common(&self, code: u16, bytes: u64, took: Duration, count: u64) -> String {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { quotable(text) };
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} - - [{}] \"{} {} {}\" {code} {bytes} \"{}\" \"{}\" {count} \"{}\" \"{}\" {}ms",
            self.client,
            api::time::format(self.at),
            quotable(&self.method),
            quotable(&self.target),
            self.protocol,
            or_dash(&self.referer),
            or_dash(&self.agent),
            or_dash(&self.router),
            or_dash(&self.url),
            took.as_millis(),
        );
        out
    }

    fn json(&self, code: u16, bytes: u64, took: Duration, count: u64) -> String {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let shown = |text: &str| text[..text.floor_char_boundary(SHOWN_MAX_BYTES)].to_owned();
        let tree = api::json!({
            "ClientAddr": self.client, "DownstreamStatus": code, "DownstreamContentSize": bytes, "Duration": nanos,
            "RequestCount": count, "RequestHost": shown(&self.host), "RequestMethod": shown(&self.method),
            "RequestPath": shown(&self.target), "RequestProtocol": self.protocol, "RouterName": self.router,
            "ServiceURL": self.url, "entryPointName": self.entry, "level": "info", "msg": "",
            "time": api::time::format(self.at), "request_Referer": shown(&self.referer), "request_User-Agent": shown(&self.agent),
        });
        format!("{tree}\n")
    }
}

/// A text that ends no line and no quote.
fn quotable(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(SHOWN_MAX_BYTES)];
    text.chars().map(|c| if c == '"' || c == '\\' || c.is_control() { '_' } else { c }).collect()
}
