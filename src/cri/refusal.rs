//! Why a request fails, as gRPC says it.

use http::grpc::{Code, Status};

/// The end of a request that failed.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Status);

/// What a request comes to.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl From<stdx::Error> for Refusal {
    /// containerd gives no code to what the system below it says.
    fn from(error: stdx::Error) -> Refusal {
        Refusal::new(Code::UNKNOWN, error.to_string())
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal(status)
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal(Status::new(code, message))
    }

    /// `kind` is `sandbox` or `container`.
    pub(crate) fn not_found(kind: &str, id: &str) -> Refusal {
        let message = format!("an error occurred when try to find {kind} {id:?}: not found");
        Refusal::new(Code::NOT_FOUND, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::INVALID_ARGUMENT, message)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.0.code == Code::NOT_FOUND
    }
}
