//! `continue` tokens of paged lists, in upstream's form: base64 of `{"v":...,"rv":...,"start":...}`, and when the list began.

use api::status::Reason;
use api::{Lens, Status};

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The revision of the first page; `None` (-1 on the wire) continues at the newest state.
    pub(crate) revision: Option<u64>,
    /// The first key of the page, below the list's prefix.
    pub(crate) start: String,
    /// When the first page was read, in seconds since 1970.
    pub(crate) since: i64,
}

/// How long a list may be read on as it was: upstream's datastore forgets what is older, clients count on
/// being told so, and what is kept here for them is not for ever either.
const AGE_MAX_SECS: i64 = 300;

impl Continue {
    /// A list that begins now.
    pub(crate) fn begins(revision: u64, start: String) -> Continue {
        Continue { revision: Some(revision), start, since: now_secs() }
    }

    pub(crate) fn is_too_old(&self) -> bool {
        self.revision.is_some() && now_secs().saturating_sub(self.since) > AGE_MAX_SECS
    }
}

pub(crate) fn now_secs() -> i64 {
    rt::now().wall.0 / 1_000_000_000
}

const VERSION: &str = "meta.k8s.io/v1";

/// A token longer than this was not made by us: keys are bounded.
const TOKEN_MAX_BYTES: usize = 8 * 1024;

pub(crate) fn encode(token: &Continue) -> String {
    let revision = match token.revision {
        Some(revision) => i64::try_from(revision).unwrap_or(i64::MAX),
        None => -1,
    };
    let start = api::Value::from(token.start.as_str());
    let since = token.since;
    let text = format!(r#"{{"v":"{VERSION}","rv":{revision},"start":{start},"since":{since}}}"#);
    wire::base64::encode_url(text.as_bytes())
}

/// # Errors
/// 400 in upstream's words.
pub(crate) fn decode(text: &str) -> Result<Continue, Status> {
    let bad = |why: &str| {
        let message = format!("invalid continue token: continue key is not valid: {why}");
        Status::bad_request(message)
    };
    if text.len() > TOKEN_MAX_BYTES {
        return Err(bad("too long"));
    }
    // Old clients may have kept padding.
    let bytes = wire::base64::decode_url(text.trim_end_matches('='))
        .ok_or_else(|| bad("illegal base64 data"))?;
    let tree: api::Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    if tree.str("v") != VERSION {
        return Err(bad("server does not recognize this encoded version"));
    }
    let start = tree.str("start");
    if start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    if start.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(&format!("incorrect encoded start key: {start}")));
    }
    let revision = match tree.int("rv") {
        Some(0) | None => {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        Some(revision) => u64::try_from(revision).ok(),
    };
    // Whoever changes when it began reads what is still there.
    let since = tree.int("since").unwrap_or_else(now_secs);
    Ok(Continue { revision, start: start.to_owned(), since })
}

/// The 410 that carries a token to go on with at the newest state.
pub(crate) fn expired(start: &str) -> Status {
    let token = encode(&Continue { revision: None, start: start.to_owned(), since: now_secs() });
    Status::new(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    )
    .with_continue(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        let token = Continue { revision: Some(7), start: "default/a\0".into(), since: 5 };
        assert!(token.is_too_old() && !Continue::begins(7, "a".into()).is_too_old());
        assert_eq!(decode(&encode(&token)).unwrap(), token);
        let newest = Continue { revision: None, start: "b\0".into(), since: 5 };
        assert!(!newest.is_too_old());
        assert_eq!(decode(&encode(&newest)).unwrap(), newest);
        let raw = |text: &str| wire::base64::encode_url(text.as_bytes());
        for bad in [
            "%%".to_owned(),
            raw("{}"),
            raw("[1"),
            raw(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"x"}"#),
            raw(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            "A".repeat(100_000),
        ] {
            assert_eq!(decode(&bad).unwrap_err().code(), 400, "{bad}");
        }
    }
}
