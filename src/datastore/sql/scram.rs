//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side: proves that it knows the password, and that the server does.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use stdx::{Error, Result};
use wire::base64;

/// A server that asks for more rounds wants our time, not our password.
const ROUNDS_MAX: u32 = 1_000_000;

pub(super) struct Scram {
    nonce: String,
}

/// The first message as far as it is hashed; before it stands that no channel is bound.
const HEADER: &str = "n,,";

impl Scram {
    /// `random` is 18 bytes or more that nobody could guess.
    pub(super) fn new(random: &[u8]) -> Scram {
        Scram { nonce: base64::encode(random) }
    }

    /// The user's name is the one of the connection: PostgreSQL looks at no other.
    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    pub(super) fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare())
    }

    /// The answer to the server's first message, and what its last one must be. Takes its time.
    pub(super) fn answer(&self, server_first: &str, password: &[u8]) -> Result<(String, String)> {
        let bad = || Error::new("the database's side of SCRAM is not what it should be");
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.len() > self.nonce.len()).ok_or_else(bad)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(bad());
        }
        let salt = field("s=").and_then(base64::decode);
        let salt = salt.ok_or_else(bad)?;
        let rounds = field("i=").and_then(|rounds| rounds.parse::<NonZeroU32>().ok());
        let rounds = rounds.filter(|rounds| rounds.get() <= ROUNDS_MAX).ok_or_else(bad)?;
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let last_bare = format!("c={},r={nonce}", base64::encode(HEADER.as_bytes()));
        let signed = format!("{},{server_first},{last_bare}", self.first_bare());
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let bytes = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = bytes.map(|(a, b)| a ^ b).collect();
        let server_key = sign(&salted, b"Server Key");
        let expected = sign(server_key.as_ref(), signed.as_bytes());
        Ok((
            format!("{last_bare},p={}", base64::encode(&proof)),
            format!("v={}", base64::encode(expected.as_ref())),
        ))
    }
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, with the user's name that PostgreSQL's clients send.
    #[test]
    fn a_known_exchange() {
        let scram = Scram { nonce: "rOprNGfwEbeRWgbNEkqO".into() };
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, last) = scram.answer(server, b"pencil").unwrap();
        let proof = "qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k=";
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        assert_eq!(answer, format!("c=biws,r={nonce},p={proof}"));
        assert_eq!(last, "v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=");
    }

    #[test]
    fn servers_that_cheat() {
        let scram = Scram::new(b"0123456789abcdefgh");
        for server in [
            "",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=MDEyMzQ1Njc4OWFiY2RlZmdo,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=MDEyMzQ1Njc4OWFiY2RlZmdox,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "r=MDEyMzQ1Njc4OWFiY2RlZmdox,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=MDEyMzQ1Njc4OWFiY2RlZmdox,s=!,i=4096",
        ] {
            assert!(scram.answer(server, b"x").is_err(), "{server}");
        }
    }
}
