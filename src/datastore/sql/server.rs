//! Where a database is and how it is reached: what a connection needs, whatever it speaks then.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::io::Io;
use http::tls::{self, ClientConfig, Identity, Trust};
use stdx::{Context, Error, Result, Sensitive};

use crate::Files;

/// A file with certificates or a key.
const PEM_MAX_BYTES: u64 = 1 << 20;
/// Hosts of one endpoint.
pub(super) const HOSTS_MAX: usize = 16;

/// What an endpoint says.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// The first that answers is taken.
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) password: Sensitive,
    pub(super) database: String,
    pub(super) tls: Tls,
    /// What the endpoint sets in the session.
    pub(super) settings: Vec<(String, String)>,
    pub(super) connect_max: Duration,
    /// Whether statements may be kept on the server (PostgreSQL), which some poolers do not know.
    pub(super) prepares: bool,
    /// Whether a password may go in clear over an open connection (MySQL).
    pub(super) clear_password: bool,
    /// The longest packet that the endpoint allows (MySQL); 0: as long as the server takes.
    pub(super) packet_max_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp(host, port) => f.write_str(&http::client::authority(host, Some(*port))),
            Host::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether TLS is spoken. Unix sockets need none.
#[derive(Clone)]
pub(super) enum Tls {
    Off,
    /// If the server does.
    Preferred(Arc<ClientConfig>),
    Required(Arc<ClientConfig>),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tls::Off => "Off",
            Tls::Preferred(_) => "Preferred",
            Tls::Required(_) => "Required",
        })
    }
}

/// How much of a server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    Nothing,
    /// That an authority vouches for it.
    Authority,
    /// Its name as well.
    Name,
}

/// What TLS to the database is made of.
pub(super) async fn tls_config(files: Files, verify: Verify) -> Result<Arc<ClientConfig>> {
    let read = |path: Option<PathBuf>| async {
        match path {
            Some(path) => {
                rt::unblock(move || rt::fs::read_within(&path, PEM_MAX_BYTES)).await.map(Some)
            }
            None => Ok(None),
        }
    };
    let what = || "read the datastore's TLS files";
    let cafile = read(files.cafile).await.context(what)?;
    let certificate = read(files.certfile).await.context(what)?;
    let key = read(files.keyfile).await.context(what)?;
    let trust = match (verify, cafile) {
        (Verify::Nothing, _) => Trust::Insecure,
        (_, Some(pem)) => tls::listed(&pem).context(what)?,
        (_, None) => Trust::Roots(tls::public_roots()),
    };
    let trust = if verify == Verify::Authority { tls::any_name(trust)? } else { trust };
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(Identity::from_pem(&certificate, &key).context(what)?)
        }
        (None, None) => None,
        _ => {
            return Err(Error::new(
                "the datastore's client certificate and its key come together or not at all",
            ));
        }
    };
    tls::client_config(trust, identity)
}

impl Host {
    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Host::Unix(_))
    }

    /// The name that the server's certificate must have.
    pub(super) fn name(&self) -> &str {
        match self {
            Host::Tcp(host, _) => host,
            Host::Unix(_) => "localhost",
        }
    }

    pub(super) async fn dial(&self) -> Result<Io> {
        match self {
            Host::Tcp(host, port) => {
                let stream = http::names::connect(host, *port).await;
                let stream = stream.context(|| "open TCP connection")?;
                rt::net::tune(&stream).context(|| "open TCP connection")?;
                Ok(Box::new(stream))
            }
            Host::Unix(path) => {
                Ok(Box::new(rt::net::UnixStream::connect(path).await.context(|| "open socket")?))
            }
        }
    }

    /// The socket of a port in a directory, as PostgreSQL names it.
    pub(super) fn socket(directory: &str, port: u16) -> Host {
        Host::Unix(Path::new(directory).join(format!(".s.PGSQL.{port}")))
    }
}
