//! Leases: granted, kept alive, looked at, revoked.

use std::time::Duration;

use http::grpc::{Incoming, Outgoing, Status};
use store::{Class, Error};
use wire::etcd::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Message,
};

use crate::front::{Front, read, signed, unsigned};
use crate::refusal::{LEASE_TTL_TOO_LARGE, TOO_MANY_REQUESTS, status_of};

/// As in etcd: the shortest time in seconds, which is one and a half elections, and the longest.
const TTL_MIN: i64 = 2;
const TTL_MAX: i64 = 9_000_000_000;
/// Leases at once. Those of kube-apiserver are one a minute.
const LEASES_MAX: usize = 10_000;

impl Front {
    pub(crate) async fn lease_grant(
        &self,
        ask: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Status> {
        if ask.ttl > TTL_MAX {
            return Err(LEASE_TTL_TOO_LARGE.status());
        }
        let store = &self.0.store;
        if store.stats().n_leases >= LEASES_MAX {
            return Err(TOO_MANY_REQUESTS.status());
        }
        let ttl = ask.ttl.max(TTL_MIN);
        let granted = store.lease_grant(ask.id, Duration::from_secs(unsigned(ttl)), Class::Durable);
        let id = granted.await.map_err(status_of)?;
        Ok(LeaseGrantResponse { header: self.header_now(), id, ttl, error: String::new() })
    }

    pub(crate) async fn lease_revoke(
        &self,
        ask: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Status> {
        let revoked = self.0.store.lease_revoke(ask.id).await.map_err(status_of)?;
        Ok(LeaseRevokeResponse { header: self.header(revoked.revision) })
    }

    pub(crate) async fn lease_time_to_live(
        &self,
        ask: &LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Status> {
        let (header, id) = (self.header_now(), ask.id);
        match self.0.store.lease_info(id).await {
            Ok(info) => Ok(LeaseTimeToLiveResponse {
                header,
                id,
                ttl: signed(info.remaining.as_secs()),
                granted_ttl: signed(info.ttl.as_secs()),
                keys: if ask.keys { info.keys } else { Vec::new() },
            }),
            Err(Error::LeaseNotFound(_)) => {
                Ok(LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() })
            }
            Err(error) => Err(status_of(error)),
        }
    }

    pub(crate) async fn lease_leases(&self) -> LeaseLeasesResponse {
        let ids = self.0.store.lease_ids().await.into_iter();
        let leases = ids.map(|id| LeaseStatus { id }).collect();
        LeaseLeasesResponse { header: self.header_now(), leases }
    }
}

/// Serves one stream of renewals to its end.
pub(crate) async fn keep_alive(front: Front, mut incoming: Incoming, mut outgoing: Outgoing) {
    let ended = async {
        while let Some(message) = incoming.next().await? {
            let LeaseKeepAliveRequest { id } = read(&message)?;
            // The revision is that of before, or a lease might seem to live when it was revoked.
            let header = front.header_now();
            let ttl = match front.0.store.lease_keep_alive(id).await {
                Ok(ttl) => signed(ttl.as_secs()),
                Err(Error::LeaseNotFound(_)) => 0,
                Err(error) => return Err(status_of(error)),
            };
            outgoing.send(&LeaseKeepAliveResponse { header, id, ttl }.encode()).await?;
        }
        Ok(())
    };
    let ended = ended.await;
    outgoing.finish(ended);
}
