//! Where events go: the log's file, or an administrator's webhook; at once, or by and by in batches.
//!
//! Source: k8s.io/apiserver/plugin/pkg/audit/{buffered,webhook}.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use client::{Access, Hook};
use rt::channel::{LazySender, Receiver};
use rt::lock::Semaphore;
use stdx::time::Mono;
use stdx::{Context, Result};

use super::file::LogFile;

/// What may wait to be written of requests that have ended already, in bytes, for each place.
pub(super) const WAITING_MAX_BYTES: usize = 16 << 20;
/// Of an event, beside its line.
pub(super) const EVENT_BYTES: usize = 256;
/// Batches that are sent to a webhook at a time: each may be tried again for a minute.
const SENDING_MAX: usize = 8;
/// Between two batches.
const PACE_MAX: Duration = Duration::from_secs(3600);
/// Nobody is interested in what a webhook says.
const ANSWER_MAX_BYTES: usize = 64 << 10;
/// How the line of an event begins, and not an item of a list.
const KIND: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;

/// `--audit-log-mode`, `--audit-webhook-mode`
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

/// How events go to one of the places: the flags of both that end alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSink {
    pub mode: AuditMode,
    /// Events that wait in batch mode; more are dropped.
    pub buffer_size: usize,
    /// Events of a batch, and how long the first of them waits for the others.
    pub batch_max: usize,
    pub batch_wait: Duration,
    /// The time of one batch on the average, and how many of them may come at once after a pause.
    pub throttle: Option<(Duration, usize)>,
    /// Longer events lose their objects, and are dropped if that does not help; in bytes.
    pub event_max_bytes: Option<usize>,
    /// A batch is not much longer.
    pub batch_max_bytes: usize,
}

impl Default for AuditSink {
    /// The log's.
    fn default() -> AuditSink {
        AuditSink {
            mode: AuditMode::Blocking,
            buffer_size: 10_000,
            batch_max: 1,
            batch_wait: Duration::ZERO,
            throttle: None,
            event_max_bytes: None,
            batch_max_bytes: 10 << 20,
        }
    }
}

impl AuditSink {
    /// The webhook's.
    pub fn webhook() -> AuditSink {
        AuditSink {
            mode: AuditMode::Batch,
            batch_max: 400,
            batch_wait: Duration::from_secs(30),
            throttle: Some((Duration::from_millis(100), 15)),
            ..AuditSink::default()
        }
    }
}

enum Place {
    Log {
        file: Arc<rt::lock::Mutex<LogFile>>,
        /// Who removes and compresses old files.
        tidying: Arc<rt::lock::Mutex<()>>,
    },
    Webhook(Box<Hook>),
}

/// One place.
pub(super) struct Sink {
    pub(super) name: &'static str,
    pub(super) options: AuditSink,
    pub(super) is_legacy: bool,
    place: Place,
    /// Of batch mode.
    queue: Option<LazySender<Vec<u8>>>,
    sending: Arc<Semaphore>,
    waiting_bytes: AtomicUsize,
    /// Nothing waits any more.
    drained: rt::Event,
    /// Somebody waits for that: batches are not filled up.
    hurries: rt::Event,
    n_hurrying: AtomicUsize,
    pub(super) errors: AtomicU64,
}

impl Sink {
    pub(super) fn log(file: LogFile, options: &AuditSink, is_legacy: bool) -> Arc<Sink> {
        let file = Arc::new(rt::lock::Mutex::new(file));
        Sink::new("log", Place::Log { file, tidying: Arc::default() }, options, is_legacy)
    }

    /// # Errors
    /// If the kubeconfig cannot be used.
    pub(super) fn webhook(
        kubeconfig: &Path,
        first_pause: Duration,
        options: &AuditSink,
    ) -> Result<Arc<Sink>> {
        let hook = Access::from_kubeconfig_file(kubeconfig)
            .and_then(|access| Hook::new(access, "kube-apiserver"))
            .context(|| "initializing audit webhook")?;
        let place = Place::Webhook(Box::new(hook.persistent(first_pause)));
        Ok(Sink::new("webhook", place, options, false))
    }

    fn new(name: &'static str, place: Place, options: &AuditSink, is_legacy: bool) -> Arc<Sink> {
        let (queue, receiver) = match options.mode {
            AuditMode::Batch => {
                Some(rt::channel::bounded_lazily(options.buffer_size.max(1))).unzip()
            }
            _ => (None, None),
        };
        let sink = Arc::new(Sink {
            name,
            options: options.clone(),
            is_legacy,
            place,
            queue,
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            waiting_bytes: AtomicUsize::new(0),
            drained: rt::Event::new(),
            hurries: rt::Event::new(),
            n_hurrying: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
        });
        if let Some(receiver) = receiver {
            let batches = batches(Arc::downgrade(&sink), receiver, options.clone());
            rt::spawn_named("audit log", batches).detach();
        }
        sink
    }

    /// Puts a line as the mode has it; false if it is lost.
    pub(super) async fn process(self: &Arc<Sink>, line: Option<Vec<u8>>) -> bool {
        let Some(line) = line else { return false };
        match &self.queue {
            None => self.put(vec![line]).await,
            Some(queue) => {
                let n_bytes = line.len() + EVENT_BYTES;
                let fits = self.waits(n_bytes);
                let sent = fits && queue.try_send(line).is_ok();
                if !sent {
                    if fits {
                        self.waits_no_more(n_bytes);
                    }
                    self.failed(1, "audit buffer queue blocked");
                }
                sent
            }
        }
    }

    /// Counts what waits; false if it is too much.
    pub(super) fn waits(&self, n_bytes: usize) -> bool {
        let waiting = self.waiting_bytes.fetch_add(n_bytes, Ordering::SeqCst);
        let fits = waiting + n_bytes <= WAITING_MAX_BYTES;
        if !fits {
            self.waits_no_more(n_bytes);
        }
        fits
    }

    pub(super) fn waits_no_more(&self, n_bytes: usize) {
        if self.waiting_bytes.fetch_sub(n_bytes, Ordering::SeqCst) == n_bytes {
            self.drained.notify(usize::MAX);
        }
    }

    /// Completes when nothing waits, and nothing is being written.
    pub(super) async fn drain(&self) {
        self.n_hurrying.fetch_add(1, Ordering::SeqCst);
        self.hurries.notify(usize::MAX);
        loop {
            let drained = self.drained.listen();
            if self.waiting_bytes.load(Ordering::SeqCst) == 0 {
                break;
            }
            drained.await;
        }
        self.n_hurrying.fetch_sub(1, Ordering::SeqCst);
        if let Place::Log { file, .. } = &self.place {
            // The end of the process cuts a write that is under way where its page ends.
            drop(file.lock().await);
        }
    }

    /// Puts lines where they belong; false if they are lost.
    async fn put(self: &Arc<Sink>, lines: Vec<Vec<u8>>) -> bool {
        let n_lines = lines.len();
        let done = match &self.place {
            Place::Log { file, tidying } => write(file, tidying, lines.concat()).await,
            Place::Webhook(hook) => hook.ask(&list(lines), ANSWER_MAX_BYTES).await.map(drop),
        };
        if let Err(why) = &done {
            self.failed(n_lines, &why.to_string());
        }
        done.is_ok()
    }

    /// Counts events that are lost; the first of them, and every thousandth, is logged.
    pub(super) fn failed(&self, n_events: usize, why: &str) {
        let n_events = n_events as u64;
        let before = self.errors.fetch_add(n_events, Ordering::Relaxed);
        if before == 0 || before / 1000 != (before + n_events) / 1000 {
            log::error!(
                "Error in audit plugin '{}' affecting {n_events} audit events ({} since the start): {why}",
                self.name,
                before + n_events
            );
        }
    }
}

/// Appends lines to the log's file, and has it looked at if another was begun.
async fn write(
    file: &Arc<rt::lock::Mutex<LogFile>>,
    tidying: &Arc<rt::lock::Mutex<()>>,
    lines: Vec<u8>,
) -> Result<()> {
    let mut file = file.lock_arc().await;
    let (written, rules) = rt::unblock(move || {
        let written = file.write(&lines);
        // Only then is it looked at again.
        let rules = matches!(written, Ok(true)).then(|| file.rules().clone());
        (written, rules)
    })
    .await;
    if let Some(rules) = rules {
        let one = Arc::clone(tidying);
        let tidy = async move {
            let _one = one.lock_arc().await;
            let done = rt::unblock(move || rules.tidy(rt::now().wall)).await;
            if let Err(error) = done {
                log::warn!("tidy up old audit logs: {error}");
            }
        };
        rt::spawn_named("old audit logs", tidy).detach();
    }
    written.map(drop)
}

/// An `EventList` of the events in lines.
fn list(lines: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out =
        br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (idx, line) in lines.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        match line.strip_prefix(KIND) {
            Some(rest) => {
                out.push(b'{');
                out.extend_from_slice(rest.trim_ascii_end());
            }
            None => out.extend_from_slice(line.trim_ascii_end()),
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}

/// Gathers lines and puts them, while there is the sink.
async fn batches(sink: Weak<Sink>, lines: Receiver<Vec<u8>>, options: AuditSink) {
    let mut pace = options.throttle.map(|(each, burst)| Pace::new(each, burst));
    while let Ok(first) = lines.recv().await {
        let Some(sink) = sink.upgrade() else { return };
        let mut batch = vec![first];
        let mut n_bytes = batch[0].len();
        let until = rt::now().mono + options.batch_wait;
        while batch.len() < options.batch_max && n_bytes < options.batch_max_bytes {
            let hurries = sink.hurries.listen();
            let left = until.since(rt::now().mono);
            let more = if sink.n_hurrying.load(Ordering::SeqCst) > 0 || left.is_zero() {
                lines.try_recv().ok()
            } else {
                let hurried = async {
                    hurries.await;
                    None
                };
                let next = rt::future::or(async { lines.recv().await.ok() }, hurried);
                match rt::timeout(left, next).await {
                    Ok(None) => continue,
                    more => more.ok().flatten(),
                }
            };
            let Some(line) = more else { break };
            n_bytes += line.len();
            batch.push(line);
        }
        if let Some(pace) = &mut pace {
            let pause = pace.next(rt::now().mono);
            let hurries = sink.hurries.listen();
            if !pause.is_zero() && sink.n_hurrying.load(Ordering::SeqCst) == 0 {
                rt::future::or(rt::sleep(pause), hurries).await;
            }
        }
        let n_waited = n_bytes + batch.len() * EVENT_BYTES;
        match sink.place {
            Place::Log { .. } => {
                sink.put(batch).await;
                sink.waits_no_more(n_waited);
            }
            // One that is tried again keeps no other waiting, within bounds.
            Place::Webhook(_) => {
                let place = sink.sending.acquire_arc().await;
                let sending = async move {
                    sink.put(batch).await;
                    sink.waits_no_more(n_waited);
                    drop(place);
                };
                rt::spawn_named("audit events", sending).detach();
            }
        }
    }
}

/// A bucket of tokens: how long a batch has to wait.
#[derive(Debug)]
struct Pace {
    each: Duration,
    burst: u32,
    /// When the bucket is full again.
    full_at: Option<Mono>,
}

impl Pace {
    fn new(each: Duration, burst: usize) -> Pace {
        Pace {
            each: each.min(PACE_MAX),
            burst: u32::try_from(burst).unwrap_or(u32::MAX),
            full_at: None,
        }
    }

    /// Takes a token that is there after the time that is said.
    fn next(&mut self, now: Mono) -> Duration {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now) + self.each;
        self.full_at = Some(full_at);
        full_at.since(now).saturating_sub(self.each.saturating_mul(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_a_pace() {
        let mut pace = Pace::new(Duration::from_millis(100), 3);
        let start = rt::now().mono;
        let mut at = |ms: u64| pace.next(start + Duration::from_millis(ms)).as_millis();
        // Three at once, then one each tenth of a second.
        assert_eq!([at(0), at(0), at(0), at(0), at(0)], [0, 0, 0, 100, 200]);
        assert_eq!([at(10_000), at(10_000), at(10_000), at(10_000)], [0, 0, 0, 100]);
        let mut slow = Pace::new(Duration::MAX, 1);
        assert_eq!((slow.next(start), slow.next(start)), (Duration::ZERO, PACE_MAX));
    }

    #[test]
    fn lists_are_upstreams() {
        let line = |id: &str| [KIND, format!("\"auditID\":\"{id}\"}}\n").as_bytes()].concat();
        let text = String::from_utf8(list(vec![line("a"), line("b")])).unwrap();
        assert_eq!(
            text,
            "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[{\"auditID\":\"a\"},{\"auditID\":\"b\"}]}\n"
        );
    }
}
