//! Getting what a URL names, with bounds: archives of charts and the indexes of repositories.

use std::sync::Arc;
use std::time::Duration;

use http::client::{Client, Endpoint, Proxy, Url};
use http::tls::{self, Identity, Trust};
use http::{Request, Response};
use stdx::{Context, Error, Result, Sensitive};

/// An archive of a chart as it comes.
pub(crate) const ARCHIVE_MAX_BYTES: usize = 16 << 20;
/// An index of a repository, of which little is kept.
const INDEX_MAX_BYTES: usize = 128 << 20;
const REDIRECTS_MAX: usize = 5;
/// Silence after which a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// One answer with its body, however slowly it comes.
const ANSWER_MAX: Duration = Duration::from_secs(600);
const ERROR_BODY_MAX_BYTES: usize = 16 << 10;
pub(crate) const USER_AGENT: &str = "k3rs";

/// What a HelmChart says of whom to believe and who asks.
#[derive(Default)]
pub(crate) struct Access {
    pub(crate) username: String,
    pub(crate) password: Sensitive,
    pub(crate) identity: Option<Arc<Identity>>,
    /// PEM of authorities to believe; "" for those that the host trusts.
    pub(crate) authorities: String,
    pub(crate) insecure: bool,
    /// Name and password are for other hosts than the repository's, too.
    pub(crate) pass_credentials: bool,
    /// A Docker configuration file, for registries; "" for none.
    pub(crate) docker_config: Sensitive,
}

/// Fetches on behalf of one HelmChart.
pub(crate) struct Fetcher<'a> {
    client: &'a Client,
    proxy: Option<Arc<Proxy>>,
    pub(crate) access: &'a Access,
    tls: Arc<tls::ClientConfig>,
    /// The host that the HelmChart names: what it trusts us with is for that one.
    home: Url,
}

impl<'a> Fetcher<'a> {
    /// For what the HelmChart names by `home`.
    ///
    /// # Errors
    /// If the authorities or the client's certificate cannot be used.
    pub(crate) async fn new(
        client: &'a Client,
        proxy: Option<Arc<Proxy>>,
        access: &'a Access,
        home: Url,
    ) -> Result<Fetcher<'a>> {
        let (insecure, extra) = (access.insecure, access.authorities.clone());
        let identity = access.identity.clone();
        let config = rt::unblock(move || {
            // As Helm has it, named authorities stand in place of the host's.
            let trust = match (insecure, extra.is_empty()) {
                (true, _) => Trust::Insecure,
                (false, true) => Trust::Roots(tls::system_roots()),
                (false, false) => tls::listed(extra.as_bytes())?,
            };
            tls::client_config(trust, identity)
        });
        let tls = config.await.context(|| "prepare TLS for charts")?;
        Ok(Fetcher { client, proxy, access, tls, home })
    }

    fn is_home(&self, url: &Url) -> bool {
        (&url.host, url.port) == (&self.home.host, self.home.port)
    }

    fn endpoint(&self, url: &Url) -> Endpoint {
        let mut endpoint = Endpoint::url(url, &self.tls);
        endpoint.proxy.clone_from(&self.proxy);
        // Where an answer leads is a stranger's word: not to this machine or its links, unless its own place is there.
        match self.is_home(url) {
            true => endpoint,
            false => endpoint.far_only(),
        }
    }

    /// What basic authentication says, if there is a name for that host.
    fn basic(&self, url: &Url) -> Option<String> {
        let said = url.userinfo.as_deref().map(|both| wire::percent::unescape(both, false));
        let both = match said {
            Some(both) => both,
            None if self.access.username.is_empty() => return None,
            None if !self.is_home(url) && !self.access.pass_credentials => return None,
            None => format!("{}:{}", self.access.username, self.access.password.reveal()),
        };
        Some(format!("Basic {}", wire::base64::encode(both.as_bytes())))
    }

    /// The answer at a URL, redirects followed. `authorization` ("" for none) is said at home only; where it is not given, who has a name says it.
    pub(crate) async fn get(
        &self,
        url: &Url,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::get(url.target.clone())
                .header("accept", accept)
                .header("user-agent", USER_AGENT);
            let said = match authorization {
                Some("") => None,
                Some(authorization) => self.is_home(&url).then(|| authorization.to_owned()),
                None => self.basic(&url),
            };
            if let Some(said) = said {
                request = request.header("authorization", said);
            }
            let endpoint = self.endpoint(&url);
            let sent = Box::pin(self.client.send(&endpoint, request));
            let response = rt::timeout(SILENCE_MAX, sent).await;
            let response = response.context(|| format!("wait for {}", url.authority()))??;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers.get("location").context(|| "a redirect to nowhere")?;
            let next = url.join(location)?;
            if url.is_tls() && !next.is_tls() {
                return Err(Error::new(format!("a redirect from https to {}", next.authority())));
            }
            url = next;
        }
        Err(Error::new(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// A token server's answer: a registry's word names it, so it is asked as any stranger, but by name and password.
    pub(crate) async fn ask_token(
        &self,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response> {
        let mut request = Request::get(url.target.clone())
            .header("accept", "application/json")
            .header("user-agent", USER_AGENT);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let mut endpoint = self.endpoint(url);
        // A registry on this machine has its token server there, too.
        if is_loopback(&self.home.host) && is_loopback(&url.host) {
            endpoint.far_only = false;
        }
        let sent = Box::pin(self.client.send(&endpoint, request));
        rt::timeout(SILENCE_MAX, sent).await.context(|| format!("wait for {}", url.authority()))?
    }

    /// A whole answer of at most `max_bytes`.
    pub(crate) async fn read(&self, url: &Url, max_bytes: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.stream(url, max_bytes, &mut |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// An index, in pieces as they come.
    pub(crate) async fn index(
        &self,
        url: &Url,
        take: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<()> {
        self.stream(url, INDEX_MAX_BYTES, take).await
    }

    async fn stream(
        &self,
        url: &Url,
        max_bytes: usize,
        take: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<()> {
        let what = || format!("get {}://{}{}", url.scheme, url.authority(), path_of(url));
        let got = async {
            let mut response = Box::pin(self.get(url, "*/*", None)).await?;
            check_status(&mut response).await?;
            drain(response, max_bytes, take).await
        };
        rt::timeout(ANSWER_MAX, got).await.context(what)?.context(what)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Without the query, which may hold a signature.
fn path_of(url: &Url) -> &str {
    url.target.split('?').next().unwrap_or("")
}

/// Hands over a body of at most `max_bytes`.
pub(crate) async fn drain(
    mut response: Response,
    max_bytes: usize,
    take: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
) -> Result<()> {
    let mut n_bytes = 0;
    loop {
        let next = rt::timeout(SILENCE_MAX, response.body.next()).await;
        let Some(piece) = next.context(|| "wait for the rest")? else { return Ok(()) };
        let piece = piece?;
        n_bytes += piece.len();
        if n_bytes > max_bytes {
            return Err(Error::new(format!("it is larger than {max_bytes} bytes")));
        }
        take(&piece)?;
    }
}

/// An answer that is none has Helm's words.
pub(crate) async fn check_status(response: &mut Response) -> Result<()> {
    if response.status == 200 {
        return Ok(());
    }
    let body = response.body.read_all(ERROR_BODY_MAX_BYTES).await.unwrap_or_default();
    // Registries explain themselves in JSON.
    let said: api::Value = serde_json::from_slice(&body).unwrap_or_default();
    let words = said["errors"][0]["message"].as_str().unwrap_or("");
    let joint = if words.is_empty() { "" } else { ": " };
    Err(Error::new(format!("the server answered {}{joint}{words}", response.status)))
}
