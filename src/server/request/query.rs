//! Query strings: the options that upstream's conversion reads from them, with its leniency and its errors.

use api::status::Cause;
use api::{Kind, Status};
use client::{DeleteOptions, ListOptions};

/// More parameters than this are refused: no client sends a tenth of it.
const PARAMETERS_MAX: usize = 256;

/// Decoded parameters in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// If there are too many parameters.
    pub(crate) fn parse(text: &str) -> Result<Query, Status> {
        let mut parameters = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(Status::bad_request("too many query parameters"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((unescape(key, true), unescape(value, true)));
        }
        Ok(Query(parameters))
    }

    /// The first value of `key`, or "".
    pub(crate) fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or("")
    }

    /// The first value of `key`, if it is there.
    pub(crate) fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Upstream's boolean conversion: present and not "false" or "0" is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    pub(crate) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.find(key).map(|text| !matches!(text.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// # Errors
    /// If it is there and not a number.
    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.find(key) {
            None | Some("") => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Status::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                ))),
            },
        }
    }

    /// `ListOptions`.
    ///
    /// # Errors
    /// If a number is not one.
    pub(crate) fn list_options(&self) -> Result<ListOptions, Status> {
        let positive = |key| Ok::<_, Status>(self.int(key)?.and_then(|n| u64::try_from(n).ok()));
        Ok(ListOptions {
            label_selector: self.get("labelSelector").to_owned(),
            field_selector: self.get("fieldSelector").to_owned(),
            resource_version: self.get("resourceVersion").to_owned(),
            resource_version_match: self.get("resourceVersionMatch").to_owned(),
            limit: positive("limit")?.unwrap_or(0),
            continue_token: self.get("continue").to_owned(),
            allow_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.flag("sendInitialEvents"),
            timeout_secs: positive("timeoutSeconds")?,
        })
    }

    /// `DeleteOptions` as far as the query carries them.
    ///
    /// # Errors
    /// If a number is not one.
    pub(crate) fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let orphan = self.optional_flag("orphanDependents");
        let propagation = match (self.get("propagationPolicy"), orphan) {
            ("", Some(true)) => "Orphan",
            ("", Some(false)) => "Background",
            (policy, _) => policy,
        };
        Ok(DeleteOptions {
            grace_secs: self.int("gracePeriodSeconds")?,
            uid: None,
            resource_version: None,
            propagation: propagation.to_owned(),
        })
    }

    /// Whether `dryRun=All`.
    ///
    /// # Errors
    /// If it is any other word.
    pub(crate) fn dry_run(&self, options: &'static str) -> Result<bool, Status> {
        check_dry_run(options, self.all("dryRun"))
    }
}

/// Whether the list is exactly `All`.
///
/// # Errors
/// If it holds any other word.
pub(crate) fn check_dry_run<'a>(
    options: &'static str,
    values: impl Iterator<Item = &'a str>,
) -> Result<bool, Status> {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let given: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: []string{{{}}}: supported values: \"All\"",
            given.join(", ")
        );
        return Err(invalid_options(options, "FieldValueNotSupported", "dryRun", message));
    }
    Ok(!values.is_empty())
}

/// The refusal of an option, which is a kind of its own (`DeleteOptions`, ...).
pub(crate) fn invalid_options(
    options: &'static str,
    reason: &'static str,
    field: &str,
    message: String,
) -> Status {
    let kind = Kind { group: "meta.k8s.io", name: options, ..Kind::BASE };
    Status::invalid(&kind, "", vec![Cause { reason, message, field: field.into() }])
}

/// Decodes percent escapes, and `+` as a space where `plus` says so. Broken escapes stay as they
/// are; bytes that are not UTF-8 become replacement characters, which no name holds.
pub(crate) fn unescape(text: &str, plus: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut idx = 0;
    while idx < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[idx], digit(idx + 1), digit(idx + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                idx += 3;
                continue;
            }
            (b'+', _, _) if plus => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        idx += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Encodes for a query value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&watch&limit=5&empty=").unwrap();
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert_eq!(query.get("x"), "1 2");
        assert!(query.flag("watch") && !query.flag("nothing"));
        assert_eq!(query.list_options().unwrap().limit, 5);
        assert!(Query::parse("limit=x").unwrap().list_options().is_err());
        assert!(Query::parse("dryRun=Some").unwrap().dry_run("CreateOptions").is_err());
        assert!(Query::parse("dryRun=All").unwrap().dry_run("CreateOptions").unwrap());
        assert!(Query::parse(&"a=b&".repeat(1000)).is_err());
    }

    #[test]
    fn any_text_round_trips_and_nothing_panics() {
        let mut prng = stdx::prng::Prng::new(9);
        for _ in 0..10_000 {
            let text: String = (0..prng.below(20))
                .map(|_| char::from_u32(prng.below(0x300) as u32).unwrap_or('%'))
                .collect();
            assert_eq!(unescape(&escape(&text), true), text);
            let _ = Query::parse(&text).map(|query| query.list_options().is_ok());
            unescape(&text, false);
        }
    }
}
