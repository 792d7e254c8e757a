//! Lists of objects: what stands before, around and after their items, so that they can be sent piece by piece.

use serde_json::{Value, json};
use wire::protobuf as pb;

use super::{
    Mismatch, encode, envelope, put_metadata, put_object, write_json, write_metadata_json,
};
use super::{write_metadata_protobuf, write_protobuf, write_tree_json};
use crate::form::Form;
use crate::lens::LensMut;
use crate::object::Object;
use crate::schema::schema;

/// The fields of a list answer's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMeta {
    pub revision: u64,
    pub next: String,
    pub remaining: Option<u64>,
}

impl ListMeta {
    /// As a `ListMeta` tree.
    pub fn tree(&self) -> Value {
        let mut tree = json!({});
        if self.revision != 0 {
            tree.set("resourceVersion", self.revision.to_string());
        }
        if !self.next.is_empty() {
            tree.set("continue", self.next.as_str());
        }
        if let Some(remaining) = self.remaining {
            tree.set("remainingItemCount", remaining);
        }
        tree
    }
}

/// As what an object is shown, alone or in a list.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'f> {
    /// Itself, in a form.
    Whole(Form<'f>),
    /// `PartialObjectMetadata` of this `apiVersion`.
    Metadata(&'f str),
}

impl<'f, F: Into<Form<'f>>> From<F> for Shown<'f> {
    fn from(form: F) -> Shown<'f> {
        Shown::Whole(form.into())
    }
}

impl Shown<'_> {
    fn types(&self) -> (String, String) {
        match self {
            Shown::Whole(form) => (form.api_version(), form.list_kind()),
            Shown::Metadata(version) => {
                (String::from(*version), "PartialObjectMetadataList".into())
            }
        }
    }

    /// The JSON text of a list up to its first item. What follows the last one is [`JSON_END`].
    pub fn json_head(&self, meta: &ListMeta) -> Vec<u8> {
        let (api_version, kind) = self.types();
        let mut head = json!({"kind": kind, "apiVersion": api_version, "metadata": meta.tree()});
        if let Shown::Whole(form) = self
            && !form.kind.is_built_in()
        {
            // Upstream's lists of what has no Go type say so too where nothing follows.
            head["metadata"]["continue"] = meta.next.as_str().into();
        }
        let mut out = Vec::new();
        write_tree_json(&head, &mut out);
        out.pop();
        out.extend_from_slice(b",\"items\":[");
        out
    }

    /// An empty list without a revision, encoded. Of it a client makes the list that the initial events of a watch
    /// are; where there are tables it is one of objects (upstream's `watchListTransformer`).
    pub fn blueprint(&self, protobuf: bool) -> Vec<u8> {
        if protobuf {
            let mut out = self.protobuf_head(&ListMeta::default(), 0);
            out.extend_from_slice(PROTOBUF_END);
            return out;
        }
        let (api_version, kind) = self.types();
        let text = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{}},\"items\":null}}\n"
        );
        text.into_bytes()
    }

    /// Appends an object's JSON text, with its types.
    pub fn write_json(&self, object: &Object, out: &mut Vec<u8>) {
        match self {
            Shown::Whole(form) => write_json(object, *form, out),
            Shown::Metadata(version) => write_metadata_json(object, version, out),
        }
    }

    /// The bytes of a list in protobuf up to its first item, where all items take `items_bytes`. What follows
    /// the last one is [`PROTOBUF_END`].
    pub fn protobuf_head(&self, meta: &ListMeta, items_bytes: usize) -> Vec<u8> {
        let (api_version, kind) = self.types();
        let mut list_meta = Vec::new();
        if let (Value::Object(map), Some(id)) = (&meta.tree(), schema().meta("ListMeta")) {
            // The tree was made to fit.
            let _ =
                pb::put_message::<Mismatch>(&mut list_meta, 1, |out| encode::message(id, map, out));
        }
        let mut out = Vec::new();
        envelope::put_types(&api_version, &kind, &mut out);
        pb::put_len(&mut out, 2, list_meta.len() + items_bytes);
        out.extend_from_slice(&list_meta);
        out
    }

    /// Appends an object's protobuf envelope (`k8s\0`...).
    pub fn write_protobuf(&self, object: &Object, out: &mut Vec<u8>) {
        match self {
            Shown::Whole(form) => write_protobuf(object, *form, out),
            Shown::Metadata(version) => write_metadata_protobuf(object, version, out),
        }
    }

    /// Appends one item in protobuf, as an element of the list's message.
    pub fn put_protobuf(&self, object: &Object, out: &mut Vec<u8>) {
        // The body cannot fail.
        let _ = pb::put_message::<Mismatch>(out, 2, |out| {
            match self {
                Shown::Whole(form) => put_object(object, *form, out),
                Shown::Metadata(_) => put_metadata(object, out),
            }
            Ok(())
        });
    }
}

/// Ends a list's JSON text.
pub const JSON_END: &[u8] = b"]}";

/// Ends a list in protobuf.
pub const PROTOBUF_END: &[u8] = envelope::END;

/// Appends `{"kind":"PodList",...}` of objects.
#[cfg(test)]
pub(crate) fn write_list_json<'f, 'a>(
    shown: impl Into<Shown<'f>>,
    objects: impl IntoIterator<Item = &'a Object>,
    meta: &ListMeta,
    out: &mut Vec<u8>,
) {
    let shown = shown.into();
    out.append(&mut shown.json_head(meta));
    for (idx, object) in objects.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        shown.write_json(object, out);
    }
    out.extend_from_slice(JSON_END);
}

/// Appends a `PodList` in protobuf (`k8s\0`...), spliced from the objects' bytes.
pub fn write_list_protobuf<'f, 'a>(
    shown: impl Into<Shown<'f>>,
    objects: impl IntoIterator<Item = &'a Object>,
    meta: &ListMeta,
    out: &mut Vec<u8>,
) {
    let (shown, mut body) = (shown.into(), Vec::new());
    objects.into_iter().for_each(|object| shown.put_protobuf(object, &mut body));
    out.append(&mut shown.protobuf_head(meta, body.len()));
    out.append(&mut body);
    out.extend_from_slice(PROTOBUF_END);
}
