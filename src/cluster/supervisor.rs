//! What the supervisor answers beside the Kubernetes API to those who join: who we are, how the cluster is set up, and
//! their certificates. Paths, roles and limits are k3s's (pkg/server/handlers).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use api::kinds::{ENDPOINT_SLICE, NODE};
use api::status::Reason;
use api::{Lens, Status, Value};
use client::{Client, ListOptions};
use rt::lock::{Semaphore, SemaphoreGuard};
use stdx::Result;
use wire::pkcs10::Request;

use crate::node_password::{self, Claims};
use crate::paths::Paths;
use crate::pki::{self, Clock};
use crate::secrets_encryption::{self, SecretsEncryption};
use crate::signer::Authorities;
use crate::token;
use crate::x509::{self, Certificate, Leaf};

/// What agents ask at the same time; k3s's numbers. Others come again.
const READS_MAX: usize = 20;
const WRITES_MAX: usize = 10;
/// What anybody sends is a signing request.
pub const BODY_MAX_BYTES: u64 = 64 << 10;
/// What who has the servers' token sends to [`AUTHORITIES`].
pub const AUTHORITIES_MAX_BYTES: u64 = 1 << 20;
/// Addresses of one node.
const ADDRESSES_MAX: usize = 16;
/// Servers of one cluster that are told.
const SERVERS_MAX: usize = 64;

/// Below this, certificates and settings are asked for.
pub const PREFIX: &str = "/v1-k3s/";

/// Where servers that join look for the members of the embedded etcd.
pub const MEMBERS: &str = "/db/info";
/// Where snapshots of it are asked for.
pub const SNAPSHOT: &str = "/db/snapshot";
/// What they get of the cluster's keys, below [`PREFIX`].
const BOOTSTRAP: &str = "server-bootstrap";
/// Where the servers' token is changed.
pub const TOKEN: &str = "token";
/// Where new authorities are given.
pub const AUTHORITIES: &str = "cert/cacerts";

/// Where agents open their tunnels.
pub const CONNECT: &str = "/v1-k3s/connect";

const AGENT: &str = "k3s:agent";
const SERVER: &str = "k3s:server";
/// Who may ask: agents by token, nodes by certificate, agents by bootstrap token.
const ROLES: [&str; 3] = [AGENT, NODES, "system:bootstrappers"];
const NODES: &str = "system:nodes";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The answer to a path that needs no credentials, or `None` if it is not one of ours.
/// (`/cacerts` and `/ping`, as k3s's agents ask before they trust anything.)
pub fn public(path: &str, ca_pem: &str) -> Option<(&'static str, Vec<u8>)> {
    match path {
        "/cacerts" | "/v1-k3s/cacerts" => Some((TEXT, ca_pem.as_bytes().to_vec())),
        "/ping" => Some((TEXT, b"pong".to_vec())),
        _ => None,
    }
}

/// The refusal of who is nobody that we know.
pub fn unknown(shows_something: bool) -> Status {
    match shows_something {
        true => Status::new(Reason::Unauthorized, "not authorized"),
        false => Status::new(Reason::Forbidden, "forbidden"),
    }
}

/// The node whose tunnel somebody opens: its own, as its certificate says, and nobody else's.
///
/// # Errors
/// 403 for who is no node, 401 for a node without a name.
pub fn tunnel_of<'a>(user: &'a str, groups: &[String]) -> Result<&'a str, Status> {
    if !groups.iter().any(|group| group == NODES) {
        return Err(Status::new(Reason::Forbidden, "forbidden"));
    }
    let node =
        user.strip_prefix("system:node:").filter(|node| node_password::check_name(node).is_ok());
    node.ok_or_else(|| Status::new(Reason::Unauthorized, "failed authentication"))
}

/// The refusal of what needs an API server, where there is none; k3s's words.
pub fn without_api() -> Status {
    Status::unavailable("apiserver disabled")
}

/// The refusal of who takes too long.
pub fn too_slow() -> Status {
    Status::new(Reason::Timeout, "the request took too long")
}

/// A file under `server/static/` for `/static/...`, with no way out of that directory.
pub fn static_file(paths: &Paths, path: &str) -> Option<Vec<u8>> {
    let relative = path.strip_prefix("/static/")?;
    let ordinary =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if !relative.split('/').all(ordinary) {
        return None;
    }
    rt::fs::read_optional(paths.static_files().join(relative)).ok().flatten()
}

/// The passwords in tokens.
#[derive(Clone)]
pub struct Passwords {
    pub server: String,
    pub agent: String,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

/// The passwords as they are now: a rotation of the token changes them.
#[derive(Debug, Clone)]
pub struct KnownPasswords(Arc<Mutex<Passwords>>);

impl KnownPasswords {
    pub fn new(passwords: Passwords) -> KnownPasswords {
        KnownPasswords(Arc::new(Mutex::new(passwords)))
    }

    pub fn get(&self) -> Passwords {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, passwords: Passwords) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = passwords;
    }
}

/// What changes the keys of the cluster, for who has the servers' token.
pub trait Keys: Send + Sync {
    /// Makes a token of the question's the servers', or a random one.
    ///
    /// # Errors
    /// If it can be none, or what went wrong.
    fn rotate_token<'a>(&'a self, question: &'a [u8]) -> rt::BoxFuture<'a, Result<(), Status>>;

    /// Takes new authorities, for the next start; with `force` also those that nobody who knows the present ones
    /// believes.
    ///
    /// # Errors
    /// If they cannot follow the present ones, or what went wrong.
    fn replace_authorities<'a>(
        &'a self,
        offered: &'a [u8],
        force: bool,
    ) -> rt::BoxFuture<'a, Result<(), Status>>;
}

/// The embedded etcd, for servers that join.
pub trait Etcd: Send + Sync {
    /// Its members, in JSON, as k3s tells them; the own one if no other can be told.
    fn members(&self) -> rt::BoxFuture<'_, String>;

    /// Does something with its snapshots, as k3s's commands ask for it, in JSON.
    ///
    /// # Errors
    /// What went wrong.
    fn snapshot<'a>(&'a self, body: &'a [u8]) -> rt::BoxFuture<'a, Result<String, Status>>;
}

/// What the supervisor must be told.
pub struct Setup {
    /// May read and write whatever agents' business needs.
    pub client: Client,
    pub paths: Paths,
    pub authorities: Authorities,
    pub passwords: KnownPasswords,
    /// A server without an API server changes none.
    pub keys: Option<Arc<dyn Keys>>,
    /// How the cluster is set up, in JSON, with k3s's names.
    pub config: String,
    /// The node of this process and its password, if there is one.
    pub own_node: Option<(String, String)>,
    pub clock: fn() -> Clock,
    /// As `keys`.
    pub encryption: Option<Arc<SecretsEncryption>>,
    /// Without one, servers need none of its answers.
    pub etcd: Option<Arc<dyn Etcd>>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Setup")
    }
}

/// Who asks for what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Whether the request is a POST, which brings a signing request.
    pub posts: bool,
    /// Whether it is a PUT, which changes keys.
    pub puts: bool,
    /// Whether what looks wrong is wanted all the same (`?force=true`).
    pub forces: bool,
    pub path: &'a str,
    pub user: &'a str,
    pub groups: &'a [String],
    /// The headers of those names.
    pub node_name: &'a str,
    pub node_password: &'a str,
    pub node_ip: &'a str,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub media_type: &'static str,
    pub body: Vec<u8>,
    pub retry_after_secs: Option<u32>,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Answer {
        Answer {
            code: status.code(),
            media_type: JSON,
            body: status.to_tree().to_string().into_bytes(),
            retry_after_secs: (status.reason() == Reason::TooManyRequests).then_some(1),
        }
    }
}

/// The supervisor's part for agents.
pub struct Supervisor {
    setup: Setup,
    claims: Claims,
    reads: Semaphore,
    writes: Semaphore,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Supervisor")
    }
}

impl Supervisor {
    pub fn new(setup: Setup) -> Supervisor {
        Supervisor {
            claims: Claims::new(setup.client.clone()),
            reads: Semaphore::new(READS_MAX),
            writes: Semaphore::new(WRITES_MAX),
            setup,
        }
    }

    /// The groups of who shows a token's user and password. The server's token does what an agent's does.
    pub fn groups_of(&self, user: &str, password: &str) -> Option<Vec<String>> {
        // Digests are compared, so that the time it takes tells nothing about the password.
        let given = token::hash(password.as_bytes());
        let is = |known: &str| token::hash(known.as_bytes()) == given;
        let Passwords { server, agent } = &self.setup.passwords.get();
        let group = match user {
            "node" if is(agent) | is(server) => AGENT,
            "server" if is(server) => SERVER,
            _ => return None,
        };
        Some(vec![group.to_owned()])
    }

    /// Lets a request in, for as long as the guard lives; its body is read after this.
    ///
    /// # Errors
    /// 403 if it is not for such users, 404, and 429.
    pub fn admit(&self, asked: &Asked<'_>) -> Result<SemaphoreGuard<'_>, Status> {
        let below = asked.path.strip_prefix(PREFIX);
        let roles = match below {
            _ if is_of_etcd(asked.path) => &[SERVER][..],
            Some(path) if is_of_servers(path) => &[SERVER],
            // Servers that join compare it with their own.
            Some("config") => &[AGENT, NODES, "system:bootstrappers", SERVER],
            _ => &ROLES,
        };
        if !roles.iter().any(|role| asked.groups.iter().any(|group| group == role)) {
            return Err(Status::new(Reason::Forbidden, "forbidden"));
        }
        let turns = if asked.posts || asked.puts { &self.writes } else { &self.reads };
        turns.try_acquire().ok_or_else(|| {
            Status::too_many_requests("Too many requests, please try again later.", 1)
        })
    }

    /// Answers a request that was let in.
    pub async fn answer(&self, asked: &Asked<'_>, body: &[u8]) -> Answer {
        match self.find(asked, body).await {
            Ok((media_type, body)) => {
                Answer { code: 200, media_type, body, retry_after_secs: None }
            }
            Err(status) => status.into(),
        }
    }

    async fn find(
        &self,
        asked: &Asked<'_>,
        body: &[u8],
    ) -> Result<(&'static str, Vec<u8>), Status> {
        let Authorities { client, server } = &self.setup.authorities;
        let failed = |error: stdx::Error| Status::internal(error.to_string());
        if asked.path == SNAPSHOT {
            let etcd = self.setup.etcd.as_ref();
            let etcd = etcd.ok_or_else(|| Status::bad_request("etcd datastore disabled"))?;
            return match asked.posts {
                true => Ok((JSON, etcd.snapshot(body).await?.into_bytes())),
                false => Err(Status::new(Reason::MethodNotAllowed, "method not allowed")),
            };
        }
        if let Some(etcd) = self.setup.etcd.as_ref().filter(|_| !asked.posts && !asked.puts) {
            if asked.path == MEMBERS {
                return Ok((JSON, etcd.members().await.into_bytes()));
            }
            if asked.path.strip_prefix(PREFIX) == Some(BOOTSTRAP) {
                let keys = crate::bootstrap::plain(&self.setup.paths, rt::now().wall);
                return Ok((JSON, keys.map_err(failed)?));
            }
        }
        let shared = |name| Leaf { common_name: name, client: true, ..Leaf::default() };
        let found = match asked.path.strip_prefix(PREFIX).unwrap_or("") {
            "config" => return Ok((JSON, self.setup.config.clone().into_bytes())),
            "apiservers" => return Ok((JSON, self.servers().await?.to_string().into_bytes())),
            "readyz" => "ok".to_owned(),
            secrets_encryption::STATUS => {
                let status = self.encryption()?.status().await;
                return Ok((JSON, status.map_err(failed)?.to_string().into_bytes()));
            }
            secrets_encryption::CONFIG if asked.puts => {
                self.encryption()?.change(body).await?;
                String::new()
            }
            TOKEN if asked.puts => {
                self.keys()?.rotate_token(body).await?;
                String::new()
            }
            AUTHORITIES if asked.puts => {
                self.keys()?.replace_authorities(body, asked.forces).await?;
                String::new()
            }
            TOKEN | AUTHORITIES | secrets_encryption::CONFIG => {
                return Err(Status::new(Reason::MethodNotAllowed, "method not allowed"));
            }
            "client-ca.crt" => client.chain_pem.clone(),
            "server-ca.crt" => server.chain_pem.clone(),
            "client-kube-proxy.crt" => {
                self.certify(asked, client, &shared("system:kube-proxy"), body)?
            }
            "client-k3s-controller.crt" => {
                self.certify(asked, client, &shared("system:k3s-controller"), body)?
            }
            "client-kubelet.crt" => {
                let node = self.node(asked).await?;
                let name = format!("system:node:{node}");
                let leaf = Leaf { organization: "system:nodes", ..shared(&name) };
                self.certify(asked, client, &leaf, body)?
            }
            "serving-kubelet.crt" => {
                let node = self.node(asked).await?;
                let addresses = self.addresses(asked.node_ip).await?;
                let names = [node.clone(), "localhost".to_owned()];
                let leaf = Leaf {
                    common_name: &node,
                    dns_names: &names,
                    addresses: &addresses,
                    server: true,
                    ..Leaf::default()
                };
                self.certify(asked, server, &leaf, body)?
            }
            _ => {
                return Err(Status::new(
                    Reason::NotFound,
                    "the server could not find the requested resource",
                ));
            }
        };
        Ok((TEXT, found.into_bytes()))
    }

    fn keys(&self) -> Result<&dyn Keys, Status> {
        self.setup.keys.as_deref().ok_or_else(without_api)
    }

    fn encryption(&self) -> Result<&Arc<SecretsEncryption>, Status> {
        self.setup.encryption.as_ref().ok_or_else(without_api)
    }

    /// The name of the node that asks, which it has proved to be its own.
    async fn node(&self, asked: &Asked<'_>) -> Result<String, Status> {
        let node = asked.node_name.to_ascii_lowercase();
        if node.is_empty() {
            return Err(Status::bad_request("node name not set"));
        }
        if asked.node_password.is_empty() {
            return Err(Status::bad_request("node password not set"));
        }
        node_password::check_name(&node)?;
        if let Some(known) = asked.user.strip_prefix("system:node:") {
            if known != node {
                let why = "header node name does not match auth node name";
                return Err(Status::bad_request(why));
            }
            // A certificate outlives its node; its name may be somebody else's by now.
            if self.setup.client.get_optional(&NODE, "", &node).await?.is_none() {
                let why = format!("unable to verify node identity: nodes {node:?} not found");
                return Err(Status::new(Reason::Unauthorized, why));
            }
        }
        match &self.setup.own_node {
            Some((own, password)) if *own == node => {
                let same = |text: &str| token::hash(text.as_bytes());
                if same(password) != same(asked.node_password) {
                    return Err(node_password::refused(&node));
                }
            }
            _ => self.claims.claim(&node, asked.node_password).await?,
        }
        Ok(node)
    }

    /// What a node serves at: what it says, but for what is a server's. Whoever reaches the API there believes any
    /// certificate of the CA that names the address.
    async fn addresses(&self, text: &str) -> Result<Vec<IpAddr>, Status> {
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let invalid = || Status::bad_request(format!("invalid node IP address {part:?}"));
            addresses.push(part.parse().map_err(|_| invalid())?);
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(Status::bad_request("too many node IP addresses"));
        }
        let own = rt::fs::read_text(self.setup.paths.tls("serving-kube-apiserver.crt"));
        let own = own.and_then(|pem| x509::read_pem(&pem));
        let own = own.map_err(|error| Status::internal(error.to_string()))?.addresses;
        let servers = self.servers().await?;
        let servers = servers.as_array().into_iter().flatten().filter_map(Value::as_str);
        let servers: Vec<IpAddr> =
            servers.filter_map(|at| Some(at.parse::<std::net::SocketAddr>().ok()?.ip())).collect();
        let is_servers = |address: &IpAddr| own.contains(address) || servers.contains(address);
        addresses.retain(|address| address.is_loopback() || !is_servers(address));
        Ok(addresses)
    }

    /// A certificate with its CA: of the key in the signing request, or with a new key for those who sent none.
    fn certify(
        &self,
        asked: &Asked<'_>,
        ca: &Certificate,
        leaf: &Leaf<'_>,
        body: &[u8],
    ) -> Result<String, Status> {
        let failed = |error: stdx::Error| Status::internal(error.to_string());
        let until = pki::leaf_until(ca, (self.setup.clock)()).map_err(failed)?;
        if !asked.posts || body.is_empty() {
            let pair = x509::issue(ca, leaf, "", until).map_err(failed)?;
            return Ok(pair.chain_pem + &pair.key_pem);
        }
        let signed = api::certificate::request_der(body).map_err(Status::bad_request)?.signed;
        let request = Request {
            common_name: leaf.common_name.to_owned(),
            organizations: Vec::from_iter(
                Some(leaf.organization).filter(|name| !name.is_empty()).map(str::to_owned),
            ),
            dns_names: leaf.dns_names.to_vec(),
            addresses: leaf.addresses.to_vec(),
            signed,
            ..Request::default()
        };
        let usage = if leaf.server { "server auth" } else { "client auth" };
        let usages = ["digital signature", "key encipherment", usage];
        let pem = x509::certify(ca, &request, &usages, until).map_err(failed)?;
        Ok(pem + &ca.chain_pem)
    }

    /// Where API servers are, as the `kubernetes` Service knows them.
    async fn servers(&self) -> Result<Value, Status> {
        let options = ListOptions {
            label_selector: "kubernetes.io/service-name=kubernetes".into(),
            ..ListOptions::default()
        };
        let list = self.setup.client.list(&ENDPOINT_SLICE, "default", options).await?;
        let mut found = Vec::new();
        for slice in &list.items {
            found.extend(servers_of(&slice.tree()).into_iter().map(Value::from));
        }
        found.truncate(SERVERS_MAX);
        Ok(Value::Array(found))
    }
}

/// Paths of the embedded etcd, which are not below [`PREFIX`].
pub fn is_of_etcd(path: &str) -> bool {
    path == MEMBERS || path == SNAPSHOT
}

/// What only servers, and who has their token, may ask for.
fn is_of_servers(path: &str) -> bool {
    [secrets_encryption::STATUS, secrets_encryption::CONFIG, BOOTSTRAP, TOKEN, AUTHORITIES]
        .contains(&path)
}

/// `address:port` of each server that an EndpointSlice of the `kubernetes` Service names.
pub fn servers_of(slice: &Value) -> Vec<String> {
    let port = slice.list("ports").iter().find(|port| matches!(port.str("name"), "https" | ""));
    let port = port.and_then(|port| port.int("port")).and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return Vec::new() };
    let addresses = slice.list("endpoints").iter().flat_map(|endpoint| endpoint.list("addresses"));
    let addresses = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
    addresses.map(|address| std::net::SocketAddr::new(address, port).to_string()).collect()
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
