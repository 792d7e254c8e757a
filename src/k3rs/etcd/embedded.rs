//! The embedded etcd of a server: whether it has one, how that begins, and how its members are told and removed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::settings::Settings;
use cluster::token::Token;
use cluster::{Paths, bootstrap, pki, role, supervisor};
use datastore::embedded::{self, Begin, Etcd, Find, Member, Members, Over, Setup};
use http::Request;
use http::client::Url;
use stdx::{Context, Error, Result};
use store::{Class, Limits, Op, Query, Store};

use crate::machine::{Machine, pki_settings, settings};
use crate::settings::config::{Config, Shared};
use crate::shared_log::{RETRY, WAIT_MAX};
use crate::{etcd::restore, machine::clock, peers::join};

/// One question to the server that is joined.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What members are told.
const MEMBERS_MAX: usize = 64;
/// Data of members that were removed are kept so often, as k3s does.
const BACKUPS_MAX: usize = 5;

/// How the embedded etcd begins.
pub(crate) enum Plan {
    /// With what is there; a server that joined may have to be promoted yet.
    Again(Option<Joining>),
    New,
    Join(Joining),
    Reset,
}

/// The server that is joined, and the token for it.
pub(crate) struct Joining {
    pub(crate) url: Url,
    pub(crate) token: Token,
}

/// Says whether this server has an etcd of its own, by its directory and its flags, as k3s does; then that is its
/// datastore.
///
/// # Errors
/// If the flags contradict each other, or what is there.
pub(crate) fn plan(config: &mut Config, paths: &Paths) -> Result<Option<Plan>> {
    let dir = paths.etcd();
    let is_there = embedded::is_initialized(&dir);
    let joining = match is_there {
        // It is only wanted where something is not done yet.
        true => joining(config).ok().flatten(),
        false => joining(config)?,
    };
    if config.snapshots.restore.is_some() && !config.cluster_reset {
        return Err(Error::new(
            "invalid flag use; --cluster-reset required with --cluster-reset-restore-path",
        ));
    }
    let plan = if config.cluster_reset {
        if !is_there && config.snapshots.restore.is_none() {
            return Err(Error::new(format!(
                "--cluster-reset: there is no embedded etcd in {}",
                dir.display()
            )));
        }
        let flag = reset_flag(paths);
        if flag.exists() {
            return Err(Error::new(format!(
                "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start k3rs normally. If you need to perform another cluster reset, you must first manually delete the file at {}",
                flag.display()
            )));
        }
        Plan::Reset
    } else if is_there && tombstone(paths).exists() {
        let joining = joining.context(|| {
            format!(
                "this node has been removed from the cluster: give it --server and --token to join again, or remove {}",
                dir.display()
            )
        })?;
        log::info!("tombstone file has been detected, removing data dir to rejoin the cluster");
        back_up(&dir)?;
        Plan::Join(joining)
    } else if is_there {
        Plan::Again(joining)
    } else if config.datastore.is_some() {
        if config.cluster_init || joining.is_some() {
            return Err(Error::new(
                "--datastore-endpoint is what servers share: --cluster-init and --server are for the embedded etcd",
            ));
        }
        return none(config);
    } else if let Some(joining) = joining {
        if paths.datastore().exists() {
            return Err(Error::new(format!(
                "--server: this server has a datastore of its own, {}: it joins with an empty data directory",
                paths.datastore().display()
            )));
        }
        Plan::Join(joining)
    } else if config.cluster_init {
        Plan::New
    } else {
        return none(config);
    };
    if config.datastore.is_some() {
        log::warn!("--datastore-endpoint does nothing: this server has an embedded etcd");
    }
    let files = embedded::client_files(&paths.tls("etcd"));
    config.embeds_etcd = true;
    if let Some(idle) = idle(config) {
        log::warn!("{idle}");
    }
    config.datastore = Some(Shared { endpoint: Setup::local_url(), files });
    Ok(Some(plan))
}

fn none(config: &Config) -> Result<Option<Plan>> {
    if let Some(idle) = idle(config) {
        log::warn!("{idle}");
    }
    if config.datastore.is_none() && config.idle_datastore_files {
        log::warn!(
            "--datastore-cafile, -certfile and -keyfile do nothing without --datastore-endpoint"
        );
    }
    Ok(None)
}

/// Which flags are given for nothing, if any are.
pub(crate) fn idle(config: &Config) -> Option<String> {
    let (missing, beginning) = match (config.embeds_etcd, &config.snapshots.s3) {
        (false, _) => ("an embedded etcd", "etcd-"),
        (true, None) => ("--etcd-s3", "etcd-s3-"),
        (true, Some(_)) => return None,
    };
    let given = config.etcd_flags.iter();
    // Where there are no snapshots anyway, none are taken.
    let idle = given.filter(|it| it.starts_with(beginning) && **it != "etcd-disable-snapshots");
    let idle: Vec<String> = idle.map(|name| format!("--{name}")).collect();
    let what = || format!("without {missing} these flags do nothing: {}", idle.join(", "));
    (!idle.is_empty()).then(what)
}

pub(crate) fn joining(config: &Config) -> Result<Option<Joining>> {
    let Some(server) = config.server.as_deref().filter(|server| !server.is_empty()) else {
        return Ok(None);
    };
    let url = Url::parse(server).context(|| "read --server")?;
    if url.scheme != "https" {
        return Err(Error::new(format!(
            "only https:// URLs are supported, invalid scheme: {server}"
        )));
    }
    let token = config.token.as_deref().context(|| "K3S_TOKEN is required to join a cluster")?;
    Ok(Some(Joining { url, token: Token::parse(token).context(|| "read --token")? }))
}

pub(crate) fn tombstone(paths: &Paths) -> PathBuf {
    paths.etcd().join("tombstone")
}

fn reset_flag(paths: &Paths) -> PathBuf {
    paths.server().join("db").join("reset-flag")
}

/// While this is there, the SQLite datastore is not wholly in etcd.
fn migrating(paths: &Paths) -> PathBuf {
    paths.etcd().join("migrating")
}

/// Moves a directory out of the way, and removes the oldest of those that were.
fn back_up(dir: &std::path::Path) -> Result<()> {
    let parent = dir.parent().context(|| "find the directory of the datastore")?;
    let prefix = "etcd-backup-";
    let mut kept: Vec<PathBuf> = rt::fs::list_dir(parent)?;
    kept.retain(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    });
    stdx::Arrange::arrange(&mut kept[..]);
    let n_old = (kept.len() + 1).saturating_sub(BACKUPS_MAX);
    for old in &kept[..n_old] {
        rt::fs::remove_dir_all(old)?;
    }
    rt::fs::rename(dir, parent.join(format!("{prefix}{}", rt::now().wall.secs())))
}

/// The member of this server.
pub(crate) struct Embedded {
    etcd: Etcd,
    paths: Paths,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}

/// Starts the member of this server, or takes it alone out of its cluster; then there is none.
///
/// # Errors
/// If there is no program for it, the cluster does not take it, or it cannot run.
pub(crate) async fn start(machine: &Machine, plan: Plan) -> Result<Option<Arc<Embedded>>> {
    let (config, paths) = (&machine.config, &machine.paths);
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(std::path::Path::parent);
    let unpacked = paths.data().join("current").join("bin");
    let program = embedded::find(beside, &unpacked, config.host_path.as_deref())?;
    let dir = paths.etcd();
    let address = *machine.node_ips.first().context(|| "find this node's address")?;
    // Each step may be done again: a start that failed on the way goes on where it was.
    rt::fs::create_dir_all(&dir, 0o700)?;
    match &plan {
        Plan::Join(joining) => take_keys(machine, joining).await?,
        Plan::New if paths.datastore().exists() => {
            rt::fs::write_atomic(migrating(paths), b"", 0o600)?;
        }
        _ => {}
    }
    pki::ensure_etcd(paths, &pki_settings(machine, &machine.node_ips), clock::clock())
        .context(|| "prepare the certificates of the embedded etcd")?;
    let setup = Setup {
        name: embedded::name(&dir, &machine.node_name, false)?,
        dir,
        tls: paths.tls("etcd"),
        node_name: machine.node_name.clone(),
        address,
        args: config.etcd_args.clone(),
        env: environment(),
        expose_metrics: config.etcd_expose_metrics,
    };
    let files = embedded::client_files(&setup.tls);
    let open =
        move |known: &[Member]| Members::open(&embedded::client_urls(known, address), &files);
    let resets = matches!(plan, Plan::Reset);
    let restored = config.snapshots.restore.as_deref().filter(|_| resets);
    if let Some(file) = restored {
        let tool = embedded::find_restorer(beside, &unpacked, config.host_path.as_deref())?;
        let fetched = restore::fetch((config, paths), &setup.node_name, file).await?;
        let file = fetched.as_deref().unwrap_or(file);
        restore::restore((config, paths), &setup, &tool, file).await?;
    }
    let begin = match plan {
        Plan::New => Begin::New,
        Plan::Reset => Begin::Reset,
        Plan::Again(joining) => Begin::Again { others: joining.map(|it| finder(it, open)) },
        Plan::Join(joining) => {
            Begin::Join(open(&members_of_json(&ask(&joining, supervisor::MEMBERS).await?)?)?)
        }
    };
    log::info!("Starting the embedded etcd, {}", program.display());
    let etcd = Etcd::start(program, setup, begin).await;
    let etcd = etcd.inspect_err(|error| leave_tombstone(paths, &error.to_string()))?;
    if resets {
        let taken = match restored {
            Some(_) => restore::take_keys(config, paths).await,
            None => Ok(()),
        };
        etcd.stop().await;
        taken?;
        rt::fs::write_atomic(reset_flag(paths), b"", 0o600)?;
        log::info!(
            "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete ${{datadir}}/server/db on each peer etcd server and rejoin the nodes"
        );
        return Ok(None);
    }
    rt::fs::remove_file(reset_flag(paths))?;
    if migrating(paths).exists() {
        migrate(config, paths).await.context(|| "failed to migrate content from sqlite to etcd")?;
    }
    Ok(Some(Arc::new(Embedded { etcd, paths: paths.clone() })))
}

/// What etcd is told by its environment: where programs are, and what Go's runtime is told. Tokens are not.
fn environment() -> Vec<(String, String)> {
    let told = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    told.filter(|(name, _)| name == "PATH" || name.starts_with("GO")).collect()
}

/// Asks the server that is joined, as who has the servers' token, until it answers something.
pub(crate) async fn ask(joining: &Joining, path: &str) -> Result<Vec<u8>> {
    let until = rt::now().mono + WAIT_MAX;
    let mut failures = 0;
    loop {
        let asked = join::ask(&joining.url, &joining.token, Request::get(path), ANSWER_MAX).await;
        let error = match asked {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        failures += 1;
        let rest = RETRY.delay(failures);
        if join::is_final(&error) || rt::now().mono + rest >= until {
            return Err(error);
        }
        log::warn!("{error}; trying again in {} s", rest.as_secs());
        rt::sleep(rest).await;
    }
}

/// Gets the keys of the cluster, after its settings were found to be this server's.
pub(crate) async fn take_keys(machine: &Machine, joining: &Joining) -> Result<()> {
    if joining.token.ca_hash.is_empty() {
        log::warn!("{}", join::NO_CA_HASH);
    }
    let text = ask(joining, "/v1-k3s/config").await;
    let text = text.context(|| "failed to validate connection to cluster")?;
    let theirs = Settings::from_json(&String::from_utf8_lossy(&text))?;
    settings(machine).agree(&theirs)?;
    let keys = ask(joining, "/v1-k3s/server-bootstrap").await;
    let keys = keys.context(|| "get the cluster's keys from a server with an embedded etcd")?;
    bootstrap::take(&machine.paths, &keys, true).map(drop)
}

/// Asks the server that was joined for the members, once.
fn finder(
    joining: Joining,
    open: impl Fn(&[Member]) -> Result<Members> + Send + Sync + 'static,
) -> Find {
    let known = Arc::new((joining, open));
    Box::new(move || {
        let known = Arc::clone(&known);
        Box::pin(async move {
            let (joining, open) = &*known;
            let request = Request::get(supervisor::MEMBERS);
            let text = join::ask(&joining.url, &joining.token, request, ANSWER_MAX).await?;
            open(&members_of_json(&text)?)
        })
    })
}

pub(crate) fn members_of_json(text: &[u8]) -> Result<Vec<Member>> {
    use api::Lens;
    let tree: api::Value =
        serde_json::from_slice(text).context(|| "read the members of the etcd cluster")?;
    let texts = |member: &api::Value, name: &str| {
        let urls = member.list(name).iter().filter_map(|url| Some(url.as_str()?.to_owned()));
        urls.take(MEMBERS_MAX).collect()
    };
    let members = tree.list("members").iter().take(MEMBERS_MAX).map(|member| Member {
        id: member.get("ID").and_then(api::Value::as_u64).unwrap_or(0),
        name: member.str("name").to_owned(),
        peer_urls: texts(member, "peerURLs"),
        client_urls: texts(member, "clientURLs"),
        is_learner: member.flag("isLearner"),
    });
    Ok(members.collect())
}

fn members_to_json(members: &[Member]) -> String {
    let members = members.iter().map(|member| {
        let mut tree = api::json!({
            "ID": member.id, "name": member.name, "peerURLs": member.peer_urls, "clientURLs": member.client_urls,
        });
        if member.is_learner {
            tree["isLearner"] = true.into();
        }
        tree
    });
    api::json!({"members": members.collect::<Vec<_>>()}).to_string()
}

/// Copies every key of the SQLite datastore that is not bound to a lease: those are made anew. Values go as they are
/// stored, encrypted or not.
async fn migrate(config: &Config, paths: &Paths) -> Result<()> {
    const PAGE: usize = 50;
    log::info!("Migrating content from sqlite to etcd");
    let file = paths.datastore();
    if file.exists() {
        let limits = Limits { check: |_, _| true, ..Limits::for_memory(rt::memory_bytes()) };
        let from = Store::open(&file, limits).await.context(|| "open the SQLite datastore")?;
        let log = crate::shared_log::open(config).await?.context(|| "find the embedded etcd")?;
        let to = Store::share(log, limits).await.context(|| "open the embedded etcd")?;
        let all = from.range(&Query::prefix("")).await.context(|| "read the SQLite datastore")?;
        let wanted: Vec<_> = all.items.iter().filter(|kv| kv.lease == 0).collect();
        for page in wanted.chunks(PAGE) {
            let ops = page.iter().map(|kv| Op::put(kv.key.clone(), kv.value.clone())).collect();
            to.write(ops, Class::Durable).await.context(|| "write what was in SQLite")?;
        }
        log::info!("Migrated {} keys", wanted.len());
        to.close().await.context(|| "close the embedded etcd")?;
        from.close().await.context(|| "close the SQLite datastore")?;
        rt::fs::rename(&file, file.with_extension("db.migrated"))?;
    }
    rt::fs::remove_file(migrating(paths))
}

/// A member that was removed does not start again with what it has.
fn leave_tombstone(paths: &Paths, why: &str) {
    if why == embedded::REMOVED
        && let Err(error) = rt::fs::write_atomic(tombstone(paths), b"", 0o600)
    {
        log::warn!("{error}");
    }
}

impl Embedded {
    /// Waits until this server cannot go on without its member.
    pub(crate) async fn over(&self) -> Error {
        match self.etcd.over().await {
            Over::Removed => {
                leave_tombstone(&self.paths, embedded::REMOVED);
                Error::new(embedded::REMOVED)
            }
            Over::Failed(why) => Error::new(why),
        }
    }

    pub(crate) async fn stop(&self) {
        self.etcd.stop().await;
    }

    /// As its Node tells of it.
    pub(crate) fn member(&self) -> role::Member {
        let setup = self.etcd.setup();
        role::Member { name: setup.name.clone(), address: setup.address.to_string() }
    }

    pub(crate) fn members(&self) -> &Members {
        self.etcd.members()
    }

    /// The members in JSON, as k3s tells them; the own one if no other can be told.
    pub(crate) async fn members_json(&self) -> String {
        let setup = self.etcd.setup();
        let known = self.etcd.members().list().await.unwrap_or_else(|_| {
            vec![Member {
                name: setup.name.clone(),
                peer_urls: vec![setup.peer_url()],
                client_urls: vec![setup.client_url()],
                ..Member::default()
            }]
        });
        members_to_json(&known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags::On;

    #[test]
    fn flags_that_are_given_for_nothing_are_named() {
        for (args, without, within) in [
            ("", "", ""),
            ("--etcd-disable-snapshots --etcd-s3=false", "", ""),
            ("--etcd-arg a=b --etcd-snapshot-name=", "--etcd-arg", ""),
            ("--etcd-s3 --etcd-s3-bucket=b", "--etcd-s3, --etcd-s3-bucket", ""),
            (
                "--etcd-snapshot-compress --etcd-s3-bucket=b --etcd-s3-insecure",
                "--etcd-snapshot-compress, --etcd-s3-bucket, --etcd-s3-insecure",
                "--etcd-s3-bucket, --etcd-s3-insecure",
            ),
        ] {
            let args = args.split_whitespace().chain(["--config=/dev/null"]);
            let args: Vec<String> = args.map(str::to_owned).collect();
            let var = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "other's".to_owned());
            let mut config = Config::load(On::Server, &args, var).unwrap();
            for (embeds, missing, wanted) in
                [(false, "an embedded etcd", without), (true, "--etcd-s3", within)]
            {
                config.embeds_etcd = embeds;
                let said = format!("without {missing} these flags do nothing: {wanted}");
                assert_eq!(idle(&config), (!wanted.is_empty()).then_some(said), "{args:?}");
            }
        }
    }

    #[test]
    fn members_are_told_as_k3s_tells_them() {
        let one = Member {
            id: u64::MAX,
            name: "one-0a1b2c3d".into(),
            peer_urls: vec!["https://192.0.2.1:2380".into()],
            client_urls: vec!["https://192.0.2.1:2379".into()],
            is_learner: false,
        };
        let members = [one.clone(), Member { id: 7, is_learner: true, ..one }];
        let text = members_to_json(&members);
        assert_eq!(members_of_json(text.as_bytes()).unwrap(), members);
        assert!(
            text.starts_with(r#"{"members":[{"#) && text.contains(r#""ID":18446744073709551615"#),
            "{text}"
        );
        let many = format!(r#"{{"members":[{}{{}}]}}"#, r#"{"name":"x"},"#.repeat(1000));
        assert_eq!(members_of_json(many.as_bytes()).unwrap().len(), MEMBERS_MAX);
        assert!(members_of_json(b"{").is_err());
        assert!(members_of_json(br#"{"members":7}"#).unwrap().is_empty());
    }
}
