//! Watches over HTTP: events in JSON lines, protobuf frames or table rows.

use std::sync::{Arc, Weak};

use api::codec::{self, Shown};
use api::{Form, LensMut, Object, Resource, Status, Value, json};
use http::body::Sender;
use http::{Body, Response};
use rules::table;

use super::negotiate::{Format, Shape};
use super::respond::{self, Wanted};
use crate::core::Core;
use crate::registry::watch::{Item, Stream};

/// How much a client may be behind before its watch waits for it.
const BUFFERED_MAX_BYTES: usize = 64 * 1024;

/// Events joined into one piece when several wait.
const PIECE_BYTES: usize = 16 * 1024;

/// Events that are converted at a time: so many, or one more than so many bytes of objects.
const CONVERTED_ITEMS_MAX: usize = 100;
const CONVERTED_BYTES: usize = 1 << 20;

/// The answer that streams events.
pub(crate) fn response(
    core: &Arc<Core>,
    stream: Stream,
    resource: Resource,
    wanted: Wanted,
) -> Response {
    let (sender, body) = Body::channel(BUFFERED_MAX_BYTES);
    let media_type = match wanted.media.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let what = format!("watch {}", resource.kind.plural);
    let encoder = Encoder { resource, wanted, columns_sent: false };
    match stream.converts() {
        false => rt::spawn_named(what, pump(stream, encoder, sender)).detach(),
        true => {
            let pump = pump_converted(Arc::downgrade(core), stream, encoder, sender);
            rt::spawn_named(what, pump).detach();
        }
    }
    let mut response = Response::new(200).header("content-type", media_type);
    response.body = body;
    response.headers.set("cache-control", "no-cache, private");
    response
}

async fn pump(mut stream: Stream, mut encoder: Encoder, mut sender: Sender) {
    loop {
        let next = rt::future::or(async { Some(stream.next_item().await) }, async {
            sender.closed().await;
            None
        });
        // The client went away, or the watch is over.
        let Some(Some(event)) = next.await else { return };
        let mut out = Vec::new();
        let mut ended = encoder.event(event, &mut out);
        while !ended && out.len() < PIECE_BYTES {
            match stream.try_next() {
                Some(event) => ended = encoder.event(event, &mut out),
                None => break,
            }
        }
        if sender.send(out).await.is_err() || ended {
            return;
        }
    }
}

/// The same where a webhook makes what is shown: it is asked for as many events at once as there are.
async fn pump_converted(
    core: Weak<Core>,
    mut stream: Stream,
    mut encoder: Encoder,
    mut sender: Sender,
) {
    loop {
        let next = rt::future::or(async { Some(stream.next_item().await) }, async {
            sender.closed().await;
            None
        });
        let Some(Some(first)) = next.await else { return };
        let mut items = vec![first];
        let mut bytes = open_bytes(&items[0]);
        while items.len() < CONVERTED_ITEMS_MAX
            && bytes < CONVERTED_BYTES
            && let Some(item) = stream.try_next()
        {
            bytes += open_bytes(&item);
            items.push(item);
        }
        let Some(core) = core.upgrade() else { return };
        let items = stream.converted(&core, &encoder.resource, items).await;
        drop(core);
        for item in items {
            let mut out = Vec::new();
            let ended = encoder.event(item, &mut out);
            if sender.send(out).await.is_err() || ended {
                return;
            }
        }
    }
}

fn open_bytes(item: &Result<Item, Status>) -> usize {
    item.as_ref().map_or(0, Item::open_bytes)
}

struct Encoder {
    resource: Resource,
    wanted: Wanted,
    /// A table's columns are told with the first event only.
    columns_sent: bool,
}

impl Encoder {
    /// Appends an event; true if it is the last.
    fn event(&mut self, item: Result<Item, Status>, out: &mut Vec<u8>) -> bool {
        // A copy: a watch lasts, and the schema that an event needs is not kept that long.
        let resource = self.resource.clone();
        match item {
            Ok(Item::Initial(object)) => self.object("ADDED", &object, resource.form(), out),
            Ok(Item::Change(event, change)) => match self.wanted.media.shape {
                // The same bytes for all who watch in this form.
                Shape::Object | Shape::Discovery { .. } => {
                    let protobuf = self.wanted.media.format == Format::Protobuf;
                    let encode = |object: &Object, out: &mut Vec<u8>| {
                        write_event(event.as_str(), object, resource.form().into(), protobuf, out);
                    };
                    let bytes = change.encoded(event, &resource, protobuf, &encode);
                    out.extend_from_slice(&bytes);
                }
                _ => {
                    if let Some(object) = change.object(event) {
                        self.object(event.as_str(), object, resource.form(), out);
                    }
                }
            },
            Ok(Item::Converted(event, object)) => {
                self.object(event.as_str(), &object, resource.form(), out);
            }
            Ok(Item::Bookmark { revision, initial_end }) => {
                let tree = self.bookmark(revision, initial_end);
                self.tree("BOOKMARK", &tree, out);
            }
            Err(status) => {
                self.tree("ERROR", &status.to_tree(), out);
                return true;
            }
        }
        false
    }

    fn object(&mut self, event: &str, object: &Object, form: Form<'_>, out: &mut Vec<u8>) {
        let shown = match self.wanted.media.shape {
            Shape::Object | Shape::Discovery { .. } => Shown::Whole(form),
            Shape::Metadata { beta } => respond::metadata(beta),
            Shape::Table { .. } => {
                let row = respond::row(object, form, &self.wanted);
                let metadata = json!({"resourceVersion": object.revision().to_string()});
                let table = self.table(vec![row], metadata);
                return self.tree(event, &table, out);
            }
        };
        write_event(event, object, shown, self.wanted.media.format == Format::Protobuf, out);
    }

    fn table(&mut self, rows: Vec<Value>, metadata: Value) -> Value {
        let mut tree = table::table(self.resource.form(), rows, metadata, !self.columns_sent);
        self.columns_sent = true;
        if self.wanted.media.shape == (Shape::Table { beta: true }) {
            tree.set("apiVersion", "meta.k8s.io/v1beta1");
        }
        tree
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Value {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            let shown = match self.wanted.media.shape {
                Shape::Metadata { beta } => respond::metadata(beta),
                _ => Shown::Whole(self.resource.form()),
            };
            let blueprint = shown.blueprint(self.wanted.media.format == Format::Protobuf);
            metadata["annotations"] = json!({
                "k8s.io/initial-events-end": "true",
                "kubernetes.io/initial-events-list-blueprint": wire::base64::encode(&blueprint),
            });
        }
        match self.wanted.media.shape {
            Shape::Table { .. } => {
                let row = json!({"cells": self.empty_cells(), "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                }});
                let list = json!({"resourceVersion": revision.to_string()});
                self.table(vec![row], list)
            }
            Shape::Metadata { .. } => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            }),
            _ => json!({
                "kind": self.resource.kind.name, "apiVersion": self.resource.form().api_version(), "metadata": metadata,
            }),
        }
    }

    fn empty_cells(&self) -> Vec<Value> {
        let columns = table::columns(self.resource.form());
        columns.as_array().map_or_else(Vec::new, |columns| vec![Value::from(""); columns.len()])
    }

    fn tree(&self, event: &str, tree: &Value, out: &mut Vec<u8>) {
        match self.wanted.media.format {
            Format::Protobuf => match codec::tree_to_protobuf(tree) {
                Ok(encoded) => codec::write_watch_protobuf(event, &encoded, out),
                Err(error) => log::warn!("encode a watch event {event}: {error}"),
            },
            _ => codec::write_watch_tree_json(event, tree, out),
        }
    }
}

/// Appends an event that shows an object.
fn write_event(event: &str, object: &Object, shown: Shown<'_>, protobuf: bool, out: &mut Vec<u8>) {
    if !protobuf {
        return codec::write_watch_json(event, object, shown, out);
    }
    let mut encoded = Vec::new();
    shown.write_protobuf(object, &mut encoded);
    codec::write_watch_protobuf(event, &encoded, out);
}
