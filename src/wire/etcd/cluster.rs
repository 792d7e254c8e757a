//! Members, upkeep, and of users and roles what logging in needs, or a refusal.

use super::{Bytes, ResponseHeader, messages, open_enums};

open_enums! {
    AlarmType { NONE = 0, NOSPACE = 1, CORRUPT = 2, }
    AlarmAction { GET = 0, ACTIVATE = 1, DEACTIVATE = 2, }
    DowngradeAction { VALIDATE = 0, ENABLE = 1, CANCEL = 2, }
}

messages! {
    Member {
        1 id: u64,
        /// Empty: it has not started yet.
        2 name: String,
        3 peer_urls: Vec<String>,
        4 client_urls: Vec<String>,
        5 is_learner: bool,
    }

    MemberAddRequest {
        1 peer_urls: Vec<String>,
        2 is_learner: bool,
    }

    MemberAddResponse {
        1 header: ResponseHeader,
        2 member: Member,
        3 members: Vec<Member>,
    }

    MemberRemoveRequest {
        1 id: u64,
    }

    MemberRemoveResponse {
        1 header: ResponseHeader,
        2 members: Vec<Member>,
    }

    MemberUpdateRequest {
        1 id: u64,
        2 peer_urls: Vec<String>,
    }

    MemberUpdateResponse {
        1 header: ResponseHeader,
        2 members: Vec<Member>,
    }

    MemberListRequest {
        1 linearizable: bool,
    }

    MemberListResponse {
        1 header: ResponseHeader,
        2 members: Vec<Member>,
    }

    /// A learner becomes a voter.
    MemberPromoteRequest {
        1 id: u64,
    }

    MemberPromoteResponse {
        1 header: ResponseHeader,
        2 members: Vec<Member>,
    }

    AlarmRequest {
        1 action: AlarmAction,
        /// 0: every member.
        2 member_id: u64,
        3 alarm: AlarmType,
    }

    AlarmMember {
        1 member_id: u64,
        2 alarm: AlarmType,
    }

    AlarmResponse {
        1 header: ResponseHeader,
        2 alarms: Vec<AlarmMember>,
    }

    StatusRequest {}

    StatusResponse {
        1 header: ResponseHeader,
        2 version: String,
        3 db_size: i64,
        /// The leader's number; 0: there is none.
        4 leader: u64,
        5 raft_index: u64,
        6 raft_term: u64,
        7 raft_applied_index: u64,
        8 errors: Vec<String>,
        9 db_size_in_use: i64,
        10 is_learner: bool,
        11 storage_version: String,
        12 db_size_quota: i64,
        13 downgrade_info: Option<DowngradeInfo>,
    }

    DowngradeInfo {
        1 enabled: bool,
        2 target_version: String,
    }

    DefragmentRequest {}

    DefragmentResponse {
        1 header: ResponseHeader,
    }

    HashRequest {}

    HashResponse {
        1 header: ResponseHeader,
        2 hash: u32,
    }

    HashKvRequest {
        /// 0: the newest.
        1 revision: i64,
    }

    HashKvResponse {
        1 header: ResponseHeader,
        2 hash: u32,
        3 compact_revision: i64,
        4 hash_revision: i64,
    }

    SnapshotRequest {}

    SnapshotResponse {
        1 header: ResponseHeader,
        2 remaining_bytes: u64,
        3 blob: Bytes,
        4 version: String,
    }

    MoveLeaderRequest {
        1 target_id: u64,
    }

    MoveLeaderResponse {
        1 header: ResponseHeader,
    }

    DowngradeRequest {
        1 action: DowngradeAction,
        2 version: String,
    }

    DowngradeResponse {
        1 header: ResponseHeader,
        2 version: String,
    }

    AuthStatusRequest {}

    AuthStatusResponse {
        1 header: ResponseHeader,
        2 enabled: bool,
        3 auth_revision: u64,
    }

    AuthenticateRequest {
        1 name: String,
        2 password: String,
    }

    AuthenticateResponse {
        1 header: ResponseHeader,
        /// What later calls carry as the header `token`.
        2 token: String,
    }
}
