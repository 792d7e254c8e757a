//! The members of an etcd cluster, asked and changed over its API.

use std::time::Duration;

use http::client::{Client, Endpoint, Options, Protocol, Url};
use http::grpc::{self, Code, Status};
use stdx::{Context, Error, Result};
use wire::etcd::{self, Message, method};
use wire::headers::Headers;

use crate::Files;

pub use wire::etcd::Member;

/// One call; etcd itself gives up a little later.
const CALL_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Members, their URLs and alarms.
const ITEMS_MAX: usize = 1000;
const ANSWER_MAX_BYTES: usize = 256 << 10;
/// Members that are asked one after the other.
const ENDPOINTS_MAX: usize = 16;

/// What etcd says when it cannot do something yet, or has done it already.
pub(super) const NOT_FOUND: &str = "member not found";
pub(super) const NOT_LEARNER: &str = "can only promote a learner member";
pub(super) const NOT_IN_SYNC: &str = "which is in sync with leader";

/// The way to members, any of which will do.
#[derive(Debug, Clone)]
pub struct Members {
    http: Client,
    endpoints: Vec<Endpoint>,
}

impl Members {
    /// # Errors
    /// If a file or a URL cannot be used, or there is none.
    pub fn open(urls: &[String], files: &Files) -> Result<Members> {
        let config = crate::etcd::client_tls(files)?;
        let mut endpoints = Vec::new();
        for url in urls.iter().take(ENDPOINTS_MAX) {
            let url = Url::parse(url).context(|| format!("read the member's URL {url:?}"))?;
            if !url.is_tls() {
                return Err(Error::new("members are reached over https only"));
            }
            endpoints.push(Endpoint::url(&url, &config).protocol(Protocol::Http2));
        }
        if endpoints.is_empty() {
            return Err(Error::new("no member of the etcd cluster is known"));
        }
        let options = Options { connect_max: CONNECT_MAX, ..Options::default() };
        Ok(Members { http: Client::new(options), endpoints })
    }

    pub async fn list(&self) -> Result<Vec<Member>, Status> {
        let request = etcd::MemberListRequest { linearizable: true };
        let answer = self.call(method::MEMBER_LIST, request.encode()).await?;
        Ok(read::<etcd::MemberListResponse>(&answer)?.members)
    }

    /// Adds a learner that will be at `peer_url`.
    pub(super) async fn add(&self, peer_url: &str) -> Result<(), Status> {
        let request =
            etcd::MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
        self.call(method::MEMBER_ADD, request.encode()).await.map(drop)
    }

    pub(super) async fn promote(&self, id: u64) -> Result<(), Status> {
        self.call(method::MEMBER_PROMOTE, etcd::MemberPromoteRequest { id }.encode())
            .await
            .map(drop)
    }

    pub(super) async fn update(&self, id: u64, peer_url: String) -> Result<(), Status> {
        let request = etcd::MemberUpdateRequest { id, peer_urls: vec![peer_url] };
        self.call(method::MEMBER_UPDATE, request.encode()).await.map(drop)
    }

    /// Removes a member, or finds that it is none.
    pub async fn remove(&self, id: u64) -> Result<(), Status> {
        match self.call(method::MEMBER_REMOVE, etcd::MemberRemoveRequest { id }.encode()).await {
            Err(status) if status.message.contains(NOT_FOUND) => Ok(()),
            done => done.map(drop),
        }
    }

    /// The value of a key, if there is one, and the revision at which it was that.
    ///
    /// # Errors
    /// If no member answers, or it has no leader.
    pub async fn get(&self, key: &str) -> Result<(Option<Vec<u8>>, i64), Status> {
        let request =
            etcd::RangeRequest { key: key.as_bytes().into(), ..etcd::RangeRequest::default() };
        let answer = self.call(method::RANGE, request.encode()).await?;
        let answer = read::<etcd::RangeResponse>(&answer)?;
        Ok((answer.kvs.first().map(|kv| kv.value.to_vec()), answer.header.revision))
    }

    /// Waits at the first member until a key has changed since a revision, or may have.
    ///
    /// # Errors
    /// If that member tells nothing any more.
    pub async fn changed(&self, key: &str, since: i64) -> Result<(), Status> {
        let (http, endpoint) = self.first();
        let (mut outgoing, mut incoming) =
            grpc::streaming(http, endpoint, method::WATCH, &Headers::new(), ANSWER_MAX_BYTES);
        let create = etcd::WatchCreateRequest {
            key: key.as_bytes().into(),
            start_revision: since.saturating_add(1),
            ..etcd::WatchCreateRequest::default()
        };
        outgoing.send(&etcd::WatchRequest::Create(create).encode()).await?;
        while let Some(message) = incoming.next().await? {
            let answer = read::<etcd::WatchResponse>(&message)?;
            // Where it is compacted, it is to be read again as well.
            if answer.canceled || !answer.events.is_empty() {
                return Ok(());
            }
        }
        Err(Status::new(Code::UNAVAILABLE, "the etcd ended its watch"))
    }

    /// How the first that answers is.
    pub(super) async fn status(&self) -> Result<etcd::StatusResponse, Status> {
        read(&self.call(method::STATUS, etcd::StatusRequest {}.encode()).await?)
    }

    /// Lists alarms, or ends this one.
    pub(super) async fn alarm(
        &self,
        alarm: &etcd::AlarmMember,
        action: etcd::AlarmAction,
    ) -> Result<etcd::AlarmResponse, Status> {
        let request = etcd::AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        read(&self.call(method::ALARM, request.encode()).await?)
    }

    /// The first of them, which is the own one's where a server asks its own.
    pub(super) fn first(&self) -> (&Client, &Endpoint) {
        // There is at least one.
        (&self.http, &self.endpoints[0])
    }

    /// Asks one after the other until one is reached.
    async fn call(&self, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut failed = Status::new(Code::UNAVAILABLE, "no member is known");
        for endpoint in &self.endpoints {
            let headers = Headers::new();
            let called =
                grpc::unary(&self.http, endpoint, path, &headers, &message, ANSWER_MAX_BYTES);
            failed = match rt::timeout(CALL_MAX, called).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) if !may_be_elsewhere(&status) => return Err(status),
                Ok(Err(status)) => status,
                Err(rt::Elapsed) => {
                    let secs = CALL_MAX.as_secs();
                    let why = format!("{endpoint} did not answer within {secs} s");
                    Status::new(Code::DEADLINE_EXCEEDED, why)
                }
            };
        }
        Err(failed)
    }
}

/// Whether another member may do better.
fn may_be_elsewhere(status: &Status) -> bool {
    matches!(status.code, Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED | Code::UNKNOWN)
}

fn read<T: Message + Default>(bytes: &[u8]) -> Result<T, Status> {
    T::decode(bytes, ITEMS_MAX).map_err(|error| Status::new(Code::INTERNAL, error.to_string()))
}
