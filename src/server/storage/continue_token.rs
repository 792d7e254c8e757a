//! `continue` tokens of paged lists, in upstream's form: base64 of `{"v":...,"rv":...,"start":...}`.

use api::status::Reason;
use api::{Lens, Status};

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The revision of the first page; `None` (-1 on the wire) continues at the newest state.
    pub(crate) revision: Option<u64>,
    /// The first key of the page, below the list's prefix.
    pub(crate) start: String,
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
    let text = format!(r#"{{"v":"{VERSION}","rv":{revision},"start":{start}}}"#);
    wire::base64::encode_url(text.as_bytes())
}

/// # Errors
/// 400 in upstream's words.
pub(crate) fn decode(text: &str) -> Result<Continue, Status> {
    let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
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
    Ok(Continue { revision, start: start.to_owned() })
}

/// The 410 that carries a token to go on with at the newest state.
pub(crate) fn expired(start: &str) -> Status {
    let token = encode(&Continue { revision: None, start: start.to_owned() });
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
        let token = Continue { revision: Some(7), start: "default/a\0".into() };
        assert_eq!(decode(&encode(&token)).unwrap(), token);
        let newest = Continue { revision: None, start: "b\0".into() };
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
