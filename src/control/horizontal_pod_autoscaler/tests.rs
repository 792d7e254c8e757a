//! Tables of what autoscalers decide, from what they are told.

use std::time::Duration;

use api::controller::Fixture;
use api::{Action, json};

use super::replicas::{self, Measure, Measures};
use super::*;
use crate::tuning::DEFAULT;
use crate::world::{line, now_at};

/// A pod that has been ready since five minutes before 0, with a request of a whole processor.
fn pod(name: &str, changes: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "d", "name": name, "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}]},
        "status": {
            "phase": "Running", "startTime": "2023-12-31T23:50:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2023-12-31T23:55:00Z"}],
        },
    });
    api::patch::merge(&mut pod, &changes);
    pod
}

fn objects(pods: Vec<Value>) -> Vec<Object> {
    Fixture::new(pods).objects
}

fn measures(values: &[(&str, i64)]) -> Measures {
    let window = Duration::from_secs(15);
    let of = |value| Measure { value, at: now_at(0).wall, window };
    values.iter().map(|(name, value)| ((*name).to_owned(), of(*value))).collect()
}

/// `name:changes` a pod; the replicas, and the utilization or usage.
fn ask(
    pods: Vec<Value>,
    values: &[(&str, i64)],
    current: i64,
    target: replicas::Target<'_>,
) -> String {
    let now = now_at(10);
    match replicas::of_pods(
        &objects(pods),
        measures(values),
        current,
        target,
        (now, DEFAULT.autoscaler),
    ) {
        Ok(found) => match found.utilization {
            Some(percent) => format!("{} {percent}% {}", found.replicas, found.usage),
            None => format!("{} {}", found.replicas, found.usage),
        },
        Err(why) => why,
    }
}

#[test]
fn utilization_counts_what_is_ready_measured_and_requested() {
    let cpu = |percent| replicas::Target::Utilization { percent, resource: "cpu", container: "" };
    let plain = |names: &[&str]| names.iter().map(|name| pod(name, json!({}))).collect::<Vec<_>>();
    let with = |names: &[&str], name: &str, changes: Value| {
        [plain(names), vec![pod(name, changes)]].concat()
    };
    let young = |ready: &str, since: &str| {
        json!({"status": {
            "startTime": "2023-12-31T23:59:00Z",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
        }})
    };
    let pending = json!({"status": {"phase": "Pending"}});
    let cases: Vec<(&str, Vec<Value>, &[(&str, i64)], i64, i64, &str)> = vec![
        ("up", plain(&["a", "b"]), &[("a", 900), ("b", 700)], 2, 40, "4 80% 800"),
        (
            "down",
            plain(&["a", "b", "c"]),
            &[("a", 100), ("b", 100), ("c", 100)],
            3,
            50,
            "1 10% 100",
        ),
        ("within the tolerance", plain(&["a", "b"]), &[("a", 540), ("b", 540)], 2, 50, "2 54% 540"),
        ("just beyond it", plain(&["a", "b"]), &[("a", 560), ("b", 560)], 2, 50, "3 56% 560"),
        (
            "down, one is missing: it uses all",
            plain(&["a", "b"]),
            &[("a", 100)],
            2,
            50,
            "2 10% 100",
        ),
        (
            "down, one is missing among many",
            plain(&["a", "b", "c", "d"]),
            &[("a", 100), ("b", 100), ("c", 100)],
            4,
            50,
            "3 10% 100",
        ),
        (
            "up, one is missing: it uses nothing",
            plain(&["a", "b"]),
            &[("a", 900)],
            2,
            30,
            "3 90% 900",
        ),
        ("up, and missing turns it", plain(&["a", "b", "c"]), &[("a", 600)], 3, 50, "3 60% 600"),
        (
            "missing, above a target of more than all",
            plain(&["a", "b"]),
            &[("a", 100)],
            2,
            150,
            "2 10% 100",
        ),
        ("one is pending", with(&["a"], "b", pending.clone()), &[("a", 900)], 2, 30, "3 90% 900"),
        (
            "pending does not count down",
            with(&["a"], "b", pending.clone()),
            &[("a", 100)],
            2,
            50,
            "1 10% 100",
        ),
        (
            "all are pending",
            vec![pod("a", pending)],
            &[("a", 100)],
            1,
            50,
            "did not receive metrics for targeted pods (pods might be unready)",
        ),
        (
            "failed is not looked at",
            with(&["a"], "b", json!({"status": {"phase": "Failed"}})),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "3 90% 900",
        ),
        (
            "deleted is not looked at",
            with(&["a"], "b", json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}})),
            &[("a", 900), ("b", 900)],
            1,
            30,
            "3 90% 900",
        ),
        (
            "young and not ready",
            with(&["a"], "b", young("False", "2023-12-31T23:59:00Z")),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "3 90% 900",
        ),
        (
            "young and ready for less than a window",
            with(&["a"], "b", young("True", "2023-12-31T23:59:50Z")),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "3 90% 900",
        ),
        (
            "young and ready for a window",
            with(&["a"], "b", young("True", "2023-12-31T23:59:40Z")),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "6 90% 900",
        ),
        (
            "old and never ready",
            with(
                &["a"],
                "b",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2023-12-31T23:50:10Z"}]}}),
            ),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "3 90% 900",
        ),
        (
            "old, and ready once",
            with(
                &["a"],
                "b",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2023-12-31T23:55:00Z"}]}}),
            ),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "6 90% 900",
        ),
        (
            "nothing is requested",
            with(&["a"], "b", json!({"spec": {"containers": [{"name": "c"}]}})),
            &[("a", 900), ("b", 900)],
            2,
            30,
            "missing request for cpu in container c of Pod b",
        ),
        (
            "sidecars request, too",
            vec![pod(
                "a",
                json!({"spec": {"initContainers": [
                    {"name": "i"}, {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "3"}}},
                ]}}),
            )],
            &[("a", 2000)],
            1,
            50,
            "1 50% 2000",
        ),
        (
            "others' measures",
            plain(&["a"]),
            &[("x", 900)],
            1,
            30,
            "no metrics returned matched known pods",
        ),
        (
            "no pods",
            vec![],
            &[("x", 900)],
            1,
            30,
            "no pods returned by selector while calculating replica count",
        ),
    ];
    for (name, pods, values, current, percent, want) in cases {
        assert_eq!(ask(pods, values, current, cpu(percent)), want, "{name}");
    }
    // Memory does not wait for pods to be ready.
    let memory = replicas::Target::Utilization { percent: 50, resource: "memory", container: "c" };
    let pods = vec![pod("a", young("False", "2023-12-31T23:59:00Z"))];
    assert_eq!(ask(pods, &[("a", 1024 * 1000)], 1, memory), "2 100% 1024000");
}

#[test]
fn averages_and_values_ask_for_their_part() {
    let plain = |names: &[&str]| names.iter().map(|name| pod(name, json!({}))).collect::<Vec<_>>();
    let average = |wanted| replicas::Target::Average(wanted, "");
    for (name, n, values, wanted, want) in [
        ("up", 2, &[("a", 20_000), ("b", 10_000)][..], 10_000, "3 15000"),
        ("missing, down: it has the average", 2, &[("a", 1_000)], 10_000, "2 1000"),
        ("missing, up: it has nothing", 2, &[("a", 60_000)], 10_000, "6 60000"),
        ("near", 2, &[("a", 10_000), ("b", 11_000)], 10_000, "2 10500"),
    ] {
        let pods = plain(&["a", "b"][..n]);
        assert_eq!(ask(pods, values, 2, average(wanted)), want, "{name}");
    }
    let of_value = |n: usize, usage, current, wanted| {
        let found = replicas::of_value(
            &objects(plain(&["a", "b", "c"][..n])),
            usage,
            (current, DEFAULT.autoscaler),
            wanted,
        );
        found.map_or_else(|why| why, |found| format!("{} {}", found.replicas, found.usage))
    };
    assert_eq!(of_value(3, 20_000, 3, 10_000), "6 20000");
    assert_eq!(of_value(3, 10_900, 3, 10_000), "3 10900");
    assert_eq!(of_value(0, 25_000, 0, 10_000), "3 25000", "from none");
    assert_eq!(of_value(0, 0, 0, 10_000), "0 0");
    assert!(of_value(0, 20_000, 3, 10_000).starts_with("unable to calculate ready pods"));
    for (usage, current, wanted, replicas, shown) in [
        (50_000, 2, 10_000, 5, 25_000),
        (21_000, 2, 10_000, 2, 10_500),
        (10_000, 3, 10_000, 1, 3_334),
    ] {
        let found = replicas::of_share(usage, (current, DEFAULT.autoscaler), wanted);
        assert_eq!((found.replicas, found.usage), (replicas, shown));
    }
}

#[test]
fn what_is_asked_for_is_bounded_stabilized_and_slowed_down() {
    let mono = |secs| now_at(secs).mono;
    let bounds = |current| Bounds { current, min: 2, max: 20 };
    // Without a behavior: at most twice as many, and nothing is taken away for five minutes.
    let mut history = History::default();
    history.begin(3, mono(0));
    for (secs, current, desired, want, able, limited) in [
        (0, 3, 9, 6, "ReadyForNewScale", "ScaleUpLimit"),
        (15, 6, 30, 12, "ReadyForNewScale", "ScaleUpLimit"),
        (30, 12, 30, 20, "ReadyForNewScale", "TooManyReplicas"),
        (60, 20, 1, 20, "ScaleDownStabilized", "TooManyReplicas"),
        (320, 20, 1, 20, "ScaleDownStabilized", "TooManyReplicas"),
        (331, 20, 1, 2, "ReadyForNewScale", "TooFewReplicas"),
        (345, 2, 2, 2, "ReadyForNewScale", "DesiredWithinRange"),
    ] {
        let settled = history.settle(&Value::Null, bounds(current), desired, (mono(secs), 300));
        let got = (settled.replicas, settled.able.0, settled.limited.0);
        assert_eq!(got, (want, able, limited), "at {secs}");
        history.changed(&Value::Null, current, settled.replicas, mono(secs));
    }
    let rules = |up: Value, down: Value| json!({"scaleUp": up, "scaleDown": down});
    let slow = rules(
        json!({"stabilizationWindowSeconds": 30, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60},
        ]}),
        json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60},
        ]}),
    );
    let mut history = History::default();
    for (secs, current, desired, want, able, limited) in [
        (0, 4, 16, 6, "ReadyForNewScale", "ScaleUpLimit"),
        (15, 6, 16, 6, "ReadyForNewScale", "ScaleUpLimit"),
        (61, 6, 16, 9, "ReadyForNewScale", "ScaleUpLimit"),
        (70, 9, 8, 8, "ReadyForNewScale", "DesiredWithinRange"),
        (75, 8, 12, 8, "ScaleUpStabilized", "DesiredWithinRange"),
        (140, 19, 2, 17, "ReadyForNewScale", "ScaleDownLimit"),
        (150, 17, 2, 17, "ReadyForNewScale", "ScaleDownLimit"),
    ] {
        let settled = history.settle(&slow, bounds(current), desired, (mono(secs), 300));
        let got = (settled.replicas, settled.able.0, settled.limited.0);
        assert_eq!(got, (want, able, limited), "at {secs}");
        history.changed(&slow, current, settled.replicas, mono(secs));
    }
    let off = rules(
        json!({"selectPolicy": "Disabled"}),
        json!({"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}),
    );
    for desired in [1, 9] {
        let settled = History::default().settle(&off, bounds(5), desired, (mono(0), 300));
        assert_eq!((settled.replicas, settled.is_limited), (5, true));
    }
}

fn autoscaler(name: &str, metrics: Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": "d", "name": name, "uid": name, "resourceVersion": "7"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 10, "metrics": metrics,
        },
    })
}

fn cpu() -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}})
}

fn scale(replicas: i64, selector: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"namespace": "d", "name": "web", "resourceVersion": "9"},
        "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": selector},
    })
}

fn used(items: &[(&str, &str)]) -> Value {
    let item = |(name, cpu): &(&str, &str)| {
        json!({
            "metadata": {"namespace": "d", "name": name}, "timestamp": "2024-01-01T00:00:00Z",
            "window": "15s", "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "1Ki"}}],
        })
    };
    json!({"items": items.iter().map(item).collect::<Vec<_>>()})
}

type Answer<'a> = &'a dyn Fn(&str) -> Result<Value, Status>;

/// One look, with the questions and actions as lines. Paths are answered by what they begin with.
fn look(trees: &[Value], name: &str, secs: i64, memory: &mut Memory, answer: Answer<'_>) -> String {
    let fixture = Fixture::new(trees.to_vec());
    let view = fixture.view(now_at(secs));
    let key = Key::new(&HORIZONTAL_POD_AUTOSCALER, "d", name);
    let mut actions = Actions::default();
    let mut next = HorizontalPodAutoscalers::reconcile(&view, &key, &mut actions);
    let mut text = String::new();
    while let Some(ask) = actions.ask.take() {
        let mut answers = Vec::new();
        for question in &ask.questions {
            answers.push(match question {
                Question::Read(paths) => {
                    text.push_str(&format!("read {}\n", paths[0]));
                    answer(&paths[0])
                }
                Question::Update { object, .. } => {
                    text.push_str(&format!("scale {}\n", object.at("spec.replicas")));
                    answer("update")
                }
                other @ Question::Outside { .. } => panic!("{other:?}"),
            });
        }
        next = ask.answer(&view, memory, answers, &mut actions);
    }
    for action in &actions.list {
        match action {
            Action::UpdateStatus { object, .. } => {
                let status = object.at("status");
                let counts =
                    ["currentReplicas", "desiredReplicas"].map(|key| status.at(key).to_string());
                text.push_str(&format!(
                    "status {} {}\n",
                    counts.join(" "),
                    status.at("currentMetrics")
                ));
                for condition in status.list("conditions") {
                    let [kind, is, reason, message] =
                        ["type", "status", "reason", "message"].map(|key| condition.str(key));
                    text.push_str(&format!("  {kind} {is} {reason}: {message}\n"));
                }
            }
            other => text.push_str(&format!("{}\n", line(other))),
        }
    }
    if let Next::After(wait) = next {
        text.push_str(&format!("after {}s\n", wait.as_secs()));
    }
    text
}

const SCALE: &str = "/apis/apps/v1/namespaces/d/deployments/web/scale";
const USAGE: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/d/pods?labelSelector=app%3Dweb";

/// What the second look does: the first only asks.
fn decided(trees: &[Value], name: &str, answer: Answer<'_>) -> String {
    let mut memory = Memory::default();
    let first = look(trees, name, 0, &mut memory, answer);
    assert!(!first.contains("status") && !first.contains("event"), "{first}");
    assert_eq!(look(trees, name, 5, &mut memory, answer), "after 10s\n");
    look(trees, name, 15, &mut memory, answer)
}

#[test]
fn a_load_above_the_target_scales_up_and_is_told() {
    let trees = [autoscaler("h", json!([cpu()])), pod("a", json!({})), pod("b", json!({}))];
    let answer = |path: &str| match path {
        SCALE => Ok(scale(2, "app=web")),
        USAGE => Ok(used(&[("a", "900m"), ("b", "800000001n")])),
        _ => Ok(json!({})),
    };
    assert_eq!(
        decided(&trees, "h", &answer),
        format!(
            "read {SCALE}\nread {USAGE}\nscale 4\n\
         event HorizontalPodAutoscaler d/h Normal SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target\n\
         status 2 4 [{{\"resource\":{{\"current\":{{\"averageUtilization\":85,\"averageValue\":\"850m\"}},\"name\":\"cpu\"}},\"type\":\"Resource\"}}]\n  \
         AbleToScale True SucceededRescale: the HPA controller was able to update the target scale to 4\n  \
         ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)\n  \
         ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range\nafter 15s\n"
        )
    );
}

#[test]
fn what_cannot_be_done_is_told_in_upstreams_words() {
    let missing = || {
        Err(Status::new(
            api::status::Reason::NotFound,
            "the server could not find the requested resource",
        ))
    };
    let with = |scale: Value, update: &'static str| {
        move |path: &str| match path {
            SCALE => Ok(scale.clone()),
            "update" if update.is_empty() => Ok(json!({})),
            "update" => Err(Status::conflict(&POD, "x", update)),
            _ => missing(),
        }
    };
    let one = |metrics| vec![autoscaler("h", metrics), pod("a", json!({}))];
    let kind = |kind: &str| {
        let mut tree = autoscaler("h", json!([cpu()]));
        tree.set("spec.scaleTargetRef.kind", kind);
        vec![tree]
    };
    let external = json!({"type": "External", "external": {
        "metric": {"name": "q", "selector": {"matchLabels": {"k": "v"}}}, "target": {"type": "AverageValue", "averageValue": "2"},
    }});
    let custom = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "2"}}});
    let cases: Vec<(&str, Vec<Value>, Box<dyn Fn(&str) -> Result<Value, Status>>, &[&str])> = vec![
        (
            "no such kind",
            kind("Nope"),
            Box::new(with(scale(1, "app=web"), "")),
            &[
                "Warning FailedGetScale: no matches for kind \"Nope\" in group \"apps\"",
                "AbleToScale False FailedGetScale: the HPA controller was unable to get the target's current scale: no matches for kind \"Nope\" in group \"apps\"",
            ],
        ),
        (
            "no such object",
            one(json!([cpu()])),
            Box::new(move |_| Err(Status::not_found(&api::kinds::DEPLOYMENT, "web"))),
            &["Warning FailedGetScale: deployments.apps \"web\" not found"],
        ),
        (
            "off",
            one(json!([cpu()])),
            Box::new(with(scale(0, "app=web"), "")),
            &[
                "ScalingActive False ScalingDisabled: scaling is disabled since the replica count of the target is zero",
            ],
        ),
        (
            "too many",
            one(json!([cpu()])),
            Box::new(with(scale(12, "app=web"), "")),
            &[
                "scale 10",
                "Normal SuccessfulRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas",
            ],
        ),
        (
            "refused",
            one(json!([cpu()])),
            Box::new(with(scale(12, "app=web"), "no")),
            &[
                "Warning FailedRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas; error: Operation cannot be fulfilled on pods \"x\": no",
                "AbleToScale False FailedUpdateScale: the HPA controller was unable to update the target scale: Operation",
            ],
        ),
        (
            "no selector",
            one(json!([cpu()])),
            Box::new(with(scale(1, ""), "")),
            &[
                "Warning SelectorRequired: selector is required",
                "ScalingActive False InvalidSelector: the HPA target's scale is missing a selector",
                "Warning FailedComputeMetricsReplicas: selector is required",
            ],
        ),
        (
            "no metrics",
            one(json!([cpu()])),
            Box::new(with(scale(1, "app=web"), "")),
            &[
                "Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)",
                "ScalingActive False FailedGetResourceMetric: the HPA was unable to compute the replica count: failed to get cpu utilization: unable",
                "Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable",
                "status 1 0 [{\"type\":\"\"}]",
            ],
        ),
        (
            "no custom metrics",
            one(json!([custom])),
            Box::new(with(scale(1, "app=web"), "")),
            &[
                "read /apis/custom.metrics.k8s.io/v1beta2/namespaces/d/pods/*/m?labelSelector=app%3Dweb",
                "Warning FailedGetPodsMetric: unable to get metric m: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
            ],
        ),
        (
            "no external metrics",
            one(json!([external])),
            Box::new(with(scale(1, "app=web"), "")),
            &[
                "read /apis/external.metrics.k8s.io/v1beta1/namespaces/d/q?labelSelector=k%3Dv",
                "Warning FailedGetExternalMetric: failed to get q external metric: unable to get external metric d/q/&LabelSelector{MatchLabels:map[string]string{k: v,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get q.external.metrics.k8s.io)",
            ],
        ),
    ];
    for (name, trees, answer, wants) in cases {
        let text = decided(&trees, "h", &*answer);
        for want in wants {
            assert!(text.contains(want), "{name}: {want:?} is not in\n{text}");
        }
    }
}

#[test]
fn one_metric_that_fails_keeps_nothing_from_growing_but_from_shrinking() {
    let custom = json!({"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "2"}}});
    let trees = [autoscaler("h", json!([custom, cpu()])), pod("a", json!({})), pod("b", json!({}))];
    for (usage, is_scaled) in [("900m", true), ("100m", false)] {
        let answer = |path: &str| match path {
            SCALE => Ok(scale(2, "app=web")),
            USAGE => Ok(used(&[("a", usage), ("b", usage)])),
            "update" => Ok(json!({})),
            _ => Err(Status::unavailable("gone")),
        };
        let text = decided(&trees, "h", &answer);
        assert_eq!(text.contains("scale 4"), is_scaled, "{text}");
        assert_eq!(text.contains("invalid metrics (1 invalid out of 2)"), !is_scaled, "{text}");
    }
}

#[test]
fn values_of_other_things_are_asked_for_where_they_are() {
    let object = |target: Value| {
        json!({"type": "Object", "object": {
            "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"}, "metric": {"name": "hits"}, "target": target,
        }})
    };
    let path =
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/d/ingresses.networking.k8s.io/i/hits";
    for (target, want, current) in [
        (json!({"type": "Value", "value": "2"}), "scale 4", "{\"value\":\"4\"}"),
        (
            json!({"type": "AverageValue", "averageValue": "1"}),
            "scale 4",
            "{\"averageValue\":\"2\"}",
        ),
    ] {
        let trees =
            [autoscaler("h", json!([object(target)])), pod("a", json!({})), pod("b", json!({}))];
        let answer = |asked: &str| match asked {
            SCALE => Ok(scale(2, "app=web")),
            "update" => Ok(json!({})),
            asked => {
                assert_eq!(asked, path);
                Ok(json!({"items": [{"describedObject": {"name": "i"}, "value": "4"}]}))
            }
        };
        let text = decided(&trees, "h", &answer);
        assert!(text.contains(want) && text.contains(current), "{text}");
    }
}

#[test]
fn pods_of_two_autoscalers_are_left_alone_until_one_goes() {
    let mut trees =
        vec![autoscaler("g", json!([cpu()])), autoscaler("h", json!([cpu()])), pod("a", json!({}))];
    let answer = |path: &str| match path {
        SCALE => Ok(scale(1, "app=web")),
        USAGE => Ok(used(&[("a", "900m")])),
        _ => Ok(json!({})),
    };
    let mut memory = Memory::default();
    look(&trees, "g", 0, &mut memory, &answer);
    look(&trees, "h", 0, &mut memory, &answer);
    let text = look(&trees, "h", 15, &mut memory, &answer);
    let why = "pods by selector app=web are controlled by multiple HPAs: [{g d} {h d}]";
    assert!(text.contains(&format!("Warning AmbiguousSelector: {why}")), "{text}");
    assert!(text.contains(&format!("ScalingActive False AmbiguousSelector: {why}")), "{text}");
    trees.remove(0);
    assert_eq!(look(&trees, "g", 16, &mut memory, &answer), "");
    let text = look(&trees, "h", 30, &mut memory, &answer);
    assert!(text.contains("scale 2"), "{text}");
}
