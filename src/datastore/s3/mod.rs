//! A bucket at whoever speaks S3: objects put, got, looked at, listed and deleted.
//!
//! What does not change a bucket when it is asked twice is asked again after an answer that blames the server. Files
//! go as they are read, twice: once for their digest, and once to the server. The clock must be right to some minutes.

mod answer;
mod sign;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::body::Sender;
use http::client::{Client, Endpoint, Options, Protocol, Proxy, Url, authority};
use http::tls::{self, Trust};
use http::{Body, Method, Request, Response};
use ring::digest::{Context as Digest, SHA256};
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result, Sensitive};
use wire::percent;

use crate::embedded::Sink;
pub use answer::Item;
use sign::{Keys, hash, sign};

/// Amazon's own, by which buckets of every region are found.
pub const ENDPOINT: &str = "s3.amazonaws.com";
pub const REGION: &str = "us-east-1";
/// A larger file goes in pieces of this length, or longer ones if these were too many.
const PIECE_BYTES: u64 = 16 << 20;
const PIECES_MAX: u64 = 10_000;
/// What is read of a file at once.
const BLOCK_BYTES: usize = 256 << 10;
/// An answer that is no object: a page of a list has a thousand keys.
const ANSWER_MAX_BYTES: usize = 8 << 20;
const ITEMS_MAX: usize = 10_000;
/// How often something is asked, and the rest in between.
const TRIES_MAX: u32 = 4;
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
/// Between two pieces of an answer, and for an answer once all was said.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// To take away the pieces of what did not come to an end.
const ABORT_MAX: Duration = Duration::from_secs(10);

/// How the name of a bucket is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lookup {
    /// In the host's name at Amazon, Google and Alibaba, otherwise in the path.
    #[default]
    Auto,
    /// In the host's name.
    Dns,
    /// In the path.
    Path,
}

/// Where a bucket is, and who asks.
#[derive(Debug, Default)]
pub struct Access {
    /// A host, and a port if it is not the usual one.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    /// Whatever certificate is shown.
    pub skip_verify: bool,
    /// PEM of authorities to believe; "" for those that the host trusts.
    pub authorities: String,
    pub bucket: String,
    pub lookup: Lookup,
    pub region: String,
    pub access_key: String,
    pub secret_key: Sensitive,
    /// "" for none.
    pub session_token: Sensitive,
    pub proxy: Option<Arc<Proxy>>,
    /// For each call here, however much it moves.
    pub timeout: Duration,
}

/// A bucket.
pub struct Bucket {
    http: Client,
    endpoint: Endpoint,
    /// The host as it is said and signed.
    host: String,
    /// What the paths of its objects begin with.
    root: String,
    keys: Keys,
    timeout: Duration,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({}{})", self.host, self.root)
    }
}

/// What a request carries.
#[derive(Clone, Copy)]
enum Load<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of a file, from the first of these on.
    Piece(&'a Path, u64, u64),
}

/// Whether the bucket's name is a part of the host's.
fn is_in_host(access: &Access, host: &str) -> bool {
    let is_at = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    match access.lookup {
        Lookup::Path => false,
        Lookup::Dns => true,
        // One certificate is for one part of a name.
        Lookup::Auto if !access.insecure && access.bucket.contains('.') => false,
        Lookup::Auto => {
            ["amazonaws.com", "amazonaws.com.cn", "storage.googleapis.com", "aliyuncs.com"]
                .iter()
                .any(|domain| is_at(domain))
        }
    }
}

/// The host to connect to, its port, and what paths begin with.
fn place(access: &Access) -> Result<(String, u16, String)> {
    let what = || format!("read the endpoint {:?}", access.endpoint);
    let bad = |why: &str| Err(Error::new(why)).context(what);
    if access.endpoint.contains(['/', '@', '?', '#']) {
        return bad("want host or host:port, without a scheme or path");
    }
    let scheme = if access.insecure { "http" } else { "https" };
    let url = Url::parse(&format!("{scheme}://{}", access.endpoint)).context(what)?;
    let mut host = url.host;
    if host == ENDPOINT && access.region != REGION {
        host = format!("s3.{}.amazonaws.com", access.region);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let bucket = &access.bucket;
    if bucket.is_empty() || !bucket.chars().all(is_name) || bucket.contains("..") {
        return Err(Error::new(format!("invalid S3 bucket name {bucket:?}")));
    }
    Ok(match is_in_host(access, &host) {
        true => (format!("{bucket}.{host}"), url.port, "/".to_owned()),
        false => (host, url.port, format!("/{bucket}/")),
    })
}

impl Bucket {
    /// Makes ready to ask; nobody is asked yet.
    ///
    /// # Errors
    /// If something said of it cannot be used.
    pub async fn new(access: Access) -> Result<Bucket> {
        if access.access_key.is_empty() != access.secret_key.reveal().is_empty() {
            return Err(Error::new("an access key goes with a secret key"));
        }
        if access.access_key.is_empty() {
            return Err(Error::new(
                "no access key and secret key are given: roles of the machine (IAM) are not used",
            ));
        }
        let (name, port, root) = place(&access)?;
        let usual = if access.insecure { 80 } else { 443 };
        let host = authority(&name, (port != usual).then_some(port));
        let mut endpoint = Endpoint::tcp(name, port).protocol(Protocol::Http1);
        if !access.insecure {
            let (skip, pem) = (access.skip_verify, access.authorities);
            let config = rt::unblock(move || {
                let trust = match (skip, pem.is_empty()) {
                    (true, _) => Trust::Insecure,
                    (false, true) => Trust::Roots(tls::system_roots()),
                    (false, false) => tls::listed(pem.as_bytes())?,
                };
                tls::client_config(trust, None)
            });
            endpoint = endpoint.tls(config.await.context(|| "prepare TLS for S3")?);
        }
        endpoint.proxy = access.proxy;
        let keys = Keys {
            access: access.access_key,
            secret: access.secret_key,
            token: access.session_token,
            region: access.region,
        };
        let http = Client::new(Options::default());
        Ok(Bucket { http, endpoint, host, root, keys, timeout: access.timeout })
    }

    /// # Errors
    /// If there is no such bucket for us.
    pub async fn check(&self) -> Result<()> {
        self.whole(self.call(Method::Head, "", "", Load::Bytes(&[]), &[])).await.map(drop)
    }

    /// Puts a file there, with what is told of it in `x-amz-meta-` and other fields.
    ///
    /// # Errors
    /// If it did not wholly arrive; then nothing of it stays.
    pub async fn put(&self, key: &str, file: &Path, fields: &[(&str, &str)]) -> Result<()> {
        let path = file.to_owned();
        let about = rt::unblock(move || rt::fs::metadata(&path)).await;
        let bytes = about.context(|| format!("read {}", file.display()))?.len();
        if bytes <= PIECE_BYTES {
            let load = Load::Piece(file, 0, bytes);
            return self.whole(self.call(Method::Put, key, "", load, fields)).await.map(drop);
        }
        let begun = self.call(Method::Post, key, "uploads", Load::Bytes(&[]), fields);
        let (_, begun) = self.whole(begun).await?;
        let id = answer::text(&String::from_utf8_lossy(&begun), "UploadId");
        if id.is_empty() {
            return Err(Error::new("S3: the server gave no id for what is put in pieces"));
        }
        let id = percent::escape(&id, percent::is_unreserved);
        let done = self.whole(self.put_pieces(key, file, bytes, &id)).await;
        if done.is_err() {
            let query = format!("uploadId={id}");
            let gone = self.call(Method::Delete, key, &query, Load::Bytes(&[]), &[]);
            if !matches!(rt::timeout(ABORT_MAX, gone).await, Ok(Ok(_))) {
                log::warn!("S3: pieces of {key} may be left in the bucket");
            }
        }
        done
    }

    async fn put_pieces(&self, key: &str, file: &Path, bytes: u64, id: &str) -> Result<()> {
        let length = PIECE_BYTES.max(bytes.div_ceil(PIECES_MAX));
        let mut list = "<CompleteMultipartUpload>".to_owned();
        for n in 0..bytes.div_ceil(length) {
            let (from, number) = (n * length, n + 1);
            let load = Load::Piece(file, from, length.min(bytes - from));
            let query = format!("partNumber={number}&uploadId={id}");
            let (response, _) = self.call(Method::Put, key, &query, load, &[]).await?;
            let tag = response.headers.get("etag").unwrap_or("").replace(['<', '>', '&'], "");
            list.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            ));
        }
        list.push_str("</CompleteMultipartUpload>");
        let query = format!("uploadId={id}");
        let load = Load::Bytes(list.as_bytes());
        let (_, said) = self.call(Method::Post, key, &query, load, &[]).await?;
        // It may find out after it said that all is well.
        match String::from_utf8_lossy(&said).contains("<Error>") {
            true => Err(Error::new(format!("S3: put {key}: {}", answer::error(200, &said)))),
            false => Ok(()),
        }
    }

    /// The fields of an object, if there is one.
    ///
    /// # Errors
    /// If nobody can tell.
    pub async fn look(&self, key: &str) -> Result<Option<http::Headers>> {
        let asked = self.ask(Method::Head, key, "", Load::Bytes(&[]), &[]);
        let response = self.whole(asked).await?;
        match response.status {
            404 => Ok(None),
            status => self.fine(status, &[], key).map(|()| Some(response.headers)),
        }
    }

    /// Hands over an object; says whether there is one.
    ///
    /// # Errors
    /// If it breaks off, or is larger than `max_bytes`; or the sink's error.
    pub async fn get(&self, key: &str, max_bytes: u64, sink: &mut dyn Sink) -> Result<bool> {
        let what = || format!("S3: get {key}");
        let got = async {
            let mut response = self.ask(Method::Get, key, "", Load::Bytes(&[]), &[]).await?;
            if response.status == 404 {
                return Ok(false);
            }
            if response.status != 200 {
                let said = response.body.read_all(ANSWER_MAX_BYTES).await.unwrap_or_default();
                return self.fine(response.status, &said, key).map(|()| false);
            }
            let length = response.body.length().context(|| "the server tells no length")?;
            if length > max_bytes {
                return Err(Error::new(format!("it has {length} bytes, more than {max_bytes}")));
            }
            sink.begin(length)?;
            let mut n_bytes = 0;
            loop {
                let next = rt::timeout(SILENCE_MAX, response.body.next()).await;
                let Some(piece) = next.context(|| "wait for the rest")? else { break };
                let piece = piece?;
                n_bytes += piece.len() as u64;
                sink.put(piece.into_vec()).await?;
            }
            match n_bytes == length {
                true => Ok(true),
                false => Err(Error::new(format!("{n_bytes} of {length} bytes came"))),
            }
        };
        self.whole(got).await.context(what)
    }

    /// The objects whose keys begin with `folder` and have no slash behind it.
    ///
    /// # Errors
    /// If nobody tells, or there are too many.
    pub async fn list(&self, folder: &str) -> Result<Vec<Item>> {
        let listed = async {
            let (mut all, mut next) = (Vec::new(), None::<String>);
            loop {
                let escaped = |text: &str| percent::escape(text, percent::is_unreserved);
                let from = next.map(|next| format!("continuation-token={}&", escaped(&next)));
                let query = format!(
                    "{}delimiter=%2F&list-type=2&prefix={}",
                    from.unwrap_or_default(),
                    escaped(folder)
                );
                let (_, xml) = self.call(Method::Get, "", &query, Load::Bytes(&[]), &[]).await?;
                let (items, more) = answer::page(&String::from_utf8_lossy(&xml));
                let is_end = items.is_empty();
                all.extend(items.into_iter().filter(|item| item.key.starts_with(folder)));
                if all.len() > ITEMS_MAX {
                    return Err(Error::new(format!(
                        "S3: there are more than {ITEMS_MAX} objects in {folder:?}: give snapshots a folder of their own"
                    )));
                }
                match more {
                    Some(more) if !is_end && !more.is_empty() => next = Some(more),
                    _ => return Ok(all),
                }
            }
        };
        self.whole(listed).await
    }

    /// Deletes an object, if there is one.
    ///
    /// # Errors
    /// If nobody does it.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.whole(self.call(Method::Delete, key, "", Load::Bytes(&[]), &[])).await.map(drop)
    }

    /// No longer than the bucket's time.
    async fn whole<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let what = || format!("S3: it took longer than {} s", self.timeout.as_secs());
        rt::timeout(self.timeout, Box::pin(call)).await.context(what)?
    }

    /// A request whose answer is a good one and read whole.
    async fn call(
        &self,
        method: Method,
        key: &str,
        query: &str,
        load: Load<'_>,
        fields: &[(&str, &str)],
    ) -> Result<(Response, Vec<u8>)> {
        let mut response = self.ask(method, key, query, load, fields).await?;
        let body = response.body.read_all(ANSWER_MAX_BYTES);
        let body = rt::timeout(SILENCE_MAX, body).await.context(|| "wait for the rest")?;
        let body = body.context(|| "read S3's answer")?;
        self.fine(response.status, &body, key)?;
        Ok((response, body))
    }

    fn fine(&self, status: u16, body: &[u8], key: &str) -> Result<()> {
        match status {
            200..=299 => Ok(()),
            _ => Err(Error::new(format!(
                "S3: {}{}{key}: {}",
                self.host,
                self.root,
                answer::error(status, body)
            ))),
        }
    }

    /// Asks, and asks again where that can help and does no harm.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &str,
        load: Load<'_>,
        fields: &[(&str, &str)],
    ) -> Result<Response> {
        let tries = if method == Method::Post { 1 } else { TRIES_MAX };
        let mut failures = 0;
        loop {
            let asked = self.ask_once(&method, key, query, load, fields).await;
            let may_help = match &asked {
                Ok(response) => matches!(response.status, 429 | 500 | 502 | 503 | 504),
                Err(_) => true,
            };
            failures += 1;
            if !may_help || failures >= tries {
                return asked;
            }
            rt::sleep(RETRY.delay(failures)).await;
        }
    }

    async fn ask_once(
        &self,
        method: &Method,
        key: &str,
        query: &str,
        load: Load<'_>,
        fields: &[(&str, &str)],
    ) -> Result<Response> {
        let kept = |byte| percent::is_unreserved(byte) || byte == b'/';
        let mut target = format!("{}{}", self.root, percent::escape(key, kept));
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let mut request = Request::new(method.clone(), target);
        request.authority.clone_from(&self.host);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let (payload, mut feeding) = (self.digest(load).await?, None);
        match load {
            Load::Bytes(bytes) => request = request.body(bytes.to_vec()),
            Load::Piece(file, from, length) => {
                let (sender, body) = Body::channel(BLOCK_BYTES);
                request = request.body_stream(body.with_length(Some(length)));
                let file = file.to_owned();
                // Dropped with the request.
                feeding = Some(rt::spawn_named("a file for S3", async move {
                    feed(&file, from, length, sender).await;
                }));
            }
        }
        sign(&self.keys, &mut request, &payload, rt::now().wall);
        let sent = self.http.send(&self.endpoint, request).await;
        drop(feeding);
        sent
    }

    async fn digest(&self, load: Load<'_>) -> Result<String> {
        let (file, from, length) = match load {
            Load::Bytes(bytes) => return Ok(hash(bytes)),
            Load::Piece(file, from, length) => (file.to_owned(), from, length),
        };
        rt::unblock(move || {
            let mut piece = open(&file, from, length)?;
            let (mut digest, mut block) = (Digest::new(&SHA256), vec![0; BLOCK_BYTES]);
            loop {
                match piece.read(&mut block).context(|| format!("read {}", file.display()))? {
                    0 => return Ok(wire::hex::encode(digest.finish().as_ref())),
                    n => digest.update(&block[..n]),
                }
            }
        })
        .await
    }
}

fn open(file: &Path, from: u64, length: u64) -> Result<impl Read + Send + use<>> {
    let mut opened = rt::fs::open(file)?;
    opened.seek(SeekFrom::Start(from)).context(|| format!("read {}", file.display()))?;
    Ok(opened.take(length))
}

/// Hands a piece of a file to a body, as fast as that is read.
async fn feed(file: &Path, from: u64, length: u64, mut sender: Sender) {
    let path = file.to_owned();
    let mut piece = match rt::unblock(move || open(&path, from, length)).await {
        Ok(piece) => piece,
        Err(error) => return sender.fail(error),
    };
    loop {
        let read = rt::unblock(move || {
            let mut block = vec![0; BLOCK_BYTES];
            let n = piece.read(&mut block)?;
            block.truncate(n);
            Ok::<_, std::io::Error>((piece, block))
        });
        match read.await {
            Ok((_, block)) if block.is_empty() => return,
            Ok((rest, block)) => {
                piece = rest;
                if sender.send(block).await.is_err() {
                    return;
                }
            }
            Err(error) => return sender.fail(Error::wrap("read a file for S3", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_bucket_is() {
        for (endpoint, bucket, region, lookup, insecure, wanted) in [
            (ENDPOINT, "b", "us-east-1", Lookup::Auto, false, "b.s3.amazonaws.com:443/"),
            (ENDPOINT, "b", "eu-west-1", Lookup::Auto, false, "b.s3.eu-west-1.amazonaws.com:443/"),
            (ENDPOINT, "b.c", "us-east-1", Lookup::Auto, false, "s3.amazonaws.com:443/b.c/"),
            (ENDPOINT, "b", "us-east-1", Lookup::Path, false, "s3.amazonaws.com:443/b/"),
            ("minio:9000", "b", "r", Lookup::Auto, true, "minio:9000/b/"),
            ("minio", "b", "r", Lookup::Dns, true, "b.minio:80/"),
            ("xamazonaws.com", "b", "r", Lookup::Auto, false, "xamazonaws.com:443/b/"),
            ("[fd00::1]:9000", "b", "r", Lookup::Auto, false, "fd00::1:9000/b/"),
        ] {
            let access = Access {
                endpoint: endpoint.into(),
                bucket: bucket.into(),
                region: region.into(),
                lookup,
                insecure,
                ..Access::default()
            };
            let (host, port, root) = place(&access).unwrap();
            assert_eq!(format!("{host}:{port}{root}"), wanted);
        }
        for (endpoint, bucket) in
            [("https://a", "b"), ("a/b", "b"), ("a", ""), ("a", "b/c"), ("a", ".."), ("", "b")]
        {
            let access =
                Access { endpoint: endpoint.into(), bucket: bucket.into(), ..Access::default() };
            assert!(place(&access).is_err(), "{endpoint} {bucket}");
        }
    }

    #[test]
    fn both_keys_are_needed() {
        for (access_key, secret, wanted) in [
            ("a", "", "an access key goes with a secret key"),
            ("", "b", "an access key goes with a secret key"),
            ("", "", "no access key and secret key are given"),
        ] {
            let access = Access {
                endpoint: "a".into(),
                bucket: "b".into(),
                access_key: access_key.into(),
                secret_key: secret.into(),
                ..Access::default()
            };
            let error = rt::block_on(Bucket::new(access)).unwrap_err();
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
}
