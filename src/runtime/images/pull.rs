//! Pulling an image from a registry: challenges, indexes, and layers unpacked while they arrive.
//!
//! Futures that hold a connection are boxed where they are awaited: inlined into one another they
//! would take megabytes of stack.
//!
//! Nothing compressed is stored. A layer whose connection breaks goes on where it stopped.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::client::{Challenge, Client, Endpoint, Proxy, Url};
use http::tls::{self, Trust};
use http::{Request, Response};
use rt::channel::{Receiver, Sender, bounded};
use stdx::backoff::Backoff;
use stdx::time::Mono;
use stdx::{Context, Error, Result, Sensitive};
use wire::oci::{self, Descriptor, MEDIA_TYPES_MANIFEST, Manifest};

use super::pace::{self, Pace, TooSlow};
use super::reference::Reference;
use super::registries::{HostConfig, Place, Registries};
use super::store::{LayerId, Pending, Store, sha256};
use super::{PullAuth, Shared, platform};

/// Layers of one image at a time.
const LAYERS_MAX: usize = 3;
const REDIRECTS_MAX: usize = 5;
/// Attempts in a row that bring nothing.
const ATTEMPTS_MAX: u32 = 5;
/// Silence after which a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Chunks between the network and the disk.
const CHUNKS_MAX: usize = 8;
const ERROR_BODY_MAX_BYTES: usize = 16 << 10;
/// A layer as it comes, compressed or not; unpacked it may not have more.
const BLOB_MAX_BYTES: u64 = 32 << 30;
const TOKEN_MAX_BYTES: usize = 256 << 10;

/// What was pulled and does not count yet.
pub(super) struct Pulled {
    id: String,
    config: Vec<u8>,
    layers: Vec<LayerId>,
    pending: Vec<Pending>,
    tags: Vec<String>,
    digests: Vec<String>,
}

impl Pulled {
    /// Makes it an image of the store; answers its id. Blocking.
    pub(super) fn commit(self, store: &Store) -> Result<String> {
        store.commit(&self.layers, self.pending)?;
        store.write_blob(&self.id, &self.config)?;
        let now = rt::now().wall;
        store.add_image(&self.id, &self.layers, &self.tags, &self.digests, false, now)?;
        Ok(self.id)
    }
}

/// Pulls an image. Dropping the future ends it: connections close, and what was unpacked goes.
pub(super) async fn pull(
    client: &Client,
    shared: &Arc<Shared>,
    reference: &Reference,
    auth: Option<PullAuth>,
) -> Result<Pulled> {
    let file = shared.registries_file.clone();
    let registries = Arc::new(rt::unblock(move || Registries::read(&file)).await?);
    let mut errors = Vec::new();
    for place in registries.places(reference)? {
        let name = place.base.authority();
        let proxy = shared.proxy.clone();
        let registry =
            Registry::new(client.clone(), registries.clone(), place, auth.clone(), proxy).await;
        let pulled = match registry {
            Ok(registry) => Box::pin(pull_from(&Arc::new(registry), shared, reference)).await,
            Err(error) => Err(error),
        };
        match pulled {
            Ok(pulled) => return Ok(pulled),
            Err(error) => errors.push(format!("{name}: {error}")),
        }
    }
    Err(Error::new(errors.join("; ")))
}

async fn pull_from(
    registry: &Arc<Registry>,
    shared: &Arc<Shared>,
    reference: &Reference,
) -> Result<Pulled> {
    let (digest, manifest) =
        registry.manifest(reference.object(), reference.digest.as_deref()).await?;
    let top_digest = digest;
    let mut manifest = manifest;
    // An index leads to the manifest for this machine, at most by way of another index.
    for _ in 0..2 {
        if manifest.config.is_some() {
            break;
        }
        let all: Vec<&Descriptor> = manifest.manifests.iter().collect();
        let chosen = platform::choose(&all)
            .context(|| "no match for platform in manifest: not found".to_owned())?
            .digest
            .clone();
        manifest = registry.manifest(&chosen, Some(&chosen)).await?.1;
    }
    let config = manifest
        .config
        .as_ref()
        .context(|| "the manifest names no config (schema 1 is not supported)")?;
    // Before anything of it is fetched.
    for described in manifest.layers.iter().chain([config]) {
        check_size(described)?;
    }
    let bytes = registry.document(&config.digest).await?;
    let image: oci::Image =
        serde_json::from_slice(&bytes).context(|| "decode the image's config")?;
    if image.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(Error::new("manifest and config have different numbers of layers"));
    }
    if !platform::runs_here(&image) {
        return Err(Error::new(format!(
            "the image is for {}/{}, not for this machine",
            image.os, image.architecture
        )));
    }
    let layers = Store::layer_ids(&image.rootfs.diff_ids)?;
    let pending = Box::pin(pull_layers(registry, shared, &layers, &manifest.layers)).await?;
    let id = config.digest.clone();
    let tags: Vec<String> = match reference.tag.is_empty() {
        true => Vec::new(),
        false => vec![format!("{}:{}", reference.name(), reference.tag)],
    };
    let digests = vec![format!("{}@{top_digest}", reference.name())];
    Ok(Pulled { id, config: bytes, layers, pending, tags, digests })
}

/// A manifest must say how much is to come: that is the bound of what is read.
fn check_size(described: &Descriptor) -> Result<()> {
    let (digest, size) = (&described.digest, described.size);
    match size {
        // containerd's words.
        0 => Err(Error::new(format!(
            "unable to fetch descriptor ({digest}) which reports content size of zero: invalid argument"
        ))),
        1..=BLOB_MAX_BYTES => Ok(()),
        _ => Err(Error::new(format!(
            "descriptor {digest} reports a size of {size} bytes, allowed are {BLOB_MAX_BYTES}"
        ))),
    }
}

async fn pull_layers(
    registry: &Arc<Registry>,
    shared: &Arc<Shared>,
    ids: &[LayerId],
    descriptors: &[Descriptor],
) -> Result<Vec<Pending>> {
    let permits = Arc::new(rt::lock::Semaphore::new(LAYERS_MAX));
    let mut tasks = Vec::new();
    for (id, descriptor) in ids.iter().zip(descriptors) {
        if shared.store.has_layer(id) {
            continue;
        }
        let (registry, shared, permits) = (registry.clone(), shared.clone(), permits.clone());
        let (id, descriptor) = (id.clone(), descriptor.clone());
        // Dropping the tasks, when one fails, ends the others.
        tasks.push(rt::spawn(async move {
            let _permit = permits.acquire().await;
            pull_layer(&registry, &shared, id, &descriptor).await
        }));
    }
    let mut pending = Vec::new();
    for task in tasks {
        pending.push(task.await?);
    }
    Ok(pending)
}

async fn pull_layer(
    registry: &Registry,
    shared: &Arc<Shared>,
    id: LayerId,
    descriptor: &Descriptor,
) -> Result<Pending> {
    oci::sha256_hex(&descriptor.digest)
        .context(|| format!("layer digest {:?} is not valid", descriptor.digest))?;
    let (sender, receiver) = bounded(CHUNKS_MAX);
    let (inner, digest) = (shared.clone(), descriptor.digest.clone());
    let unpacking = rt::spawn(rt::unblock(move || {
        inner.store.unpack(&id, Some(&digest), ChunkReader { receiver, chunk: Vec::new(), at: 0 })
    }));
    let fetched = Box::pin(registry.fetch(descriptor, &sender)).await;
    if let Err(error) = &fetched {
        // The reader must see a failure, not an end.
        let _ = sender.send(Err(io::Error::other(error.to_string()))).await;
    }
    drop(sender);
    let unpacked = unpacking.await;
    match (fetched, unpacked) {
        (_, Ok(pending)) => Ok(pending),
        // What the unpacking says is the cause, unless it only repeats what the network said.
        (Ok(_), Err(error)) => Err(error),
        (Err(error), _) => Err(error),
    }
}

/// The blocking end of a layer's chunks.
struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.receiver.recv_blocking() {
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// One repository at one endpoint, with what it has authorised us to do.
struct Registry {
    client: Client,
    registries: Arc<Registries>,
    proxy: Option<Arc<Proxy>>,
    place: Place,
    credentials: HostConfig,
    bearer: Option<Sensitive>,
    endpoint: Endpoint,
    /// The `Authorization` that the registry last asked for.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    async fn new(
        client: Client,
        registries: Arc<Registries>,
        place: Place,
        auth: Option<PullAuth>,
        proxy: Option<Arc<Proxy>>,
    ) -> Result<Registry> {
        let mut credentials = registries.config(&place.base);
        let mut bearer = None;
        if let Some(auth) = auth {
            (credentials.username, credentials.password) = (auth.username, auth.password);
            bearer = Some(auth.token).filter(|token| !token.reveal().is_empty());
        }
        let endpoint = endpoint(&registries, &proxy, &place.base).await?;
        Ok(Registry {
            client,
            registries,
            proxy,
            place,
            credentials,
            bearer,
            endpoint,
            authorization: Mutex::new(None),
        })
    }

    /// A manifest or index by tag or digest, with its digest.
    async fn manifest(&self, object: &str, expected: Option<&str>) -> Result<(String, Manifest)> {
        let accept = MEDIA_TYPES_MANIFEST.join(", ");
        let bytes = self
            .read(&format!("manifests/{object}"), &accept)
            .await
            .context(|| format!("get manifest {object}"))?;
        let digest = sha256(&bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::new(format!(
                "manifest {object}: what was received has digest {digest}"
            )));
        }
        let manifest =
            serde_json::from_slice(&bytes).context(|| format!("decode manifest {object}"))?;
        Ok((digest, manifest))
    }

    /// A small blob.
    async fn document(&self, digest: &str) -> Result<Vec<u8>> {
        oci::sha256_hex(digest).context(|| format!("digest {digest:?} is not valid"))?;
        self.read(&format!("blobs/{digest}"), "*/*").await.context(|| format!("get blob {digest}"))
    }

    async fn read(&self, what: &str, accept: &str) -> Result<Vec<u8>> {
        let mut failures = 0;
        loop {
            let read = rt::timeout(SILENCE_MAX, async {
                let mut response = Box::pin(self.get(what, accept, 0)).await?;
                check_status(&mut response).await?;
                response.body.read_all(oci::DOCUMENT_MAX_BYTES).await.map_err(Failure::Broken)
            });
            let error = match read.await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(Failure::Refused(error))) => return Err(error),
                Ok(Err(Failure::Broken(error))) => error,
                Err(_) => Error::new(format!("no answer within {} s", SILENCE_MAX.as_secs())),
            };
            failures += 1;
            if failures >= ATTEMPTS_MAX {
                return Err(error);
            }
            rt::sleep(BACKOFF.delay(failures)).await;
        }
    }

    /// Sends a blob's bytes, going on after breaks.
    async fn fetch(
        &self,
        descriptor: &Descriptor,
        sender: &Sender<io::Result<Vec<u8>>>,
    ) -> Result<()> {
        let digest = &descriptor.digest;
        let (mut offset, mut failures) = (0, 0);
        let deadline = pace::deadline(descriptor.size, rt::now().mono);
        loop {
            let before = offset;
            let fetched = self.fetch_from(descriptor, &mut offset, deadline, sender);
            let error = match Box::pin(fetched).await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(error)) => {
                    return Err(error).context(|| format!("get layer {digest}"));
                }
                Err(Failure::Broken(error)) => error,
            };
            if sender.is_closed() {
                return Ok(());
            }
            // A trickle is no progress.
            failures = if offset - before >= pace::WINDOW_MIN_BYTES { 1 } else { failures + 1 };
            if failures >= ATTEMPTS_MAX {
                return Err(error).context(|| {
                    format!("get layer {digest}, {ATTEMPTS_MAX} times without progress")
                });
            }
            log::warn!("layer {digest}: interrupted at byte {offset}: {error}; trying again");
            rt::sleep(BACKOFF.delay(failures)).await;
        }
    }

    async fn fetch_from(
        &self,
        descriptor: &Descriptor,
        offset: &mut u64,
        deadline: Mono,
        sender: &Sender<io::Result<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let silent =
            || Failure::Broken(Error::new(format!("no data for {} s", SILENCE_MAX.as_secs())));
        let path = format!("blobs/{}", descriptor.digest);
        let got = rt::timeout(SILENCE_MAX, Box::pin(self.get(&path, "*/*", *offset))).await;
        let mut response = got.map_err(|_| silent())??;
        check_status(&mut response).await?;
        // A server that does not do ranges starts anew.
        let mut n_skipped = if response.status == 206 { 0 } else { *offset };
        let mut pace = Pace::new(deadline, rt::now().mono);
        loop {
            let next =
                rt::timeout(SILENCE_MAX, response.body.next()).await.map_err(|_| silent())?;
            let Some(chunk) = next else { break };
            let mut chunk = chunk.map_err(Failure::Broken)?;
            match pace.took(chunk.len(), rt::now().mono) {
                Ok(()) => {}
                Err(TooSlow::Stalled(error)) => return Err(Failure::Broken(error)),
                Err(TooSlow::Late(error)) => return Err(Failure::Refused(error)),
            }
            let n = usize::try_from(n_skipped).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(n);
            n_skipped -= n as u64;
            *offset += chunk.len() as u64;
            if *offset > descriptor.size {
                let text =
                    format!("more than the {} bytes that its manifest says", descriptor.size);
                return Err(Failure::Refused(Error::new(text)));
            }
            // Nobody listens any more: the unpacking has failed and knows why.
            if !chunk.is_empty() && sender.send(Ok(chunk.into_vec())).await.is_err() {
                return Ok(());
            }
        }
        if *offset < descriptor.size {
            return Err(Failure::Broken(Error::new(format!(
                "ended at byte {offset} of {}",
                descriptor.size
            ))));
        }
        Ok(())
    }

    /// GET below the repository: with authorisation as asked for, and redirects followed.
    async fn get(&self, what: &str, accept: &str, offset: u64) -> Result<Response, Failure> {
        let mut url = self.place.base.clone();
        url.target = format!("{}/{}/{what}", url.target, self.place.repository);
        let mut authorization =
            self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if authorization.is_none() {
            authorization = self.bearer.as_ref().map(|token| format!("Bearer {}", token.reveal()));
        }
        for attempt in 0..2 {
            let response =
                Box::pin(self.send(&url, accept, offset, authorization.as_deref())).await?;
            if response.status != 401 || attempt == 1 {
                return Ok(response);
            }
            let challenges: Vec<String> =
                response.headers.get_all("www-authenticate").map(str::to_owned).collect();
            authorization = Some(Box::pin(self.authorize(&challenges)).await?);
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) =
                authorization.clone();
        }
        Err(Failure::Refused(Error::new("not authorised")))
    }

    async fn send(
        &self,
        url: &Url,
        accept: &str,
        offset: u64,
        authorization: Option<&str>,
    ) -> Result<Response, Failure> {
        let mut url = url.clone();
        let mut endpoint = self.endpoint.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut request = Request::get(url.target.clone())
                .header("accept", accept)
                .header("user-agent", USER_AGENT);
            if offset > 0 {
                request = request.header("range", format!("bytes={offset}-"));
            }
            let is_registry = (&url.host, url.port, &url.scheme)
                == (&self.place.base.host, self.place.base.port, &self.place.base.scheme);
            // What the registry trusts us with is not for where it sends us.
            if let Some(value) = authorization.filter(|_| is_registry) {
                request = request.header("authorization", value);
            }
            let response = Box::pin(self.client.send(&endpoint, request))
                .await
                .map_err(Failure::of_connection)?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .headers
                .get("location")
                .context(|| "a redirect to nowhere")
                .map_err(Failure::Refused)?;
            let next = url.join(location).map_err(Failure::Refused)?;
            if url.is_tls() && !next.is_tls() {
                let text = format!("a redirect from https to {}", next.authority());
                return Err(Failure::Refused(Error::new(text)));
            }
            if (&next.host, next.port) != (&url.host, url.port) {
                // Where it leads is the registry's word, and what answers on this machine or its links
                // is not for it to ask. Its own place is fine, wherever that is.
                let there = self::endpoint(&self.registries, &self.proxy, &next)
                    .await
                    .map_err(Failure::Refused)?;
                let is_registry =
                    (&next.host, next.port) == (&self.place.base.host, self.place.base.port);
                endpoint = if is_registry { there } else { there.far_only() };
            }
            url = next;
        }
        Err(Failure::Refused(Error::new(format!("more than {REDIRECTS_MAX} redirects"))))
    }

    /// The `Authorization` that answers a challenge.
    async fn authorize(&self, challenges: &[String]) -> Result<String, Failure> {
        let credentials = &self.credentials;
        let basic = || {
            let both = format!("{}:{}", credentials.username, credentials.password.reveal());
            format!("Basic {}", wire::base64::encode(both.as_bytes()))
        };
        for challenge in challenges.iter().filter_map(|text| Challenge::parse(text)) {
            match challenge.scheme.as_str() {
                "bearer" => {
                    let token =
                        rt::timeout(SILENCE_MAX, Box::pin(self.token(&challenge, basic))).await;
                    let silent = || Failure::Broken(Error::new("the token server does not answer"));
                    return token.map_err(|_| silent())?.map(|token| format!("Bearer {token}"));
                }
                "basic" if !credentials.username.is_empty() => return Ok(basic()),
                _ => {}
            }
        }
        let text = "the registry wants authorisation, and no credentials for it are known (401 Unauthorized)";
        Err(Failure::Refused(Error::new(text)))
    }

    async fn token(
        &self,
        challenge: &Challenge,
        basic: impl Fn() -> String,
    ) -> Result<String, Failure> {
        let what = || format!("get a token from {:?}", challenge.parameter("realm"));
        let mut url =
            Url::parse(challenge.parameter("realm")).context(what).map_err(Failure::Refused)?;
        let mut endpoint =
            endpoint(&self.registries, &self.proxy, &url).await.map_err(Failure::Refused)?;
        // As for redirects; a registry on this machine has its token server there, too.
        let base = &self.place.base;
        let is_registry = (&url.host, url.port) == (&base.host, base.port);
        let is_neighbour = is_loopback(&base.host) && is_loopback(&url.host);
        if !is_registry && !is_neighbour {
            endpoint = endpoint.far_only();
        }
        let scope = match challenge.parameter("scope") {
            "" => format!("repository:{}:pull", self.place.repository),
            scope => scope.to_owned(),
        };
        let service = challenge.parameter("service");
        let query = format!("service={}&scope={}", percent(service), percent(&scope));
        let credentials = &self.credentials;
        let request = if credentials.identity_token.reveal().is_empty() {
            let joint = if url.target.contains('?') { '&' } else { '?' };
            url.target = format!("{}{joint}{query}", url.target);
            let mut request = Request::get(url.target);
            if !credentials.username.is_empty() {
                request = request.header("authorization", basic());
            }
            request
        } else {
            let form = format!(
                "grant_type=refresh_token&client_id=k3rs&refresh_token={}&{query}",
                percent(credentials.identity_token.reveal())
            );
            Request::new(http::Method::Post, url.target)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
        };
        let request = request.header("accept", "application/json").header("user-agent", USER_AGENT);
        let broken = |error: Error| Failure::Broken(Error::wrap(what(), error));
        let mut response = Box::pin(self.client.send(&endpoint, request)).await.map_err(broken)?;
        check_status(&mut response).await.map_err(|failure| failure.context(what()))?;
        let bytes = response.body.read_all(TOKEN_MAX_BYTES).await.map_err(broken)?;
        let answer: serde_json::Value =
            serde_json::from_slice(&bytes).context(what).map_err(Failure::Refused)?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        Ok(token.context(what).map_err(Failure::Refused)?.to_owned())
    }
}

const USER_AGENT: &str = "k3rs";

/// Why a request did not succeed.
enum Failure {
    /// The answer is no: trying again does not help.
    Refused(Error),
    /// The connection or the server had a problem.
    Broken(Error),
}

impl Failure {
    /// Nobody listening is an answer, too, and so is a certificate that is not to be believed: the
    /// next place is tried at once.
    fn of_connection(error: Error) -> Failure {
        match error.io_kind() {
            Some(
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::InvalidData
                | io::ErrorKind::PermissionDenied,
            ) => Failure::Refused(error),
            _ => Failure::Broken(error),
        }
    }

    fn context(self, what: String) -> Failure {
        match self {
            Failure::Refused(error) => Failure::Refused(Error::wrap(what, error)),
            Failure::Broken(error) => Failure::Broken(Error::wrap(what, error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) | Failure::Broken(error) => error,
        }
    }
}

async fn check_status(response: &mut Response) -> Result<(), Failure> {
    if matches!(response.status, 200 | 206) {
        return Ok(());
    }
    let status = response.status;
    let body = response.body.read_all(ERROR_BODY_MAX_BYTES).await.unwrap_or_default();
    // Registries explain themselves in JSON.
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let first = &said["errors"][0];
    let words = [first["code"].as_str(), first["message"].as_str()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let text = match (status, words.is_empty()) {
        (404, true) => "not found".to_owned(),
        (_, true) => format!("the server answered {status}"),
        (_, false) => format!("the server answered {status} {}", words.join(": ")),
    };
    match status {
        408 | 429 | 500..=599 => Err(Failure::Broken(Error::new(text))),
        _ => Err(Failure::Refused(Error::new(text))),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// A connection's parameters, with the TLS files that `registries.yaml` names for the host.
async fn endpoint(
    registries: &Registries,
    proxy: &Option<Arc<Proxy>>,
    url: &Url,
) -> Result<Endpoint> {
    let mut plain = Endpoint::tcp(url.host.clone(), url.port);
    plain.proxy = proxy.clone();
    if !url.is_tls() {
        return Ok(plain);
    }
    let config = registries.config(url);
    let host = url.authority();
    let built = rt::unblock(move || -> Result<_> {
        let identity = match config.cert_file.is_empty() {
            true => None,
            false => Some(tls::Identity::from_pem(
                &rt::fs::read_within(&config.cert_file, rt::fs::SMALL_MAX_BYTES)?,
                &rt::fs::read_within(&config.key_file, rt::fs::SMALL_MAX_BYTES)?,
            )?),
        };
        let trust = if config.insecure_skip_verify {
            Trust::Insecure
        } else if !config.ca_file.is_empty() {
            tls::listed(&rt::fs::read_within(&config.ca_file, rt::fs::SMALL_MAX_BYTES)?)?
        } else {
            Trust::Roots(tls::system_roots())
        };
        tls::client_config(trust, identity)
    })
    .await;
    Ok(plain.tls(built.context(|| format!("prepare TLS for {host}"))?))
}

/// Percent-encodes for a query.
fn percent(text: &str) -> String {
    wire::percent::escape(text, |byte| {
        wire::percent::is_unreserved(byte) || matches!(byte, b'/' | b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_is_read() {
        let check = |size| {
            check_size(&Descriptor { digest: "sha256:1".into(), size, ..Descriptor::default() })
                .map_err(|error| error.to_string())
        };
        assert!(check(0).unwrap_err().contains("reports content size of zero"));
        assert!(check(u64::MAX).unwrap_err().contains("allowed are"));
        assert_eq!(check(1), Ok(()));
    }

    #[test]
    fn queries() {
        assert_eq!(percent("a b&c=d/e:f"), "a%20b%26c%3Dd/e:f");
    }
}
