//! Middlewares that ask others, look at bodies, or try again.

use api::{Lens, Value};
use regex_lite::Regex;

use crate::objects::PortRef;
use crate::read::{ITEMS_MAX, duration_ms, only, strings};
use crate::rule::regex;

/// `forwardAuth`: another service says whether a request may pass.
#[derive(Debug)]
pub struct ForwardAuth {
    pub address: String,
    /// What a client says of where it comes from is passed on.
    pub trust: bool,
    /// Fields of the request that are asked about; empty for all. In lower case, as all names here.
    pub asked: Vec<String>,
    /// Fields of the answer that the endpoint gets, and those whose names look like this.
    pub told: Vec<String>,
    pub told_like: Option<Regex>,
    /// Cookies of the answer that the client gets.
    pub cookies: Vec<String>,
    /// Gets the name of who is logged in, by basic authentication; "" for none.
    pub header_field: String,
    pub preserve_location: bool,
    pub preserve_method: bool,
    /// Any certificate is taken.
    pub insecure: bool,
    /// Of the answer's body.
    pub body_max_bytes: usize,
}

/// An answer that is not passed on is at most so large, if nobody says otherwise.
const BODY_MAX_BYTES: usize = 1 << 20;

impl ForwardAuth {
    pub(crate) fn read(own: &Value) -> Result<ForwardAuth, String> {
        const KNOWN: &[&str] = &[
            "address",
            "trustForwardHeader",
            "authRequestHeaders",
            "authResponseHeaders",
            "authResponseHeadersRegex",
            "addAuthCookiesToResponse",
            "headerField",
            "preserveLocationHeader",
            "preserveRequestMethod",
            "maxResponseBodySize",
            "tls",
        ];
        only(own, "forwardAuth", KNOWN)?;
        only(own.at("tls"), "forwardAuth: tls", &["insecureSkipVerify"])?;
        let address = own.str("address");
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(format!("forwardAuth: {address:?} is no URL of http or https"));
        }
        let lower = |name: &str| -> Vec<String> {
            strings(own, name).iter().map(|name| name.to_ascii_lowercase()).collect()
        };
        let bytes = own.int("maxResponseBodySize").and_then(|n| usize::try_from(n).ok());
        Ok(ForwardAuth {
            address: address.into(),
            trust: own.flag("trustForwardHeader"),
            asked: lower("authRequestHeaders"),
            told: lower("authResponseHeaders"),
            told_like: match own.str("authResponseHeadersRegex") {
                "" => None,
                // Names of fields are in lower case here, and as they are written with Traefik.
                pattern => Some(regex(&format!("(?i:{pattern})"))?),
            },
            cookies: strings(own, "addAuthCookiesToResponse"),
            header_field: own.str("headerField").to_ascii_lowercase(),
            preserve_location: own.flag("preserveLocationHeader"),
            preserve_method: own.flag("preserveRequestMethod"),
            insecure: own.flag("tls.insecureSkipVerify"),
            body_max_bytes: bytes.unwrap_or(BODY_MAX_BYTES).min(BODY_MAX_BYTES),
        })
    }
}

/// `retry`: requests that nobody answered are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// With the first one.
    pub attempts: u32,
    /// Before the second attempt; each wait after it is twice as long.
    pub interval_ms: u64,
}

impl Retry {
    pub(crate) fn read(own: &Value) -> Result<Retry, String> {
        const ATTEMPTS_MAX: i64 = 32;
        only(own, "retry", &["attempts", "initialInterval"])?;
        let attempts = own.int("attempts").filter(|n| (1..=ATTEMPTS_MAX).contains(n));
        let attempts = attempts.and_then(|n| u32::try_from(n).ok());
        Ok(Retry {
            attempts: attempts
                .ok_or_else(|| format!("retry: attempts are not 1 to {ATTEMPTS_MAX}"))?,
            interval_ms: duration_ms(own.at("initialInterval"), 0)?,
        })
    }
}

/// `compress`: answers are sent as gzip to who takes that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// Types of contents that are left as they are.
    pub excluded: Vec<String>,
    /// Those that are not; empty for all others.
    pub included: Vec<String>,
    /// Shorter answers are left as they are.
    pub min_bytes: u64,
}

impl Compress {
    pub(crate) fn read(own: &Value) -> Result<Compress, String> {
        const KNOWN: &[&str] = &[
            "excludedContentTypes",
            "includedContentTypes",
            "minResponseBodyBytes",
            "encodings",
            "defaultEncoding",
        ];
        only(own, "compress", KNOWN)?;
        let encodings = strings(own, "encodings");
        if !encodings.is_empty() && !encodings.iter().any(|one| one == "gzip") {
            return Err("compress: of encodings there is gzip only".into());
        }
        let types = |name: &str| -> Vec<String> {
            strings(own, name).iter().map(|text| text.to_ascii_lowercase()).collect()
        };
        let min = own.int("minResponseBodyBytes").and_then(|n| u64::try_from(n).ok());
        Ok(Compress {
            excluded: types("excludedContentTypes"),
            included: types("includedContentTypes"),
            min_bytes: min.unwrap_or(1024),
        })
    }
}

/// `buffering`, of which there are the limits: bodies stream by and are not kept. 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    pub request_max_bytes: u64,
    pub response_max_bytes: u64,
}

impl Buffering {
    pub(crate) fn read(own: &Value) -> Result<Buffering, String> {
        const KNOWN: &[&str] = &[
            "maxRequestBodyBytes",
            "memRequestBodyBytes",
            "maxResponseBodyBytes",
            "memResponseBodyBytes",
        ];
        only(own, "buffering", KNOWN)?;
        let bytes = |name: &str| own.int(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        Ok(Buffering {
            request_max_bytes: bytes("maxRequestBodyBytes"),
            response_max_bytes: bytes("maxResponseBodyBytes"),
        })
    }
}

/// `errors`: another service has the pages for answers of these codes.
#[derive(Clone, Debug)]
pub struct Errors {
    codes: Vec<(u16, u16)>,
    rewrites: Vec<((u16, u16), u16)>,
    query: String,
    /// The Service and its port.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) port: PortRef,
    /// The table's service of this number.
    pub service: usize,
}

impl Errors {
    pub(crate) fn read(own: &Value) -> Result<Errors, String> {
        only(own, "errors", &["status", "statusRewrites", "service", "query"])?;
        let service = own.at("service");
        only(service, "errors: service", &["name", "namespace", "kind", "port"])?;
        if !matches!(service.str("kind"), "" | "Service") {
            return Err("errors: a service that is a TraefikService is not supported".into());
        }
        let codes = strings(own, "status");
        let rewrites = own.at("statusRewrites").as_object().into_iter().flatten().take(ITEMS_MAX);
        let rewrites = rewrites.map(|(range, code)| {
            let code = code.as_u64().and_then(|code| u16::try_from(code).ok());
            let code = code.filter(|code| (200..600).contains(code));
            Ok((codes_of(range)?, code.ok_or("errors: a code of statusRewrites is none")?))
        });
        Ok(Errors {
            codes: codes.iter().map(|text| codes_of(text)).collect::<Result<_, _>>()?,
            rewrites: rewrites.collect::<Result<_, String>>()?,
            query: own.str("query").into(),
            name: service.str("name").into(),
            namespace: service.str("namespace").into(),
            port: PortRef::read(service.at("port")),
            service: 0,
        })
    }

    /// The same, with the service that has the pages.
    pub(crate) fn at(&self, service: usize) -> Errors {
        Errors { service, ..self.clone() }
    }

    /// Where the page for a code is, with the code that it is sent with; `None` for answers that stay.
    pub fn page(&self, code: u16, url: &str) -> Option<(String, u16)> {
        let within = |range: &(u16, u16)| (range.0..=range.1).contains(&code);
        self.codes.iter().find(|range| within(range))?;
        let found = self.rewrites.iter().find(|(range, _)| within(range));
        let sent = found.map_or(code, |(_, code)| *code);
        let target = self
            .query
            .replace("{status}", &sent.to_string())
            .replace("{originalStatus}", &code.to_string())
            .replace("{url}", &wire::percent::escape(url, wire::percent::is_unreserved));
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some((format!("{slash}{target}"), sent))
    }
}

/// `404`, or `500-599`.
fn codes_of(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("errors: {text:?} is no code, and no range of codes");
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (number(low)?, number(high)?);
    if low <= high { Ok((low, high)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn pages_for_errors() {
        let errors = Errors::read(&json!({
            "status": ["404", "500-599"], "statusRewrites": {"418": 404, "502-504": 500},
            "query": "/{status}/{originalStatus}?u={url}", "service": {"name": "pages", "port": 80},
        }))
        .unwrap();
        let page = |code| errors.page(code, "http://x/?a b");
        let at = |path: &str, code| Some((format!("{path}?u=http%3A%2F%2Fx%2F%3Fa%20b"), code));
        assert_eq!(page(404), at("/404/404", 404));
        assert_eq!(page(503), at("/500/503", 500));
        assert_eq!((page(200), page(418)), (None, None));
        for bad in ["x", "500-400", "99999", "-"] {
            assert!(Errors::read(&json!({"status": [bad], "service": {}})).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let auth = |more: Value| {
            let mut own = json!({"address": "http://auth.test/"});
            more.as_object().unwrap().iter().for_each(|(k, v)| own[k] = v.clone());
            ForwardAuth::read(&own).map(|auth| auth.told)
        };
        assert_eq!(auth(json!({"authResponseHeaders": ["X-User"]})).unwrap(), ["x-user"]);
        assert!(auth(json!({"forwardBody": true})).is_err());
        assert!(auth(json!({"tls": {"caSecret": "x"}})).is_err());
        assert!(auth(json!({"address": "auth.test"})).is_err());
        assert!(Compress::read(&json!({"encodings": ["br"]})).is_err());
        assert!(Compress::read(&json!({"encodings": ["br", "gzip"]})).is_ok());
        assert!(Buffering::read(&json!({"retryExpression": "Attempts() < 3"})).is_err());
        let retry = Retry::read(&json!({"attempts": 3, "initialInterval": "100ms"})).unwrap();
        assert_eq!(retry, Retry { attempts: 3, interval_ms: 100 });
        assert!(Retry::read(&json!({"attempts": 0})).is_err());
    }
}
