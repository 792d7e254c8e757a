//! What etcd says when it refuses: codes and words as its clients compare them.

use http::grpc::{Code, Status};
use store::Error;

/// A refusal in etcd's own words.
pub(crate) struct Refusal(Code, &'static str);

macro_rules! refusals {
    ($($name:ident: $code:ident $words:literal;)*) => {$(
        pub(crate) const $name: Refusal = Refusal(Code::$code, concat!("etcdserver: ", $words));
    )*};
}

refusals! {
    EMPTY_KEY: INVALID_ARGUMENT "key is not provided";
    KEY_NOT_FOUND: INVALID_ARGUMENT "key not found";
    VALUE_PROVIDED: INVALID_ARGUMENT "value is provided";
    LEASE_PROVIDED: INVALID_ARGUMENT "lease is provided";
    TOO_MANY_OPS: INVALID_ARGUMENT "too many operations in txn request";
    DUPLICATE_KEY: INVALID_ARGUMENT "duplicate key given in txn request";
    COMPACTED: OUT_OF_RANGE "mvcc: required revision has been compacted";
    FUTURE_REVISION: OUT_OF_RANGE "mvcc: required revision is a future revision";
    NO_SPACE: RESOURCE_EXHAUSTED "mvcc: database space exceeded";
    LEASE_NOT_FOUND: NOT_FOUND "requested lease not found";
    LEASE_EXISTS: FAILED_PRECONDITION "lease already exists";
    LEASE_TTL_TOO_LARGE: OUT_OF_RANGE "too large lease TTL";
    REQUEST_TOO_LARGE: INVALID_ARGUMENT "request is too large";
    TOO_MANY_REQUESTS: RESOURCE_EXHAUSTED "too many requests";
    MEMBER_NOT_FOUND: NOT_FOUND "member not found";
    MEMBER_NOT_LEARNER: FAILED_PRECONDITION "can only promote a learner member";
    NOT_ENOUGH_STARTED: FAILED_PRECONDITION
        "re-configuration failed due to not enough started members";
    BAD_TRANSFEREE: FAILED_PRECONDITION "bad leader transferee";
    INVALID_DOWNGRADE: INVALID_ARGUMENT "invalid downgrade target version";
    NO_DOWNGRADE: FAILED_PRECONDITION "no inflight downgrade job";
    AUTH_NOT_ENABLED: FAILED_PRECONDITION "authentication is not enabled";
    STOPPED: UNAVAILABLE "server stopped";
}

impl Refusal {
    pub(crate) fn words(&self) -> &'static str {
        self.1
    }

    /// The refusal as an answer.
    pub(crate) fn status(&self) -> Status {
        Status::new(self.0, self.1)
    }
}

/// What the store says, as etcd would.
pub(crate) fn status_of(error: Error) -> Status {
    let refusal = match &error {
        Error::Compacted { .. } | Error::Lagged => COMPACTED,
        Error::Future { .. } => FUTURE_REVISION,
        Error::Full { .. } => NO_SPACE,
        Error::KeyNotFound => KEY_NOT_FOUND,
        Error::LeaseNotFound(_) => LEASE_NOT_FOUND,
        Error::LeaseExists(_) => LEASE_EXISTS,
        Error::Closed => STOPPED,
        // Etcd has no such bounds, or other words for a broken disk.
        Error::Invalid(_) | Error::Conflict { .. } => {
            return Status::new(Code::INVALID_ARGUMENT, format!("etcdserver: {error}"));
        }
        Error::Storage(_) => {
            return Status::new(Code::UNAVAILABLE, format!("etcdserver: {error}"));
        }
    };
    refusal.status()
}
