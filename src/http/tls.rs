//! TLS for both ends: PEM loading, certificates that can be replaced while in use, trust, configurations.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::io::Io;
use crate::server_name::{self, RestoringVerifier};
use crate::verifiers::{AnyCertificate, AnyName, Listed, Verifier};

pub use crate::crypto::provider;
pub use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The certificates of a PEM file, in order; other PEM sections are skipped.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .context(|| "parse PEM certificates")
}

/// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).context(|| "parse PEM private key")
}

/// A trust store of every certificate in `pem`.
pub fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).context(|| "add a certificate to a trust store")?;
    }
    match store.is_empty() {
        true => Err(Error::new("no certificate in a PEM trust store")),
        false => Ok(store),
    }
}

/// The public certificate authorities built into the program.
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// What the host trusts; on a root file system that has no such file, the public authorities. Blocking.
pub fn system_roots() -> RootCertStore {
    const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    let found = BUNDLES
        .iter()
        .find_map(|path| roots(&rt::fs::read_within(path, rt::fs::SMALL_MAX_BYTES).ok()?).ok());
    found.unwrap_or_else(public_roots)
}

/// A certificate chain with its key, checked to belong together, that may be replaced at any time.
///
/// One slot may be in any number of server and client configurations; handshakes from the
/// replacement on use the new certificate, connections that exist stay as they are.
pub struct Identity(RwLock<Arc<CertifiedKey>>);

impl Identity {
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Identity>> {
        Ok(Arc::new(Identity(RwLock::new(certified(chain, key)?))))
    }

    pub fn from_pem(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<Identity>> {
        Identity::new(certificates(chain_pem)?, private_key(key_pem)?)
    }

    /// Replaces chain and key.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<()> {
        let new = certified(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// As `replace`, of PEM text.
    pub fn replace_pem(&self, chain_pem: &[u8], key_pem: &[u8]) -> Result<()> {
        self.replace(certificates(chain_pem)?, private_key(key_pem)?)
    }

    /// The chain in use, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current().cert.clone()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>> {
    let what = || "load a certificate and its key";
    if chain.is_empty() {
        return Err(Error::new("no certificate in the chain")).context(what);
    }
    let key = CertifiedKey::from_der(chain, key, &provider()).context(what)?;
    Ok(Arc::new(key))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl rustls::client::ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The issuers that the server hints at are not consulted: whoever configured this identity
        // for this server meant it.
        let key = self.current();
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// A server's configuration: HTTP/2 and HTTP/1.1, no session resumption.
///
/// With `client_roots`, clients are asked for a certificate: none is fine, one that does not verify
/// fails the handshake. Resumption would keep a certificate alive past its authority's removal, and
/// the long connections of a cluster hardly ever resume.
pub fn server_config(
    identity: Arc<Identity>,
    client_roots: Option<RootCertStore>,
) -> Result<Arc<ServerConfig>> {
    let what = || "configure a TLS server";
    let builder = ServerConfig::builder_with_details(server_name::provider(), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .context(what)?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .allow_unauthenticated()
                .build()
                .context(what)?;
            builder.with_client_cert_verifier(Arc::new(RestoringVerifier(verifier)))
        }
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a server for many names speaks.
#[derive(Debug, Default)]
pub struct Spoken<'a> {
    /// One version of TLS and not the other.
    pub only_13: bool,
    pub only_12: bool,
    /// Suites of TLS 1.2, and groups, by TLS's names; empty for all.
    pub suites: &'a [String],
    pub curves: &'a [String],
    /// By ALPN; what a client offers is not looked at if it is empty.
    pub protocols: &'a [&'a [u8]],
    /// Who may vouch for clients, PEM; empty if they are not asked. None need show a certificate unless all must.
    pub client_roots: &'a [u8],
    pub client_required: bool,
}

/// What an HTTP server speaks by ALPN.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A server's configuration for many names: `choose` is asked for the certificate of each handshake, with
/// the name that the client sends, in lower case ("" for none). Sessions are resumed, with `sessions_max` of
/// TLS 1.2 and tickets together kept in memory, unless clients are asked for certificates.
///
/// # Errors
/// If nothing is left to speak, or the authorities cannot be read.
pub fn server_config_by_name(
    choose: Arc<dyn Choose>,
    sessions_max: usize,
    spoken: &Spoken<'_>,
) -> Result<Arc<ServerConfig>> {
    use rustls::version::{TLS12, TLS13};
    let what = || "configure a TLS server";
    let mut provider = server_name::provider();
    if !spoken.suites.is_empty() || !spoken.curves.is_empty() {
        let has = |names: &[String], own: String| names.is_empty() || names.contains(&own);
        let own = Arc::make_mut(&mut provider);
        own.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || has(spoken.suites, format!("{:?}", suite.suite()))
        });
        own.kx_groups.retain(|group| has(spoken.curves, format!("{:?}", group.name())));
    }
    let versions: &[_] = match (spoken.only_13, spoken.only_12) {
        (true, _) => &[&TLS13],
        (false, true) => &[&TLS12],
        (false, false) => &[&TLS13, &TLS12],
    };
    let builder = ServerConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(versions)
        .context(what)?;
    let asks = !spoken.client_roots.is_empty();
    let builder = match asks {
        false => builder.with_no_client_auth(),
        true => {
            let roots = Arc::new(roots(spoken.client_roots)?);
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(roots, crate::crypto::provider());
            if !spoken.client_required {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().context(what)?;
            builder.with_client_cert_verifier(Arc::new(RestoringVerifier(verifier)))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(choose)));
    config.alpn_protocols = spoken.protocols.iter().map(|name| name.to_vec()).collect();
    if asks {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(sessions_max);
    }
    Ok(Arc::new(config))
}

/// The same configuration where what clients offer by ALPN is not looked at.
pub fn without_protocols(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.clear();
    Arc::new(config)
}

/// Whose certificate a client gets.
pub trait Choose: Send + Sync + fmt::Debug {
    /// `None` ends the handshake.
    fn choose(&self, server_name: &str) -> Option<Arc<Identity>>;
}

#[derive(Debug)]
struct ByName(Arc<dyn Choose>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("").to_ascii_lowercase();
        Some(self.0.choose(&name)?.current())
    }
}

/// Which servers a client believes.
#[derive(Debug)]
pub enum Trust {
    Roots(RootCertStore),
    /// Any certificate at all: probes, and what the user said not to verify.
    Insecure,
    Custom(Arc<dyn ServerCertVerifier>),
}

/// A client's configuration: HTTP/2 and HTTP/1.1, no session resumption.
pub fn client_config(trust: Trust, identity: Option<Arc<Identity>>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .context(|| "configure a TLS client")?;
    let builder = match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Insecure => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier(AnyCertificate)))
        }
        Trust::Custom(verifier) => builder.dangerous().with_custom_certificate_verifier(verifier),
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Begins TLS as a client on a connection that is open. `protocols` are offered (ALPN); the server's choice
/// among them comes with the encrypted stream.
///
/// # Errors
/// If `name` is neither a host's name nor an address, or the handshake fails.
pub async fn begin(
    io: Io,
    config: &Arc<ClientConfig>,
    name: &str,
    protocols: &[&[u8]],
) -> Result<(Io, Option<Vec<u8>>)> {
    let server_name = ServerName::try_from(name.to_owned())
        .context(|| format!("use {name:?} as a server name"))?;
    let mut config = Arc::clone(config);
    if !config.alpn_protocols.iter().eq(protocols) {
        let mut other = (*config).clone();
        other.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config = Arc::new(other);
    }
    let connected = futures_rustls::TlsConnector::from(config).connect(server_name, io).await;
    let stream = connected.context(|| "TLS handshake")?;
    let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok((Box::new(stream), chosen))
}

/// The TLS handshake with a client.
///
/// # Errors
/// If it fails.
pub async fn accept(
    io: Io,
    config: Arc<ServerConfig>,
) -> Result<futures_rustls::server::TlsStream<Io>> {
    let io: Io = Box::new(server_name::Lenient::new(io));
    let handshake = futures_rustls::TlsAcceptor::from(config).accept(io);
    handshake.await.context(|| "TLS handshake")
}

/// Trust in what an operator listed in a PEM file: authorities, and servers' own certificates.
///
/// A self-signed certificate often says that it is an authority (`openssl req -x509` writes so), and
/// is then no server's certificate to webpki. Listed byte for byte it is one here, as it is in Go,
/// within its dates and for its names.
///
/// # Errors
/// If there is no certificate in it, or one that cannot be read.
pub fn listed(pem: &[u8]) -> Result<Trust> {
    let certificates = certificates(pem)?;
    let authorities =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), provider())
            .build()
            .context(|| "make a trust store")?;
    Ok(Trust::Custom(Arc::new(Verifier(Listed { certificates, authorities }))))
}

/// The same trust in whatever name a certificate has: authorities vouch for the server, wherever it is.
///
/// # Errors
/// If the trust store cannot be used.
pub fn any_name(trust: Trust) -> Result<Trust> {
    let inner: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Insecure => return Ok(Trust::Insecure),
        Trust::Custom(verifier) => verifier,
        Trust::Roots(roots) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .context(|| "make a trust store")?
        }
    };
    Ok(Trust::Custom(Arc::new(Verifier(AnyName(inner)))))
}

/// Certificates are looked at as if it were at least this late, in seconds since 1970.
static NOT_EARLIER: AtomicU64 = AtomicU64::new(0);

/// Says that it cannot be earlier than `time`, whatever the clock says: a board that starts in 1970
/// believes certificates that were issued since.
pub fn not_earlier_than(time: Wall) {
    NOT_EARLIER.store(u64::try_from(time.secs()).unwrap_or(0), Ordering::Relaxed);
}

/// The time by which certificates are judged.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(rt::now().wall.secs()).unwrap_or(0);
        let secs = now.max(NOT_EARLIER.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}
