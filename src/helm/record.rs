//! Release records, as Helm keeps them: JSON, compressed and in base64, in a Secret or a ConfigMap for each revision.

use std::io::Read;

use api::{Kind, Lens, LensMut, Object, Status, Value, json, kinds};
use client::{Body, Client, DeleteOptions, ListOptions, Request, Verb};
use stdx::{Arrange, Context, Error, Result};
use wire::decompress::Decompressor;
use wire::gzip_encode::Encoder;

use crate::spec::Driver;

/// Revisions that are kept of a release.
const HISTORY_MAX: usize = 10;
/// A record as text. Whoever may write Secrets in a namespace may write records.
const RECORD_MAX_BYTES: u64 = 32 << 20;
/// Best compression, as Helm: an object holds one megabyte.
const LEVEL: i32 = 9;

const TYPE: &str = "helm.sh/release.v1";

/// A revision that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) revision: u64,
    pub(crate) status: String,
    object: Object,
}

impl Kept {
    /// The record.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn read(&self) -> Result<Value> {
        let tree = self.object.tree();
        let text = tree.entry("data", "release").unwrap_or("");
        let what = || format!("read the release record {}", self.object.name());
        let decoded = match self.object.kind() == &kinds::SECRET {
            true => {
                let bytes = wire::base64::decode(text).context(what)?;
                decode(&String::from_utf8(bytes).context(what)?)
            }
            false => decode(text),
        };
        decoded.context(what)
    }
}

/// Where the records of one release are.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) client: Client,
    pub(crate) driver: Driver,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Records {
    fn kind(&self) -> &'static Kind {
        match self.driver {
            Driver::Secret => &kinds::SECRET,
            Driver::ConfigMap => &kinds::CONFIG_MAP,
        }
    }

    /// Every revision, the oldest first.
    pub(crate) async fn all(&self) -> Result<Vec<Kept>, Status> {
        let selector = format!("owner=helm,name={}", self.name);
        let options = ListOptions { label_selector: selector, ..ListOptions::default() };
        let list = self.client.list(self.kind(), &self.namespace, options).await?;
        let mut all: Vec<Kept> = Vec::new();
        for object in list.items {
            let Some(revision) = object.label("version").and_then(|it| it.parse().ok()) else {
                continue;
            };
            let status = object.label("status").unwrap_or("unknown").to_owned();
            all.push(Kept { revision, status, object });
        }
        all.arrange_by_key(|kept| kept.revision);
        Ok(all)
    }

    /// Keeps a new revision.
    pub(crate) async fn create(&self, record: &Value, labels: &[(&str, String)]) -> Result<()> {
        self.put(Verb::Create, record, "createdAt", labels).await
    }

    /// Keeps a revision that has changed.
    pub(crate) async fn update(&self, record: &Value, labels: &[(&str, String)]) -> Result<()> {
        self.put(Verb::Update, record, "modifiedAt", labels).await
    }

    async fn put(
        &self,
        verb: Verb,
        record: &Value,
        stamp: &str,
        labels: &[(&str, String)],
    ) -> Result<()> {
        let kind = self.kind();
        let revision = record.int("version").unwrap_or_default();
        let name = format!("sh.helm.release.v1.{}.v{revision}", self.name);
        let mut tree = json!({
            "apiVersion": "v1", "kind": kind.name,
            "metadata": {
                "name": name, "namespace": self.namespace,
                "labels": {
                    "name": self.name, "owner": "helm", "status": record.str("info.status"),
                    "version": revision.to_string(), stamp: rt::now().wall.secs().to_string(),
                },
            },
        });
        for (key, value) in labels {
            tree.map_mut("metadata.labels").insert((*key).to_owned(), value.as_str().into());
        }
        let text = encode(record)?;
        if self.driver == Driver::Secret {
            tree.set("type", TYPE);
            tree.set("data.release", wire::base64::encode(text.as_bytes()));
        } else {
            tree.set("data.release", text);
        }
        let mut request = Request::new(verb, kind, &self.namespace, &name);
        request.field_manager = "helm".into();
        request.body = Body::Tree(tree);
        self.client.call(request).await.context(|| format!("keep the release record {name}"))?;
        Ok(())
    }

    /// Forgets a revision.
    pub(crate) async fn delete(&self, kept: &Kept) -> Result<(), Status> {
        let options = DeleteOptions::default();
        match self.client.delete(self.kind(), &self.namespace, kept.object.name(), options).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }

    /// Makes room for one more revision: the oldest go, but not what is deployed.
    pub(crate) async fn make_room(&self, all: &[Kept]) -> Result<(), Status> {
        let n_over = (all.len() + 1).saturating_sub(HISTORY_MAX);
        let deployed = all.iter().rposition(|kept| kept.status == "deployed");
        let old = all.iter().enumerate().filter(|(at, _)| Some(*at) != deployed);
        for (_, kept) in old.take(n_over) {
            self.delete(kept).await?;
        }
        Ok(())
    }
}

/// A record as Helm writes it.
fn encode(record: &Value) -> Result<String> {
    let text = serde_json::to_vec(record).context(|| "write a release record")?;
    let mut compressed = Vec::new();
    Encoder::with_level(LEVEL).push(&text, true, &mut compressed);
    Ok(wire::base64::encode(&compressed))
}

/// A record that Helm, or somebody else, has written.
fn decode(text: &str) -> Result<Value> {
    let bytes = wire::base64::decode(text).context(|| "it is not base64")?;
    // Very old ones are not compressed.
    let mut plain = Vec::new();
    let what = || "unpack it";
    let reader = Decompressor::new(&bytes[..]).context(what)?;
    reader.take(RECORD_MAX_BYTES + 1).read_to_end(&mut plain).context(what)?;
    if plain.len() as u64 > RECORD_MAX_BYTES {
        return Err(Error::new(format!("it has more than {RECORD_MAX_BYTES} bytes")));
    }
    let tree: Value = serde_json::from_slice(&plain).context(|| "read it as JSON")?;
    match tree.is_object() {
        true => Ok(tree),
        false => Err(Error::new("it is no object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_helm_reads() {
        let record = json!({"name": "a", "version": 1, "manifest": "x".repeat(10_000)});
        let text = encode(&record).unwrap();
        assert!(text.starts_with("H4sI"), "{text}");
        assert!(text.len() < 400);
        assert_eq!(decode(&text).unwrap(), record);
        let plain = wire::base64::encode(b"{\"name\":\"old\"}");
        assert_eq!(decode(&plain).unwrap().str("name"), "old");
        for bad in ["!", "", &wire::base64::encode(b"[1]"), &wire::base64::encode(b"nothing")] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_that_never_ends_is_refused() {
        let mut compressed = Vec::new();
        let mut encoder = Encoder::with_level(LEVEL);
        let piece = vec![b' '; 1 << 20];
        for _ in 0..(RECORD_MAX_BYTES >> 20) {
            encoder.push(&piece, false, &mut compressed);
        }
        encoder.push(b" {}", true, &mut compressed);
        let why = decode(&wire::base64::encode(&compressed)).unwrap_err();
        assert!(why.to_string().contains("more than"), "{why}");
    }
}
