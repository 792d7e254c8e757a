//! What changes the keys of the cluster while it runs: the servers' token, and its authorities.

use std::sync::Arc;
use std::time::Duration;

use api::{Lens, Status, Value, json};
use cli::token::Rotation;
use cluster::supervisor::{self, KnownPasswords, Passwords};
use cluster::token::{Token, random_hex};
use cluster::{Paths, bootstrap, pki, rotation};
use http::{Method, Request};
use rt::BoxFuture;
use stdx::{Context, Error, Result};
use store::{Class, Expect, Op, Store};

use crate::machine::prepare;
use crate::peers::whom::Whom;
use crate::settings::config::Config;
use crate::settings::flags::On;

/// A datastore that is choosing its leader takes a while.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A password is a line of a file and a part of a header.
const PASSWORD_MAX_BYTES: usize = 1024;

pub(crate) struct Keys {
    pub(crate) store: Store,
    pub(crate) paths: Paths,
    pub(crate) passwords: KnownPasswords,
    /// `--agent-token` says what agents have.
    pub(crate) names_agents: bool,
    /// The cluster's CA, by which whole tokens begin.
    pub(crate) ca_pem: String,
    /// One change at a time.
    pub(crate) turn: rt::lock::Mutex<()>,
}

impl Keys {
    /// Makes another token the servers'. Whenever this process is killed, the password on the disk opens the
    /// bootstrap data: they are there under the new one before it is, and under the old one until then.
    async fn rotate(&self, new: String) -> Result<()> {
        let _turn = self.turn.lock().await;
        let old = self.passwords.get();
        if new == old.server {
            return Err(Error::new("the new token is the old one"));
        }
        let follows = old.agent == old.server && !self.names_agents;
        let agent = if follows { new.clone() } else { old.agent.clone() };
        let passwords = Passwords { server: new, agent };
        let lines = prepare::password_lines(&passwords);
        let replaced = [(bootstrap::PASSWORDS, lines.clone().into_bytes())];
        let now = rt::now().wall;
        let block = bootstrap::collect_with(&self.paths, &passwords.server, &replaced, now)?;
        let key = |password: &str| bootstrap::storage_key(password).into_bytes();
        let op = Op::put(key(&passwords.server), block);
        let saved = self.store.write_one(op, Class::Durable).await;
        saved.context(|| "save the bootstrap data with the new token")?;
        prepare::keep_passwords(&self.paths, &lines)?;
        prepare::write_tokens(&self.paths, &passwords, &self.ca_pem)?;
        self.passwords.set(passwords);
        let op = Op::delete(key(&old.server), Expect::Any);
        let gone = self.store.write_one(op, Class::Durable).await;
        gone.context(|| "remove the bootstrap data of the old token")?;
        log::info!("Token rotated: agents and other servers need the new one at their next start");
        Ok(())
    }
}

impl Keys {
    /// Takes new authorities and keys of service accounts, for the next start of each server. The datastore has them
    /// first: a server that was killed in between takes them from there, as the others do.
    async fn replace(&self, offered: &[u8], force: bool) -> Result<()> {
        let _turn = self.turn.lock().await;
        let mut replaced = bootstrap::replacements(&self.paths, offered)?;
        if let Err(error) = rotation::check(&self.paths, &replaced) {
            if !force {
                return Err(error).context(|| "failed to validate new CA certificates and keys");
            }
            log::warn!(
                "Save of CA certificates and keys forced, ignoring validation errors: {error}"
            );
        }
        let keys = replaced.iter().find(|(name, _)| *name == "ServiceKey");
        if let Some((_, keys)) = keys {
            let first = pki::first_key(&String::from_utf8_lossy(keys));
            replaced.push(("ServiceCurrentKey", first.into_bytes()));
        }
        if replaced.is_empty() {
            return Err(Error::new("no new CA certificates or keys found"));
        }
        let password = self.passwords.get().server;
        let now = rt::now().wall;
        let block = bootstrap::collect_with(&self.paths, &password, &replaced, now)?;
        let op = Op::put(bootstrap::storage_key(&password).into_bytes(), block);
        let saved = self.store.write_one(op, Class::Durable).await;
        saved.context(|| "save the new CA certificates and keys")?;
        bootstrap::stage(&self.paths, &replaced)?;
        let names: Vec<&str> = replaced.iter().map(|(name, _)| *name).collect();
        log::info!("Saved {}: each server takes them at its next start", names.join(", "));
        Ok(())
    }
}

/// The password of a token that is to be one.
fn password(question: &[u8]) -> Result<String, Status> {
    let bad = |why: String| Status::bad_request(why);
    let question: Value = serde_json::from_slice(question)
        .map_err(|error| bad(format!("read the request: {error}")))?;
    let text = question.str("newToken");
    if text.is_empty() {
        return Ok(random_hex(16));
    }
    let token = Token::parse(text).map_err(|error| bad(error.to_string()))?;
    let password = token.password;
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | '"' | '#');
    if password.len() > PASSWORD_MAX_BYTES || !password.chars().all(fits) {
        return Err(bad("the new token has characters that no token has, or is too long".into()));
    }
    Ok(password)
}

/// Asks the server for what `k3rs token rotate` wants.
///
/// # Errors
/// What the server says.
pub(crate) async fn ask_for_rotation(rotation: Rotation) -> Result<()> {
    let config = Config::load(On::Either, &[], |name| std::env::var(name).ok())?;
    let Rotation { new_token, token, server, data_dir } = rotation;
    let whom = Whom::new(config, token, server, data_dir.as_deref());
    let path = format!("{}{}", supervisor::PREFIX, supervisor::TOKEN);
    let request = Request::new(Method::Put, path)
        .header("content-type", "application/json")
        .body(json!({"newToken": new_token}).to_string());
    whom.ask(request, ANSWER_MAX).await.map(drop)
}

impl supervisor::Keys for Keys {
    fn rotate_token<'a>(&'a self, question: &'a [u8]) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let new = password(question)?;
            self.rotate(new).await.map_err(|error| {
                log::warn!("token rotate: {error}");
                Status::internal(error.to_string())
            })
        })
    }

    fn replace_authorities<'a>(
        &'a self,
        offered: &'a [u8],
        force: bool,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            self.replace(offered, force).await.map_err(|error| {
                log::warn!("certificate rotate-ca: {error}");
                Status::internal(error.to_string())
            })
        })
    }
}

impl Keys {
    pub(crate) fn shared(self) -> Arc<dyn supervisor::Keys> {
        Arc::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_tokens() {
        let of = |text: &str| {
            password(serde_json::json!({"newToken": text}).to_string().as_bytes()).ok()
        };
        assert_eq!(of("secret").as_deref(), Some("secret"));
        let whole = format!("K10{}::server:secret", "a".repeat(64));
        assert_eq!(of(&whole).as_deref(), Some("secret"));
        assert_eq!(of("").map(|text| text.len()), Some(32));
        assert_eq!(password(b"{}").map(|text| text.len()).ok(), Some(32));
        for bad in ["a,b", "a\nb", "a b", "K10x", &"x".repeat(1025)] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(password(b"x").is_err());
    }
}
