//! What the API is told: where Ingresses are reached, how Gateways and their routes stand, and what is asked for in vain.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::status::Reason;
use api::{Object, Value, json};
use client::events::{Folder, Source};
use client::{Body, Client, PatchType, Request, Verb, driver};
use routes::Table;
use stdx::OrdMap;

use crate::live::Shared;

/// Objects are made one after the other: what is missing is complained of when it is missing for longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Complaints that are remembered as told.
const TOLD_MAX: usize = 2048;
/// Between attempts to write what was not taken.
const RETRY: Duration = Duration::from_secs(5);

pub(crate) async fn run(client: Client, shared: Arc<Shared>) {
    let mut reporter = Reporter {
        client,
        source: Source { component: "traefik".into(), host: shared.options.hostname.clone() },
        folder: Mutex::default(),
        told: OrdMap::new(),
        written: OrdMap::new(),
    };
    loop {
        let changed = shared.changed.listen();
        let whole = reporter.statuses(&shared.live().table).await;
        // Wakes for the next table, for complaints that last, and for what failed.
        let waits = match (whole, reporter.has_news(&shared.live().table)) {
            (true, false) => None,
            (true, true) => Some(PATIENCE),
            (false, _) => Some(RETRY),
        };
        match waits {
            None => changed.await,
            Some(wait) => {
                let waited = rt::timeout(wait, changed).await;
                if waited.is_err() {
                    reporter.complaints(&shared.live().table).await;
                }
            }
        }
    }
}

struct Reporter {
    client: Client,
    source: Source,
    folder: Mutex<Folder>,
    /// Complaints by the object's uid and the words, with its revision then.
    told: OrdMap<(String, String), u64>,
    /// The revisions of objects that our writes made, by uid.
    written: OrdMap<String, u64>,
}

impl Reporter {
    /// Writes what statuses lack. Whether all could be written.
    async fn statuses(&mut self, table: &Table) -> bool {
        let mut whole = true;
        self.written.retain(|uid, _| table.statuses.iter().any(|(object, _)| object.uid() == uid));
        for (object, status) in &table.statuses {
            let known = self.written.get(object.uid());
            // What we wrote is not seen yet.
            if known.is_some_and(|revision| *revision > object.revision()) {
                continue;
            }
            match self.write(object, status).await {
                Ok(revision) => drop(self.written.insert(object.uid().to_owned(), revision)),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    // Of what somebody else wrote at the same time we hear.
                    if error.reason() != Reason::Conflict {
                        log::warn!("write the status of {object:?}: {error}");
                    }
                    whole = false;
                }
            }
        }
        whole
    }

    async fn write(&self, object: &Object, status: &Value) -> Result<u64, api::Status> {
        let (namespace, name) = (object.namespace(), object.name());
        let mut request = Request::new(Verb::Patch, object.kind(), namespace, name);
        request.subresource = "status".into();
        let mut meta = json!({"uid": object.uid()});
        if !object.kind().declared.built_in {
            // Others speak in the same lists, which a patch replaces.
            meta["resourceVersion"] = object.revision().to_string().into();
        }
        let patch = json!({"metadata": meta, "status": status});
        request.body = Body::Patch(PatchType::Merge, patch);
        match self.client.call(request).await? {
            client::Answer::Object(written) => Ok(written.revision()),
            _ => Ok(object.revision()),
        }
    }

    /// Whether something is to be complained of that was not told yet.
    fn has_news(&self, table: &Table) -> bool {
        table.complaints.iter().any(|complaint| !self.is_told(complaint))
    }

    fn is_told(&self, complaint: &routes::Complaint) -> bool {
        let key = (complaint.about.uid().to_owned(), complaint.message.clone());
        self.told.contains_key(&key)
    }

    async fn complaints(&mut self, table: &Table) {
        // What is mended is told again if it breaks again.
        self.told.retain(|(uid, message), _| {
            let mut complaints = table.complaints.iter();
            complaints
                .any(|complaint| complaint.about.uid() == uid && complaint.message == *message)
        });
        for complaint in &table.complaints {
            if self.is_told(complaint) || self.told.len() >= TOLD_MAX {
                continue;
            }
            let (now, suffix) = (rt::now().wall, rt::random_u64());
            let (about, message) = (&complaint.about, &complaint.message);
            log::warn!("{about:?}: {message}");
            let tell = {
                let mut folder =
                    self.folder.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                folder.tell(&self.source, about, "", true, complaint.reason, message, now, suffix)
            };
            if let Err(status) = driver::send_event(&self.client, tell, &self.folder).await {
                log::debug!("event about {about:?}: {status}");
            }
            self.told.insert((about.uid().to_owned(), message.clone()), about.revision());
        }
    }
}
