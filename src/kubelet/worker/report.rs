//! Telling the API how the pod is: one patch at a time, only what changed, until it is taken.

use std::sync::Arc;
use std::time::Duration;

use api::controller::Cache;
use api::{Lens, Object, Status, Value, kinds};
use client::{Client, PatchType};
use stdx::backoff::Backoff;
use stdx::time::Mono;

use super::Worker;
use crate::shared::{Kept, Reported, Shared};
use podplan::{Addresses, CONFIG_MIRROR, Pod, State, covers, generate_status, status_patch};

const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// The same status is not written more often than this.
const REWRITE_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was last written, at which revision, and when.
    written: Option<(Kept, u64, Mono)>,
    in_flight: bool,
    failures: u32,
    retry_at: Option<Mono>,
    /// The pod was seen to run.
    ran: bool,
}

impl Report {
    /// The API's status is not what was written: write again.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    pub(super) fn due(&self, now: Mono) -> Option<Duration> {
        self.retry_at.map(|at| at.since(now))
    }

    pub(super) fn take(&mut self, reported: Reported, now: Mono) {
        self.in_flight = false;
        match reported {
            Reported::Written(status, revision) => {
                self.written = Some((status, revision, now));
                self.failures = 0;
                self.retry_at = None;
            }
            Reported::Failed => {
                self.failures += 1;
                self.retry_at = Some(now + RETRY.delay(self.failures));
            }
            Reported::Nowhere => self.retry_at = None,
        }
    }
}

impl Worker {
    /// Writes the status if it is not what the API has.
    pub(super) fn report(&mut self) {
        let now = rt::now();
        // A time that has come wakes once; whoever still waits sets it anew.
        if self.report.retry_at.is_some_and(|at| at <= now.mono) {
            self.report.retry_at = None;
        }
        if self.state.settled || self.report.in_flight || self.state.finishing {
            return;
        }
        if self.state.replacing() && !podplan::terminating(&self.pod, &self.state) {
            return;
        }
        self.state.start_time.get_or_insert(now.wall);
        let Some(object) = api_object(&self.shared, &self.pod) else {
            // A mirror that does not exist yet, or an API that is away.
            let status = self.status_over(&self.pod.object.tree());
            self.slot.lock().snapshot.status = Kept::new(&status);
            return;
        };
        let tree = object.tree();
        let status = self.status_over(&tree);
        if !self.report.ran && status.str("phase") == "Running" {
            self.report.ran = true;
            // One that is adopted ran before.
            if let Some(since) =
                self.state.start_time.filter(|_| tree.str("status.phase") != "Running")
            {
                self.shared.figures.pod_start.observe(now.age(since));
            }
        }
        let kept = Kept::new(&status);
        self.slot.lock().snapshot.status = kept.clone();
        if covers(tree.at("status"), &status) {
            self.report.retry_at = None;
            return;
        }
        if let Some((written, revision, at)) = &self.report.written
            && *written == kept
        {
            if object.revision() < *revision {
                // The view has not seen our own write yet; its next change wakes us.
                return;
            }
            // Someone else wrote over it (a node that was thought lost): say it again, in peace.
            let again = *at + REWRITE_AFTER;
            if again > now.mono {
                self.report.retry_at = Some(again);
                return;
            }
        }
        if self.report.retry_at.is_some_and(|at| at > now.mono) {
            return;
        }
        self.report.in_flight = true;
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.slot));
        let name = format!("status of pod {}/{}", self.pod.namespace, self.pod.name);
        self.tasks.push(rt::spawn(async move {
            let write = write(shared, object, status);
            let reported = rt::spawn_named(name, write).await.unwrap_or(Reported::Failed);
            slot.post(|inbox| inbox.reported = Some(reported));
        }));
    }

    fn status_over(&self, tree: &Value) -> Value {
        status_over(&self.shared, &self.pod, &self.state, tree)
    }
}

pub(super) fn status_over(shared: &Shared, pod: &Pod, state: &State, tree: &Value) -> Value {
    let addresses = Addresses { host_ips: shared.host_ips() };
    generate_status(rt::now().wall, pod, tree, state, &addresses)
}

/// The object in the API that carries this pod's status: itself, or its mirror.
pub(super) fn api_object(shared: &Shared, pod: &Pod) -> Option<Object> {
    let object = shared.informers.get(&kinds::POD, &pod.namespace, &pod.name)?;
    let fits = match pod.is_static {
        true => object.tree().entry("metadata.annotations", CONFIG_MIRROR) == Some(&*pod.uid),
        false => object.uid() == pod.uid,
    };
    fits.then_some(object)
}

/// Patches the status of exactly this object, at the version that the patch was made from.
pub(super) async fn write(shared: Arc<Shared>, object: Object, status: Value) -> Reported {
    write_with(&shared.client, object, status).await
}

async fn write_with(client: &Client, object: Object, status: Value) -> Reported {
    const CONFLICTS_MAX: usize = 5;
    let mut object = object;
    for _ in 0..CONFLICTS_MAX {
        let patch = status_patch(&object, &status);
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let patched =
            client.patch(&kinds::POD, &namespace, &name, "status", PatchType::Merge, patch).await;
        match patched {
            Ok(now) => return Reported::Written(Kept::new(&status), now.revision()),
            Err(error) if error.is_not_found() => return Reported::Nowhere,
            Err(error) if error.is_conflict() => {
                match client.get_optional(&kinds::POD, &namespace, &name).await {
                    Ok(Some(newer)) if newer.uid() == object.uid() => object = newer,
                    Ok(_) => return Reported::Nowhere,
                    Err(status) => return failed(&namespace, &name, &status),
                }
            }
            Err(status) => return failed(&namespace, &name, &status),
        }
    }
    Reported::Failed
}

fn failed(namespace: &str, name: &str, status: &Status) -> Reported {
    log::warn!("pod {namespace}/{name}: write its status: {status}");
    Reported::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn a_conflict_is_written_over_the_newer_object() {
        use client::{Answer, Body, Verb};
        let pod = |revision: u64, status: Value| {
            let tree = json!({"metadata": {"namespace": "n", "name": "p", "uid": "u",
                "resourceVersion": revision.to_string()}, "status": status});
            Object::from_tree(&kinds::POD, &tree).unwrap()
        };
        let gate = json!({"conditions": [{"type": "x/y", "status": "True"}]});
        let newer = pod(2, gate);
        let (client, _events) = crate::testing::client(move |request| match request.verb {
            Verb::Get => Ok(Answer::Object(newer.clone())),
            _ => {
                let Body::Patch(_, patch) = request.body else { panic!("not a patch") };
                if patch.str("metadata.resourceVersion") != "2" {
                    return Err(Status::modified(&kinds::POD, "p"));
                }
                assert_eq!(patch.str("metadata.uid"), "u");
                // The condition that came meanwhile is kept.
                assert_eq!(patch.list("status.conditions").len(), 2);
                Ok(Answer::Object(newer.clone()))
            }
        });
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let reported = rt::block_on(write_with(&client, pod(1, json!({})), status.clone()));
        assert!(matches!(reported, Reported::Written(written, 2) if written.tree() == status));
    }
}
