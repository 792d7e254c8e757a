//! The stream of what happens to containers and sandboxes.

use std::sync::Arc;

use http::grpc::{Code, Incoming, Outgoing, Status};
use runtime::{Event, Id};
use wire::cri::{ContainerEventResponse, ContainerEventType};
use wire::message::Message;

use crate::{Shared, shown};

/// Sends events until the client is gone or too slow.
pub(crate) async fn run(shared: Arc<Shared>, incoming: Incoming, mut outgoing: Outgoing) {
    let events = shared.runtime.events();
    if let Err(status) = incoming.single().await {
        return outgoing.finish(Err(status));
    }
    loop {
        let next = rt::future::or(async { events.recv().await.ok() }, async {
            outgoing.closed().await;
            None
        });
        let Some(event) = next.await else { return };
        if matches!(event, Event::Lagged) {
            let message = "the client is too slow: events were lost";
            return outgoing.finish(Err(Status::new(Code::RESOURCE_EXHAUSTED, message)));
        }
        let Some((id, sandbox, kind)) = of(event) else { continue };
        let response = describe(&shared, &id, &sandbox, kind).await;
        if outgoing.send(&response.encode()).await.is_err() {
            return;
        }
    }
}

/// Whose event it is, in which sandbox, and its kind. A sandbox counts as a container, as in containerd.
fn of(event: Event) -> Option<(Id, Id, ContainerEventType)> {
    let of_sandbox = |sandbox: Id, kind| Some((sandbox.clone(), sandbox, kind));
    match event {
        Event::SandboxStarted { sandbox } => of_sandbox(sandbox, ContainerEventType::STARTED),
        Event::SandboxStopped { sandbox } | Event::SandboxLost { sandbox } => {
            of_sandbox(sandbox, ContainerEventType::STOPPED)
        }
        Event::SandboxRemoved { sandbox } => of_sandbox(sandbox, ContainerEventType::DELETED),
        Event::ContainerCreated { sandbox, container } => {
            Some((container, sandbox, ContainerEventType::CREATED))
        }
        Event::ContainerStarted { sandbox, container } => {
            Some((container, sandbox, ContainerEventType::STARTED))
        }
        Event::ContainerExited { sandbox, container, .. } => {
            Some((container, sandbox, ContainerEventType::STOPPED))
        }
        Event::ContainerRemoved { sandbox, container } => {
            Some((container, sandbox, ContainerEventType::DELETED))
        }
        Event::ContainerOom { .. }
        | Event::ImageImported { .. }
        | Event::ImageRemoved { .. }
        | Event::Lagged => None,
    }
}

/// With the sandbox and its containers as they are now.
async fn describe(
    shared: &Shared,
    id: &Id,
    sandbox: &Id,
    kind: ContainerEventType,
) -> ContainerEventResponse {
    let mut response = ContainerEventResponse {
        container_id: id.to_string(),
        container_event_type: kind,
        created_at: rt::now().wall.0,
        ..ContainerEventResponse::default()
    };
    if let Some(status) = shared.runtime.sandbox(sandbox) {
        response.pod_sandbox_status = Some(shown::sandbox(shared, &status).await);
    }
    for container in shared.runtime.containers() {
        if container.sandbox == *sandbox {
            response.containers_statuses.push(shown::container(shared, &container).await);
        }
    }
    response
}
