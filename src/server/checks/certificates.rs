//! Client certificates and front proxies.

use std::sync::Arc;

use http::{Headers, Peer};

use super::config;
use crate::Server;

/// The front proxies' CA, a proxy, another certificate of that CA, and a client of another CA.
const CERTIFICATES: &[u8] = include_bytes!("../auth/test_certificates.pem");

#[test]
fn subjects_are_users_and_proxies_speak_for_others() {
    rt::block_on(async {
        let pem = String::from_utf8_lossy(CERTIFICATES).into_owned();
        let end = pem.find("-----END CERTIFICATE-----\n").unwrap() + 26;
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default()).await.unwrap();
        let config =
            crate::Config { request_header_ca: pem.as_bytes()[..end].to_vec(), ..config() };
        let server = Server::start(config, store).await.unwrap();
        let chain = http::tls::certificates(CERTIFICATES).unwrap();
        let peer = |idx: usize| Peer {
            certificates: Arc::from(vec![chain[idx].clone()]),
            tls: true,
            ..Peer::default()
        };
        let remote = Headers::new()
            .with("x-remote-user", "maria")
            .with("x-remote-group", "a")
            .with("x-remote-group", "b")
            .with("x-remote-extra-scopes%2Fx", "y");

        let maria = server.authenticate(&peer(1), &remote).await.unwrap();
        assert_eq!(maria.name, "maria");
        assert_eq!(maria.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(maria.extra["scopes/x"], ["y"]);
        // A proxy that speaks for nobody is nobody, and so is whom the list does not name.
        let nobody = async |peer: &Peer, headers: &Headers| {
            assert_eq!(server.authenticate(peer, headers).await.unwrap_err().code(), 401);
        };
        nobody(&peer(1), &Headers::new()).await;
        nobody(&peer(2), &remote).await;
        // A client's own certificate counts, whatever the headers say.
        let jane = server.authenticate(&peer(3), &remote).await.unwrap();
        assert_eq!(jane.name, "jane");
        assert_eq!(jane.groups, ["devs", "ops", "system:authenticated"]);
        nobody(&Peer::default(), &remote).await;
    });
}
