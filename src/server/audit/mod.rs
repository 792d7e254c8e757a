//! The audit log: who asked for what, when, and how it ended, as far as a policy says that it is told.
//!
//! Neighbours: `web` and `server` begin a [`Trail`] for each request and tell it how the request ended; authorization
//! and admission annotate it through [`Witness`]. Without a policy and a file for it there is no log and no trail.
//!
//! Invariants: a request whose trail began ends in the log, however it ends (a client that goes away, a panic); what
//! waits to be written is bounded, and what is lost is counted and logged.

mod event;
mod file;
mod policy;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Status, Value};
use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::auth::Attributes;
use crate::files;
use crate::user::{User, Witness};
pub(crate) use event::Facts;
use event::{Event, Reference};
use file::{LogFile, Rules};
use policy::{LEVELS, Level, Policy, Stage, Verdict};

/// An object in an event is not longer, as a body is not.
pub(crate) const OBJECT_MAX_BYTES: usize = 3 << 20;
/// What may wait to be written of requests that have ended already, in bytes.
const WAITING_MAX_BYTES: usize = 16 << 20;
/// How long the end of the program waits for these.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Of an event, beside its line.
const EVENT_BYTES: usize = 256;
/// Says that a request's or answer's object was too large, as upstream's.
const TRUNCATED: &str = "audit.k8s.io/truncated";
const PATCH_PREFIX: &str = "patch.webhook.admission.k8s.io/";

/// `--audit-log-mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMode {
    /// A request waits until it is written.
    #[default]
    Blocking,
    /// And one of which it cannot be written that it came is refused.
    BlockingStrict,
    /// Written by and by.
    Batch,
}

/// What an administrator wants of the audit log: kube-apiserver's flags of these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    pub policy_file: Option<PathBuf>,
    /// `-` is the standard output.
    pub path: Option<PathBuf>,
    /// In days; 0 is for ever.
    pub max_age_days: u32,
    /// 0 is any number.
    pub max_backups: usize,
    /// In MB; 0 is 100.
    pub max_size: u32,
    pub compresses: bool,
    /// One line of text an event, not JSON.
    pub is_legacy: bool,
    pub mode: AuditMode,
    /// Events that wait in batch mode; more are dropped.
    pub buffer_size: usize,
    /// Longer events lose their objects, and are dropped if that does not help; in bytes.
    pub event_max_bytes: Option<usize>,
}

impl Default for AuditOptions {
    fn default() -> AuditOptions {
        AuditOptions {
            policy_file: None,
            path: None,
            max_age_days: 0,
            max_backups: 0,
            max_size: 0,
            compresses: false,
            is_legacy: false,
            mode: AuditMode::Blocking,
            buffer_size: 10_000,
            event_max_bytes: None,
        }
    }
}

/// The log.
pub struct Audit {
    policy: Policy,
    is_legacy: bool,
    event_max_bytes: usize,
    mode: AuditMode,
    log: Arc<rt::lock::Mutex<LogFile>>,
    /// Who removes and compresses old files.
    tidying: Arc<rt::lock::Mutex<()>>,
    /// Of batch mode.
    queue: Option<rt::channel::Sender<Vec<u8>>>,
    waiting_bytes: AtomicUsize,
    /// Nothing waits any more.
    drained: rt::Event,
    counts: Counts,
}

/// What `/metrics` tells.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: AtomicU64,
    errors: AtomicU64,
    rejected: AtomicU64,
    levels: [AtomicU64; 4],
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

impl Audit {
    /// Reads the policy and opens the log; nothing without both.
    ///
    /// # Errors
    /// If either cannot be, in upstream's words.
    pub fn open(options: &AuditOptions) -> Result<Option<Arc<Audit>>> {
        let policy = options.policy_file.as_deref().map(|path| {
            let shown = path.display();
            let text = files::text(path)
                .map_err(|why| format!("failed to read file path {shown:?}: {why}"));
            let read = text.and_then(|text| {
                Policy::parse(&text).map_err(|why| format!("{why}: from file {shown}"))
            });
            read.map_err(|why| Error::new(format!("loading audit policy file: {why}")))
        });
        let policy = policy.transpose()?;
        let Some(path) = options.path.clone() else { return Ok(None) };
        let rules = Rules {
            path,
            max_size: options.max_size.into(),
            max_backups: options.max_backups,
            max_age_days: options.max_age_days,
            compresses: options.compresses,
        };
        let log = LogFile::open(rules).context(|| "ensureLogFile")?;
        let Some(policy) = policy else {
            log::info!("No audit policy file provided, no events will be recorded for log backend");
            return Ok(None);
        };
        let (queue, receiver) = match options.mode {
            AuditMode::Batch => Some(rt::channel::bounded(options.buffer_size.max(1))).unzip(),
            _ => (None, None),
        };
        let audit = Arc::new(Audit {
            policy,
            is_legacy: options.is_legacy,
            event_max_bytes: options.event_max_bytes.unwrap_or(usize::MAX),
            mode: options.mode,
            log: Arc::new(rt::lock::Mutex::new(log)),
            tidying: Arc::default(),
            queue,
            waiting_bytes: AtomicUsize::new(0),
            drained: rt::Event::new(),
            counts: Counts::default(),
        });
        if let Some(receiver) = receiver {
            let weak = Arc::downgrade(&audit);
            let writing = async move {
                while let Ok(line) = receiver.recv().await {
                    let Some(audit) = weak.upgrade() else { return };
                    let n_bytes = line.len() + EVENT_BYTES;
                    audit.write(line).await;
                    audit.waits_no_more(n_bytes);
                }
            };
            rt::spawn_named("audit log", writing).detach();
        }
        Ok(Some(audit))
    }

    /// Waits until what was told is in the log, for a program that is about to end; for `FLUSH_MAX` at most.
    pub async fn flush(&self) {
        let written = async {
            loop {
                let drained = self.drained.listen();
                if self.waiting_bytes.load(Ordering::SeqCst) == 0 {
                    return;
                }
                drained.await;
            }
        };
        if rt::timeout(FLUSH_MAX, written).await.is_err() {
            log::warn!("The audit log takes too long: its last events are lost");
        }
    }

    fn waits_no_more(&self, n_bytes: usize) {
        if self.waiting_bytes.fetch_sub(n_bytes, Ordering::SeqCst) == n_bytes {
            self.drained.notify(usize::MAX);
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Begins the trail of a request, if the policy wants one; of a user who is not known if it is `None`.
    pub(crate) fn begin(
        self: &Arc<Audit>,
        user: Option<&User>,
        asked: &Attributes,
        facts: impl FnOnce() -> Facts,
    ) -> Option<Arc<Trail>> {
        let verdict = self.policy.judge(user, asked);
        self.counts.levels[verdict.level as usize].fetch_add(1, Ordering::Relaxed);
        if verdict.level == Level::None {
            return None;
        }
        // Upstream's long requests.
        let streams = ["attach", "exec", "proxy", "log", "portforward"];
        let is_long = asked.verb == "watch" || streams.contains(&asked.subresource.as_str());
        let event = Event {
            level: verdict.level,
            facts: facts(),
            verb: asked.verb.clone(),
            user: user.cloned(),
            impersonated: None,
            object: Reference::of(asked),
            status: None,
            request: None,
            response: None,
            annotations: Default::default(),
        };
        Some(Arc::new(Trail {
            audit: Arc::clone(self),
            verdict,
            is_long,
            state: Mutex::new(State { event, is_started: false, is_ended: false }),
        }))
    }

    /// Writes a line as the mode has it; false if it is lost.
    async fn process(self: &Arc<Audit>, line: Option<Vec<u8>>) -> bool {
        let Some(line) = line else { return false };
        match &self.queue {
            None => self.write(line).await,
            Some(queue) => {
                let n_bytes = line.len() + EVENT_BYTES;
                let waiting = self.waiting_bytes.fetch_add(n_bytes, Ordering::SeqCst);
                let fits = waiting + n_bytes <= WAITING_MAX_BYTES;
                let sent = fits && queue.try_send(line).is_ok();
                if !sent {
                    self.waits_no_more(n_bytes);
                    self.failed("audit buffer queue blocked");
                }
                sent
            }
        }
    }

    async fn write(self: &Arc<Audit>, line: Vec<u8>) -> bool {
        let mut log = self.log.lock_arc().await;
        let (changed, rules) = rt::unblock(move || {
            let written = log.write(&line);
            // Only then is it looked at again.
            let rules = matches!(written, Ok(true)).then(|| log.rules().clone());
            (written, rules)
        })
        .await;
        if let Some(rules) = rules {
            let one = Arc::clone(&self.tidying);
            let tidy = async move {
                let _one = one.lock_arc().await;
                let done = rt::unblock(move || rules.tidy(rt::now().wall)).await;
                if let Err(error) = done {
                    log::warn!("tidy up old audit logs: {error}");
                }
            };
            rt::spawn_named("old audit logs", tidy).detach();
        }
        match changed {
            Ok(_) => true,
            Err(error) => {
                self.failed(&error.to_string());
                false
            }
        }
    }

    /// Counts an event that is lost; the first of them, and every thousandth, is logged.
    fn failed(&self, why: &str) {
        let n = self.counts.errors.fetch_add(1, Ordering::Relaxed);
        if n.is_multiple_of(1000) {
            log::error!(
                "Error in audit plugin 'log' affecting 1 audit events ({} since the start): {why}",
                n + 1
            );
        }
    }
}

impl Counts {
    /// Appends them in Prometheus' format.
    pub(crate) fn write(&self, out: &mut String) {
        let mut put = |name: &str, help: &str, lines: &[(&str, &str, &AtomicU64)]| {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
            for (label, value, count) in lines {
                let n = count.load(Ordering::Relaxed);
                let labels = match *label {
                    "" => String::new(),
                    label => format!("{{{label}=\"{value}\"}}"),
                };
                out.push_str(&format!("{name}{labels} {n}\n"));
            }
        };
        put(
            "apiserver_audit_event_total",
            "Counter of audit events generated and sent to the audit backend.",
            &[("", "", &self.events)],
        );
        put(
            "apiserver_audit_error_total",
            "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
            &[("plugin", "log", &self.errors)],
        );
        let levels: Vec<_> =
            LEVELS.iter().zip(&self.levels).map(|(level, n)| ("level", *level, n)).collect();
        put(
            "apiserver_audit_level_total",
            "Counter of policy levels for audit events (1 per request).",
            &levels,
        );
        put(
            "apiserver_audit_requests_rejected_total",
            "Counter of apiserver requests rejected due to an error in audit logging backend.",
            &[("", "", &self.rejected)],
        );
    }
}

/// The trail of one request. Its last holder ends it, if nobody did.
pub(crate) struct Trail {
    audit: Arc<Audit>,
    verdict: Verdict,
    is_long: bool,
    state: Mutex<State>,
}

struct State {
    event: Event,
    is_started: bool,
    is_ended: bool,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trail({:?})", self.verdict.level)
    }
}

impl Trail {
    /// Tells that the request has come.
    ///
    /// # Errors
    /// 500, where nothing is done that cannot be told.
    pub(crate) async fn received(&self) -> Result<(), Status> {
        let at = self.state().event.facts.received;
        if self.tell(Stage::RequestReceived, at).await
            || self.audit.mode != AuditMode::BlockingStrict
        {
            return Ok(());
        }
        self.audit.counts.rejected.fetch_add(1, Ordering::Relaxed);
        self.state().is_ended = true;
        Err(Status::internal("failed to store audit event"))
    }

    /// Tells that who asks is not who it says it is; `how` is what it showed.
    pub(crate) async fn refused(&self, status: &Status, how: String) {
        {
            let mut state = self.state();
            state.is_ended = true;
            let seen = event::Status { message: how, ..event::Status::code(status.code()) };
            state.event.status = Some(seen);
        }
        self.tell(Stage::ResponseStarted, rt::now().wall).await;
    }

    pub(crate) fn impersonates(&self, user: &User) {
        self.state().event.impersonated = Some(user.clone());
    }

    /// A request that lasts: its answer's beginning is told, and its end when it ends.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Whether objects that are sent are told, and not only named.
    pub(crate) fn wants_requests(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    pub(crate) fn wants_responses(&self) -> bool {
        self.verdict.level >= Level::RequestResponse
    }

    pub(crate) fn omits_managed_fields(&self) -> bool {
        self.verdict.omits_managed_fields
    }

    /// Names what is sent as far as the path did not.
    pub(crate) fn names(&self, tree: &Value) {
        if let Some(object) = &mut self.state().event.object {
            object.complete(tree);
        }
    }

    /// What was sent, as JSON.
    pub(crate) fn sent(&self, json: Vec<u8>) {
        let json = self.bounded(json);
        self.state().event.request = json;
    }

    /// What was answered, as JSON; `None` if it is too long.
    pub(crate) fn answered(&self, json: Option<Vec<u8>>) {
        let json = match json {
            Some(json) => self.bounded(json),
            None => {
                self.annotate(TRUNCATED, "true");
                None
            }
        };
        self.state().event.response = json;
    }

    fn bounded(&self, json: Vec<u8>) -> Option<Vec<u8>> {
        if json.len() > OBJECT_MAX_BYTES {
            self.annotate(TRUNCATED, "true");
            return None;
        }
        Some(json)
    }

    /// A `Status` that is the answer.
    pub(crate) fn says(&self, tree: &Value, code: u16) {
        self.state().event.status = Some(event::Status::of(tree, code));
    }

    /// A refusal, which is an object of its own where answers are told.
    pub(crate) fn fails(&self, status: &Status) {
        let tree = status.to_tree();
        self.says(&tree, status.code());
        if self.wants_responses() {
            let mut json = Vec::new();
            api::codec::write_tree_json(&tree, &mut json);
            self.answered(Some(json));
        }
    }

    /// Tells that the answer begins, if that is told of this request.
    pub(crate) async fn starts(&self, code: u16) {
        {
            let mut state = self.state();
            state.is_started = true;
            state.event.status.get_or_insert_default().code = code;
        }
        if self.is_long {
            self.tell(Stage::ResponseStarted, rt::now().wall).await;
        }
    }

    /// Tells the end.
    pub(crate) async fn completes(&self) {
        {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_ended, true) {
                return;
            }
        }
        self.tell(Stage::ResponseComplete, rt::now().wall).await;
    }

    async fn tell(&self, stage: Stage, at: Wall) -> bool {
        if self.verdict.omits(stage) {
            return true;
        }
        let line = self.line(stage, at);
        self.audit.process(line).await
    }

    /// The line of an event; `None` if it is longer than an administrator wants one.
    fn line(&self, stage: Stage, at: Wall) -> Option<Vec<u8>> {
        self.audit.counts.events.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::new();
        let mut state = self.state();
        let event = &mut state.event;
        if self.audit.is_legacy {
            out.extend_from_slice(event.line(stage).as_bytes());
            return Some(out);
        }
        event.write_json(stage, at, &mut out);
        if out.len() > self.audit.event_max_bytes {
            (event.request, event.response) = (None, None);
            event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
            out.clear();
            event.write_json(stage, at, &mut out);
        }
        if out.len() <= self.audit.event_max_bytes {
            return Some(out);
        }
        drop(state);
        self.audit.failed("event is too large even after truncating");
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Single steps under the lock: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Trail {
    fn annotate(&self, key: &str, value: &str) {
        if key.starts_with(PATCH_PREFIX) && !self.wants_requests() {
            return;
        }
        let annotations = &mut self.state().event.annotations;
        if !annotations.contains_key(key) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    }
}

impl Drop for Trail {
    /// The request ended without an answer: its client went away, or it panicked. Or its answer has come to its end.
    fn drop(&mut self) {
        let panics = std::thread::panicking();
        let now = rt::now().wall;
        let mut stages = Vec::new();
        {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_ended, true) {
                return;
            }
            let early = event::Status {
                status: "Success".into(),
                message: "Connection closed early".into(),
                ..event::Status::code(200)
            };
            if panics {
                state.event.status = Some(event::Status {
                    status: "Failure".into(),
                    message: "APIServer panic'd".into(),
                    reason: "InternalError".into(),
                    ..event::Status::code(500)
                });
                stages.push(Stage::Panic);
            } else {
                if !state.is_started && self.is_long {
                    stages.push(Stage::ResponseStarted);
                }
                state.event.status.get_or_insert(early);
                stages.push(Stage::ResponseComplete);
            }
        }
        let told = stages.into_iter().filter(|stage| !self.verdict.omits(*stage));
        let lines: Vec<Vec<u8>> = told.filter_map(|stage| self.line(stage, now)).collect();
        let n_bytes = lines.iter().map(|line| line.len() + EVENT_BYTES).sum();
        let audit = Arc::clone(&self.audit);
        if lines.is_empty() {
            return;
        }
        // Nobody waits for these, so nobody but this bounds them.
        if audit.waiting_bytes.fetch_add(n_bytes, Ordering::SeqCst) + n_bytes > WAITING_MAX_BYTES {
            audit.waits_no_more(n_bytes);
            lines.iter().for_each(|_| audit.failed("too much waits to be written"));
            return;
        }
        let writing = async move {
            for line in lines {
                audit.process(Some(line)).await;
            }
            audit.waits_no_more(n_bytes);
        };
        rt::spawn_named("audit event", writing).detach();
    }
}
