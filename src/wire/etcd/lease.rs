//! Leases: keys that go when nobody keeps them alive.

use super::{Bytes, ResponseHeader, messages};

messages! {
    LeaseGrantRequest {
        /// In seconds.
        1 ttl: i64,
        /// 0: the server chooses.
        2 id: i64,
    }

    LeaseGrantResponse {
        1 header: ResponseHeader,
        2 id: i64,
        3 ttl: i64,
        4 error: String,
    }

    LeaseRevokeRequest {
        1 id: i64,
    }

    LeaseRevokeResponse {
        1 header: ResponseHeader,
    }

    LeaseKeepAliveRequest {
        1 id: i64,
    }

    LeaseKeepAliveResponse {
        1 header: ResponseHeader,
        2 id: i64,
        /// In seconds; 0: there is no such lease.
        3 ttl: i64,
    }

    LeaseTimeToLiveRequest {
        1 id: i64,
        /// Whether its keys are asked for.
        2 keys: bool,
    }

    LeaseTimeToLiveResponse {
        1 header: ResponseHeader,
        2 id: i64,
        /// Seconds that are left; -1: there is no such lease.
        3 ttl: i64,
        4 granted_ttl: i64,
        5 keys: Vec<Bytes>,
    }

    LeaseLeasesRequest {}

    LeaseStatus {
        1 id: i64,
    }

    LeaseLeasesResponse {
        1 header: ResponseHeader,
        2 leases: Vec<LeaseStatus>,
    }
}
