//! Running containers are kept on the CPUs that they may run on, and what ended pods had goes back.

use std::sync::Arc;

use runtime::{ContainerState, Resources};
use stdx::OrdMap;

use crate::cpus::Cpus;
use crate::make::container::{LABEL_CONTAINER, LABEL_POD_UID};
use crate::shared::{OWNER, Shared, Slots};

/// Whether a pod may still have CPUs.
pub(crate) fn is_live(slots: &Slots, uid: &str) -> bool {
    let snapshot = slots.get(uid).map(|slot| slot.snapshot());
    snapshot.is_some_and(|snapshot| !snapshot.terminal && !snapshot.released)
}

/// Keeps running containers on the CPUs that they may run on, which for most of them are those that nobody has alone.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(cpus) = &shared.cpus else { return };
    // What containers were told, by id: those that run only.
    let mut told: OrdMap<String, String> = OrdMap::new();
    loop {
        let changed = cpus.changed.listen();
        told = reconcile(&shared, cpus, told).await;
        let period = rt::sleep(shared.config.cpus.reconcile_every);
        rt::future::or(
            async {
                changed.await;
            },
            period,
        )
        .await;
        cpus.release(&|uid| is_live(&shared.slots, uid)).await;
    }
}

async fn reconcile(
    shared: &Shared,
    cpus: &Cpus,
    mut told: OrdMap<String, String>,
) -> OrdMap<String, String> {
    let mut next = OrdMap::new();
    for container in shared.runtime.containers() {
        if !matches!(container.state, ContainerState::Running) {
            continue;
        }
        let sandbox = shared.runtime.sandbox(&container.sandbox);
        if sandbox.is_none_or(|sandbox| sandbox.owner != OWNER) {
            continue;
        }
        let label = |name: &str| container.labels.get(name).map_or("", String::as_str);
        let wanted = cpus.of(label(LABEL_POD_UID), label(LABEL_CONTAINER));
        let id = container.id.to_string();
        if told.remove(&id).is_none_or(|known| known != wanted) {
            let resources = Resources { cpuset_cpus: wanted.clone(), ..Resources::default() };
            if let Err(error) = shared.runtime.update_container(&id, &resources).await {
                // It may have ended meanwhile; otherwise the next round tries again.
                log::warn!("CPUs {wanted} of container {id}: {error}");
                continue;
            }
        }
        next.insert(id, wanted);
    }
    next
}
