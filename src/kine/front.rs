//! What every method has: the store, the bounds of answers, their head, and how messages are read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use http::grpc::{Code, Status};
use store::Store;
use wire::etcd::{Error, Message, ResponseHeader};

use crate::budget::{Budget, Charge};
use crate::refusal::TOO_MANY_OPS;

/// Repeated items of one request: the operations of a transaction, at whatever depth.
const ITEMS_MAX: usize = 4096;

/// The one member there is, and its cluster. Clients compare them between answers, and never with anything else.
pub(crate) const MEMBER_ID: u64 = 0x6b33_7273_6b69_6e65;
const CLUSTER_ID: u64 = 0x6b33_7273_2d65_7463;
pub(crate) const TERM: u64 = 1;

/// How a front presents itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The version that it says it is.
    pub etcd_version: String,
    /// How often watches that want to know are told how far they are.
    pub progress_every: Duration,
    /// What comes before `://` and the address in the member list: http, https, unix, unixs.
    pub scheme: &'static str,
    /// Whether clients must have shown a certificate.
    pub certificates: bool,
    pub connections_max: usize,
    /// Watches on all streams.
    pub watches_max: usize,
    /// Requests that are read or worked on, and answers that are not taken yet: so many bytes of each.
    pub messages_max_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            // It says what kube-apiserver may ask for: progress of watches on request.
            etcd_version: "3.5.13".into(),
            progress_every: Duration::from_secs(5),
            scheme: "http",
            certificates: false,
            connections_max: 1024,
            watches_max: 32 << 10,
            messages_max_bytes: 64 << 20,
        }
    }
}

/// The etcd API over a store. Clones are the same front.
#[derive(Clone)]
pub struct Front(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) requests: Arc<Budget>,
    /// A charge is held until the client has taken the answer.
    pub(crate) answers: Arc<Budget>,
    pub(crate) n_watches: AtomicUsize,
    /// The last revision that a client had compacted; -1: none.
    pub(crate) compacted: AtomicI64,
}

/// A message, and what is let go with it.
pub(crate) type Answer = (Vec<u8>, Option<Charge>);

impl Front {
    pub fn new(store: Store, settings: Settings) -> Front {
        Front(Arc::new(Shared {
            store,
            requests: Budget::new(settings.messages_max_bytes),
            answers: Budget::new(settings.messages_max_bytes),
            settings,
            n_watches: AtomicUsize::new(0),
            compacted: AtomicI64::new(-1),
        }))
    }

    /// What every answer begins with.
    pub(crate) fn header(&self, revision: u64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: CLUSTER_ID,
            member_id: MEMBER_ID,
            revision: signed(revision),
            raft_term: TERM,
        }
    }

    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.header(self.0.store.revision())
    }
}

/// Reads a request.
pub(crate) fn read<T: Message + Default>(message: &[u8]) -> Result<T, Status> {
    T::decode(message, ITEMS_MAX).map_err(malformed)
}

fn malformed(error: Error) -> Status {
    match error {
        Error::TooDeep | Error::TooManyItems => TOO_MANY_OPS.status(),
        error => Status::new(Code::INTERNAL, format!("grpc: error unmarshalling request: {error}")),
    }
}

/// The API has signed numbers for what is never negative.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_watches = self.0.n_watches.load(Ordering::Relaxed);
        write!(f, "Front({n_watches} watches)")
    }
}
