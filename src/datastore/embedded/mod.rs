//! The embedded etcd, as k3s has it: a member of a cluster of servers, whose program this process runs.
//!
//! A member begins a cluster, comes to one that exists, or goes on with what is in its directory; then the server
//! opens it as any other etcd ([`crate::open`] with [`Setup::local_url`]). It is healthy when it votes.

mod config;
mod joining;
mod learners;
mod members;
mod program;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stdx::{Context, Error, Result};
use wire::etcd::{AlarmAction, AlarmMember};

use crate::Files;
use config::Initial;
use program::Program;

pub use config::{PORTS, Setup, argument};
pub use joining::{client_urls, host, node_of};
pub use members::{Member, Members};
pub use program::{Over, find};
pub use snapshot::{Sink, check, find_restorer, restore};

/// Between looks at a member that comes up.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What it waits for is told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A member's name is a node's and a few letters.
const NAME_MAX_BYTES: u64 = 4096;

/// Finds the members that may promote a learner.
pub type Find = Box<dyn Fn() -> rt::BoxFuture<'static, Result<Members>> + Send + Sync>;

/// How a member starts.
pub enum Begin {
    /// With what its directory has. A learner asks for members that may promote it.
    Again { others: Option<Find> },
    /// A cluster of its own.
    New,
    /// One of the cluster of these.
    Join(Members),
    /// Alone, with what its directory has: the other members are forgotten.
    Reset,
}

impl std::fmt::Debug for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Begin")
    }
}

/// A member that runs.
#[derive(Debug)]
pub struct Etcd {
    program: Program,
    own: Arc<Members>,
    setup: Setup,
    _learners: Option<rt::Task<Option<()>>>,
}

/// Files with which a server is a client of the members.
pub fn client_files(tls: &Path) -> Files {
    Files {
        cafile: Some(tls.join("server-ca.crt")),
        certfile: Some(tls.join("client.crt")),
        keyfile: Some(tls.join("client.key")),
    }
}

/// Whether there is a member in this directory, which once ran.
pub fn is_initialized(dir: &Path) -> bool {
    rt::fs::metadata(dir.join("member").join("wal")).is_ok_and(|wal| wal.is_dir())
}

/// The member's name, made of the node's when there is none, or when it is to be `new`.
///
/// # Errors
/// If it cannot be read or written.
pub fn name(dir: &Path, node_name: &str, new: bool) -> Result<String> {
    let file = dir.join("name");
    if !new && let Some(known) = rt::fs::read_record(&file, NAME_MAX_BYTES)? {
        let known = String::from_utf8_lossy(&known).trim().to_owned();
        if !known.is_empty() {
            return Ok(known);
        }
    }
    let name = format!("{node_name}-{:08x}", rt::random_u64() >> 32);
    rt::fs::create_dir_all(dir, 0o700)?;
    rt::fs::write_atomic(&file, name.as_bytes(), 0o600)?;
    Ok(name)
}

impl Etcd {
    /// Starts a member and waits until it votes in its cluster, for as long as that takes.
    ///
    /// # Errors
    /// If the program ends at once, the cluster takes nobody, or this member was removed from it.
    pub async fn start(program: PathBuf, setup: Setup, begin: Begin) -> Result<Etcd> {
        let own = Members::open(&[Setup::local_url()], &client_files(&setup.tls))?;
        let alone = format!("{}={}", setup.name, setup.peer_url());
        let (mut others, mut find) = (None, None);
        let initial = match begin {
            Begin::Again { others } => {
                find = others;
                None
            }
            Begin::New => Some(Initial { cluster: alone, ..Initial::default() }),
            Begin::Reset => Some(Initial { cluster: alone, exists: false, forces_new: true }),
            Begin::Join(members) => {
                let cluster = joining::add(&setup, &members).await?;
                others = Some(members);
                Some(Initial { cluster, exists: true, forces_new: false })
            }
        };
        let file = setup.dir.join("config");
        rt::fs::create_dir_all(&setup.dir, 0o700)?;
        rt::fs::set_mode(&setup.dir, 0o700)?;
        rt::fs::write_atomic(&file, setup.config(initial.as_ref())?.as_bytes(), 0o600)?;
        let resets = initial.is_some_and(|initial| initial.forces_new);
        let program = Program::start(program, file, setup.env.clone(), resets);
        let mut etcd = Etcd { program, own: Arc::new(own), setup, _learners: None };
        etcd.votes(others, find).await?;
        if !resets {
            let learners = learners::keep(Arc::clone(&etcd.own), client_files(&etcd.setup.tls));
            etcd._learners = Some(rt::spawn_named("etcd learners", learners));
        }
        Ok(etcd)
    }

    /// The way to this member.
    pub fn members(&self) -> &Arc<Members> {
        &self.own
    }

    /// What members are told of this one.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Waits until the program is not started any more.
    pub async fn over(&self) -> Over {
        self.program.over().await
    }

    /// Ends it, after the store that is open on it.
    pub async fn stop(&self) {
        self.program.stop().await;
    }

    async fn votes(&mut self, mut others: Option<Members>, find: Option<Find>) -> Result<()> {
        let voting = async {
            let mut told = rt::now().mono;
            let mut promoted = false;
            loop {
                let waits_for = match self.look(others.as_ref(), &mut promoted).await {
                    Ok(()) => return Ok(()),
                    Err(waits_for) => waits_for,
                };
                // Who voted before needs nobody: after all servers were away none of the others answers.
                if waits_for == LEARNS
                    && others.is_none()
                    && let Some(find) = &find
                {
                    others = find().await.ok();
                }
                if rt::now().mono.since(told) >= TELL_EVERY {
                    told = rt::now().mono;
                    log::info!("Failed to test data store connection: {waits_for}");
                }
                rt::sleep(LOOK_EVERY).await;
            }
        };
        let over = async { Err(self.program.over().await) };
        match rt::future::or(over, voting).await {
            Ok(()) => Ok(()),
            Err(Over::Removed) => Err(Error::new(REMOVED)),
            Err(Over::Failed(why)) => Err(Error::new(why)).context(|| "start the embedded etcd"),
        }
    }

    /// Looks whether this member votes, and has it promoted if it could; otherwise says what it waits for.
    async fn look(&self, others: Option<&Members>, promoted: &mut bool) -> Result<(), String> {
        let words = |status: http::grpc::Status| status.message;
        let status = self.own.status().await.map_err(words)?;
        if status.is_learner {
            if let Some(others) = others.filter(|_| !*promoted) {
                match others.promote(status.header.member_id).await {
                    Ok(()) => *promoted = true,
                    Err(status) if status.message.contains(members::NOT_IN_SYNC) => {}
                    Err(status) if status.message.contains(members::NOT_LEARNER) => {
                        *promoted = true
                    }
                    Err(status) => return Err(status.message),
                }
            }
            return Err(LEARNS.into());
        }
        if status.leader == 0 {
            return Err("etcdserver: no leader".into());
        }
        let own = status.header.member_id;
        let known = self.own.list().await.map_err(words)?;
        let Some(member) = known.iter().find(|member| member.id == own) else {
            return Err("this server is not a member of the etcd cluster".into());
        };
        let peer_url = self.setup.peer_url();
        if !member.peer_urls.contains(&peer_url) {
            log::warn!("This member moves from {} to {peer_url}", member.peer_urls.join(","));
            self.own.update(own, peer_url).await.map_err(words)?;
        }
        self.disarm(own).await.map_err(words)
    }

    /// Tells what alarms this member has, and ends them, as k3s does: what is still so raises them again.
    async fn disarm(&self, own: u64) -> Result<(), http::grpc::Status> {
        let raised = self.own.alarm(&AlarmMember::default(), AlarmAction::GET).await?.alarms;
        for alarm in raised.iter().filter(|alarm| alarm.member_id == own) {
            log::warn!("Alarm on etcd server: {:?}", alarm.alarm);
            self.own.alarm(alarm, AlarmAction::DEACTIVATE).await?;
        }
        Ok(())
    }
}

const LEARNS: &str = "this server has not yet been promoted from learner to voting member";

/// What is said where this member is none any more, as k3s has it.
pub const REMOVED: &str =
    "this node has been removed from the cluster please restart k3rs to rejoin the cluster";
