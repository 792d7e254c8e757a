//! A connection to a database, whatever it speaks: statements go there together, and rows come back.

use std::fmt;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::io::Io;
use rt::BoxFuture;
use rt::future::poll_fn;
use rt::io::{AsyncRead, AsyncWrite};
use stdx::{Context, Error, Result};

/// A database that says nothing for so long while it should is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// What is read at once, in bytes.
const READ_MAX_BYTES: usize = 16 << 10;
/// What a connection keeps of a buffer that a large message made.
const BUFFER_KEPT_BYTES: usize = 64 << 10;

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// One statement with its parameters, `$1` the first.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) sql: &'static str,
    pub(super) values: Vec<Value<'a>>,
}

impl<'a> Step<'a> {
    pub(super) fn new(sql: &'static str, values: impl Into<Vec<Value<'a>>>) -> Step<'a> {
        Step { sql, values: values.into() }
    }
}

/// How statements that go together belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Not at all: each sees and does by itself.
    Each,
    /// All of them happen or none.
    Together,
    /// They read one moment.
    Snapshot,
}

/// Gets each row, with the place of its statement.
pub(super) type Sink<'a> = &'a mut (dyn FnMut(usize, &[Option<&[u8]>]) -> Result<()> + Send);

/// Why statements failed. The connection is of no use any more.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) error: Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Another row has the number that one of ours was to have; nothing happened.
    Taken,
    NoDatabase,
    /// What was to be made is there.
    Exists,
    /// The database takes no such thing, however often it is asked; nothing happened.
    Refused,
    /// The connection broke or could not be made. What happened is not known.
    Cut,
    /// The database refused. What happened is not known.
    Other,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        use ErrorKind::{InvalidData, InvalidInput, Other, PermissionDenied};
        let kind = match error.io_kind() {
            // A certificate that is not believed, say: it will not be later either.
            None | Some(InvalidData | InvalidInput | Other | PermissionDenied) => {
                FailureKind::Other
            }
            Some(_) => FailureKind::Cut,
        };
        Failure { kind, error }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// One connection. Dropping a future of it leaves it in the middle of something: then it must be dropped too.
pub(super) trait Session: Send {
    /// Runs statements: one way there, one way back. How many rows each of them changed, or returned.
    fn run<'a>(
        &'a mut self,
        way: Way,
        steps: &'a [Step<'a>],
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Vec<u64>, Failure>>;

    /// Waits until the database tells of a revision; for ever if it never does. May be dropped.
    fn told(&mut self) -> BoxFuture<'_, Result<u64>>;
}

/// A byte stream with what was read of it and what is to be written.
pub(super) struct Stream {
    io: Io,
    input: Vec<u8>,
    n_used: usize,
    pub(super) output: Vec<u8>,
}

impl Stream {
    pub(super) fn new(io: Io) -> Stream {
        Stream { io, input: Vec::new(), n_used: 0, output: Vec::new() }
    }

    /// The stream itself, for another protocol on it; nothing that was read may be left.
    pub(super) fn into_io(self) -> Result<Io> {
        match self.n_used == self.input.len() {
            true => Ok(self.io),
            false => Err(Error::new("the database spoke before TLS had begun")),
        }
    }

    /// What was read and not used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input[self.n_used..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.n_used += n;
        if self.n_used == self.input.len() {
            self.input.clear();
            self.input.shrink_to(BUFFER_KEPT_BYTES);
            self.n_used = 0;
        }
    }

    /// Writes what is in `output`. Reads meanwhile: a database that waits for its answers to be read takes
    /// no more.
    pub(super) async fn send(&mut self) -> Result<()> {
        let mut n_sent = 0;
        let sent = poll_fn(|cx| {
            while n_sent < self.output.len() {
                match Pin::new(&mut self.io).poll_write(cx, &self.output[n_sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => n_sent += n,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => match self.poll_fill(cx) {
                        Poll::Ready(Ok(0)) => {
                            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                        }
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    },
                }
            }
            Pin::new(&mut self.io).poll_flush(cx)
        });
        rt::timeout(SILENCE_MAX, sent)
            .await
            .context(|| "write to the database")?
            .context(|| "write to the database")?;
        self.output.clear();
        self.output.shrink_to(BUFFER_KEPT_BYTES);
        Ok(())
    }

    /// Reads more. Loses nothing when dropped.
    pub(super) async fn fill(&mut self) -> Result<()> {
        let filled = rt::timeout(SILENCE_MAX, self.fill_sometime()).await;
        filled.context(|| "read from the database")?
    }

    /// As [`Stream::fill`], however long it takes.
    pub(super) async fn fill_sometime(&mut self) -> Result<()> {
        let filled = match poll_fn(|cx| self.poll_fill(cx)).await {
            Ok(0) => Err(std::io::Error::from(ErrorKind::UnexpectedEof)),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        filled.context(|| "read from the database")
    }

    fn poll_fill(&mut self, cx: &mut std::task::Context<'_>) -> Poll<std::io::Result<usize>> {
        let mut scratch = [0; READ_MAX_BYTES];
        let read = Pin::new(&mut self.io).poll_read(cx, &mut scratch);
        if let Poll::Ready(Ok(n)) = read {
            self.input.drain(..self.n_used);
            self.n_used = 0;
            self.input.extend_from_slice(&scratch[..n]);
        }
        read
    }
}

/// A number that a database wrote as text.
pub(super) fn number<T: std::str::FromStr>(column: Option<&[u8]>) -> Result<T> {
    let text = column.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new("the database gave no number where there should be one"))
}

/// The same where there may be none.
pub(super) fn number_or_null<T: std::str::FromStr>(column: Option<&[u8]>) -> Result<Option<T>> {
    column.map(|bytes| number(Some(bytes))).transpose()
}
