//! Traefik's Middlewares: what is done with a request before it is passed on, and with its answer.

use api::{Lens, Value};
use regex_lite::Regex;

use crate::ask::Cidr;
use crate::asking::{Buffering, Compress, Errors, ForwardAuth, Retry};
use crate::breaker::Breaker;
use crate::filters::{Modify, Redirect, Rewrite};
use crate::read::{ITEMS_MAX, duration_ms, only, strings};
use crate::rule::regex;

/// Users of one basic authentication.
const USERS_MAX: usize = 4096;

/// One Middleware.
#[derive(Debug)]
pub enum Middleware {
    AddPrefix(String),
    StripPrefix(Vec<String>),
    StripPrefixRegex(Vec<Regex>),
    ReplacePath(String),
    ReplacePathRegex {
        regex: Regex,
        replacement: String,
    },
    RedirectScheme {
        scheme: String,
        port: String,
        permanent: bool,
    },
    RedirectRegex {
        regex: Regex,
        replacement: String,
        permanent: bool,
    },
    Headers(Box<Fields>),
    BasicAuth(Box<BasicAuth>),
    IpAllowList {
        blocks: Vec<Cidr>,
        depth: usize,
        status: u16,
    },
    InFlightReq {
        amount: usize,
    },
    RateLimit {
        average: u32,
        period_ms: u64,
        burst: u32,
        depth: usize,
    },
    ForwardAuth(Box<ForwardAuth>),
    Retry(Retry),
    Compress(Box<Compress>),
    Buffering(Buffering),
    Errors(Box<Errors>),
    CircuitBreaker(Box<Breaker>),
    /// Others, by their names in the same namespace unless they say another.
    Chain(Vec<Reference>),
    /// Gateway API's filters.
    ModifyRequest(Modify),
    ModifyResponse(Modify),
    Redirect(Redirect),
    Rewrite(Rewrite),
    /// So many of so many requests are also sent to the table's service of this number.
    Mirror {
        service: usize,
        numerator: u32,
        denominator: u32,
    },
}

/// What is asked of a connection before it is passed on.
#[derive(Debug)]
pub enum TcpMiddleware {
    IpAllowList(Vec<Cidr>),
    /// Connections at once from one address.
    InFlightConn(u64),
}

impl TcpMiddleware {
    /// A MiddlewareTCP.
    ///
    /// # Errors
    /// Say what of it is not supported.
    pub(crate) fn read(tree: &Value) -> Result<TcpMiddleware, String> {
        let spec = tree.at("spec");
        let keys: Vec<&String> = spec.as_object().into_iter().flat_map(api::Map::keys).collect();
        let key = if let [key] = keys.as_slice() { key.as_str() } else { "" };
        let own = spec.at(key);
        match key {
            "ipAllowList" | "ipWhiteList" => {
                only(own, key, &["sourceRange"])?;
                let blocks = strings(own, "sourceRange");
                if blocks.is_empty() {
                    return Err(format!("{key}: sourceRange is empty"));
                }
                let blocks: Result<_, String> = blocks.iter().map(|block| block.parse()).collect();
                Ok(TcpMiddleware::IpAllowList(blocks?))
            }
            "inFlightConn" => {
                only(own, key, &["amount"])?;
                let amount = own.int("amount").and_then(|n| u64::try_from(n).ok());
                Ok(TcpMiddleware::InFlightConn(amount.ok_or("inFlightConn: amount is no number")?))
            }
            _ => Err(format!(
                "a MiddlewareTCP of {keys:?} is not supported: ipAllowList and inFlightConn are"
            )),
        }
    }
}

/// The name of another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    /// "" is the one of the object that names it.
    pub namespace: String,
}

impl Reference {
    pub(crate) fn read(tree: &Value) -> Reference {
        Reference { name: tree.str("name").into(), namespace: tree.str("namespace").into() }
    }
}

/// `headers`: fields that are set, or taken away by an empty value.
#[derive(Debug, Default)]
pub struct Fields {
    pub request: Vec<(String, String)>,
    pub response: Vec<(String, String)>,
    pub cors: Option<Cors>,
    /// Hosts that are answered; empty for all.
    pub allowed_hosts: Vec<String>,
    /// Set on answers over TLS; on all, if forced.
    pub hsts: Option<(String, bool)>,
}

/// What browsers are told of requests from other origins.
#[derive(Debug)]
pub struct Cors {
    /// `*` is all.
    pub origins: Vec<String>,
    pub origin_patterns: Vec<Regex>,
    pub headers: String,
    pub methods: String,
    pub expose: String,
    pub max_age: Option<i64>,
    pub credentials: bool,
    pub vary: bool,
}

/// `basicAuth`, without the users, which are a Secret's.
#[derive(Debug)]
pub struct BasicAuth {
    pub realm: String,
    pub remove_header: bool,
    /// Tells the endpoint who it is; "" for none.
    pub header_field: String,
    pub(crate) secret: String,
    /// Names and what their passwords are compared with.
    pub users: Vec<(String, Password)>,
}

/// What a password is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    Plain(String),
    /// `{SHA}`: base64 of SHA-1.
    Sha1(String),
    /// `$apr1$` or `$1$`: the whole text.
    Md5(String),
}

impl Middleware {
    /// # Errors
    /// Say what of it cannot be done: nothing that names it is served then.
    pub(crate) fn read(tree: &Value) -> Result<Middleware, String> {
        let spec = tree.at("spec");
        let keys = spec.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let keys = keys.unwrap_or_default();
        let [key] = keys.as_slice() else {
            return Err(format!("a Middleware is of one kind, and not of {}", keys.len()));
        };
        let own = spec.at(key);
        let text = |name: &str| own.str(name).to_owned();
        let texts = |name: &str| strings(own, name);
        let patterns =
            |name: &str| texts(name).iter().map(|text| regex(text)).collect::<Result<Vec<_>, _>>();
        Ok(match key.as_str() {
            "addPrefix" => Middleware::AddPrefix(text("prefix")),
            "stripPrefix" => Middleware::StripPrefix(texts("prefixes")),
            "stripPrefixRegex" => Middleware::StripPrefixRegex(patterns("regex")?),
            "replacePath" => Middleware::ReplacePath(text("path")),
            "replacePathRegex" => Middleware::ReplacePathRegex {
                regex: regex(own.str("regex"))?,
                replacement: text("replacement"),
            },
            "redirectScheme" => {
                let scheme = text("scheme");
                if !matches!(scheme.as_str(), "http" | "https") {
                    return Err(format!("redirectScheme: {scheme:?} is neither http nor https"));
                }
                let port = match own.at("port") {
                    Value::Number(number) => number.to_string(),
                    other => other.as_str().unwrap_or("").to_owned(),
                };
                if !port.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(format!("redirectScheme: {port:?} is no port"));
                }
                Middleware::RedirectScheme { scheme, port, permanent: own.flag("permanent") }
            }
            "redirectRegex" => Middleware::RedirectRegex {
                regex: regex(own.str("regex"))?,
                replacement: text("replacement"),
                permanent: own.flag("permanent"),
            },
            "headers" => Middleware::Headers(Box::new(headers(own)?)),
            "basicAuth" => Middleware::BasicAuth(Box::new(BasicAuth {
                realm: match own.str("realm") {
                    "" => "traefik".into(),
                    realm => realm.replace(['"', '\\'], ""),
                },
                remove_header: own.flag("removeHeader"),
                header_field: text("headerField"),
                secret: text("secret"),
                users: Vec::new(),
            })),
            "ipAllowList" | "ipWhiteList" => {
                only(own, key, &["sourceRange", "ipStrategy", "rejectStatusCode"])?;
                let status = own.int("rejectStatusCode").unwrap_or(403);
                let status = u16::try_from(status).ok().filter(|code| (400..600).contains(code));
                Middleware::IpAllowList {
                    blocks: texts("sourceRange")
                        .iter()
                        .map(|text| text.trim().parse())
                        .collect::<Result<_, _>>()?,
                    depth: depth(own.at("ipStrategy"), key)?,
                    status: status.ok_or("rejectStatusCode is no code of an error")?,
                }
            }
            "inFlightReq" => {
                only(own, key, &["amount"])?;
                let amount = own.int("amount").and_then(|n| usize::try_from(n).ok());
                Middleware::InFlightReq { amount: amount.ok_or("inFlightReq: there is no amount")? }
            }
            "rateLimit" => {
                only(own, key, &["average", "period", "burst", "sourceCriterion"])?;
                let criterion = own.at("sourceCriterion");
                only(criterion, key, &["ipStrategy"])?;
                let number = |name: &str, absent: u32| match own.at(name).is_null() {
                    true => Ok(absent),
                    false => own
                        .int(name)
                        .and_then(|n| u32::try_from(n).ok())
                        .ok_or(format!("rateLimit: {name} is no number")),
                };
                Middleware::RateLimit {
                    average: number("average", 0)?,
                    period_ms: duration_ms(own.at("period"), 1000)?,
                    burst: number("burst", 1)?.max(1),
                    depth: depth(criterion.at("ipStrategy"), key)?,
                }
            }
            "chain" => Middleware::Chain(
                own.list("middlewares").iter().take(ITEMS_MAX).map(Reference::read).collect(),
            ),
            "forwardAuth" => Middleware::ForwardAuth(Box::new(ForwardAuth::read(own)?)),
            "retry" => Middleware::Retry(Retry::read(own)?),
            "compress" => Middleware::Compress(Box::new(Compress::read(own)?)),
            "buffering" => Middleware::Buffering(Buffering::read(own)?),
            "errors" => Middleware::Errors(Box::new(Errors::read(own)?)),
            "circuitBreaker" => Middleware::CircuitBreaker(Box::new(Breaker::read(own)?)),
            other => return Err(format!("Middlewares of the kind {other} are not supported")),
        })
    }
}

/// How many addresses of `X-Forwarded-For` from the right count; 0 is whose connection it is.
fn depth(strategy: &Value, what: &str) -> Result<usize, String> {
    only(strategy, what, &["depth"])?;
    let depth = strategy.int("depth").unwrap_or(0);
    usize::try_from(depth).map_err(|_| format!("{what}: depth is negative"))
}

fn headers(own: &Value) -> Result<Fields, String> {
    const KNOWN: &[&str] = &[
        "customRequestHeaders",
        "customResponseHeaders",
        "accessControlAllowCredentials",
        "accessControlAllowHeaders",
        "accessControlAllowMethods",
        "accessControlAllowOriginList",
        "accessControlAllowOriginListRegex",
        "accessControlExposeHeaders",
        "accessControlMaxAge",
        "addVaryHeader",
        "allowedHosts",
        "stsSeconds",
        "stsIncludeSubdomains",
        "stsPreload",
        "forceSTSHeader",
        "frameDeny",
        "customFrameOptionsValue",
        "contentTypeNosniff",
        "browserXssFilter",
        "customBrowserXSSValue",
        "contentSecurityPolicy",
        "contentSecurityPolicyReportOnly",
        "referrerPolicy",
        "permissionsPolicy",
        "publicKey",
    ];
    only(own, "headers", KNOWN)?;
    let pairs = |name: &str| {
        own.pairs(name)
            .take(ITEMS_MAX)
            .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
            .collect::<Vec<_>>()
    };
    let mut fields = Fields {
        request: pairs("customRequestHeaders"),
        response: pairs("customResponseHeaders"),
        allowed_hosts: strings(own, "allowedHosts")
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
        ..Fields::default()
    };
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            fields.response.push((name.into(), value.into()));
        }
    };
    set(
        "x-frame-options",
        match (own.str("customFrameOptionsValue"), own.flag("frameDeny")) {
            ("", true) => "DENY",
            (custom, _) => custom,
        },
    );
    set("x-content-type-options", if own.flag("contentTypeNosniff") { "nosniff" } else { "" });
    set(
        "x-xss-protection",
        match (own.str("customBrowserXSSValue"), own.flag("browserXssFilter")) {
            ("", true) => "1; mode=block",
            (custom, _) => custom,
        },
    );
    set("content-security-policy", own.str("contentSecurityPolicy"));
    set("content-security-policy-report-only", own.str("contentSecurityPolicyReportOnly"));
    set("referrer-policy", own.str("referrerPolicy"));
    set("permissions-policy", own.str("permissionsPolicy"));
    set("public-key-pins", own.str("publicKey"));
    if let Some(seconds) = own.int("stsSeconds").filter(|seconds| *seconds > 0) {
        let mut value = format!("max-age={seconds}");
        if own.flag("stsIncludeSubdomains") {
            value.push_str("; includeSubDomains");
        }
        if own.flag("stsPreload") {
            value.push_str("; preload");
        }
        fields.hsts = Some((value, own.flag("forceSTSHeader")));
    }
    let (origins, patterns) = (
        strings(own, "accessControlAllowOriginList"),
        strings(own, "accessControlAllowOriginListRegex"),
    );
    let joined = |name: &str| strings(own, name).join(",");
    if !origins.is_empty()
        || !patterns.is_empty()
        || !own.list("accessControlAllowMethods").is_empty()
        || !own.list("accessControlAllowHeaders").is_empty()
    {
        fields.cors = Some(Cors {
            origins,
            origin_patterns: patterns.iter().map(|text| regex(text)).collect::<Result<_, _>>()?,
            headers: joined("accessControlAllowHeaders"),
            methods: joined("accessControlAllowMethods"),
            expose: joined("accessControlExposeHeaders"),
            max_age: own.int("accessControlMaxAge"),
            credentials: own.flag("accessControlAllowCredentials"),
            vary: own.flag("addVaryHeader"),
        });
    }
    Ok(fields)
}

/// The users of a Secret: `users`, a line of htpasswd each, or one of the type for basic authentication.
///
/// # Errors
/// If there are none, or a password that cannot be compared.
pub(crate) fn users(secret: &Value) -> Result<Vec<(String, Password)>, String> {
    let data = |name: &str| {
        let bytes = wire::base64::decode(secret.entry("data", name)?)?;
        String::from_utf8(bytes).ok()
    };
    if secret.str("type") == "kubernetes.io/basic-auth" {
        let pair = (data("username"), data("password"));
        let (Some(name), Some(password)) = pair else {
            return Err("its secret has no username or password".into());
        };
        return Ok(vec![(name, Password::Plain(password))]);
    }
    let text = data("users").ok_or("its secret has no users")?;
    let mut users = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(USERS_MAX) {
        let (name, hash) =
            line.split_once(':').ok_or("a line of its secret's users has no colon")?;
        let password = if let Some(sha1) = hash.strip_prefix("{SHA}") {
            Password::Sha1(sha1.to_owned())
        } else if hash.starts_with("$apr1$") || hash.starts_with("$1$") {
            Password::Md5(hash.to_owned())
        } else {
            return Err(format!(
                "the password of {name} is neither MD5 (htpasswd -m) nor SHA-1 (htpasswd -s): others are not supported"
            ));
        };
        users.push((name.to_owned(), password));
    }
    Ok(users)
}
