//! What nodes said lately that they use: of each node two samples, whose difference is a rate.
//!
//! Nobody samples ahead of time. Who asks makes the second sample of what was asked before, or both
//! where nobody asked lately; once nobody asks any more, nothing is kept.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use stdx::{OrdMap, time::Mono};

/// How long a window becomes before a later one begins: a little less than metrics-server's resolution in
/// k3s, so that who asks every 15 seconds, as autoscalers do, is told of each of them.
const RESOLUTION: Duration = Duration::from_secs(14);

/// The shortest window: whoever asks first waits for it.
pub(crate) const WINDOW_MIN: Duration = Duration::from_secs(1);

/// How old the last sample may be to begin a window.
const KEPT_MAX: Duration = Duration::from_secs(60);

/// A container that began within the window has used what it used since it began, if that is this long ago.
const YOUNG_MIN_MS: i64 = 10_000;

/// The latest time that is believed: a node may say anything, and differences of times must fit.
const TIME_MAX_MS: i64 = 1 << 53;

/// Containers of one node that are remembered, and the longest name of anything.
const CONTAINERS_MAX: usize = 4096;
const NAME_MAX_BYTES: usize = 253;

/// What one thing had used at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Point {
    /// Unix time in milliseconds; 0 if it was not said.
    at_ms: i64,
    started_ms: i64,
    cpu_ns: u64,
    memory_bytes: u64,
}

/// What one thing used over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// The end of the window, Unix time in milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) window_ms: i64,
    /// Billionths of a processor.
    pub(crate) cpu_nano: u64,
    pub(crate) memory_bytes: u64,
}

/// What a node said at one time.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    taken: Mono,
    node: Point,
    /// By namespace and name of the pod, and the container's name.
    pods: OrdMap<(String, String), OrdMap<String, Point>>,
}

/// Two samples of a node.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    before: Arc<Sample>,
    last: Arc<Sample>,
}

impl Point {
    fn since(&self, before: &Point) -> Option<Usage> {
        let window_ms = self.at_ms - before.at_ms;
        let used = self.cpu_ns.checked_sub(before.cpu_ns)?;
        let cpu = u128::from(used) * 1000 / u128::try_from(window_ms).ok().filter(|ms| *ms > 0)?;
        Some(Usage {
            at_ms: self.at_ms,
            window_ms,
            cpu_nano: u64::try_from(cpu).unwrap_or(u64::MAX),
            memory_bytes: self.memory_bytes,
        })
    }
}

impl Sample {
    /// Reads the text of a kubelet's `/metrics/resource`. What it does not say is absent.
    pub(crate) fn read(text: &str, taken: Mono) -> Sample {
        let (mut sample, mut n_containers) = (Sample { taken, ..Sample::default() }, 0);
        for line in text.lines() {
            let Some((name, labels, value, at_ms)) = series(line) else { continue };
            if let Some(rest) = name.strip_prefix("node_") {
                note(&mut sample.node, rest, value, at_ms);
            } else if let Some(rest) = name.strip_prefix("container_") {
                let label = |key| label(labels, key).unwrap_or("");
                let [namespace, pod, container] = ["namespace", "pod", "container"].map(label);
                let is_long = |name: &str| name.len() > NAME_MAX_BYTES;
                if [namespace, pod, container].into_iter().any(is_long) {
                    continue;
                }
                let pod = sample.pods.entry((namespace.to_owned(), pod.to_owned())).or_default();
                if !pod.contains_key(container) {
                    n_containers += 1;
                }
                if n_containers > CONTAINERS_MAX {
                    break;
                }
                note(pod.entry(container.to_owned()).or_default(), rest, value, at_ms);
            }
        }
        sample
    }
}

impl Pair {
    pub(crate) fn new(before: Sample, last: Sample) -> Pair {
        Pair { before: Arc::new(before), last: Arc::new(last) }
    }

    /// Whether its last sample can still begin a window.
    pub(crate) fn is_known(&self, now: Mono) -> bool {
        now.since(self.last.taken) <= KEPT_MAX
    }

    /// Whether another sample says more: the window is still short, or over.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        let age = now.since(self.last.taken);
        age >= RESOLUTION || age >= WINDOW_MIN && self.window() < RESOLUTION
    }

    fn window(&self) -> Duration {
        self.last.taken.since(self.before.taken)
    }

    /// The window grows up to the resolution; then the next one begins.
    pub(crate) fn then(self, next: Sample) -> Pair {
        let is_over = next.taken.since(self.last.taken) >= RESOLUTION;
        let before = if is_over { self.last } else { self.before };
        Pair { before, last: Arc::new(next) }
    }

    /// What the node uses; `None` if it is not known.
    pub(crate) fn node(&self) -> Option<Usage> {
        self.last.node.since(&self.before.node)
    }

    /// What each container of a pod uses; `None` unless it is known of all, and of one at least.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Vec<(&str, Usage)>> {
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.before.pods.get(&key);
        let of = |(container, last): (&String, &Point)| {
            let young = last.at_ms - last.started_ms;
            let before = before.and_then(|all| all.get(container)).copied();
            let began = Point { at_ms: last.started_ms, cpu_ns: 0, ..*last };
            let resolution_ms = i64::try_from(RESOLUTION.as_millis()).unwrap_or(i64::MAX);
            let before = match before {
                // As metrics-server: a container that was started anew counts from then on.
                Some(before) if last.started_ms <= before.at_ms => before,
                _ if (YOUNG_MIN_MS..resolution_ms).contains(&young) => began,
                _ => return None,
            };
            last.since(&before)
        };
        let all = self.last.pods.get(&key)?.iter();
        let all: Option<Vec<_>> = all.map(|it| Some((it.0.as_str(), of(it)?))).collect();
        all.filter(|all| !all.is_empty())
    }
}

/// A series' name, the text of its labels, its value and its time: `name{labels} value [time]`.
fn series(line: &str) -> Option<(&str, &str, f64, i64)> {
    let (head, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.rsplit_once('}')?;
            ((name, labels), rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            ((name, ""), rest)
        }
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok().filter(|value: &f64| *value >= 0.0)?;
    let at_ms = words.next().and_then(|word| word.parse().ok());
    let at_ms = at_ms.filter(|ms| (0..=TIME_MAX_MS).contains(ms)).unwrap_or(0);
    (!line.starts_with('#')).then_some((head.0, head.1, value, at_ms))
}

/// The names of what Kubernetes runs hold nothing that is escaped.
fn label<'t>(labels: &'t str, key: &str) -> Option<&'t str> {
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    value.strip_prefix('"')?.strip_suffix('"')
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a conversion that saturates"
)]
fn note(point: &mut Point, what: &str, value: f64, at_ms: i64) {
    match what {
        "cpu_usage_seconds_total" => {
            point.cpu_ns = (value * 1e9) as u64;
            point.at_ms = at_ms;
        }
        "memory_working_set_bytes" => point.memory_bytes = value as u64,
        "start_time_seconds" => point.started_ms = ((value * 1e3) as i64).min(TIME_MAX_MS),
        _ => {}
    }
}

/// A node's samples. Who holds them asks the node; others wait for what it finds.
type Slot = Arc<rt::lock::Mutex<Option<Pair>>>;

/// The samples of all nodes that somebody asked about lately.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<Held>);

#[derive(Default)]
struct Held {
    nodes: OrdMap<String, Slot>,
    /// Runs while there are any.
    forgetting: Option<rt::Task<Option<()>>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} nodes)", self.nodes.len())
    }
}

impl Samples {
    /// The place of a node's samples.
    pub(crate) fn of(self: &Arc<Self>, node: &str) -> Slot {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.nodes.is_empty() {
            let forgetting = forget(Arc::downgrade(self));
            held.forgetting = Some(rt::spawn_named("samples of nodes", forgetting));
        }
        Arc::clone(held.nodes.entry(node.to_owned()).or_default())
    }
}

/// Forgets what nobody asks about any more.
async fn forget(samples: Weak<Samples>) {
    loop {
        rt::sleep(KEPT_MAX).await;
        let Some(samples) = samples.upgrade() else { return };
        let now = rt::now().mono;
        let mut held = samples.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.nodes.retain(|_, slot| {
            // Whoever holds it asks just now.
            let kept = slot.try_lock();
            kept.is_none_or(|kept| kept.as_ref().is_some_and(|pair| pair.is_known(now)))
        });
        if held.nodes.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at_secs: i64, node: f64, containers: &[(&str, f64, f64)]) -> String {
        let at_ms = at_secs * 1000;
        let mut text = format!(
            "# HELP node_cpu_usage_seconds_total x\n# TYPE node_cpu_usage_seconds_total counter\n\
             node_cpu_usage_seconds_total {node} {at_ms}\nnode_memory_working_set_bytes 4096 {at_ms}\n"
        );
        for (name, cpu, started) in containers {
            let labels = format!("{{container=\"{name}\",namespace=\"n\",pod=\"p\"}}");
            text.push_str(&format!(
                "container_cpu_usage_seconds_total{labels} {cpu} {at_ms}\n\
                 container_memory_working_set_bytes{labels} 1.048576e+06 {at_ms}\n\
                 container_start_time_seconds{labels} {started}\n\
                 container_swap_usage_bytes{labels} 7 {at_ms}\n"
            ));
        }
        text
    }

    fn sample(at_secs: i64, node: f64, containers: &[(&str, f64, f64)]) -> Sample {
        let taken = Mono(u64::try_from(at_secs).unwrap() * 1_000_000_000);
        Sample::read(&text(at_secs, node, containers), taken)
    }

    #[test]
    fn rates_are_of_the_window() {
        let of = |first: &[(&str, f64, f64)], second: &[(&str, f64, f64)]| {
            let pair = Pair::new(sample(100, 10.0, first), sample(115, 13.0, second));
            let node = pair.node().unwrap();
            assert_eq!(
                (node.cpu_nano, node.memory_bytes, node.window_ms),
                (200_000_000, 4096, 15_000)
            );
            let Some(all) = pair.pod("n", "p") else { return "none".to_owned() };
            let one = |(name, it): &(&str, Usage)| {
                format!("{name} {}m {} {}", it.cpu_nano / 1_000_000, it.memory_bytes, it.window_ms)
            };
            all.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        for (name, first, second, want) in [
            ("plain", vec![("a", 1.0, 5.0)], vec![("a", 2.5, 5.0)], "a 100m 1048576 15000"),
            (
                "two",
                vec![("a", 1.0, 5.0), ("b", 0.0, 5.0)],
                vec![("a", 1.0, 5.0), ("b", 30.0, 5.0)],
                "a 0m 1048576 15000, b 2000m 1048576 15000",
            ),
            ("it began after the first", vec![], vec![("a", 2.4, 103.0)], "a 200m 1048576 12000"),
            ("it is too young", vec![], vec![("a", 2.4, 106.0)], "none"),
            (
                "it was started anew",
                vec![("a", 9.0, 5.0)],
                vec![("a", 2.4, 103.0)],
                "a 200m 1048576 12000",
            ),
            (
                "nothing is known of one",
                vec![("a", 1.0, 5.0)],
                vec![("a", 2.0, 5.0), ("b", 1.0, 114.0)],
                "none",
            ),
            ("it used less than before", vec![("a", 2.0, 5.0)], vec![("a", 1.0, 5.0)], "none"),
            ("it is gone", vec![("a", 2.0, 5.0)], vec![], "none"),
        ] {
            assert_eq!(of(&first, &second), want, "{name}");
        }
        let same = Pair::new(sample(100, 1.0, &[]), sample(100, 1.0, &[]));
        assert_eq!(same.node(), None, "no window");
    }

    #[test]
    fn windows_grow_to_the_resolution_and_then_follow_each_other() {
        let at = |secs| sample(secs, 0.0, &[]);
        let mono = |secs: u64| Mono(secs * 1_000_000_000);
        let window = |pair: &Pair| pair.window().as_secs();
        let pair = Pair::new(at(100), at(101));
        assert!(!pair.is_due(mono(101)) && pair.is_due(mono(102)));
        let pair = pair.then(at(110));
        assert_eq!(window(&pair), 10);
        let pair = pair.then(at(117));
        assert_eq!(window(&pair), 17);
        assert!(!pair.is_due(mono(130)) && pair.is_due(mono(131)));
        let pair = pair.then(at(132));
        assert_eq!(window(&pair), 15);
        assert!(pair.is_known(mono(192)) && !pair.is_known(mono(193)));
    }

    #[test]
    fn what_a_node_says_is_remembered_within_bounds() {
        let series = |pod: &str, n: usize| {
            let labels = format!("{{container=\"{n}\",namespace=\"n\",pod=\"{pod}\"}}");
            format!("container_memory_working_set_bytes{labels} 1 1\n")
        };
        let many: String =
            (0..CONTAINERS_MAX * 2).map(|n| series(&format!("p{}", n / 2), n)).collect();
        let sample = Sample::read(&many, Mono(0));
        assert_eq!(sample.pods.values().map(OrdMap::len).sum::<usize>(), CONTAINERS_MAX);
        let long = Sample::read(&series(&"p".repeat(NAME_MAX_BYTES + 1), 1), Mono(0));
        assert!(long.pods.is_empty());
    }

    #[test]
    fn times_that_cannot_be_are_none() {
        let labels = "{container=\"a\",namespace=\"n\",pod=\"p\"}";
        let read = |at: &str, started: &str, taken| {
            let text = format!(
                "container_cpu_usage_seconds_total{labels} 1 {at}\ncontainer_start_time_seconds{labels} {started}\n"
            );
            Sample::read(&text, Mono(taken))
        };
        for (at, started) in [
            ("-9223372036854775808", "1e300"),
            ("9223372036854775807", "0"),
            ("9007199254740992", "inf"),
        ] {
            let pair = Pair::new(read("0", "0", 0), read(at, started, 1));
            // No difference overflows.
            let known = pair.pod("n", "p").map_or(0, |all| all.len());
            assert!(known <= 1, "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        for line in [
            "",
            "#",
            "x",
            "x{",
            "x{a=\"b\"",
            "x{a=\"b\"}",
            "x{} y",
            "x -1",
            "x NaN",
            "# x 1",
            "container_cpu_usage_seconds_total{container=\"a\"",
        ] {
            assert_eq!(series(line), None, "{line}");
        }
        assert_eq!(series("x{a=\"}\",b=\"c\"} 1e3 5"), Some(("x", "a=\"}\",b=\"c\"", 1000.0, 5)));
        assert_eq!(label("a=\"}\",b=\"c\"", "b"), Some("c"));
        assert_eq!(label("ab=\"c\"", "b"), None);
        let sample = Sample::read("node_cpu_usage_seconds_total 1e300 -5\n", Mono(0));
        assert_eq!(sample.node.cpu_ns, u64::MAX);
    }
}
