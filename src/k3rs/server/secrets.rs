//! Encryption of Secrets: what the datastore is sealed with, what a change of keys does to it, and the command that asks for one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster::secrets_encryption::SecretsEncryption;
use cluster::supervisor::KnownPasswords;
use cluster::{Paths, secrets_encryption};
use http::{Method, Request};
use rt::BoxFuture;
use server::Encryption;
use stdx::{Context, Error, Result};
use store::{Class, Op, Query, Span, Store};

use super::state::BOOTSTRAP;
use crate::peers::whom::Whom;
use crate::settings::config::Config;
use crate::settings::flags::On;

/// As k3s waits for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(70);

/// The envelope of the datastore: by the administrator's own file, or by the one that `--secrets-encryption` makes; and
/// whether that was made just now.
///
/// # Errors
/// If the file cannot be read, made or restored, or says something wrong.
pub(crate) async fn envelope(config: &Config, paths: &Paths) -> Result<(Arc<Encryption>, bool)> {
    let mut made = false;
    let file = match (&config.apiserver.encryption_file, &config.secrets_provider) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(provider)) => {
            let file = paths.cred(secrets_encryption::CONFIG_FILE);
            let is_there = config.datastore.is_some() || paths.datastore().exists();
            if rt::fs::read_optional(&file)?.is_none() && is_there {
                restore(config, paths).await?;
            }
            made = secrets_encryption::prepare(paths, provider)
                .context(|| "prepare the encryption of secrets")?;
            Some(file)
        }
        (None, None) => None,
    };
    Ok((Encryption::new(file)?, made))
}

/// Has a datastore that came without the server's files give back its keys: they are in the bootstrap data, which
/// is readable without them.
async fn restore(config: &Config, paths: &Paths) -> Result<()> {
    let passwords = crate::machine::prepare::passwords(paths, config)?;
    let limits = store::Limits { check: |_, _| true, ..store::Limits::default() };
    let store = match crate::shared_log::open(config).await? {
        Some(log) => Store::share(log, limits).await,
        None => Store::open(&paths.datastore(), limits).await,
    };
    let store = store.context(|| "open the datastore for its bootstrap data")?;
    let key = cluster::bootstrap::storage_key(&passwords.server);
    let saved = store.get(&key).await.context(|| "read the bootstrap data")?;
    if let Some(saved) = saved {
        cluster::bootstrap::restore(paths, &passwords.server, &saved.value, true)?;
    }
    let secrets = store.range(&Query::prefix("/registry/secrets/")).await;
    let secrets = secrets.context(|| "read the secrets")?.items;
    let file = paths.cred(secrets_encryption::CONFIG_FILE);
    match secrets.iter().any(|kv| kv.value.starts_with(b"k8s:enc:")) && !file.exists() {
        // A new key would open none of them, and hide that another one is missing.
        true => Err(Error::new(format!(
            "secrets in the datastore are encrypted, and their keys are neither in {} nor in the bootstrap data of this token",
            file.display()
        ))),
        false => Ok(()),
    }
}

/// What the supervisor has done to the datastore.
pub(crate) struct Sealing {
    pub(crate) store: Store,
    pub(crate) encryption: Arc<Encryption>,
    pub(crate) paths: Paths,
    pub(crate) passwords: KnownPasswords,
}

impl secrets_encryption::Sealing for Sealing {
    fn reload(&self) -> Result<()> {
        self.encryption.reload()
    }

    fn reencrypt(&self) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async {
            let n = server::rewrite_secrets(&self.store).await?;
            let scrubbed = self.store.scrub().await;
            scrubbed.context(|| "remove from the disk what was encrypted otherwise")?;
            Ok(n)
        })
    }

    fn save(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let password = self.passwords.get().server;
            let block = cluster::bootstrap::collect(&self.paths, &password, rt::now().wall)?;
            let op = Op::put(cluster::bootstrap::storage_key(&password).into_bytes(), block);
            let saved = self.store.write_one(op, Class::Durable).await;
            saved.map(drop).context(|| "save the bootstrap data")
        })
    }

    fn take(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async {
            let password = self.passwords.get().server;
            let key = cluster::bootstrap::storage_key(&password);
            let saved = self.store.get(&key).await.context(|| "read the bootstrap data")?;
            let (Some(saved), paths) = (saved, self.paths.clone()) else { return Ok(false) };
            let take = move || cluster::bootstrap::take_encryption(&paths, &password, &saved.value);
            rt::unblock(take).await
        })
    }
}

/// Follows what other servers that share the datastore save of keys, for as long as the server runs.
pub(crate) async fn follow(store: Store, secrets: Arc<SecretsEncryption>) {
    const REST: Duration = Duration::from_secs(1);
    loop {
        if let Ok(mut watch) = store.watch(vec![Span::prefix(BOOTSTRAP)], None).await {
            // What came before the watch began.
            secrets.follow().await;
            while watch.next().await.is_ok() {
                secrets.follow().await;
            }
        }
        rt::sleep(REST).await;
    }
}

/// `k3rs secrets-encrypt`: exit code 0, or 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let done = cli::secrets_encrypt::Ask::parse(args).and_then(|ask| match ask {
        Some(ask) => rt::block_on(run(&ask)),
        None => Ok(cli::secrets_encrypt::USAGE.to_owned()),
    });
    crate::ended("secrets-encrypt", done)
}

async fn run(ask: &cli::secrets_encrypt::Ask) -> Result<String> {
    let config = Config::load(On::Either, &[], |name| std::env::var(name).ok())?;
    let url = ask.server.clone().or_else(|| config.server.clone());
    let whom = Whom::new(config, ask.token.clone(), url, ask.data_dir.as_deref());
    let request = match ask.body() {
        Some(body) => Request::new(Method::Put, "/v1-k3s/encrypt/config")
            .header("content-type", "application/json")
            .body(body.to_string()),
        None => Request::get("/v1-k3s/encrypt/status"),
    };
    ask.shown(&whom.ask(request, ANSWER_MAX).await?)
}
