//! Secrets encryption as k3s has it: the configuration that a server makes for its API server, and the stages in which its keys change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::kinds::NODE;
use api::status::Reason;
use api::{Lens, Status, Value, json};
use client::{Client, PatchType};
use rt::BoxFuture;
use rt::lock::Mutex;
use stdx::{Context, Error, Result};

use crate::encryption_peers::{ANNOTATION, Peers};
use crate::paths::Paths;

/// What is asked for, below the path of the supervisor.
pub const STATUS: &str = "encrypt/status";
pub const CONFIG: &str = "encrypt/config";

const KEY_BYTES: usize = 32;
/// Keys of one provider; k3s's commands leave two at most.
const KEYS_MAX: usize = 16;

/// How long a server waits for the others to take keys, which they do at once if they do it at all: a step with two such
/// waits ends before its caller goes.
const AGREE_MAX: Duration = Duration::from_secs(10);
const TURN_MAX: Duration = Duration::from_secs(2);
const AGREE_EVERY: Duration = Duration::from_millis(200);

/// Providers, the names of their first keys, and what their keys are called in a status.
const PROVIDERS: [(&str, &str, &str); 2] =
    [("aescbc", "aescbckey", "AES-CBC"), ("secretbox", "secretboxkey", "XSalsa20-POLY1305")];

/// What a change of keys needs of the server.
pub trait Sealing: Send + Sync {
    /// Has the API server read the configuration.
    fn reload(&self) -> Result<()>;
    /// Writes every Secret anew, and removes from the disk what was there before; how many there are.
    fn reencrypt(&self) -> BoxFuture<'_, Result<usize>>;
    /// Saves the cluster's files for a server that comes without them, and for those that are there.
    fn save(&self) -> BoxFuture<'_, Result<()>>;
    /// Takes the keys that another server saved; whether they were other ones.
    fn take(&self) -> BoxFuture<'_, Result<bool>>;
}

/// Checks a provider's name.
///
/// # Errors
/// If k3s has no such provider.
pub fn check_provider(name: &str) -> Result<()> {
    match PROVIDERS.iter().any(|(known, _, _)| *known == name) {
        true => Ok(()),
        false => Err(Error::new(format!("unsupported secrets-encryption-key-type {name}"))),
    }
}

/// Makes the configuration with a key, if there is none yet, and the state of its stages; whether anything was made,
/// which has to be saved then.
///
/// # Errors
/// If the files cannot be read or written.
pub fn prepare(paths: &Paths, provider: &str) -> Result<bool> {
    let files = Files(paths);
    let mut made = false;
    if files.text(CONFIG_FILE)?.unwrap_or_default().is_empty() {
        let mut keys = Keys::default();
        keys.add(provider, "");
        files.write(&keys, provider, true)?;
        made = true;
    }
    if files.text(STATE_FILE)?.is_none() {
        files.set_stage("start")?;
        made = true;
    }
    Ok(made)
}

pub const CONFIG_FILE: &str = "encryption-config.json";
const STATE_FILE: &str = "encryption-state.json";

struct Files<'a>(&'a Paths);

impl Files<'_> {
    fn text(&self, name: &str) -> Result<Option<String>> {
        let bytes = rt::fs::read_optional(self.0.cred(name))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        rt::fs::create_dir_all(self.0.cred(""), 0o700)?;
        rt::fs::write_atomic(self.0.cred(name), text.as_bytes(), 0o600)
    }

    /// The providers of Secrets, in order; `None` without a configuration.
    fn providers(&self) -> Result<Option<Vec<Value>>> {
        let Some(text) = self.text(CONFIG_FILE)? else { return Ok(None) };
        let what = || format!("read {}", self.0.cred(CONFIG_FILE).display());
        let tree: Value = serde_json::from_str(&text).context(what)?;
        let rule = tree.list("resources").first().context(what)?;
        Ok(Some(rule.list("providers").to_vec()))
    }

    fn keys(&self) -> Result<Keys> {
        let providers = self.providers()?.context(|| "there is no encryption configuration")?;
        if providers.len() > 3 {
            let n = providers.len();
            return Err(Error::new(format!(
                "more than 3 providers ({n}) found in secrets encryption"
            )));
        }
        let mut keys = Keys::default();
        for provider in &providers {
            if provider.has("aesgcm") || provider.has("kms") {
                return Err(Error::new("non-standard encryption keys found"));
            }
            for (slot, (name, _, _)) in keys.0.iter_mut().zip(PROVIDERS) {
                slot.extend(provider.list(&format!("{name}.keys")).iter().cloned());
            }
        }
        Ok(keys)
    }

    /// Writes a configuration in which `provider` is the first, behind nothing if it is enabled.
    fn write(&self, keys: &Keys, provider: &str, enable: bool) -> Result<()> {
        let mut providers = Vec::new();
        for own in [true, false] {
            let some = keys
                .0
                .iter()
                .zip(PROVIDERS)
                .filter(|(keys, (name, _, _))| (*name == provider) == own && !keys.is_empty());
            providers.extend(some.map(|(keys, (name, _, _))| json!({name: {"keys": keys}})));
        }
        providers.insert(if enable { providers.len() } else { 0 }, json!({"identity": {}}));
        let tree = json!({
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        });
        self.put(CONFIG_FILE, &tree.to_string())
    }

    fn hash(&self) -> Result<String> {
        let text = self.text(CONFIG_FILE)?.context(|| "there is no encryption configuration")?;
        Ok(crate::token::hash(text.as_bytes()))
    }

    fn set_stage(&self, stage: &str) -> Result<()> {
        self.put(STATE_FILE, &format!("{stage}-{}", self.hash()?))
    }

    /// The stage, and the hash of the configuration that it is of.
    fn stage(&self) -> Result<(String, String)> {
        let text = self.text(STATE_FILE)?.unwrap_or_default();
        let parts = text.split_once('-').context(|| format!("invalid state {text:?}"))?;
        Ok((parts.0.to_owned(), parts.1.to_owned()))
    }
}

/// Keys by provider, each `{name, secret}`; the first of a provider's writes.
#[derive(Debug, Default)]
struct Keys([Vec<Value>; 2]);

impl Keys {
    fn of(&mut self, provider: &str) -> (&mut Vec<Value>, &'static str) {
        let idx = usize::from(provider == PROVIDERS[1].0);
        (&mut self.0[idx], PROVIDERS[idx].1)
    }

    fn add(&mut self, provider: &str, suffix: &str) {
        let mut secret = [0; KEY_BYTES];
        rt::random(&mut secret);
        let (keys, name) = self.of(provider);
        let name = format!("{name}{suffix}");
        keys.push(json!({"name": name, "secret": wire::base64::encode(&secret)}));
        keys.truncate(KEYS_MAX);
    }

    /// Removes the last key; if the provider has one only, another provider was left, and loses its last.
    fn remove_last(&mut self, provider: &str) {
        let own = usize::from(provider == PROVIDERS[1].0);
        let from =
            if self.0[own].len() == 1 && !self.0[1 - own].is_empty() { 1 - own } else { own };
        // Without a key nothing could be read: what is the only one stays.
        if self.0.iter().map(Vec::len).sum::<usize>() > 1 {
            self.0[from].pop();
        }
    }
}

/// What a server must be told.
pub struct Setup {
    pub paths: Paths,
    /// The provider, where secrets are encrypted (`--secrets-encryption`).
    pub provider: Option<String>,
    pub sealing: Arc<dyn Sealing>,
    pub client: Client,
    /// The node of this process, which shows the stage.
    pub node: Option<String>,
    /// Whether other servers read what this one seals: they have to have a key before it is used.
    pub shared: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Setup")
    }
}

/// The server's part in changes of keys.
pub struct SecretsEncryption {
    setup: Setup,
    /// Changes come one after the other.
    turn: Arc<Mutex<()>>,
    /// While secrets are encrypted anew; a restart forgets it, as k3s's.
    active: AtomicBool,
}

impl std::fmt::Debug for SecretsEncryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsEncryption")
    }
}

impl SecretsEncryption {
    pub fn new(setup: Setup) -> Arc<SecretsEncryption> {
        let it = SecretsEncryption { setup, turn: Arc::default(), active: AtomicBool::new(false) };
        Arc::new(it)
    }

    fn files(&self) -> Files<'_> {
        Files(&self.setup.paths)
    }

    /// k3s's `EncryptionState`.
    ///
    /// # Errors
    /// If the files are not what they should be.
    pub async fn status(&self) -> Result<Value> {
        let mut state = json!({"stage": "", "activekey": ""});
        let Some(providers) = self.files().providers()? else { return Ok(state) };
        let is_identity =
            |provider: Option<&Value>| provider.is_some_and(|p| p.get("identity").is_some());
        let has_keys = |provider: Option<&Value>| {
            provider.is_some_and(|p| PROVIDERS.iter().any(|(name, _, _)| p.has(name)))
        };
        if is_identity(providers.last())
            && has_keys(providers.first())
            && self.setup.provider.is_some()
        {
            state["enable"] = true.into();
        } else if self.setup.provider.is_none() || is_identity(providers.first()) {
            state["enable"] = false.into();
        }
        let (stage, hash) = self.files().stage()?;
        let checked = match self.same_hash(&hash) {
            Ok(()) => self.all_agree().await,
            wrong => wrong,
        };
        state["hashmatch"] = checked.is_ok().into();
        if let Err(why) = checked {
            state["hasherror"] = why.to_string().into();
        }
        let stage = if self.active.load(Ordering::SeqCst) { "reencrypt_active" } else { &stage };
        state["stage"] = stage.into();
        let mut names = Vec::new();
        // Behind nothing the first key is the active one; after the provider that encrypts nothing there is none.
        let mut active = !is_identity(providers.first());
        for provider in &providers {
            for (name, _, shown) in PROVIDERS {
                for key in provider.list(&format!("{name}.keys")) {
                    let text: Value = format!("{shown} {}", key.str("name")).into();
                    match std::mem::take(&mut active) {
                        true => state["activekey"] = text,
                        false => names.push(text),
                    }
                }
            }
        }
        if !names.is_empty() {
            state["inactivekeys"] = Value::Array(names);
        }
        Ok(state)
    }

    /// Carries out k3s's `EncryptionRequest`.
    ///
    /// # Errors
    /// 400 with what is wrong.
    pub async fn change(self: &Arc<SecretsEncryption>, body: &[u8]) -> Result<(), Status> {
        let request: Value =
            serde_json::from_slice(body).map_err(|error| Status::bad_request(error.to_string()))?;
        // What another server saved is taken in a moment.
        let turn = rt::timeout(TURN_MAX, self.turn.lock_arc()).await.map_err(|_| {
            Status::new(Reason::BadRequest, "another change of the encryption is going on")
        })?;
        let refuse = |error: Error| {
            log::error!("secret-encrypt: {error}");
            Status::bad_request(error.to_string())
        };
        let provider = self.setup.provider.clone();
        let provider = provider.ok_or_else(|| {
            refuse(Error::new(
                "secrets encryption is disabled: start the server with --secrets-encryption",
            ))
        })?;
        // A change is not left in its middle because nobody waits for it any more.
        let it = Arc::clone(self);
        let (tell, told) = rt::channel::bounded(1);
        rt::spawn_named("change of the keys of secrets", async move {
            let _turn = turn;
            let _ = tell.try_send(it.step(&request, &provider).await);
        })
        .detach();
        let stopping = |_| Err(Error::new("the server is stopping"));
        told.recv().await.unwrap_or_else(stopping).map_err(refuse)
    }

    async fn step(self: &Arc<SecretsEncryption>, request: &Value, provider: &str) -> Result<()> {
        let force = request.flag("force");
        let staged = |verb: &str, stages: &'static [&'static str]| match provider {
            "secretbox" => Err(Error::new(format!(
                "{verb} does not support secretbox key type, use rotate-keys instead"
            ))),
            _ if force => Ok(None),
            _ => Ok(Some(stages)),
        };
        const AT_REST: [&str; 2] = ["start", "reencrypt_finished"];
        match request.get("stage").and_then(Value::as_str) {
            Some("prepare") => {
                self.expect(staged("prepare", &AT_REST)?).await?;
                let mut keys = self.files().keys()?;
                keys.add(provider, &suffix());
                self.write(&keys, provider, true)?;
                self.enter("prepare").await?;
                self.tell().await
            }
            Some("rotate") => {
                self.expect(staged("rotate", &["prepare"])?).await?;
                let mut keys = self.files().keys()?;
                keys.of(provider).0.rotate_right(1);
                self.write(&keys, provider, true)?;
                self.enter("rotate").await?;
                self.tell().await
            }
            Some("reencrypt_active") => {
                self.expect(staged("reencrypt", &["rotate"])?).await?;
                self.reencrypt(provider, Some(request.flag("skip"))).await
            }
            Some("rotate_keys") => {
                self.expect(Some(&AT_REST)).await?;
                let mut keys = self.files().keys()?;
                keys.add(provider, &suffix());
                self.offer(&keys, provider).await?;
                keys.of(provider).0.rotate_right(1);
                self.write(&keys, provider, true)?;
                // A restart finds a whole stage, with one old key more.
                self.stay().await?;
                self.reencrypt(provider, Some(false)).await
            }
            Some(other) => Err(Error::new(format!("unknown stage {other} requested"))),
            None => match request.get("enable").and_then(Value::as_bool) {
                Some(enable) => self.enable(provider, enable).await,
                None => Ok(()),
            },
        }
    }

    /// Refuses what does not follow on the stage that was reached, here and on the other servers.
    async fn expect(&self, stages: Option<&[&str]>) -> Result<()> {
        let Some(stages) = stages else { return Ok(()) };
        let (stage, hash) = self.files().stage()?;
        if self.active.load(Ordering::SeqCst) || !stages.contains(&stage.as_str()) {
            return Err(Error::new(format!(
                "incorrect stage: {stage} found on node {}",
                self.node()
            )));
        }
        self.same_hash(&hash)?;
        self.all_agree().await
    }

    /// Whether all servers show that they have what this one has.
    async fn all_agree(&self) -> Result<()> {
        if !self.setup.shared {
            return Ok(());
        }
        let (stage, hash) = self.files().stage()?;
        let peers = Peers::look(&self.setup.client).await;
        let peers = peers.map_err(|status| Error::new(status.message().to_owned()))?;
        peers.agree(self.node(), &format!("{stage}-{hash}"))
    }

    /// Keeps the stage with the keys that there are now, and waits until all servers have them.
    async fn stay(&self) -> Result<()> {
        let stage = self.files().stage()?.0;
        self.enter(&stage).await?;
        self.wait().await
    }

    /// Gives the other servers time to take a stage. One that does not is to be started again, as k3s's are: the next
    /// step is refused until then.
    async fn tell(&self) -> Result<()> {
        if let Err(error) = self.wait().await {
            log::warn!("secrets encryption: {error}: the next step has to wait for that server");
        }
        Ok(())
    }

    async fn wait(&self) -> Result<()> {
        let until = rt::now().mono + AGREE_MAX;
        loop {
            match self.all_agree().await {
                Ok(()) => return Ok(()),
                Err(error) if rt::now().mono >= until => return Err(error),
                Err(_) => rt::sleep(AGREE_EVERY).await,
            }
        }
    }

    /// Gives the other servers a key that writes nothing yet. Where one does not take it, nobody has it.
    async fn offer(&self, keys: &Keys, provider: &str) -> Result<()> {
        if !self.setup.shared {
            return Ok(());
        }
        let before = self.files().keys()?;
        self.write(keys, provider, true)?;
        let Err(error) = self.stay().await else { return Ok(()) };
        self.write(&before, provider, true)?;
        let stage = self.files().stage()?.0;
        self.enter(&stage).await?;
        Err(error)
    }

    /// Takes the keys that another server saved, and shows that they are known here.
    pub async fn follow(&self) {
        // What this server changes itself it saves before it lets others have their turn.
        let _turn = self.turn.lock().await;
        let taken = match self.setup.sealing.take().await {
            Ok(true) => self.setup.sealing.reload(),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => log::info!("Took the keys of secrets that another server saved"),
            Err(error) => log::error!("take the keys of secrets of another server: {error}"),
        }
        self.show().await;
    }

    /// Whether the configuration is the one that the last stage was reached with: somebody may have edited the file.
    fn same_hash(&self, hash: &str) -> Result<()> {
        match self.files().hash()? == hash {
            true => Ok(()),
            false => Err(Error::new(format!("invalid hash: {hash} found on node {}", self.node()))),
        }
    }

    fn node(&self) -> &str {
        self.setup.node.as_deref().unwrap_or("this server")
    }

    fn write(&self, keys: &Keys, provider: &str, enable: bool) -> Result<()> {
        self.files().write(keys, provider, enable)?;
        self.setup.sealing.reload()
    }

    /// Writes down the stage that was reached.
    async fn enter(&self, stage: &str) -> Result<()> {
        self.files().set_stage(stage)?;
        self.show().await;
        self.setup.sealing.save().await
    }

    async fn enable(self: &Arc<SecretsEncryption>, provider: &str, enable: bool) -> Result<()> {
        let mut keys = self.files().keys()?;
        let is_on = self.status().await?.flag("enable");
        if is_on == enable {
            log::info!(
                "Secrets encryption already {}",
                if enable { "enabled" } else { "disabled" }
            );
            return Ok(());
        }
        if enable && keys.of(provider).0.is_empty() {
            return Err(Error::new(format!(
                "cannot enable secrets encryption with {provider} key type, no keys found"
            )));
        }
        self.all_agree().await?;
        self.write(&keys, provider, enable)?;
        self.stay().await?;
        self.reencrypt(provider, None).await
    }

    /// Writes Secrets anew and then, where `skip` is not set, forgets the last key. It goes on if nobody waits for it.
    async fn reencrypt(
        self: &Arc<SecretsEncryption>,
        provider: &str,
        skip: Option<bool>,
    ) -> Result<()> {
        self.active.store(true, Ordering::SeqCst);
        let (it, provider) = (Arc::clone(self), provider.to_owned());
        let (tell, told) = rt::channel::bounded(1);
        rt::spawn_named("secrets reencryption", async move {
            it.show().await;
            let done = it.all_anew(&provider, skip).await;
            it.active.store(false, Ordering::SeqCst);
            if let Err(error) = &done {
                log::error!("reencrypt secrets: {error}");
            }
            it.show().await;
            let _ = tell.try_send(done);
        })
        .detach();
        told.recv().await.unwrap_or_else(|_| Err(Error::new("the server is stopping")))
    }

    async fn all_anew(&self, provider: &str, skip: Option<bool>) -> Result<()> {
        let n = self.setup.sealing.reencrypt().await?;
        log::info!("Reencrypted {n} secrets");
        if skip == Some(false) {
            let mut keys = self.files().keys()?;
            keys.remove_last(provider);
            self.write(&keys, provider, true)?;
            self.files().set_stage("reencrypt_finished")?;
        }
        self.setup.sealing.save().await
    }

    /// Shows the stage on the node, as k3s's servers do. Nothing here depends on it.
    pub async fn show(&self) {
        let Some(node) = &self.setup.node else { return };
        let Ok((stage, hash)) = self.files().stage() else { return };
        let stage = if self.active.load(Ordering::SeqCst) { "reencrypt_active" } else { &stage };
        let patch = json!({"metadata": {"annotations": {ANNOTATION: format!("{stage}-{hash}")}}});
        let done = self.setup.client.patch(&NODE, "", node, "", PatchType::Merge, patch).await;
        if let Err(status) = done
            && !status.is_not_found()
        {
            log::warn!("show the stage of the secrets encryption on node {node}: {status}");
        }
    }
}

fn suffix() -> String {
    format!("-{}", api::time::format(rt::now().wall))
}

#[cfg(test)]
#[path = "secrets_encryption_tests.rs"]
mod tests;
