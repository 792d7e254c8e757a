//! The audit log: who asked for what, when, and how it ended, as far as a policy says that it is told.
//!
//! Neighbours: `web` and `server` begin a [`Trail`] for each request and tell it how the request ended; authorization
//! and admission annotate it through [`Witness`]. Without a policy and a place for events there is no log and no trail.
//!
//! Invariants: a request whose trail began ends in the log, however it ends (a client that goes away, a panic); what
//! waits to be written is bounded, and what is lost is counted and logged.

mod event;
mod file;
mod policy;
mod sink;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Status, Value};
use stdx::metrics::{Text, number};
use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::auth::Attributes;
use crate::files;
use crate::user::{User, Witness};
pub(crate) use event::Facts;
use event::{Event, Reference};
use file::{LogFile, Rules};
use policy::{LEVELS, Level, Policy, Stage, Verdict};
pub use sink::{AuditMode, AuditSink};
use sink::{EVENT_BYTES, Sink};

/// An object in an event is not longer, as a body is not.
pub(crate) const OBJECT_MAX_BYTES: usize = 3 << 20;
/// How long the end of the program waits for these.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Says that a request's or answer's object was too large, as upstream's.
const TRUNCATED: &str = "audit.k8s.io/truncated";
const PATCH_PREFIX: &str = "patch.webhook.admission.k8s.io/";

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
    pub log: AuditSink,
    /// A kubeconfig: events go to a webhook, too.
    pub webhook_file: Option<PathBuf>,
    /// Before it is tried again; each pause is half longer.
    pub webhook_pause: Duration,
    pub webhook: AuditSink,
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
            log: AuditSink::default(),
            webhook_file: None,
            webhook_pause: Duration::from_secs(10),
            webhook: AuditSink::webhook(),
        }
    }
}

/// The log.
pub struct Audit {
    policy: Policy,
    /// One or both of the log and the webhook.
    sinks: Vec<Arc<Sink>>,
    counts: Counts,
}

/// What `/metrics` tells.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: AtomicU64,
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
        let mut sinks = Vec::new();
        if let Some(path) = options.path.clone() {
            let rules = Rules {
                path,
                max_size: options.max_size.into(),
                max_backups: options.max_backups,
                max_age_days: options.max_age_days,
                compresses: options.compresses,
            };
            let log = LogFile::open(rules).context(|| "ensureLogFile")?;
            match policy {
                None => log::info!(
                    "No audit policy file provided, no events will be recorded for log backend"
                ),
                Some(_) => sinks.push(Sink::log(log, &options.log, options.is_legacy)),
            }
        }
        if let Some(file) = &options.webhook_file {
            match policy {
                None => log::info!(
                    "No audit policy file provided, no events will be recorded for webhook backend"
                ),
                Some(_) => {
                    sinks.push(Sink::webhook(file, options.webhook_pause, &options.webhook)?)
                }
            }
        }
        let Some(policy) = policy.filter(|_| !sinks.is_empty()) else { return Ok(None) };
        Ok(Some(Arc::new(Audit { policy, sinks, counts: Counts::default() })))
    }

    /// Waits until what was told is in the log, for a program that is about to end; for `FLUSH_MAX` at most.
    pub async fn flush(&self) {
        let written = async {
            for sink in &self.sinks {
                sink.drain().await;
            }
        };
        if rt::timeout(FLUSH_MAX, written).await.is_err() {
            log::warn!("The audit log takes too long: its last events are lost");
        }
    }

    /// Appends what `/metrics` tells.
    pub(crate) fn write_metrics(&self, text: &mut Text) {
        let errors: Vec<_> = self.sinks.iter().map(|sink| (sink.name, &sink.errors)).collect();
        self.counts.write(&errors, text);
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
}

impl Counts {
    /// Appends them, with the errors of each plugin.
    fn write(&self, errors: &[(&str, &AtomicU64)], text: &mut Text) {
        let mut put = |name: &str, help: &str, lines: &[(&str, &str, &AtomicU64)]| {
            text.family(name, "counter", help);
            for (label, value, count) in lines {
                let label = [(*label, *value)];
                let labels = if value.is_empty() { &[] } else { &label[..] };
                text.sample(name, labels, number(count.load(Ordering::Relaxed)), None);
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
            &errors.iter().map(|(plugin, n)| ("plugin", *plugin, *n)).collect::<Vec<_>>(),
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
        if self.tell(Stage::RequestReceived, at).await {
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

    /// Tells everybody; false if it is lost to one that must have it.
    async fn tell(&self, stage: Stage, at: Wall) -> bool {
        if self.verdict.omits(stage) {
            return true;
        }
        let mut is_told = true;
        for (sink, line) in self.lines(stage, at) {
            let done = sink.process(line).await;
            is_told &= done || sink.options.mode != AuditMode::BlockingStrict;
        }
        is_told
    }

    /// The lines of an event, for each place one; `None` if it is longer than an administrator wants one there.
    fn lines(&self, stage: Stage, at: Wall) -> Vec<(Arc<Sink>, Option<Vec<u8>>)> {
        self.audit.counts.events.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let event = &mut state.event;
        let each =
            self.audit.sinks.iter().map(|sink| (Arc::clone(sink), line(event, sink, stage, at)));
        each.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Single steps under the lock: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of an event for one place.
fn line(event: &mut Event, sink: &Sink, stage: Stage, at: Wall) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if sink.is_legacy {
        out.extend_from_slice(event.line(stage).as_bytes());
        return Some(out);
    }
    let max_bytes = sink.options.event_max_bytes.unwrap_or(usize::MAX);
    event.write_json(stage, at, &mut out);
    if out.len() > max_bytes {
        // The other place, and a later stage, may have them.
        let objects = (event.request.take(), event.response.take());
        let is_new = event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned()).is_none();
        out.clear();
        event.write_json(stage, at, &mut out);
        (event.request, event.response) = objects;
        if is_new {
            event.annotations.remove(TRUNCATED);
        }
    }
    if out.len() > max_bytes {
        sink.failed(1, "event is too large even after truncating");
        return None;
    }
    Some(out)
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
        let mut lines: Vec<(Arc<Sink>, Vec<u8>)> = Vec::new();
        for (sink, line) in told.flat_map(|stage| self.lines(stage, now)) {
            let Some(line) = line else { continue };
            // Nobody waits for these, so nobody but this bounds them.
            match sink.waits(line.len() + EVENT_BYTES) {
                true => lines.push((sink, line)),
                false => sink.failed(1, "too much waits to be written"),
            }
        }
        if lines.is_empty() {
            return;
        }
        let writing = async move {
            for (sink, line) in lines {
                let n_bytes = line.len() + EVENT_BYTES;
                sink.process(Some(line)).await;
                sink.waits_no_more(n_bytes);
            }
        };
        rt::spawn_named("audit event", writing).detach();
    }
}
