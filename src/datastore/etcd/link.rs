//! The way to the etcd: its endpoints, of which one is used until it fails or does not answer.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::client::{Client, Endpoint, Options, Protocol, Url};
use http::grpc::{Code, Incoming, Outgoing, Status, streaming, unary};
use http::tls;
use stdx::time::Mono;
use stdx::{Context, Error, Result};
use wire::headers::Headers;

use super::{identities, lock};
use crate::Files;

const ENDPOINTS_MAX: usize = 32;
/// How long a call waits for one of several endpoints, and for a connection.
const CALL_MAX: Duration = Duration::from_secs(1);
/// Members elect a leader within a second or two, mostly: so long all endpoints are asked again, this often.
const CALLS_MAX: Duration = Duration::from_millis(2500);
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Of endpoints that are left one after another, one is told of in so long.
const TOLD_EVERY: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Silence on a connection in use before it is probed. Etcd ends connections of those who probe every five
/// seconds or more often.
const PING_AFTER: Duration = Duration::from_secs(6);
const PING_MAX: Duration = Duration::from_secs(2);
/// One answer: a page of keys, or what a watch tells at once.
const ANSWER_MAX_BYTES: usize = 16 << 20;

pub(super) struct Link {
    client: Client,
    tls: Arc<tls::ClientConfig>,
    /// There is at least one.
    endpoints: Mutex<Arc<[Endpoint]>>,
    headers: Headers,
    /// Which of them is used; it only grows.
    used: AtomicUsize,
    /// Told when another one is.
    pub(super) moved: rt::Event,
    /// When that was last said in the log.
    told: Mutex<Option<Mono>>,
    closed: AtomicBool,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failed {
    endpoint: String,
    pub(super) status: Status,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.status.message)
    }
}

impl std::error::Error for Failed {}

impl Failed {
    /// Whether sending the same again would change nothing.
    pub(super) fn is_refusal(&self) -> bool {
        // "request is too large", "too many operations in txn request"; gRPC's own bound has no other words.
        self.status.code == Code::INVALID_ARGUMENT
            || self.status.message.contains("larger than max")
    }

    /// Whether another endpoint may do better.
    fn is_of_endpoint(&self) -> bool {
        matches!(
            self.status.code,
            Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED | Code::CANCELLED | Code::UNKNOWN
        ) || self.status.code == Code::INTERNAL
    }
}

impl Link {
    pub(super) fn new(endpoints: &str, files: &Files) -> Result<Link> {
        let tls = client_tls(files).context(|| "datastore endpoint")?;
        let endpoints = parse(endpoints, &tls)?;
        let options = Options {
            connect_max: CONNECT_MAX,
            ping_after: PING_AFTER,
            ping_max: PING_MAX,
            ..Options::default()
        };
        Ok(Link {
            client: Client::new(options),
            tls,
            endpoints: Mutex::new(endpoints.into()),
            // A member that has lost the others says so at once.
            headers: Headers::new().with("hasleader", "true"),
            used: AtomicUsize::new(0),
            moved: rt::Event::new(),
            told: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The number of the endpoint in use, for [`Link::leave`].
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        nth(&self.endpoints(), self.used()).clone()
    }

    fn endpoints(&self) -> Arc<[Endpoint]> {
        Arc::clone(&lock(&self.endpoints))
    }

    /// Knows these endpoints from now on. The one in use goes on being used if it is among them.
    ///
    /// # Errors
    /// As [`Link::new`]; then nothing changes.
    pub(super) fn know(&self, endpoints: &str) -> Result<()> {
        let mut new = parse(endpoints, &self.tls)?;
        let mut known = lock(&self.endpoints);
        let (used, n) = (self.used(), new.len());
        let present = nth(&known, used).to_string();
        let at = new.iter().position(|endpoint| endpoint.to_string() == present);
        new.rotate_right(at.map_or(0, |at| (used % n + n - at) % n));
        *known = new.into();
        if at.is_none() {
            self.used.fetch_add(1, Ordering::AcqRel);
            self.moved.notify(usize::MAX);
        }
        Ok(())
    }

    /// The endpoint of this number failed: from now on the next one is used, if there is one.
    pub(super) fn leave(&self, idx: usize, why: &dyn fmt::Display) {
        let (next, order) = (idx.wrapping_add(1), Ordering::AcqRel);
        let endpoints = self.endpoints();
        if endpoints.len() > 1
            && self.used.compare_exchange(idx, next, order, Ordering::Acquire).is_ok()
        {
            let (from, to) = (nth(&endpoints, idx), nth(&endpoints, next));
            log::log!(self.level(), "datastore: etcd at {from} is left for the one at {to}: {why}");
            self.moved.notify(usize::MAX);
        }
    }

    /// How loud something is said that may be said again and again.
    pub(super) fn level(&self) -> log::Level {
        let (mut told, now) = (lock(&self.told), rt::now().mono);
        match *told {
            Some(last) if now.since(last) < TOLD_EVERY => log::Level::Debug,
            _ => {
                *told = Some(now);
                log::Level::Warn
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) async fn call(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, Failed> {
        self.call_within(method, message, CALL_MAX).await
    }

    /// Calls a method at the endpoint in use, and at the others if it does not answer within `call_max`; all of
    /// them again while the members may be electing a leader. With one endpoint there is nothing to hurry for:
    /// the caller's patience is the bound.
    pub(super) async fn call_within(
        &self,
        method: &str,
        message: &[u8],
        call_max: Duration,
    ) -> Result<Vec<u8>, Failed> {
        let (mut n_tries, begun) = (0, rt::now().mono);
        loop {
            n_tries += 1;
            let (idx, endpoints) = (self.used(), self.endpoints());
            let endpoint = nth(&endpoints, idx);
            let called =
                unary(&self.client, endpoint, method, &self.headers, message, ANSWER_MAX_BYTES);
            let answer = match endpoints.len() {
                _ if self.is_closed() => {
                    Err(Status::new(Code::CANCELLED, "the datastore is closed"))
                }
                1 => called.await,
                _ => rt::timeout(call_max, called).await.unwrap_or_else(|rt::Elapsed| {
                    Err(Status::new(Code::DEADLINE_EXCEEDED, "it does not answer"))
                }),
            };
            let failed = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => Failed { endpoint: endpoint.to_string(), status },
            };
            if !failed.is_of_endpoint() {
                return Err(failed);
            }
            self.leave(idx, &failed.status.message);
            if n_tries % endpoints.len() == 0 {
                let may_pass = endpoints.len() > 1 || failed.status.message.contains("leader");
                let took = rt::now().mono.since(begun);
                if !may_pass || self.is_closed() || took + AGAIN_AFTER > CALLS_MAX {
                    return Err(failed);
                }
                rt::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Calls a streaming method at the endpoint in use.
    pub(super) fn stream(&self, method: &str) -> (Outgoing, Incoming) {
        streaming(&self.client, &self.endpoint(), method, &self.headers, ANSWER_MAX_BYTES)
    }
}

fn nth(endpoints: &[Endpoint], idx: usize) -> &Endpoint {
    &endpoints[idx % endpoints.len()]
}

/// Reads URLs with commas between them: at least one.
fn parse(endpoints: &str, tls: &Arc<tls::ClientConfig>) -> Result<Vec<Endpoint>> {
    let parse = |text: &str| {
        let bad = |why: &str| Error::new(format!("datastore endpoint: {text:?}: {why}"));
        let url = Url::parse(text).context(|| "datastore endpoint")?;
        if url.userinfo.is_some() {
            return Err(bad(
                "a user and a password are not supported; an etcd with users knows them by their certificates",
            ));
        }
        if url.target != "/" || !matches!(&*url.scheme, "http" | "https") {
            return Err(bad("it should be of the form http(s)://host:port"));
        }
        Ok(Endpoint::url(&url, tls).protocol(Protocol::Http2))
    };
    let endpoints = endpoints.split(',').map(|text| parse(text.trim()));
    let endpoints = endpoints.collect::<Result<Vec<Endpoint>>>()?;
    match endpoints.len() {
        n if n > ENDPOINTS_MAX => {
            Err(Error::new(format!("datastore endpoint: at most {ENDPOINTS_MAX}, not {n}")))
        }
        _ => Ok(endpoints),
    }
}

/// Whom an `https` endpoint is believed to be, and who we are to it.
pub(crate) fn client_tls(files: &Files) -> Result<Arc<tls::ClientConfig>> {
    let trust = match &files.cafile {
        Some(path) => tls::listed(&identities::read(path)?)?,
        None => tls::Trust::Roots(tls::public_roots()),
    };
    let identity = match (&files.certfile, &files.keyfile) {
        (Some(certificate), Some(key)) => Some(identities::open(certificate, key)?),
        (None, None) => None,
        _ => return Err(Error::new("a certificate and its key are given together, or neither")),
    };
    tls::client_config(trust, identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_change_and_the_one_in_use_stays() {
        let link = Link::new("http://a:1,http://b:1,http://c:1", &Files::default()).unwrap();
        link.leave(0, &"it failed");
        for (endpoints, used) in [
            ("http://d:1,http://b:1", "b:1"),
            ("http://b:1,http://d:1,http://e:1,http://f:1", "b:1"),
            ("http://b:1", "b:1"),
        ] {
            link.know(endpoints).unwrap();
            assert_eq!((link.endpoint().to_string(), link.used()), (used.to_owned(), 1));
            assert_eq!(link.endpoints().len(), endpoints.split(',').count());
        }
        assert!(link.know("ftp://b:1").is_err() && link.endpoints().len() == 1);
        let moved = link.moved.listen();
        link.know("http://x:1,http://y:1").unwrap();
        rt::block_on(moved);
        assert!(["x:1", "y:1"].contains(&&*link.endpoint().to_string()));
        assert_eq!(link.used(), 2);
    }
}
