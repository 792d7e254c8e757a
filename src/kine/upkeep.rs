//! Maintenance, membership and users: what there is to say of one member without users, and refusals.

use http::grpc::{Code, Status};
use store::{Query, Span};
use wire::etcd::{
    AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthStatusResponse,
    DefragmentResponse, DowngradeAction, DowngradeRequest, HashKvRequest, HashKvResponse,
    HashResponse, Member, MemberListResponse, MemberPromoteRequest, MemberRemoveRequest, Message,
    MoveLeaderResponse, StatusResponse, method,
};

use crate::front::{Front, MEMBER_ID, TERM, read, signed, unsigned};
use crate::refusal::{
    AUTH_NOT_ENABLED, BAD_TRANSFEREE, INVALID_DOWNGRADE, MEMBER_NOT_FOUND, MEMBER_NOT_LEARNER,
    NO_DOWNGRADE, NOT_ENOUGH_STARTED, status_of,
};

/// Keys that are read at once for a hash.
const HASHED_AT_ONCE: usize = 1000;

impl Front {
    /// Calls one of these methods, or refuses one that there is not.
    pub(crate) async fn upkeep(
        &self,
        path: &str,
        message: &[u8],
        authority: &str,
    ) -> Result<Vec<u8>, Status> {
        let header = self.header_now();
        Ok(match path {
            method::STATUS => self.status().encode(),
            method::ALARM => self.alarm(&read(message)?).encode(),
            method::DEFRAGMENT => {
                if self.0.store.is_shared() {
                    return Err(unsupported("defragment: the database does this by itself"));
                }
                self.0.store.scrub().await.map_err(status_of)?;
                DefragmentResponse { header }.encode()
            }
            method::HASH => {
                let hash = self.hash(0).await?.hash;
                HashResponse { header, hash }.encode()
            }
            method::HASH_KV => {
                let HashKvRequest { revision } = read(message)?;
                self.hash(unsigned(revision)).await?.encode()
            }
            method::SNAPSHOT => {
                return Err(unsupported("snapshot: the datastore is no file of etcd's"));
            }
            // The one member leads already.
            method::MOVE_LEADER => {
                let wire::etcd::MoveLeaderRequest { target_id } = read(message)?;
                match target_id == MEMBER_ID {
                    true => MoveLeaderResponse { header }.encode(),
                    false => return Err(BAD_TRANSFEREE.status()),
                }
            }
            method::DOWNGRADE => {
                let DowngradeRequest { action, .. } = read(message)?;
                return Err(match action {
                    DowngradeAction::CANCEL => NO_DOWNGRADE.status(),
                    _ => INVALID_DOWNGRADE.status(),
                });
            }
            method::MEMBER_LIST => {
                let members = vec![self.member(authority)];
                MemberListResponse { header, members }.encode()
            }
            method::MEMBER_ADD => return Err(NOT_ENOUGH_STARTED.status()),
            method::MEMBER_REMOVE | method::MEMBER_UPDATE => {
                // The number is the first field of both.
                let MemberRemoveRequest { id } = read(message)?;
                return Err(match id == MEMBER_ID {
                    true => NOT_ENOUGH_STARTED.status(),
                    false => MEMBER_NOT_FOUND.status(),
                });
            }
            method::MEMBER_PROMOTE => {
                let MemberPromoteRequest { id } = read(message)?;
                return Err(match id == MEMBER_ID {
                    true => MEMBER_NOT_LEARNER.status(),
                    false => MEMBER_NOT_FOUND.status(),
                });
            }
            method::AUTH_STATUS => {
                AuthStatusResponse { header, enabled: false, auth_revision: 1 }.encode()
            }
            path if path.starts_with(method::AUTH) => return Err(AUTH_NOT_ENABLED.status()),
            path => return Err(unknown(path)),
        })
    }

    fn status(&self) -> StatusResponse {
        let stats = self.0.store.stats();
        let held = signed(stats.state_bytes as u64);
        StatusResponse {
            header: self.header(stats.revision),
            version: self.0.settings.etcd_version.clone(),
            // A shared log does not say what its file takes.
            db_size: if self.0.store.is_shared() { held } else { signed(stats.file_bytes) },
            leader: MEMBER_ID,
            raft_index: stats.revision,
            raft_term: TERM,
            raft_applied_index: stats.revision,
            db_size_in_use: held,
            ..StatusResponse::default()
        }
    }

    /// The one alarm there is: that the store holds as much as it may. It ends by itself.
    fn alarm(&self, ask: &AlarmRequest) -> AlarmResponse {
        let store = &self.0.store;
        let asked = matches!(ask.alarm, AlarmType::NONE | AlarmType::NOSPACE);
        let full = store.stats().state_bytes >= store.limits().common_bytes_max();
        let alarm = AlarmMember { member_id: MEMBER_ID, alarm: AlarmType::NOSPACE };
        let rings = full && asked && ask.action == AlarmAction::GET;
        let alarms = if rings { vec![alarm] } else { Vec::new() };
        AlarmResponse { header: self.header_now(), alarms }
    }

    fn member(&self, authority: &str) -> Member {
        let address = if authority.is_empty() { "127.0.0.1:2379" } else { authority };
        let url = format!("{}://{address}", self.0.settings.scheme);
        let (peer_urls, client_urls) = (vec![url.clone()], vec![url]);
        Member { id: MEMBER_ID, name: "k3rs".into(), peer_urls, client_urls, is_learner: false }
    }

    /// A hash of everything at a revision (0: now), by which two fronts of one datastore can be compared.
    async fn hash(&self, revision: u64) -> Result<HashKvResponse, Status> {
        let store = &self.0.store;
        let at = if revision == 0 { store.revision() } else { revision };
        let (mut hash, mut after) = (FNV_OFFSET, None);
        loop {
            let query = Query { at: Some(at), limit: HASHED_AT_ONCE, after, ..Query::of(all()) };
            let found = store.range(&query).await.map_err(status_of)?;
            for kv in &found.items {
                hash = fnv(hash, &kv.key);
                hash = fnv(hash, &kv.mod_revision.to_le_bytes());
                hash = fnv(hash, &kv.value);
            }
            after = found.items.last().map(|kv| kv.key.clone());
            if !found.more() {
                break;
            }
            rt::future::yield_now().await;
        }
        Ok(HashKvResponse {
            header: self.header_now(),
            hash,
            compact_revision: signed(store.compact_revision()),
            hash_revision: signed(at),
        })
    }
}

fn all() -> Span {
    Span::prefix("")
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a.
fn fnv(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What k3rs has not, by its name.
fn unsupported(what: &str) -> Status {
    Status::new(Code::UNIMPLEMENTED, format!("k3rs does not support {what}"))
}

fn unknown(path: &str) -> Status {
    let (service, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    Status::new(Code::UNIMPLEMENTED, format!("unknown method {name} for service {service}"))
}
