//! How a server is reached and who a client is to it: from a kubeconfig, files or bytes; files are
//! read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::{Lens, Value};
use http::client::{Dial, Endpoint, Protocol, Url};
use http::tls::{self, Identity, Trust};
use rt::lock::Mutex;
use stdx::time::Mono;
use stdx::{Context, Error, Result};

/// A kubeconfig, certificate, key or token file.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// How often files are looked at, at the most; a refusal has them looked at sooner.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two looks after refusals.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Something to read: bytes at hand, or a file that may change.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Source {
    #[default]
    None,
    Inline(Vec<u8>),
    File(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::None => f.write_str("None"),
            // It may be a secret.
            Source::Inline(_) => f.write_str("Inline"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    fn read(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Source::None => Ok(None),
            Source::Inline(bytes) => Ok(Some(bytes.clone())),
            Source::File(path) => read_file(path).map(Some),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = rt::fs::open(path)?;
    let what = || format!("read {}", path.display());
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).context(what)?;
    match bytes.len() as u64 > FILE_MAX_BYTES {
        true => Err(Error::new(format!("{}: it is larger than {FILE_MAX_BYTES} bytes", what()))),
        false => Ok(bytes),
    }
}

/// Where a server is, whom to believe there, and what to show it.
#[derive(Clone, Default)]
pub struct Access {
    /// `https://host:port`; a path after it is kept.
    pub server: String,
    /// The CA certificates that the server's must be signed by; `None` are the public ones.
    pub ca: Source,
    /// Any certificate is taken.
    pub insecure: bool,
    /// The name in the server's certificate, if it is not the URL's host; "" otherwise.
    pub server_name: String,
    /// A client certificate with its chain, and its key.
    pub certificate: Source,
    pub key: Source,
    /// A bearer token.
    pub token: Source,
    /// Which HTTP to speak; by default what TLS negotiates.
    pub protocol: Protocol,
    /// How connections are opened in place of TCP.
    pub dialer: Option<Arc<dyn Dial>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Access({}, certificate {:?}, token {:?})",
            self.server, self.certificate, self.token
        )
    }
}

impl Access {
    /// Reads a kubeconfig file and takes its current context.
    ///
    /// # Errors
    /// If it cannot be read, or asks for something that is not supported.
    pub fn from_kubeconfig_file(path: &Path) -> Result<Access> {
        let what = || format!("read kubeconfig {}", path.display());
        let text = String::from_utf8(read_file(path)?).context(what)?;
        Access::from_kubeconfig(&text, path.parent().unwrap_or(Path::new("."))).context(what)
    }

    /// Takes the current context of a kubeconfig. Its relative paths are below `base`.
    ///
    /// # Errors
    /// If it is malformed, or asks for something that is not supported.
    pub(crate) fn from_kubeconfig(text: &str, base: &Path) -> Result<Access> {
        let tree = wire::yaml::parse_one_loose(text)?;
        let name = tree.str("current-context");
        let context = named(&tree, "contexts", name)?.at("context");
        let cluster = named(&tree, "clusters", context.str("cluster"))?.at("cluster");
        let user = named(&tree, "users", context.str("user"))?.at("user");
        refuse(cluster, &["proxy-url"])?;
        refuse(
            user,
            &["exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups"],
        )?;
        let token = match (user.str("tokenFile"), user.str("token")) {
            // As upstream: the file wins.
            ("", "") => Source::None,
            ("", token) => Source::Inline(token.as_bytes().to_vec()),
            (file, _) => Source::File(base.join(file)),
        };
        let access = Access {
            server: cluster.str("server").to_owned(),
            ca: data(cluster, "certificate-authority", base)?,
            insecure: cluster.flag("insecure-skip-tls-verify"),
            server_name: cluster.str("tls-server-name").to_owned(),
            certificate: data(user, "client-certificate", base)?,
            key: data(user, "client-key", base)?,
            token,
            ..Access::default()
        };
        if access.insecure && access.ca != Source::None {
            return Err(Error::new(
                "specifying a root certificates file with the insecure flag is not allowed",
            ));
        }
        access.url().map(|_| access)
    }

    /// The CA certificates as they are now, PEM; empty if the public ones are believed. Blocking.
    ///
    /// # Errors
    /// If their file cannot be read.
    pub fn ca_pem(&self) -> Result<Vec<u8>> {
        Ok(self.ca.read()?.unwrap_or_default())
    }

    pub(crate) fn url(&self) -> Result<Url> {
        let url = Url::parse(&self.server)?;
        match url.scheme.as_str() {
            "https" | "http" if !url.target.contains('?') => Ok(url),
            _ => Err(Error::new(format!("{:?} is no URL of an API server", self.server))),
        }
    }

    fn has_files(&self) -> bool {
        [&self.ca, &self.certificate, &self.key, &self.token]
            .into_iter()
            .any(|source| matches!(source, Source::File(_)))
    }

    fn read(&self) -> Result<Texts> {
        Ok(Texts {
            ca: self.ca.read()?,
            certificate: self.certificate.read()?,
            key: self.key.read()?,
            token: self.token.read()?,
        })
    }
}

/// The entry called `name` of a kubeconfig's list.
fn named<'a>(tree: &'a Value, list: &str, name: &str) -> Result<&'a Value> {
    let found = tree.list(list).iter().find(|entry| entry.str("name") == name);
    found.context(|| format!("find {name:?} among its {list}"))
}

fn refuse(tree: &Value, fields: &[&str]) -> Result<()> {
    let is_set = |field: &&&str| !tree.at(field).is_null() && tree.at(field) != &Value::from("");
    match fields.iter().find(is_set) {
        Some(field) => {
            Err(Error::new(format!("{field} is not supported by this version of k3rs yet")))
        }
        None => Ok(()),
    }
}

/// `<field>-data` inline, or the file of `<field>`; the first wins, as upstream.
fn data(tree: &Value, field: &str, base: &Path) -> Result<Source> {
    let inline = tree.get(format!("{field}-data")).and_then(Value::as_str).unwrap_or("");
    if !inline.is_empty() {
        let bytes = wire::base64::decode(inline).context(|| format!("decode {field}-data"))?;
        return Ok(Source::Inline(bytes));
    }
    Ok(match tree.get(field).and_then(Value::as_str).unwrap_or("") {
        "" => Source::None,
        file => Source::File(base.join(file)),
    })
}

/// What the sources held when they were read.
#[derive(PartialEq, Eq)]
struct Texts {
    ca: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    token: Option<Vec<u8>>,
}

/// How the server is reached at present.
#[derive(Clone)]
pub(crate) struct Reached {
    pub(crate) endpoint: Endpoint,
    /// `Bearer ...`, or "".
    pub(crate) authorization: String,
}

/// An [`Access`] with what was read for it, kept current.
pub(crate) struct Current {
    access: Access,
    url: Url,
    state: Mutex<State>,
}

struct State {
    reached: Reached,
    texts: Texts,
    looked: Mono,
}

impl Current {
    /// Reads everything once. Blocking.
    pub(crate) fn new(access: Access) -> Result<Current> {
        let url = access.url()?;
        let texts = access.read()?;
        let reached = reached(&access, &url, &texts)?;
        let looked = rt::now().mono;
        Ok(Current { access, url, state: Mutex::new(State { reached, texts, looked }) })
    }

    /// The path that the server's URL has, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.url.target.trim_end_matches('/')
    }

    /// How to reach the server now. Files that changed since the last look are taken in; those that
    /// cannot be read at the moment stay as they were.
    pub(crate) async fn reach(&self) -> Reached {
        self.look(LOOK_EVERY).await.0
    }

    /// The same after the server refused who we are: true if something is new.
    pub(crate) async fn reach_again(&self) -> (Reached, bool) {
        self.look(LOOK_AGAIN).await
    }

    async fn look(&self, every: Duration) -> (Reached, bool) {
        let mut state = self.state.lock().await;
        let now = rt::now().mono;
        if !self.access.has_files() || now.since(state.looked) < every {
            return (state.reached.clone(), false);
        }
        state.looked = now;
        let access = self.access.clone();
        let changed = match rt::unblock(move || access.read()).await {
            Ok(texts) if texts != state.texts => match reached(&self.access, &self.url, &texts) {
                Ok(reached) => {
                    state.reached = reached;
                    state.texts = texts;
                    true
                }
                // Half of it may be written.
                Err(error) => {
                    log::debug!("read again how to reach {}: {error}", self.access.server);
                    false
                }
            },
            Ok(_) => false,
            Err(error) => {
                log::debug!("read again how to reach {}: {error}", self.access.server);
                false
            }
        };
        (state.reached.clone(), changed)
    }
}

fn reached(access: &Access, url: &Url, texts: &Texts) -> Result<Reached> {
    let mut endpoint = Endpoint::tcp(&*url.host, url.port).protocol(access.protocol);
    if url.is_tls() {
        let trust = match &texts.ca {
            _ if access.insecure => Trust::Insecure,
            Some(pem) => tls::listed(pem)?,
            None => Trust::Roots(tls::public_roots()),
        };
        let identity = match (&texts.certificate, &texts.key) {
            (Some(chain), Some(key)) => Some(Identity::from_pem(chain, key)?),
            (None, None) => None,
            _ => {
                return Err(Error::new(
                    "a client certificate needs its key, and a key its certificate",
                ));
            }
        };
        endpoint = endpoint.tls(tls::client_config(trust, identity)?);
    }
    if !access.server_name.is_empty() {
        endpoint = endpoint.server_name(&*access.server_name);
    }
    if let Some(dialer) = &access.dialer {
        endpoint = endpoint.dialer(Arc::clone(dialer));
    }
    let token = texts.token.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let token = token.trim();
    if token.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Error::new("the bearer token holds spaces or control characters"));
    }
    let authorization = if token.is_empty() { String::new() } else { format!("Bearer {token}") };
    Ok(Reached { endpoint, authorization })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Y2E=\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-certificate: agent/a.crt\n    client-key-data: a2V5\n";

    #[test]
    fn kubeconfigs_are_read() {
        let access = Access::from_kubeconfig(WRITTEN, Path::new("/x")).unwrap();
        assert_eq!(access.server, "https://127.0.0.1:6443");
        assert_eq!(access.ca, Source::Inline(b"ca".to_vec()));
        assert_eq!(access.certificate, Source::File("/x/agent/a.crt".into()));
        assert_eq!(access.key, Source::Inline(b"key".to_vec()));
        assert_eq!(access.token, Source::None);
        let text = WRITTEN.replace("client-key-data: a2V5", "token: t\n    tokenFile: /t");
        let access = Access::from_kubeconfig(&text, Path::new("/x")).unwrap();
        assert_eq!(access.token, Source::File("/t".into()));
        for (from, to, want) in [
            (
                "current-context: default",
                "current-context: other",
                "find \"other\" among its contexts",
            ),
            ("user: default\n", "user: other\n", "find \"other\" among its users"),
            (
                "Y2E=",
                "Y2E=\n    proxy-url: http://p",
                "proxy-url is not supported by this version of k3rs yet",
            ),
            (
                "a2V5",
                "a2V5\n    exec: {command: x}",
                "exec is not supported by this version of k3rs yet",
            ),
            ("a2V5", "a2V5\n    as: root", "as is not supported by this version of k3rs yet"),
            ("Y2E=", "'!'", "decode certificate-authority-data"),
            (
                "Y2E=",
                "Y2E=\n    insecure-skip-tls-verify: true",
                "specifying a root certificates file with the insecure flag is not allowed",
            ),
            ("https://127.0.0.1:6443", "ftp://x", "parse URL"),
        ] {
            let text = WRITTEN.replace(from, to);
            let error = Access::from_kubeconfig(&text, Path::new("/")).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
