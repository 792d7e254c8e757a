//! Snapshots in a bucket, laid out as k3s does it: each an object in a folder, and what was told of it in `.metadata`
//! beside. Which node took one, in which cluster and at which token's time, its fields say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::kinds::{CONFIG_MAP, NAMESPACE, SECRET};
use api::{Lens, Value, json};
use client::Client;
use datastore::embedded::Sink;
use datastore::s3::{self, Access, Bucket};
use http::client::Proxy;
use rt::BoxFuture;
use stdx::time::Wall;
use stdx::{Arrange, Context, Error, Result};

use crate::etcd::snapshot_files::{self as files, File, METADATA_MAX_BYTES, Part};
use crate::settings::s3_flags::{FIELDS, PEM, Said};
use crate::settings::snapshot_flags::ZIP;

const SYSTEM: &str = "kube-system";
const CLUSTER_ID: &str = "x-amz-meta-k3s-cluster-id";
const NODE_NAME: &str = "x-amz-meta-k3s-node-name";
const TOKEN_HASH: &str = "x-amz-meta-k3s-token-hash";
/// An etcd's largest database, and as much again.
const SNAPSHOT_MAX_BYTES: u64 = 16 << 30;

/// The bucket that flags, a request or a Secret name.
pub(crate) struct Remote {
    bucket: Bucket,
    name: String,
    /// With a slash at its end, unless it is "".
    folder: String,
    /// How objects of the API tell of the bucket.
    about: Value,
    pub(crate) retention: Option<i64>,
}

/// A small object, kept in memory.
struct Memory(Vec<u8>);

impl Sink for Memory {
    fn begin(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    fn put(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        self.0.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }
}

/// What a Secret in `kube-system` says.
async fn of_secret(client: &Client, name: &str) -> Result<Said> {
    let what = || format!("failed to get config from etcd-s3-config-secret {name:?}");
    let failed = |status: api::Status| Error::new(status.to_string());
    let secret = client.get_optional(&SECRET, SYSTEM, name).await.map_err(failed).context(what)?;
    let tree = secret.map(|secret| secret.tree());
    let tree = tree.context(|| format!("secrets {name:?} not found")).context(what)?;
    let value = |key: &str| {
        let bytes = tree.at("data").get(key).and_then(Value::as_str).and_then(wire::base64::decode);
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    let mut texts: Vec<(&'static str, String)> = Vec::new();
    for (field, flag) in FIELDS {
        if field != "configSecret" {
            texts.push((field, value(&format!("etcd-s3-{flag}")).trim().to_owned()));
        }
    }
    let map = value("etcd-s3-endpoint-ca-name");
    if !map.is_empty() {
        let what = || format!("read ConfigMap {map:?} with the authorities of S3");
        let found = client.get_optional(&CONFIG_MAP, SYSTEM, &map).await.map_err(failed);
        let found = found.context(what)?.context(|| "not found").context(what)?;
        let found = found.tree();
        let pems = found.at("data").as_object().into_iter().flatten();
        let pems: Vec<&str> = pems.filter_map(|(_, pem)| pem.as_str()).collect();
        texts.retain(|(field, _)| *field != "endpointCA");
        texts.push(("endpointCA", pems.join("\n")));
    }
    // Files are for who starts the server to name.
    let ca = texts.iter_mut().find(|(field, text)| *field == "endpointCA" && !text.is_empty());
    if let Some((_, ca)) = ca
        && !ca.contains(PEM)
    {
        let bytes = wire::base64::decode(ca).and_then(|bytes| String::from_utf8(bytes).ok());
        let pem = bytes.filter(|pem| pem.contains(PEM));
        *ca = pem.context(|| "etcd-s3-endpoint-ca is no certificate").context(what)?;
    }
    Said::of_texts(texts.iter().map(|(field, text)| (*field, text.as_str()))).context(what)
}

impl Remote {
    /// Finds the bucket, and that it is there. Without a client there is no Secret to look into.
    ///
    /// # Errors
    /// If nothing names one, or it is not for us.
    pub(crate) async fn open(said: &Said, client: Option<&Client>) -> Result<Remote> {
        let what = || "failed to initialize S3 client";
        let secret = said.secret();
        let found;
        let said = match (said.says_no_bucket(), secret, client) {
            (true, "", _) => return Err(Error::new("s3 configuration was not set")).context(what),
            (true, secret, None) => {
                return Err(Error::new(format!(
                    "etcd-s3-config-secret {secret:?} cannot be read while there is no API server: say --etcd-s3-bucket and more"
                )));
            }
            (true, secret, Some(client)) => {
                found = of_secret(client, secret).await.context(what)?;
                log::info!("Using etcd s3 configuration from etcd-s3-config-secret {secret:?}");
                &found
            }
            (false, secret, _) => {
                if !secret.is_empty() {
                    log::warn!(
                        "Ignoring s3 configuration from etcd-s3-config-secret {secret:?} due to existing configuration from CLI or config file"
                    );
                }
                said
            }
        };
        Remote::named(said).await.context(what)
    }

    async fn named(said: &Said) -> Result<Remote> {
        let or = |name: &str, usual: &str| match said.text(name) {
            "" => usual.to_owned(),
            text => text.to_owned(),
        };
        let proxy = match said.text("proxy") {
            "" => crate::node::registry_proxy(),
            url if !url.contains("://") => {
                return Err(Error::new("proxy URL must include scheme and host"));
            }
            url => Some(Arc::new(Proxy::new(url, url, "").context(|| "read etcd-s3-proxy")?)),
        };
        let access = Access {
            endpoint: or("endpoint", s3::ENDPOINT),
            insecure: said.is("insecure"),
            skip_verify: said.is("skipSSLVerify"),
            authorities: said.authorities().context(|| "read etcd-s3-endpoint-ca")?,
            bucket: said.text("bucket").to_owned(),
            lookup: said.lookup()?,
            region: or("region", s3::REGION),
            access_key: said.text("accessKey").to_owned(),
            secret_key: said.text("secretKey").into(),
            session_token: said.text("sessionToken").into(),
            proxy,
            timeout: said.timeout()?,
        };
        let folder = match said.text("folder").trim_matches('/') {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let mut about = json!({
            "endpoint": access.endpoint, "bucket": access.bucket, "region": access.region,
        });
        for (name, text) in
            [("endpointCA", said.text("endpointCA")), ("prefix", said.text("folder"))]
        {
            if !text.is_empty() {
                about[name] = text.into();
            }
        }
        for name in ["insecure", "skipSSLVerify"] {
            if said.is(name) {
                about[name] = true.into();
            }
        }
        let name = access.bucket.clone();
        let bucket = Bucket::new(access).await?;
        let checked = bucket.check().await;
        checked.context(|| format!("failed to test for existence of bucket {name}"))?;
        Ok(Remote { bucket, name, folder, about, retention: said.retention() })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    fn metadata_key(&self, name: &str) -> String {
        format!("{}.metadata/{name}", self.folder)
    }

    /// How many bytes an object has, and what its name and fields tell; `None`: it is no snapshot, or gone.
    async fn file(&self, item: s3::Item) -> Result<Option<File>> {
        let name = &item.key[self.folder.len()..];
        if item.bytes == 0 || files::check_name(name).is_err() {
            return Ok(None);
        }
        let Some(fields) = self.bucket.look(&item.key).await? else { return Ok(None) };
        let field = |field: &str| fields.get(field).unwrap_or_default().to_owned();
        let modified = api::time::parse(&item.modified).unwrap_or_default();
        Ok(Some(File {
            name: name.to_owned(),
            location: format!("s3://{}/{}", self.name, item.key),
            bytes: item.bytes,
            created: files::time_in(name).unwrap_or(modified),
            metadata: Value::Null,
            node: field(NODE_NAME),
            token_hash: field(TOKEN_HASH),
            s3: self.about.clone(),
        }))
    }

    /// All snapshots of the folder, the oldest first, whichever server put them there.
    ///
    /// # Errors
    /// If the bucket does not tell.
    pub(crate) async fn list(&self) -> Result<Vec<File>> {
        let mut all = Vec::new();
        for item in self.bucket.list(&self.folder).await? {
            all.extend(self.file(item).await?);
        }
        let prefix = self.metadata_key("");
        for item in self.bucket.list(&prefix).await? {
            let name = &item.key[prefix.len()..];
            let Some(file) = all.iter_mut().find(|file| file.name == name) else { continue };
            let mut text = Memory(Vec::new());
            self.bucket.get(&item.key, METADATA_MAX_BYTES, &mut text).await?;
            let tree = serde_json::from_slice(&text.0).unwrap_or_default();
            file.metadata = Some(tree).filter(Value::is_object).unwrap_or_default();
        }
        all.arrange_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(all)
    }

    /// Puts a snapshot of a directory there, with what was told of it.
    ///
    /// # Errors
    /// If it is not there afterwards.
    pub(crate) async fn save(
        &self,
        client: &Client,
        (dir, name): (&Path, &str),
        (node, token_hash): (&str, &str),
    ) -> Result<()> {
        let system = client.get_optional(&NAMESPACE, "", SYSTEM).await;
        let system = system.map_err(|status| Error::new(status.to_string()))?;
        let id = system.map(|system| system.tree().str("metadata.uid").to_owned());
        let id = id.unwrap_or_default();
        let kind = if name.ends_with(ZIP) { "application/zip" } else { "application/octet-stream" };
        let mut fields = [
            (CLUSTER_ID, id.as_str()),
            (NODE_NAME, node),
            (TOKEN_HASH, token_hash),
            ("content-type", kind),
        ];
        self.bucket.put(&self.key(name), &dir.join(name), &fields).await?;
        let told = files::metadata_file(dir, name);
        if told.exists() {
            fields[3].1 = "application/json";
            self.bucket.put(&self.metadata_key(name), &told, &fields).await?;
        }
        Ok(())
    }

    /// Removes a snapshot; says whether there was one.
    ///
    /// # Errors
    /// If the bucket does not do it.
    pub(crate) async fn remove(&self, name: &str) -> Result<bool> {
        files::check_name(name)?;
        if self.bucket.look(&self.key(name)).await?.is_none() {
            return Ok(false);
        }
        self.bucket.delete(&self.key(name)).await?;
        self.bucket.delete(&self.metadata_key(name)).await?;
        Ok(true)
    }

    /// Removes the oldest of those with this name that are too many; those that went.
    ///
    /// # Errors
    /// If the bucket does not do it.
    pub(crate) async fn prune(&self, name: &str, retention: i64) -> Result<Vec<String>> {
        let Some(kept) = usize::try_from(retention).ok().filter(|kept| *kept > 0) else {
            return Ok(Vec::new());
        };
        let mut items: Vec<(Wall, String)> = Vec::new();
        for item in self.bucket.list(&self.folder).await? {
            let own = &item.key[self.folder.len()..];
            if item.bytes > 0 && own.starts_with(name) && files::check_name(own).is_ok() {
                let modified = api::time::parse(&item.modified).unwrap_or_default();
                items.push((files::time_in(own).unwrap_or(modified), own.to_owned()));
            }
        }
        items.arrange();
        items.truncate(items.len().saturating_sub(kept));
        let mut gone = Vec::new();
        for (_, own) in items {
            if self.remove(&own).await? {
                log::info!("Removed S3 snapshot s3://{}/{}", self.name, self.key(&own));
                gone.push(own);
            }
        }
        Ok(gone)
    }

    /// Gets a snapshot into a directory, with what was told of it; the file.
    ///
    /// # Errors
    /// If there is none, or no room.
    pub(crate) async fn fetch(&self, name: &str, node: &str, dir: &Path) -> Result<PathBuf> {
        let what = || {
            format!("failed to download snapshot from S3: s3://{}/{}", self.name, self.key(name))
        };
        files::check_name(name)?;
        let mut part = Part::begin_as_is(dir, node, name)?;
        let got = self.bucket.get(&self.key(name), SNAPSHOT_MAX_BYTES, &mut part).await;
        if !got.context(what)? {
            return Err(Error::new("the specified key does not exist")).context(what);
        }
        let mut told = Memory(Vec::new());
        if self.bucket.get(&self.metadata_key(name), METADATA_MAX_BYTES, &mut told).await? {
            let told = serde_json::from_slice(&told.0).unwrap_or_default();
            files::keep_metadata(dir, name, &told)?;
        }
        part.finish().await?;
        Ok(dir.join(name))
    }
}
