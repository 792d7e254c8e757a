//! Telling what happens to pods and the node, as Events: a bounded queue and one task that writes.

use std::sync::Arc;

use api::Object;
use client::events::{Folder, Source, Tell};
use client::{Client, PatchType};
use rt::channel::{LazySender, Receiver, bounded_lazily};

/// Events that may wait to be written; further ones are dropped.
const QUEUE_MAX: usize = 512;

/// Takes events from anywhere, without waiting. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    sender: LazySender<Note>,
}

#[derive(Debug)]
struct Note {
    about: Object,
    field: String,
    warning: bool,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// The recorder, and the task that writes what it is told.
    pub(crate) fn start(client: Client, node: &str) -> (Recorder, rt::Task<Option<()>>) {
        let (sender, receiver) = bounded_lazily(QUEUE_MAX);
        let source = Source { component: "kubelet".into(), host: node.to_owned() };
        let task = rt::spawn_named("event recorder", write(client, source, receiver));
        (Recorder { sender }, task)
    }

    pub(crate) fn normal(&self, about: &Object, reason: &'static str, message: impl Into<String>) {
        self.tell(about, "", false, reason, message.into());
    }

    pub(crate) fn warning(&self, about: &Object, reason: &'static str, message: impl Into<String>) {
        self.tell(about, "", true, reason, message.into());
    }

    /// About a part of the object: `spec.containers{name}`.
    pub(crate) fn tell(
        &self,
        about: &Object,
        field: &str,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        /// Bytes of a message that the API takes.
        const MESSAGE_MAX_BYTES: usize = 1024;
        let mut message = message;
        if message.len() > MESSAGE_MAX_BYTES {
            let end = (0..=MESSAGE_MAX_BYTES).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
        }
        let note = Note { about: about.clone(), field: field.to_owned(), warning, reason, message };
        if let Err(error) = self.sender.try_send(note) {
            log::debug!("event dropped: {:?}", error.into_inner().reason);
        }
    }
}

async fn write(client: Client, source: Source, receiver: Receiver<Note>) {
    let mut folder = Folder::default();
    let client = Arc::new(client);
    let mut last_suffix = 0;
    while let Ok(note) = receiver.recv().await {
        // As upstream the time in nanoseconds, so that names sort as the events happened.
        let nanos = u64::try_from(rt::now().wall.0).unwrap_or(0);
        last_suffix = nanos.max(last_suffix + 1);
        let tell = folder.tell(
            &source,
            &note.about,
            &note.field,
            note.warning,
            note.reason,
            &note.message,
            rt::now().wall,
            last_suffix,
        );
        if let Err(status) = put(&client, &mut folder, tell).await {
            log::debug!("event {} of {:?}: {status}", note.reason, note.about);
        }
    }
}

async fn put(client: &Client, folder: &mut Folder, tell: Tell) -> Result<(), api::Status> {
    let kind = &api::kinds::EVENT;
    match tell {
        Tell::Create(tree) => client.create(kind, tree).await.map(drop),
        Tell::Patch { namespace, name, patch } => {
            let done = client.patch(kind, &namespace, &name, "", PatchType::Merge, patch).await;
            if done.as_ref().is_err_and(api::Status::is_not_found) {
                folder.forget(&namespace, &name);
            }
            done.map(drop)
        }
    }
}
