//! Which servers live, which of them leads, and how far all have followed; pure.
//!
//! Each server writes its key now and then. Nobody's clock is compared with another's: a server lives as long
//! as changes of its key are seen here.

use std::time::Duration;

use stdx::time::Mono;
use store::Role;
use wire::etcd::{
    Bytes, Compare, CompareResult, DeleteRangeRequest, KeyValue, RequestOp, TxnRequest,
};

use super::append::{LOG, SERVERS, is_token};

/// A server that was not heard of for so long does not hold up compaction, and does not lead.
const SERVER_GONE: Duration = Duration::from_secs(30);
/// Then its keys are deleted: longer than it sends an append again (`store`'s sharer).
const SERVER_FORGOTTEN: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Members(Vec<Member>);

#[derive(Debug)]
struct Member {
    server: Box<[u8]>,
    /// When its key was created: the oldest one leads.
    created: i64,
    /// The revisions of its key and of its token.
    said: (i64, i64),
    followed: Option<u64>,
    heard_of: Mono,
}

pub(super) fn server_key(server: &str) -> Bytes {
    [SERVERS, server.as_bytes()].concat().into()
}

impl Members {
    /// Takes the keys of all servers and their tokens, as they are `now`.
    pub(super) fn look(&mut self, servers: &[KeyValue], tokens: &[KeyValue], now: Mono) {
        let before = std::mem::take(&mut self.0);
        for kv in servers {
            let Some(server) = kv.key.strip_prefix(SERVERS) else { continue };
            let followed = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
            let (server, created) = (server.into(), kv.create_revision);
            let said = (kv.mod_revision, 0);
            self.0.push(Member { server, created, said, followed, heard_of: now });
        }
        for kv in tokens.iter().filter(|kv| is_token(&kv.key)) {
            let Some(server) = kv.key.strip_prefix(LOG) else { continue };
            match self.0.iter_mut().find(|member| *member.server == *server) {
                Some(member) => member.said.1 = kv.mod_revision,
                // It appended before it said anything of itself.
                None => self.0.push(Member {
                    server: server.into(),
                    created: i64::MAX,
                    said: (0, kv.mod_revision),
                    followed: None,
                    heard_of: now,
                }),
            }
        }
        for member in &mut self.0 {
            let same = |old: &&Member| old.server == member.server && old.said == member.said;
            if let Some(old) = before.iter().find(same) {
                member.heard_of = old.heard_of;
            }
        }
    }

    fn living(&self, now: Mono) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(move |member| now.since(member.heard_of) < SERVER_GONE)
    }

    pub(super) fn role(&self, own: &str, now: Mono) -> Role {
        let oldest = self.living(now).min_by_key(|member| member.created);
        let leads = oldest.is_some_and(|member| *member.server == *own.as_bytes());
        Role { leads, n_servers: self.living(now).count() }
    }

    /// The revision up to which every living server has followed.
    pub(super) fn followed(&self, now: Mono) -> Option<u64> {
        self.living(now).map(|member| member.followed).min().flatten()
    }

    /// Deletes what a server left that is gone for long, unless it is back meanwhile.
    pub(super) fn forgotten(&self, now: Mono) -> Option<TxnRequest> {
        let member = self.0.iter().find(|member| now.since(member.heard_of) >= SERVER_FORGOTTEN)?;
        let keys = [SERVERS, LOG].map(|prefix| Bytes::from([prefix, &member.server[..]].concat()));
        let said = [member.said.0, member.said.1];
        let unchanged = keys.iter().zip(said).map(|(key, said)| {
            Compare::mod_revision(key.clone(), Bytes::default(), CompareResult::EQUAL, said)
        });
        let delete = |key: &Bytes| {
            let key = key.clone();
            RequestOp::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
        };
        Some(TxnRequest {
            compare: unchanged.collect(),
            success: keys.iter().map(delete).collect(),
            failure: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(prefix: &[u8], server: &str, revisions: (i64, i64), value: &str) -> KeyValue {
        KeyValue {
            key: [prefix, server.as_bytes()].concat().into(),
            create_revision: revisions.0,
            mod_revision: revisions.1,
            value: value.as_bytes().into(),
            ..KeyValue::default()
        }
    }

    #[test]
    fn the_oldest_that_lives_leads_and_nobody_is_left_behind() {
        let at = |secs: u64| Mono::default() + Duration::from_secs(secs);
        let mut members = Members::default();
        let servers =
            |a: i64, b: i64| [kv(SERVERS, "a", (9, a), "100"), kv(SERVERS, "b", (5, b), "90")];
        let tokens = [kv(LOG, "a", (2, 4), ""), kv(LOG, "deleted", (2, 4), "")];
        members.look(&servers(10, 11), &tokens, at(0));
        let shown = |members: &Members, secs: u64| {
            let (a, b) = (members.role("a", at(secs)), members.role("b", at(secs)));
            (a.leads, b.leads, a.n_servers, members.followed(at(secs)))
        };
        assert_eq!(shown(&members, 0), (false, true, 2, Some(90)));
        // One that appends and has not said anything yet holds compaction up.
        let new = [kv(LOG, "c", (20, 20), "")];
        members.look(&servers(20, 11), &[&tokens[..], &new].concat(), at(20));
        assert_eq!(shown(&members, 20), (false, true, 3, None));
        // Nothing is heard of the second for long.
        members.look(&servers(30, 11), &tokens, at(40));
        assert_eq!(shown(&members, 40), (true, false, 1, Some(100)));
        assert_eq!(members.forgotten(at(119)), None);
        members.look(&servers(40, 11), &tokens, at(120));
        let forgotten = members.forgotten(at(120)).unwrap();
        let compared: Vec<_> = forgotten.compare.iter().map(|compare| &*compare.key).collect();
        assert_eq!(compared, [&b"/k3rs/servers/b"[..], b"/k3rs/log/b"]);
        assert_eq!(forgotten.success.len(), 2);
        // It is back.
        members.look(&servers(40, 50), &tokens, at(121));
        assert_eq!(shown(&members, 121), (false, true, 2, Some(90)));
        assert_eq!(members.forgotten(at(121)), None);
    }
}
