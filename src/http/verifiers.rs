//! Which certificates of servers are believed, where rustls has no word for it. Whoever is believed still has to
//! hold its certificate's key.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::crypto::provider;

/// What sets one of these verifiers apart. Signatures are checked in the same way by all of them ([`Verifier`]).
pub(crate) trait Judge: fmt::Debug + Send + Sync {
    /// Whether what a server showed is believed.
    fn believes(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, Error>;
}

/// What a server showed: the certificate, who issued it, and which server at what time it is to be.
pub(crate) struct Shown<'a> {
    certificate: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp: &'a [u8],
    now: UnixTime,
}

impl Shown<'_> {
    fn judged_by(&self, other: &dyn ServerCertVerifier) -> Result<ServerCertVerified, Error> {
        let Shown { certificate, intermediates, name, ocsp, now } = *self;
        other.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }
}

/// A judge as rustls wants it.
#[derive(Debug)]
pub(crate) struct Verifier<J>(pub(crate) J);

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.believes(&Shown { certificate, intermediates, name, ocsp, now })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Believes every certificate.
#[derive(Debug)]
pub(crate) struct AnyCertificate;

impl Judge for AnyCertificate {
    fn believes(&self, _: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
}

/// Asks another verifier and does not mind the name, which that one looks at last.
#[derive(Debug)]
pub(crate) struct AnyName(pub(crate) Arc<dyn ServerCertVerifier>);

impl Judge for AnyName {
    fn believes(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match shown.judged_by(&*self.0) {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}

/// Believes authorities, and servers' own certificates that are listed with them.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) authorities: Arc<WebPkiServerVerifier>,
}

impl Judge for Listed {
    fn believes(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        match shown.judged_by(&*self.authorities) {
            // An authority used as a server has no error of its own. The dates were looked at
            // before that, and have one.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.certificates.iter().any(|listed| listed == shown.certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown.certificate)?, shown.name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}
