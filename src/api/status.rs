//! `Status`: the API's error answers, with upstream's reasons, codes and wording.
//!
//! Source: k8s.io/apimachinery/pkg/api/errors and meta/v1 `StatusReason`.

use std::fmt;

use serde_json::{Map, Value, json};

pub use crate::complain::Cause;
use crate::complain::cut;
use crate::kind::Kind;

/// Why a request failed; each has one HTTP code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    /// Not upstream's, whose etcd has an internal error then.
    InsufficientStorage,
}

impl Reason {
    /// The word in `reason`; empty for `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Invalid => "Invalid",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::Timeout => "Timeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::BadRequest => "BadRequest",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::Expired => "Expired",
            Reason::ServiceUnavailable => "ServiceUnavailable",
            Reason::InsufficientStorage => "InsufficientStorage",
        }
    }

    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Reason::InsufficientStorage => 507,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Gone | Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::BadRequest => 400,
            Reason::Unknown | Reason::InternalError | Reason::ServerTimeout => 500,
            Reason::ServiceUnavailable => 503,
            Reason::Timeout => 504,
        }
    }

    fn parse(text: &str) -> Reason {
        use Reason::*;
        [
            Unauthorized,
            Forbidden,
            NotFound,
            AlreadyExists,
            Conflict,
            Gone,
            Invalid,
            ServerTimeout,
            Timeout,
            TooManyRequests,
            BadRequest,
            MethodNotAllowed,
            NotAcceptable,
            RequestEntityTooLarge,
            UnsupportedMediaType,
            InternalError,
            Expired,
            ServiceUnavailable,
            InsufficientStorage,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == text)
        .unwrap_or(Unknown)
    }
}

/// A failed answer. Boxed inside, so that `Result<T, Status>` stays small.
#[derive(Clone, PartialEq)]
pub struct Status(Box<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    reason: Reason,
    code: u16,
    message: String,
    details: Map<String, Value>,
    /// There are details that say nothing.
    is_generic: bool,
    /// `metadata.continue`: how an expired list may go on.
    next: String,
    /// What is told beside it, in headers.
    warnings: Vec<String>,
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Status {
        Status(Box::new(Inner {
            reason,
            code: reason.code(),
            message: message.into(),
            details: Map::new(),
            is_generic: false,
            next: String::new(),
            warnings: Vec::new(),
        }))
    }

    pub fn not_found(kind: &Kind, name: &str) -> Status {
        Status::new(Reason::NotFound, format!("{} \"{name}\" not found", kind.qualified_plural()))
            .about(kind, name)
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Status {
        Status::new(
            Reason::AlreadyExists,
            format!("{} \"{name}\" already exists", kind.qualified_plural()),
        )
        .about(kind, name)
    }

    pub fn conflict(kind: &Kind, name: &str, why: impl fmt::Display) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.qualified_plural()
        );
        Status::new(Reason::Conflict, message).about(kind, name)
    }

    /// The conflict every client knows to retry.
    pub fn modified(kind: &Kind, name: &str) -> Status {
        Status::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn invalid(kind: &Kind, name: &str, mut causes: Vec<Cause>) -> Status {
        causes.iter_mut().for_each(cut);
        let mut texts: Vec<String> = Vec::new();
        for cause in &causes {
            let text = format!("{}: {}", cause.field, cause.message);
            // Said twice, it is told once; the causes stay as they are.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let summary = match texts.len() {
            1 => texts[0].clone(),
            _ => format!("[{}]", texts.join(", ")),
        };
        let qualified = match kind.group {
            "" => kind.name.to_owned(),
            group => format!("{}.{group}", kind.name),
        };
        let mut status =
            Status::new(Reason::Invalid, format!("{qualified} \"{name}\" is invalid: {summary}"))
                .about(kind, name);
        match kind.name {
            "" => drop(status.0.details.remove("kind")),
            name => drop(status.0.details.insert("kind".into(), name.into())),
        }
        let causes = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        status.0.details.insert("causes".into(), Value::Array(causes));
        status
    }

    pub fn forbidden(kind: &Kind, name: &str, why: impl fmt::Display) -> Status {
        let message = match name {
            "" => format!("{} is forbidden: {why}", kind.qualified_plural()),
            name => format!("{} \"{name}\" is forbidden: {why}", kind.qualified_plural()),
        };
        Status::new(Reason::Forbidden, message).about(kind, name)
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(Reason::BadRequest, message)
    }

    /// The requested revision was compacted away; clients list again.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(Reason::Expired, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_secs: u32) -> Status {
        Status::new(Reason::TooManyRequests, message).detail("retryAfterSeconds", retry_after_secs)
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(Reason::ServiceUnavailable, message)
    }

    pub fn internal(message: impl fmt::Display) -> Status {
        let message = format!("Internal error occurred: {message}");
        let mut status = Status::new(Reason::InternalError, message.clone());
        status.0.details.insert("causes".into(), json!([{"message": message}]));
        status
    }

    /// Adds the object to `details`.
    #[must_use]
    pub fn about(mut self, kind: &Kind, name: &str) -> Status {
        if !name.is_empty() {
            self.0.details.insert("name".into(), name.into());
        }
        if !kind.group.is_empty() {
            self.0.details.insert("group".into(), kind.group.into());
        }
        self.0.details.insert("kind".into(), kind.plural.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Status {
        self.0.details.insert(key.into(), value.into());
        self
    }

    /// As upstream's generic answers of a server, which have details without saying anything in them.
    #[must_use]
    pub fn generic(mut self) -> Status {
        self.0.is_generic = true;
        self
    }

    /// Adds the token with which an expired list may go on, inconsistently.
    #[must_use]
    pub fn with_continue(mut self, token: impl Into<String>) -> Status {
        self.0.next = token.into();
        self
    }

    /// Adds what is told beside it, in `Warning` headers.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Status {
        self.0.warnings = warnings;
        self
    }

    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Overrides the HTTP code that the reason implies.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Status {
        self.0.code = code;
        self
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    pub fn code(&self) -> u16 {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }

    pub fn is_not_found(&self) -> bool {
        self.0.reason == Reason::NotFound
    }

    pub fn is_already_exists(&self) -> bool {
        self.0.reason == Reason::AlreadyExists
    }

    pub fn is_conflict(&self) -> bool {
        self.0.reason == Reason::Conflict
    }

    /// The `v1 Status` object that goes over the wire.
    pub fn to_tree(&self) -> Value {
        let mut tree = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "code": self.0.code,
        });
        if let Value::Object(map) = &mut tree {
            if !self.0.next.is_empty() {
                map.insert("metadata".into(), json!({"continue": self.0.next}));
            }
            if self.0.reason != Reason::Unknown {
                map.insert("reason".into(), self.0.reason.as_str().into());
            }
            if self.0.is_generic || !self.0.details.is_empty() {
                map.insert("details".into(), Value::Object(self.0.details.clone()));
            }
        }
        tree
    }

    /// Reads a `v1 Status` object; `code` is the HTTP code it came with.
    pub fn from_tree(tree: &Value, code: u16) -> Status {
        use crate::lens::Lens;
        let mut status = Status::new(Reason::parse(tree.str("reason")), tree.str("message"));
        status.0.code = code;
        status.0.next = tree.str("metadata.continue").to_owned();
        if let Value::Object(details) = tree.at("details") {
            status.0.details = details.clone();
            status.0.is_generic = true;
        }
        status
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.reason.as_str(), self.0.message)
    }
}

impl std::error::Error for Status {}
