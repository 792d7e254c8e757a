//! How an agent joins: it finds the server's CA to be the one that its token names, then asks for settings and certificates.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::codec;
use cluster::join::{ANSWER_MAX_BYTES, Asking, Joined, WANTED};
use cluster::token::{Token, ca_hash};
use http::client::{Client, Endpoint, Options, Url};
use http::tls::{self, Identity, Trust};
use http::{Method, Request};
use stdx::{Context, Error, Result};

use crate::peers::balancer::{Balancer, SERVERS_MAX};

/// By this name servers are known in their certificates, and nodes never are, whatever address they are reached at.
pub(crate) const SERVER_NAME: &str = "kubernetes.default.svc";

/// One request, as k3s's agents.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// What is shown of a refusal.
const REFUSAL_MAX_BYTES: usize = 1 << 10;

/// What is said to who believes the CA that is shown first.
pub(crate) const NO_CA_HASH: &str = "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. Use the full token from the server's node-token file to enable Cluster CA validation.";

/// Who joins, where, with what.
pub(crate) struct Joining {
    pub(crate) url: Url,
    pub(crate) token: Option<Token>,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) node_name: String,
    pub(crate) password: String,
    /// Where the password is, for those who must look at it.
    pub(crate) password_file: PathBuf,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joining({})", self.node_name)
    }
}

/// The way to a server that is believed.
struct Session<'a> {
    joining: &'a Joining,
    http: Client,
    ca_pem: String,
    /// As the node that an earlier join made it.
    as_node: Option<Endpoint>,
    endpoint: Endpoint,
    /// What the kubelet serves at.
    addresses: String,
}

impl Joining {
    /// Whether what was kept is of the cluster that the token names.
    pub(crate) fn fits(&self, kept: &Joined) -> bool {
        let wanted = self.token.as_ref().map_or("", |token| &token.ca_hash);
        wanted.is_empty() || wanted == ca_hash(&kept.server_ca)
    }

    /// Joins, or joins again.
    ///
    /// # Errors
    /// Why not; most reasons may be gone at the next attempt.
    pub(crate) async fn join(&self, kept: Option<&Joined>, node_ips: &[IpAddr]) -> Result<Joined> {
        let kept = kept.filter(|kept| self.fits(kept));
        let session = self.session(kept, node_ips).await?;
        let config = session.text("/v1-k3s/config").await;
        let config = config.context(|| "failed to retrieve configuration from server")?;
        cluster::settings::Settings::from_json(&config)?;
        if !cluster::settings::has_api(&config) {
            let others = session.text("/v1-k3s/apiservers").await;
            let others = others.context(|| "this server has no API server: ask it for others")?;
            let others = cluster::settings::servers(&others, SERVERS_MAX);
            if others.is_empty() {
                return Err(Error::new("no server of the cluster has an API server yet"));
            }
            self.balancer.leave_given(&others);
        }
        let client_ca = session.text("/v1-k3s/client-ca.crt").await?;
        let server_ca = session.text("/v1-k3s/server-ca.crt").await?;
        tls::roots(client_ca.as_bytes()).context(|| "read client-ca.crt")?;
        if server_ca != session.ca_pem {
            return Err(Error::new("the server's server-ca.crt is not its /cacerts"));
        }
        let mut certificates = Vec::new();
        for wanted in WANTED {
            let asking = Asking::new()?;
            let ca = if wanted.serves { &server_ca } else { &client_ca };
            let path = format!("/v1-k3s/{}.crt", wanted.name);
            let answer = session.post(&path, &asking, wanted.is_nodes).await?;
            certificates.push(asking.take(&answer, ca).context(|| format!("take {path}"))?);
        }
        Ok(Joined { client_ca, server_ca, certificates, config })
    }

    async fn session(&self, kept: Option<&Joined>, node_ips: &[IpAddr]) -> Result<Session<'_>> {
        let http = Client::new(Options::default());
        let endpoint = |trust: Trust, identity: Option<Arc<Identity>>| -> Result<Endpoint> {
            let endpoint = Endpoint::tcp(&*self.url.host, self.url.port);
            let endpoint = endpoint.tls(tls::client_config(trust, identity)?);
            Ok(endpoint.server_name(SERVER_NAME).dialer(Arc::clone(&self.balancer) as _))
        };
        let ca_pem = shown_ca(&http, &endpoint(Trust::Insecure, None)?).await?;
        self.check_ca(&ca_pem, kept)?;
        let roots = || tls::roots(ca_pem.as_bytes()).context(|| "CA cert validation failed");
        let believed = endpoint(Trust::Roots(roots()?), None)?;
        let checked = exchange(&http, &believed, Request::get("/cacerts")).await;
        checked.context(|| "CA cert validation failed").map_err(about_the_clock)?;
        // The second of them is the kubelet's to the server.
        let pair =
            kept.filter(|kept| kept.server_ca == ca_pem).and_then(|kept| kept.certificates.get(1));
        let pair = pair.and_then(|pair| {
            Identity::from_pem(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes()).ok()
        });
        let as_node = match pair {
            Some(identity) => Some(endpoint(Trust::Roots(roots()?), Some(identity))?),
            None => None,
        };
        let addresses: Vec<String> = node_ips.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(",");
        Ok(Session { joining: self, http, ca_pem, as_node, endpoint: believed, addresses })
    }

    /// Whether this is the CA that the token names; without a token that does, the one that was found first.
    fn check_ca(&self, ca_pem: &str, kept: Option<&Joined>) -> Result<()> {
        let wanted = self.token.as_ref().map_or("", |token| &token.ca_hash);
        let found = ca_hash(ca_pem);
        let kept = kept.map(|kept| ca_hash(&kept.server_ca));
        match (wanted, kept) {
            ("", Some(kept)) if kept == found => Ok(()),
            ("", Some(kept)) => Err(Error::new(format!(
                "the Cluster CA certificate hash is {found}, and was {kept} when this agent joined: with the full token of the server's node-token file it joins another cluster"
            ))),
            ("", None) => {
                log::warn!("{NO_CA_HASH}");
                Ok(())
            }
            (wanted, _) => is_the_named(wanted, &found),
        }
    }
}

impl Session<'_> {
    async fn text(&self, path: &str) -> Result<String> {
        let answer = self.send(Request::get(path)).await?;
        String::from_utf8(answer).context(|| format!("read {path}"))
    }

    async fn post(&self, path: &str, asking: &Asking, is_nodes: bool) -> Result<Vec<u8>> {
        let joining = self.joining;
        let mut request = Request::new(Method::Post, path).body(asking.request.clone());
        if is_nodes {
            request = request
                .header("k3s-node-name", &joining.node_name)
                .header("k3s-node-password", &joining.password)
                .header("k3s-node-ip", &self.addresses);
        }
        match self.send(request).await {
            Err(error) if is_nodes && has_code(&error, 403) => {
                let file = joining.password_file.display();
                Err(error).context(|| format!(
                    "Node password rejected, duplicate hostname or contents of '{file}' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag"
                ))
            }
            done => done,
        }
    }

    /// Sends with the token and, if there is one, the node's certificate; once more without that if the node is
    /// not known any more.
    async fn send(&self, request: Request) -> Result<Vec<u8>> {
        let token = self.joining.token.as_ref().map(Token::authorization);
        let request = match token {
            Some(token) => request.header("authorization", token),
            None => request,
        };
        let Some(as_node) = &self.as_node else {
            return exchange(&self.http, &self.endpoint, request).await;
        };
        let again = request.try_clone();
        match (exchange(&self.http, as_node, request).await, again) {
            (Err(error), Some(again)) if has_code(&error, 401) && self.joining.token.is_some() => {
                log::info!(
                    "Node authorization rejected, retrying without client certificate authentication"
                );
                exchange(&self.http, &self.endpoint, again).await
            }
            (done, _) => done,
        }
    }
}

/// A refusal, by its code.
#[derive(Debug)]
struct Refused {
    code: u16,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server answers {} {}", self.code, self.text)
    }
}

impl std::error::Error for Refused {}

fn has_code(error: &Error, code: u16) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == code) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether it would not be otherwise if it were asked again.
pub(crate) fn is_final(error: &Error) -> bool {
    let refused = [400, 401, 403, 404, 405].iter().any(|code| has_code(error, *code));
    refused || error.to_string().contains(OTHER_CA)
}

const OTHER_CA: &str = "token CA hash does not match the Cluster CA certificate hash";

/// The CA that a server shows to anyone, which nobody has vouched for yet.
async fn shown_ca(http: &Client, anyone: &Endpoint) -> Result<String> {
    let pem = exchange(http, anyone, Request::get("/cacerts")).await;
    let pem = pem.context(|| "failed to get CA certs")?;
    String::from_utf8(pem).context(|| "failed to get CA certs")
}

/// Whether the CA with this hash is the one that a token names.
fn is_the_named(wanted: &str, found: &str) -> Result<()> {
    match wanted == found {
        true => Ok(()),
        false => Err(Error::new(format!("{OTHER_CA}: {wanted} != {found}"))),
    }
}

/// Asks a server's supervisor something as who has its token, after its CA proved to be the one in it.
///
/// # Errors
/// If it is another CA, or what the server says.
pub(crate) async fn ask(
    url: &Url,
    token: &Token,
    request: Request,
    max: Duration,
) -> Result<Vec<u8>> {
    let http = Client::new(Options::default());
    let endpoint = |trust: Trust| -> Result<Endpoint> {
        let endpoint = Endpoint::tcp(&*url.host, url.port).tls(tls::client_config(trust, None)?);
        Ok(endpoint.server_name(SERVER_NAME))
    };
    let pem = shown_ca(&http, &endpoint(Trust::Insecure)?).await?;
    if !token.ca_hash.is_empty() {
        is_the_named(&token.ca_hash, &ca_hash(&pem))?;
    }
    let roots = tls::roots(pem.as_bytes()).context(|| "CA cert validation failed")?;
    let credentials = wire::base64::encode(format!("server:{}", token.password).as_bytes());
    let request = request.header("authorization", format!("Basic {credentials}"));
    exchange_within(&http, &endpoint(Trust::Roots(roots))?, request, max).await
}

async fn exchange(http: &Client, endpoint: &Endpoint, request: Request) -> Result<Vec<u8>> {
    exchange_within(http, endpoint, request, REQUEST_MAX).await
}

async fn exchange_within(
    http: &Client,
    endpoint: &Endpoint,
    request: Request,
    max: Duration,
) -> Result<Vec<u8>> {
    let what = format!("{} {endpoint}{}", request.method, request.path());
    let answered = async {
        let mut response = http.send(endpoint, request).await?;
        let bytes = response.body.read_all(ANSWER_MAX_BYTES).await?;
        if response.status == 200 {
            return Ok(bytes);
        }
        let text = match codec::received_status(&bytes, response.status) {
            Some(status) => status.message().to_owned(),
            None => {
                String::from_utf8_lossy(&bytes[..bytes.len().min(REFUSAL_MAX_BYTES)]).into_owned()
            }
        };
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        Err(Refused { code: response.status, text }).context(|| what)
    };
    match rt::timeout(max, answered).await {
        Ok(answer) => answer,
        Err(rt::Elapsed) => {
            let secs = max.as_secs();
            Err(Error::new(format!("the server did not answer within {secs} s")))
        }
    }
}

/// A certificate that is over may be so only for a clock that is wrong.
fn about_the_clock(error: Error) -> Error {
    let text = error.to_string();
    let is_about_time = text.contains("Expired") || text.contains("NotValidYet");
    match is_about_time || text.contains("expired") {
        true => {
            let now = api::time::format(rt::now().wall);
            Error::new(format!("{text} (the clock of this machine says {now})"))
        }
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_their_code() {
        let refused = Refused { code: 403, text: "forbidden".into() };
        let error = Err::<(), _>(refused).context(|| "GET a:6443/x").unwrap_err();
        assert_eq!(error.to_string(), "GET a:6443/x: the server answers 403 forbidden");
        assert!(has_code(&error, 403) && !has_code(&error, 401));
        let late = about_the_clock(Error::new("TLS handshake: invalid peer certificate: Expired"));
        assert!(late.to_string().contains("Expired (the clock of this machine says "), "{late}");
        assert_eq!(about_the_clock(Error::new("refused")).to_string(), "refused");
    }
}
