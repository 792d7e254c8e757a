//! One error type for everything that is not an API answer: what was being done to what, and why it failed.

use std::fmt;

/// An error that says what was being done, with its source below it. Lower case, no full stop.
pub struct Error {
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with no deeper cause.
    pub fn new(what: impl Into<String>) -> Error {
        Error { what: what.into(), source: None }
    }

    /// Wraps `source` with what was being done when it happened.
    pub fn wrap(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { what: what.into(), source: Some(source.into()) }
    }

    /// The `io::ErrorKind` of the innermost I/O error, if there is one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.find_io().map(std::io::Error::kind)
    }

    /// The errno of the innermost I/O error, if there is one.
    pub fn errno(&self) -> Option<i32> {
        self.find_io().and_then(std::io::Error::raw_os_error)
    }

    fn find_io(&self) -> Option<&std::io::Error> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return Some(io);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    /// The whole chain: `what: cause: cause`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Adds what was being done to an error, once per layer.
pub trait Context<T> {
    /// `what` is evaluated only on failure.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::wrap(what(), source))
    }
}

impl<T> Context<T> for Option<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::new(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_is_printed_once_per_layer() {
        let io = std::io::Error::from_raw_os_error(2);
        let error = Err::<(), _>(io).context(|| "open /x").context(|| "read config").unwrap_err();
        assert_eq!(
            error.to_string(),
            "read config: open /x: No such file or directory (os error 2)"
        );
        assert_eq!(error.errno(), Some(2));
    }
}
