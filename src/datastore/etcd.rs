//! An etcd as the shared log: its keys are the store's keys, its revisions the store's revisions.
//!
//! Keys, values, versions and leases lie in it as kube-apiserver has them, so that the etcd of a k3s can be
//! taken over and given back. Beside them lie keys of ours below `/k3rs/`; of those the ones that only keep
//! the books of the log (`append::is_bookkeeping`) are not shown to anyone.
//!
//! `append` says what must hold for a batch, and what its answer means; `follow` is the one watch that tells
//! what happened; `members` is who lives and how far everybody is; `link` is the way to the endpoints.

mod append;
mod follow;
mod identities;
mod link;
mod members;

pub use identities::read_again as read_identities_again;
pub(crate) use link::client_tls;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::grpc::Code;
use rt::BoxFuture;
use stdx::{Context, Error, Result};
use store::{Append, Appended, Loaded, Numbering, Refused, Role, Row, SharedLog, Tail, Version};
use wire::etcd::{
    Bytes, CompactionRequest, KeyValue, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseRevokeRequest, Message, PutRequest, RangeRequest, RangeResponse,
    RequestOp, ResponseOp, TxnRequest, TxnResponse, method, prefix_end,
};

use crate::Files;
use append::{LOG, SERVERS, is_bookkeeping};
use follow::Follower;
use link::{Failed, Link};
use members::Members;

/// Keys that are asked for at once when everything is read.
const PAGE_KEYS: i64 = 500;
/// How long one page may take.
const PAGE_MAX: Duration = Duration::from_secs(10);
/// Everything that is read, keys and values.
const LOADED_MAX_BYTES: usize = 1 << 30;
/// How often reading begins anew because what it reads is compacted meanwhile.
const LOADS_MAX: usize = 5;
/// Servers whose books are read.
const SERVERS_MAX: i64 = 1000;
/// How much later than the store a lease ends in the etcd: it does so only if no server does.
const LEASE_SLACK: Duration = Duration::from_secs(120);
/// Repeated items of one answer; they are keys, mostly.
const ITEMS_MAX: usize = 300_000;

/// One server's way to the log.
pub(crate) struct Etcd {
    link: Arc<Link>,
    /// Random, for as long as this process has the log open.
    server: String,
    follower: Arc<Follower>,
    /// Follows the log since everything was read.
    following: Mutex<Option<rt::Task<()>>>,
    members: Mutex<Members>,
}

/// Finds the etcd of `endpoints`, URLs with commas between them.
///
/// # Errors
/// If the endpoints or the files cannot be used, or no endpoint answers.
pub(crate) async fn open(endpoints: &str, files: &Files) -> Result<Arc<dyn SharedLog>> {
    let link = Arc::new(Link::new(endpoints, files)?);
    {
        let mut links = lock(&LINKS);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
    }
    let etcd = Etcd {
        link,
        server: format!("{:016x}", rt::random_u64()),
        follower: Arc::default(),
        following: Mutex::default(),
        members: Mutex::default(),
    };
    match etcd.newest().await {
        Ok(_) => Ok(Arc::new(etcd)),
        // Who wants a certificate ends the connection, and that is all it says.
        Err(error) if endpoints.contains("https://") && files.certfile.is_none() => {
            Err(error).context(|| "without a client certificate (--datastore-certfile)")
        }
        Err(error) => Err(error),
    }
}

/// The ways that are open: as many as a process has etcds open.
static LINKS: Mutex<Vec<Weak<Link>>> = Mutex::new(Vec::new());

/// Tells every etcd that is open of its endpoints, URLs with commas between them, which are others from now on. What
/// is in use goes on if its endpoint is among them.
///
/// # Errors
/// If they cannot be used; then nothing changes.
pub fn know_endpoints(endpoints: &str) -> Result<()> {
    let links: Vec<_> = lock(&LINKS).iter().filter_map(Weak::upgrade).collect();
    links.iter().try_for_each(|link| link.know(endpoints))
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}, as server {}", self.link.endpoint(), self.server)
    }
}

impl SharedLog for Etcd {
    fn numbering(&self) -> Numbering {
        let (changes_max, bytes_max) = (append::CHANGES_MAX, append::BYTES_MAX);
        Numbering::Append { changes_max, bytes_max }
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        Box::pin(async {
            // Finds an endpoint that answers, for a page may take long.
            self.newest().await?;
            let mut n_tries = 0;
            loop {
                n_tries += 1;
                match self.load_once().await {
                    Err(LoadFailed::Compacted) if n_tries < LOADS_MAX => {}
                    Err(failed) => return Err(Error::from(failed)).context(|| "read the etcd"),
                    Ok(loaded) => return Ok(loaded),
                }
            }
        })
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended>> {
        Box::pin(async move {
            let what = || "append to the etcd";
            self.bind_leases(&append.rows).await.context(what)?;
            let request = append::request(&self.server, &append).encode();
            let answer = match self.link.call(method::TXN, &request).await {
                Ok(answer) => answer,
                Err(Failed { status, .. }) if is_no_lease(&status.message) => {
                    // The watch has its end.
                    self.newest().await?;
                    return Ok(Appended::Lost);
                }
                Err(failed) if failed.is_refusal() => {
                    return Err(Error::wrap("append to the etcd", Refused(failed.status.message)));
                }
                Err(failed) => return Err(failed).context(what),
            };
            let answer = TxnResponse::decode(&answer, ITEMS_MAX).context(what)?;
            self.follower.knows(answer.header.revision);
            let appended = append::outcome(&answer, append.token).context(what)?;
            if matches!(appended, Appended::At(_)) {
                self.end_leases(&append.rows).await;
            }
            Ok(appended)
        })
    }

    fn newest(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async {
            let seen = self.follower.seen();
            let request = RangeRequest {
                key: append::own_key(&self.server),
                count_only: true,
                ..RangeRequest::default()
            };
            let answer = self.link.call(method::RANGE, &request.encode()).await;
            let answer = answer.context(|| "ask the etcd for its revision")?;
            let answer = RangeResponse::decode(&answer, ITEMS_MAX)
                .context(|| "ask the etcd for its revision")?;
            self.follower.knows(answer.header.revision);
            let revision = revision(answer.header.revision);
            if revision < seen {
                // Somebody restored an older copy of it.
                self.follower.lose();
            }
            Ok(revision)
        })
    }

    fn tail(&self, after: u64) -> BoxFuture<'_, Result<Tail>> {
        Box::pin(async move { Ok(self.follower.tail(after).await) })
    }

    fn grown(&self, after: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.follower.grown(after))
    }

    fn report(&self, revision: u64) -> BoxFuture<'_, Result<Role>> {
        Box::pin(async move {
            let own = members::server_key(&self.server);
            let put = PutRequest {
                key: own,
                value: revision.to_string().into_bytes().into(),
                ..PutRequest::default()
            };
            let all = |prefix: &[u8]| {
                RequestOp::Range(RangeRequest {
                    key: prefix.into(),
                    range_end: prefix_end(prefix),
                    limit: SERVERS_MAX,
                    ..RangeRequest::default()
                })
            };
            let request = TxnRequest {
                success: vec![RequestOp::Put(put), all(SERVERS), all(LOG)],
                ..TxnRequest::default()
            };
            let what = || "report to the etcd";
            let answer = self.link.call(method::TXN, &request.encode()).await.context(what)?;
            let answer = TxnResponse::decode(&answer, ITEMS_MAX).context(what)?;
            self.follower.knows(answer.header.revision);
            let [_, ResponseOp::Range(servers), ResponseOp::Range(tokens)] = &answer.responses[..]
            else {
                return Err(Error::new("the etcd answers something else")).context(what);
            };
            let (role, forgotten) = {
                let (mut members, now) = (lock(&self.members), rt::now().mono);
                members.look(&servers.kvs, &tokens.kvs, now);
                let role = members.role(&self.server, now);
                (role, if role.leads { members.forgotten(now) } else { None })
            };
            if let Some(forgotten) = forgotten {
                let answer = self.link.call(method::TXN, &forgotten.encode()).await;
                answer.context(|| "forget a server that is gone")?;
            }
            Ok(role)
        })
    }

    fn purge(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let followed = lock(&self.members).followed(rt::now().mono);
            let Some(revision) = followed else { return Ok(()) };
            let request = CompactionRequest { revision: signed(revision), physical: false };
            match self.link.call(method::COMPACT, &request.encode()).await {
                // Somebody else has, and further.
                Err(failed) if failed.status.code == Code::OUT_OF_RANGE => Ok(()),
                done => done.map(drop).context(|| "compact the etcd"),
            }
        })
    }

    fn abandon(&self) {
        *lock(&self.following) = None;
        self.link.close();
    }
}

enum LoadFailed {
    Compacted,
    Other(Error),
}

impl LoadFailed {
    fn other(error: impl std::error::Error + Send + Sync + 'static) -> LoadFailed {
        LoadFailed::Other(Error::wrap("read a page", error))
    }
}

impl From<LoadFailed> for Error {
    fn from(failed: LoadFailed) -> Error {
        match failed {
            LoadFailed::Compacted => Error::new("it is compacted faster than it can be read"),
            LoadFailed::Other(error) => error,
        }
    }
}

impl Etcd {
    /// Reads everything page by page, as it was at one revision, and follows the log from there.
    async fn load_once(&self) -> Result<Loaded, LoadFailed> {
        *lock(&self.following) = None;
        let mut loaded = Loaded::default();
        let (mut at, mut n_keys, mut n_bytes) = (0, PAGE_KEYS, 0);
        let mut key = Bytes::from([0]);
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: Bytes::from([0]),
                limit: n_keys,
                revision: at,
                ..RangeRequest::default()
            };
            let page = match self.link.call_within(method::RANGE, &request.encode(), PAGE_MAX).await
            {
                Ok(page) => page,
                Err(failed) if at != 0 && failed.status.code == Code::OUT_OF_RANGE => {
                    return Err(LoadFailed::Compacted);
                }
                Err(failed) if n_keys > 1 && failed.status.code == Code::RESOURCE_EXHAUSTED => {
                    // Larger than an answer may be here.
                    n_keys = (n_keys / 4).max(1);
                    continue;
                }
                Err(failed) => return Err(LoadFailed::other(failed)),
            };
            let page = RangeResponse::decode(&page, ITEMS_MAX).map_err(LoadFailed::other)?;
            if at == 0 {
                at = page.header.revision;
                loaded = Loaded::at(revision(at));
            }
            for kv in &page.kvs {
                n_bytes += kv.key.len() + kv.value.len();
                if !is_bookkeeping(&kv.key) {
                    loaded.row(row(kv, 0));
                }
            }
            if n_bytes > LOADED_MAX_BYTES {
                let what = format!("it holds more than {LOADED_MAX_BYTES} bytes");
                return Err(LoadFailed::Other(Error::new(what)));
            }
            match page.kvs.last() {
                Some(last) if page.more => {
                    key = [&last.key[..], &[0]].concat().into();
                    n_keys = (n_keys * 2).min(PAGE_KEYS);
                }
                _ => break,
            }
        }
        self.follower.begin(revision(at));
        let following = follow::follow(Arc::clone(&self.link), Arc::clone(&self.follower));
        *lock(&self.following) = Some(rt::spawn(following));
        Ok(loaded)
    }

    /// Leases of the store are leases of the etcd with the same number, which last a little longer: the
    /// servers end them, and the etcd only where there are none any more, or where it was given back.
    async fn bind_leases(&self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let (Some((id, Some(ttl))), Some(kv)) = (row.lease(), &row.kv) else { continue };
            let ttl = i64::try_from((ttl + LEASE_SLACK).as_secs() + 1).unwrap_or(i64::MAX);
            // The lease is kept alive by writing its key again.
            if kv.version > 1 && self.keep_alive(id).await? > 0 {
                continue;
            }
            let grant = LeaseGrantRequest { id, ttl };
            match self.link.call(method::LEASE_GRANT, &grant.encode()).await {
                // Sent again, or somebody else's, which may end too early.
                Err(failed) if failed.status.code == Code::FAILED_PRECONDITION => {
                    if self.keep_alive(id).await? < ttl {
                        return Err(Error::wrap("grant", Refused(failed.status.message)));
                    }
                }
                granted => drop(granted.context(|| format!("grant lease {id}"))?),
            }
        }
        Ok(())
    }

    /// Ends in the etcd the leases that ended. Keys that another server bound to one at this moment go with
    /// it; if this fails, they go when its time is over.
    async fn end_leases(&self, rows: &[Row]) {
        for row in rows {
            if let Some((id, None)) = row.lease() {
                let _ =
                    self.link.call(method::LEASE_REVOKE, &LeaseRevokeRequest { id }.encode()).await;
            }
        }
    }

    /// How long a lease lasts, in seconds, from now on; 0 if there is no such lease.
    async fn keep_alive(&self, id: i64) -> Result<i64> {
        let what = || format!("keep lease {id} alive");
        // A stream of one message is a call.
        let request = LeaseKeepAliveRequest { id }.encode();
        let answer = self.link.call(method::LEASE_KEEP_ALIVE, &request).await.context(what)?;
        let answer = LeaseKeepAliveResponse::decode(&answer, ITEMS_MAX).context(what)?;
        Ok(answer.ttl)
    }
}

fn is_no_lease(message: &str) -> bool {
    message == "etcdserver: requested lease not found"
}

/// What the store is told of a version of a key.
fn row(kv: &KeyValue, place: u32) -> Row {
    let version = Version {
        value: kv.value.clone(),
        create_revision: revision(kv.create_revision),
        version: u32::try_from(kv.version).unwrap_or(u32::MAX),
        lease: kv.lease,
    };
    append::as_the_store_has_it(Row::new(
        revision(kv.mod_revision),
        place,
        kv.key.clone(),
        Some(version),
    ))
}

fn revision(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
