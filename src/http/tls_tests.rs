//! TLS between both ends: trust, client certificates, replaced identities, what was negotiated, proxies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rt::BoxFuture;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::TcpListener;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::{Client, Endpoint, Options, Protocol, Proxy, Upgraded};
use crate::server::{Limits, Server};
use crate::server_name;
use crate::tls::{Identity, RootCertStore, Trust, client_config, server_config};
use crate::{Request, Response};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn identity(&self, name: &str) -> Arc<Identity> {
        let (chain, key) = self.issue(name);
        Identity::new(chain, key).unwrap()
    }
}

/// Says the version and how many certificates the client showed; echoes when upgraded.
fn service(mut request: Request) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        if let Some(upgrade) = request.upgrade.take() {
            let (response, upgrading) = upgrade.accept("echo");
            rt::spawn(async move {
                let (read, write) = rt::io::split(upgrading.await.unwrap());
                let _ = crate::io::copy_to_end(read, write).await;
            })
            .detach();
            return response;
        }
        let peer = &request.peer;
        let n = peer.certificates.len();
        Response::text(200, format!("{:?} {n} {}", request.version, peer.tls))
    })
}

async fn start(identity: Arc<Identity>, clients: &Authority) -> (rt::Task<()>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = server_config(identity, Some(clients.roots())).unwrap();
    let server = Server::new(Arc::new(service), Limits::default());
    let task = rt::spawn(async move { server.serve(listener, Some(tls)).await.unwrap() });
    (task, port)
}

async fn ask(client: &Client, endpoint: &Endpoint) -> stdx::Result<String> {
    let mut response = client.send(endpoint, Request::get("/")).await?;
    let text = response.body.read_all(100).await?;
    Ok(String::from_utf8(text).unwrap())
}

fn secure(port: u16, trust: Trust, identity: Option<Arc<Identity>>) -> Endpoint {
    Endpoint::tcp("localhost", port).tls(client_config(trust, identity).unwrap())
}

#[test]
fn certificates_decide_who_is_believed() {
    rt::block_on(async {
        let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
        let identity = servers.identity("localhost");
        let (_task, port) = start(Arc::clone(&identity), &clients).await;
        let client = Client::new(Options::default());
        let roots = || Trust::Roots(servers.roots());

        let plain = secure(port, roots(), None);
        assert_eq!(ask(&client, &plain).await.unwrap(), "Http2 0 true");
        let http1 = plain.clone().protocol(Protocol::Http1);
        assert_eq!(ask(&client, &http1).await.unwrap(), "Http11 0 true");
        let known = secure(port, roots(), Some(clients.identity("me")));
        assert_eq!(ask(&client, &known).await.unwrap(), "Http2 1 true");
        let unknown = secure(port, roots(), Some(strangers.identity("me")));
        assert!(ask(&client, &unknown).await.is_err());
        let distrusting = secure(port, Trust::Roots(strangers.roots()), None);
        assert!(ask(&client, &distrusting).await.is_err());
        assert!(ask(&client, &plain.clone().server_name("other")).await.is_err());
        let careless = secure(port, Trust::Insecure, None).server_name("other");
        assert_eq!(ask(&client, &careless).await.unwrap(), "Http2 0 true");

        // The server changes its certificate: connections that exist live on, new ones see it.
        let (chain, key) = strangers.issue("localhost");
        identity.replace(chain, key).unwrap();
        assert!(ask(&client, &plain).await.is_ok());
        assert!(ask(&Client::new(Options::default()), &plain).await.is_err());
        assert!(ask(&client, &distrusting).await.is_ok());
        let (chain, _) = servers.issue("a");
        let (_, key) = servers.issue("b");
        assert!(identity.replace(chain, key).is_err(), "a key of another certificate");
    });
}

/// A socket whose first write, the hello, says another name.
struct Renaming(rt::net::TcpStream, bool);

impl rt::io::AsyncRead for Renaming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl rt::io::AsyncWrite for Renaming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match std::mem::replace(&mut self.1, true) {
            true => Pin::new(&mut self.0).poll_write(cx, buf),
            false => Pin::new(&mut self.0).poll_write(cx, &server_name::tests::renamed(buf)),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[test]
fn a_server_name_that_is_no_host_name_is_ignored() {
    rt::block_on(async {
        let (servers, clients) = (Authority::new(), Authority::new());
        let (_task, port) = start(servers.identity("localhost"), &clients).await;
        // With a certificate in TLS 1.3 only: in 1.2 a client signs its hello as rustls wrote it.
        for (version, certified) in [
            (&rustls::version::TLS12, false),
            (&rustls::version::TLS13, false),
            (&rustls::version::TLS13, true),
        ] {
            let provider = server_name::tests::renaming_provider();
            let builder = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(servers.roots());
            let config = match certified {
                true => {
                    let (chain, key) = clients.issue("me");
                    builder.with_client_auth_cert(chain, key).unwrap()
                }
                false => builder.with_no_client_auth(),
            };
            let tcp = rt::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let connector = futures_rustls::TlsConnector::from(Arc::new(config));
            let connected =
                connector.connect("localhost".try_into().unwrap(), Renaming(tcp, false));
            let mut stream = connected.await.unwrap();
            let ask = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            stream.write_all(ask).await.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(&format!("Http11 {} true", u8::from(certified))), "{text}");
        }
    });
}

#[test]
fn upgrades_go_over_tls_and_through_proxies() {
    rt::block_on(async {
        let authority = Authority::new();
        let (_task, port) = start(authority.identity("echo.test"), &authority).await;
        // A proxy that knows one name, with a password.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy_port = listener.local_addr().unwrap().port();
        let proxy = rt::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).await.unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("CONNECT echo.test:443 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("proxy-authorization: Basic dTpw\r\n"));
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let far = rt::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = crate::io::splice(Box::new(near), Box::new(far)).await;
        });
        let tls = client_config(Trust::Roots(authority.roots()), None).unwrap();
        let url = format!("http://u:p@127.0.0.1:{proxy_port}");
        let endpoint = Endpoint::tcp("echo.test", 443)
            .tls(tls)
            .proxy(Arc::new(Proxy::new("", &url, "").unwrap()));
        let request = Request::get("/").header("connection", "Upgrade").header("upgrade", "echo");
        let client = Client::new(Options::default());
        let Upgraded::Stream(_, mut io) = client.upgrade(&endpoint, request).await.unwrap() else {
            panic!("refused")
        };
        let sent = vec![5; 200_000];
        let (mut read, mut write) = rt::io::split(&mut io);
        let send = async {
            write.write_all(&sent).await.unwrap();
            write.flush().await.unwrap();
        };
        let mut back = vec![0; sent.len()];
        rt::future::zip(send, async { read.read_exact(&mut back).await.unwrap() }).await;
        assert!(back == sent);
        drop(io);
        drop(proxy);
    });
}

/// A certificate that signed itself, and its key; an authority by its own words, or not.
fn self_signed(is_ca: IsCa, name: &str, years: std::ops::Range<i32>) -> (Arc<Identity>, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = is_ca;
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity = Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    (identity.unwrap(), certificate.pem())
}

#[test]
fn a_listed_certificate_is_believed_for_its_names_and_dates() {
    rt::block_on(async {
        let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let client = Client::new(Options::default());
        let now = 2020..2090;
        let unlisted = self_signed(ca(), "localhost", now.clone()).1;
        let authority = Authority::new();
        let rows = [
            ("says that it is an authority", self_signed(ca(), "localhost", now.clone()), None),
            ("says nothing", self_signed(IsCa::NoCa, "localhost", now.clone()), None),
            (
                "another name",
                self_signed(ca(), "elsewhere", now.clone()),
                Some("not valid for name"),
            ),
            ("over", self_signed(ca(), "localhost", 2000..2001), Some("expired")),
        ];
        for (what, (identity, listed), expected) in rows {
            let (_task, port) = start(identity, &authority).await;
            let both = format!("{unlisted}{listed}");
            let trust = super::tls::listed(both.as_bytes()).unwrap();
            let answer = ask(&client, &secure(port, trust, None)).await;
            match expected {
                None => assert!(answer.is_ok(), "{what}: {answer:?}"),
                Some(word) => {
                    let text = answer.unwrap_err().to_string();
                    assert!(text.contains(word), "{what}: {text}");
                }
            }
            let trust = super::tls::listed(unlisted.as_bytes()).unwrap();
            assert!(ask(&client, &secure(port, trust, None)).await.is_err(), "{what}, not listed");
        }
        // What a listed authority has issued is believed as ever.
        let (_task, port) = start(authority.identity("localhost"), &authority).await;
        let trust = super::tls::listed(authority.0.pem().as_bytes()).unwrap();
        ask(&client, &secure(port, trust, None)).await.unwrap();
    });
}
