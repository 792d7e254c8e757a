//! TLS server names that are no host names, such as `127.0.0.1:6443`: ignored, as Go's servers ignore them.
//!
//! rustls refuses such a hello and has no switch for it. So on its way in the extension gets a
//! number that means nothing, which rustls passes over, and it gets its own number back wherever
//! the handshake is hashed or its signature looked at: the client has hashed what it sent.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rt::io::{AsyncRead, AsyncWrite};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::hash;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CipherSuiteCommon, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};
use rustls_pki_types::{CertificateDer, DnsName, UnixTime};

use crate::io::{Io, poll_fill};

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// One of the numbers for private use (RFC 8447).
const HIDDEN: u16 = 0xffb7;

/// A record's header: its type, a version, its length.
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_MAX_BYTES: usize = 16 * 1024;
const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
/// The hello, and after the server has asked for another one: a change of ciphers, and that one.
const RECORDS_MAX: u32 = 3;

/// Where in a client's hello the number of the extension `number` stands, if that names one host
/// whose name rustls would refuse.
fn find(hello: &[u8], number: u16) -> Option<usize> {
    let mut at = 0;
    let mut take = |n: usize| {
        let start = at;
        at += n;
        hello.get(start..at).map(|bytes| (start, bytes))
    };
    let be = |bytes: &[u8]| bytes.iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let (_, head) = take(4)?;
    if head[0] != CLIENT_HELLO || be(&head[1..]) != hello.len() - 4 {
        return None;
    }
    let _version_and_random = take(2 + 32)?;
    for length_bytes in [1, 2, 1] {
        // Session, cipher suites, compression.
        let length = be(take(length_bytes)?.1);
        take(length)?;
    }
    let _extensions = take(2)?;
    let mut found = None;
    while let Some((start, head)) = take(4) {
        let (kind, length) = (be(&head[..2]), be(&head[2..]));
        let (_, content) = take(length)?;
        if kind == usize::from(number) && is_odd_name(content) {
            found = Some(start);
        } else if kind == usize::from(HIDDEN) {
            // The client has a use of its own for that number.
            return None;
        }
    }
    found
}

/// Whether an extension names exactly one host, by something that is neither a host name nor an address.
/// What Go refuses too (nothing, a dot at the end, several names) is left to rustls.
fn is_odd_name(content: &[u8]) -> bool {
    let Some((header, name)) = content.split_at_checked(5) else { return false };
    let list = usize::from(u16::from_be_bytes([header[0], header[1]]));
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if list != content.len() - 2 || header[2] != 0 || length != name.len() {
        return false;
    }
    let is_address =
        || std::str::from_utf8(name).is_ok_and(|n| n.parse::<std::net::IpAddr>().is_ok());
    name.last().is_some_and(|last| *last != b'.')
        && DnsName::try_from(name).is_err()
        && !is_address()
}

fn renumber(bytes: &mut [u8], at: usize, number: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Handshake messages as the client sent them.
fn restored(messages: &[u8]) -> Cow<'_, [u8]> {
    let mut restored = Cow::Borrowed(messages);
    let mut at = 0;
    while let Some(header) = messages.get(at..at + 4) {
        let length = header[1..].iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
        let Some(message) = messages.get(at..at + 4 + length) else { break };
        if message[0] == CLIENT_HELLO
            && let Some(place) = find(message, HIDDEN)
        {
            renumber(restored.to_mut(), at + place, SERVER_NAME);
        }
        at += 4 + length;
    }
    restored
}

/// A connection whose client's hello is looked at before rustls sees it.
pub(crate) struct Lenient {
    io: Io,
    /// Read, and not passed on; empty once the hello is through.
    input: Vec<u8>,
    /// How much of it was looked at.
    n_ready: usize,
    n_records: u32,
}

impl Lenient {
    pub(crate) fn new(io: Io) -> Lenient {
        Lenient { io, input: Vec::new(), n_ready: 0, n_records: 0 }
    }

    /// Looks at the first record that came whole.
    fn look(&mut self) {
        let Some(header) = self.input.first_chunk::<RECORD_HEADER_BYTES>().copied() else { return };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let is_early = matches!(header[0], HANDSHAKE | CHANGE_CIPHER_SPEC);
        if !is_early || length > RECORD_MAX_BYTES {
            return self.pass();
        }
        let end = RECORD_HEADER_BYTES + length;
        let Some(content) = self.input.get_mut(RECORD_HEADER_BYTES..end) else { return };
        if header[0] == HANDSHAKE
            && let Some(at) = find(content, SERVER_NAME)
        {
            renumber(content, at, HIDDEN);
        }
        self.n_ready = end;
        self.n_records += 1;
        if self.n_records == RECORDS_MAX {
            self.pass();
        }
    }

    /// All that comes from here on passes as it is.
    fn pass(&mut self) {
        self.n_ready = self.input.len();
        self.n_records = RECORDS_MAX;
    }
}

impl AsyncRead for Lenient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.n_ready > 0 {
                let n = self.n_ready.min(buf.len());
                buf[..n].copy_from_slice(&self.input[..n]);
                self.input.drain(..n);
                self.n_ready -= n;
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
                return Poll::Ready(Ok(n));
            }
            if self.n_records == RECORDS_MAX {
                return Pin::new(&mut self.io).poll_read(cx, buf);
            }
            self.look();
            if self.n_ready > 0 {
                continue;
            }
            let Lenient { io, input, .. } = &mut *self;
            if ready!(poll_fill(io, input, cx))? == 0 {
                self.pass();
            }
        }
    }
}

impl AsyncWrite for Lenient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// The cryptography of servers: its transcripts are those of the client. Made once.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| hashing(restored)))
}

/// What was hashed, as it shall be hashed.
type Change = fn(&[u8]) -> Cow<'_, [u8]>;

fn hashing(change: Change) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&crate::crypto::provider());
    provider.cipher_suites.iter_mut().for_each(|suite| *suite = changing(*suite, change));
    Arc::new(provider)
}

/// The same suite over transcripts that are changed. rustls wants it for ever.
fn changing(suite: SupportedCipherSuite, change: Change) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: Box::leak(Box::new(Changing(common.hash_provider, change))),
        confidentiality_limit: common.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: suite.aead_alg,
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: suite.aead_alg,
                quic: suite.quic,
            })))
        }
    }
}

struct Changing(&'static dyn hash::Hash, Change);

impl hash::Hash for Changing {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(ChangingContext(self.0.start(), self.1))
    }
    fn hash(&self, data: &[u8]) -> hash::Output {
        self.0.hash(data)
    }
    fn output_len(&self) -> usize {
        self.0.output_len()
    }
    fn algorithm(&self) -> hash::HashAlgorithm {
        self.0.algorithm()
    }
}

struct ChangingContext(Box<dyn hash::Context>, Change);

impl hash::Context for ChangingContext {
    fn fork_finish(&self) -> hash::Output {
        self.0.fork_finish()
    }
    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(ChangingContext(self.0.fork(), self.1))
    }
    fn finish(self: Box<Self>) -> hash::Output {
        self.0.finish()
    }
    fn update(&mut self, data: &[u8]) {
        self.0.update(&(self.1)(data));
    }
}

/// Looks at clients' certificates; in TLS 1.2 they sign all messages so far, not a hash of them.
#[derive(Debug)]
pub(crate) struct RestoringVerifier(pub(crate) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for RestoringVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(certificate, intermediates, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(&restored(message), certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For a client: `localhost` in its hello is hashed as `loc:lhost`, which rustls would not send.
    pub(crate) fn renaming_provider() -> Arc<CryptoProvider> {
        hashing(renamed)
    }

    pub(crate) fn renamed(data: &[u8]) -> Cow<'_, [u8]> {
        let mut renamed = data.to_vec();
        let name = b"localhost";
        // The hello is the first message; behind it the name may stand in a certificate.
        if data.first() == Some(&CLIENT_HELLO) || data.first() == Some(&HANDSHAKE) {
            let at = renamed.windows(name.len()).position(|part| part == name);
            at.into_iter().for_each(|at| renamed[at + 3] = b':');
        }
        Cow::Owned(renamed)
    }

    /// A hello with these extensions.
    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (number, content) in extensions {
            list.extend(number.to_be_bytes());
            list.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            list.extend(content);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        let mut hello = vec![CLIENT_HELLO, 0];
        hello.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        hello.extend(body);
        hello
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        let mut content = (length + 3).to_be_bytes().to_vec();
        content.push(0);
        content.extend(length.to_be_bytes());
        content.extend(name);
        content
    }

    #[test]
    fn only_what_go_takes_and_rustls_does_not_is_hidden() {
        for (name, hidden) in [
            (&b"127.0.0.1:6443"[..], true),
            (b"[::1]:6443", true),
            (b"my host", true),
            (b"\xff\xfe", true),
            (b"node.example", false),
            (b"192.0.2.1", false),
            (b"::1", false),
            (b"a..b.", false),
            (b"", false),
        ] {
            let sent = hello(&[(10, vec![1, 2]), (SERVER_NAME, named(name)), (43, vec![2, 3, 4])]);
            let at = find(&sent, SERVER_NAME);
            assert_eq!(at.is_some(), hidden, "{}", name.escape_ascii());
            let mut seen = sent.clone();
            let Some(at) = at else { continue };
            renumber(&mut seen, at, HIDDEN);
            assert_ne!(seen, sent);
            // Among other messages, as the hash sees it.
            let wrap = |hello: &[u8]| [&[254, 0, 0, 1, 9], hello, &[2, 0, 0, 0]].concat();
            assert_eq!(*restored(&wrap(&seen)), wrap(&sent));
        }
        let twice = [named(b"a:1"), named(b"b:2")].concat();
        assert_eq!(find(&hello(&[(SERVER_NAME, twice)]), SERVER_NAME), None);
        let own = hello(&[(SERVER_NAME, named(b"a:1")), (HIDDEN, vec![1])]);
        assert_eq!(find(&own, SERVER_NAME), None);
        // A client that sends the number itself is taken at its word, in the hash too.
        for cut in 0..own.len() {
            assert_eq!(find(&own[..cut], SERVER_NAME), None);
            let _ = restored(&own[..cut]);
        }
    }

    #[test]
    fn the_hello_is_found_however_it_arrives() {
        rt::block_on(async {
            use rt::io::{AsyncReadExt, AsyncWriteExt};
            let sent = hello(&[(SERVER_NAME, named(b"127.0.0.1:6443"))]);
            let length = u16::try_from(sent.len()).unwrap().to_be_bytes();
            let record = [&[HANDSHAKE, 3, 1, length[0], length[1]], &*sent].concat();
            let rest =
                [&[CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1][..], &record, &record, b"rest"].concat();
            let all = [&*record, &rest].concat();
            for step in [1, 7, 1000] {
                let (mut ours, theirs) = rt::net::UnixStream::pair().unwrap();
                let mut lenient = Lenient::new(Box::new(theirs));
                for piece in all.chunks(step) {
                    ours.write_all(piece).await.unwrap();
                }
                drop(ours);
                let mut seen = Vec::new();
                lenient.read_to_end(&mut seen).await.unwrap();
                assert_eq!(seen.len(), all.len());
                let first = &seen[RECORD_HEADER_BYTES..record.len()];
                assert!(find(first, HIDDEN).is_some() && *restored(first) == *sent);
                let second = record.len() + 6;
                assert!(
                    find(&seen[second + RECORD_HEADER_BYTES..][..sent.len()], HIDDEN).is_some()
                );
                // A third hello is not looked at any more.
                assert_eq!(seen[second + record.len()..], [&*record, b"rest"].concat());
            }
        });
    }
}
