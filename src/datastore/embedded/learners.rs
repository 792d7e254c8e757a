//! What the leader's server does for learners: it promotes them, and removes those that never catch up, because
//! they would keep others from joining.

use std::sync::Arc;
use std::time::Duration;

use http::grpc::Status;
use stdx::time::Mono;

use super::members::{Member, Members};
use crate::Files;

/// k3s's numbers. Etcd tells nobody when it gets a learner.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const STALL_MAX: Duration = Duration::from_secs(300);

/// How far a learner was seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    id: u64,
    applied: u64,
    since: Mono,
}

/// Looks after learners for as long as the task lives, wherever this member leads.
pub(super) async fn keep(own: Arc<Members>, files: Files) {
    let mut progress = None;
    loop {
        rt::sleep(LOOK_EVERY).await;
        if let Err(status) = look(&own, &files, &mut progress).await {
            log::debug!("look after the learners of etcd: {}", status.message);
        }
    }
}

async fn look(own: &Members, files: &Files, progress: &mut Option<Progress>) -> Result<(), Status> {
    let status = own.status().await?;
    if status.leader != status.header.member_id {
        *progress = None;
        return Ok(());
    }
    let members = own.list().await?;
    let Some(learner) = members.iter().find(|member| member.is_learner) else {
        *progress = None;
        return Ok(());
    };
    if own.promote(learner.id).await.is_ok() {
        log::info!("Promoted learner {}", learner.name);
        *progress = None;
        return Ok(());
    }
    let applied = applied(learner, files).await;
    let seen = advance(*progress, learner.id, applied, rt::now().mono);
    *progress = Some(seen);
    if rt::now().mono.since(seen.since) > STALL_MAX {
        own.remove(learner.id).await?;
        log::warn!("Removed learner {} from etcd cluster", learner.name);
        *progress = None;
    }
    Ok(())
}

/// How much a learner has applied, as it says itself; 0 where it says nothing.
async fn applied(learner: &Member, files: &Files) -> u64 {
    let Ok(itself) = Members::open(&learner.client_urls, files) else { return 0 };
    itself.status().await.map_or(0, |status| status.raft_applied_index)
}

fn advance(known: Option<Progress>, id: u64, applied: u64, now: Mono) -> Progress {
    match known.filter(|known| known.id == id && known.applied >= applied) {
        Some(known) => known,
        None => Progress { id, applied, since: now },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_applies_nothing_stalls() {
        let at = |secs| Mono::default() + Duration::from_secs(secs);
        let first = advance(None, 1, 0, at(1));
        assert_eq!(advance(Some(first), 1, 0, at(9)).since, at(1));
        let more = advance(Some(first), 1, 5, at(9));
        assert_eq!((more.applied, more.since), (5, at(9)));
        assert_eq!(advance(Some(more), 1, 0, at(20)), more, "it is away");
        assert_eq!(advance(Some(more), 2, 0, at(20)).since, at(20), "another one");
    }
}
