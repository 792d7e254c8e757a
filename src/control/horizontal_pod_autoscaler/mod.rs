//! HorizontalPodAutoscaler: as many replicas as its metrics ask for.
//!
//! Every 15 seconds, and never sooner, it asks for the target's scale, then for the metrics, and changes the
//! scale; what is decided follows from the answers and from what is remembered of the time before.

mod behavior;
mod metrics;
mod replicas;
#[cfg(test)]
mod tests;

use crate::tuning::{Autoscaler, Tuning};
use api::controller::{Ask, Memory, Question};
use api::kinds::{HORIZONTAL_POD_AUTOSCALER, POD};
use api::path::ResourcePath;
use api::selector::Selector;
use api::{
    Actions, Controller, Key, Kind, Kinds, Lens, LensMut, Next, Object, Status, Value, View, Wakes,
    Watch,
};
use stdx::OrdMap;
use stdx::time::{Mono, Now};

use crate::support::conditions::{self, Condition};
use crate::support::write_status;
use behavior::{Bounds, History};
use metrics::{Failed, Found, Scene};

pub(crate) struct HorizontalPodAutoscalers;

impl Controller for HorizontalPodAutoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    const WATCHES: &'static [Watch] = &[Watch::new(&HORIZONTAL_POD_AUTOSCALER, Wakes::Itself)];
    const READS: &'static [&'static Kind] = &[&POD];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let (key, found) = (key.clone(), view.at(key));
        actions.ask = Some(Ask::new(Vec::new(), move |view, memory, _, actions| {
            let all = remembered(memory);
            match found {
                Some(object) => begin(view, object, all, actions),
                None => {
                    all.remove(&place(&key.namespace, &key.name));
                    Next::Done
                }
            }
        }));
        Next::Done
    }
}

/// What is remembered of one autoscaler.
#[derive(Debug, Default)]
struct Known {
    /// When it is looked at again.
    due: Mono,
    /// Which pods it scaled when it was last looked at, where that is known.
    selector: Option<Selector>,
    history: History,
}

/// By namespace and name.
type All = OrdMap<(String, String), Known>;

fn place(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

/// What this controller put into its memory: nothing else does.
fn remembered(memory: &mut Memory) -> &mut All {
    let held = memory.get_or_insert_with(|| Box::new(All::new()));
    if !held.is::<All>() {
        *held = Box::new(All::new());
    }
    match held.downcast_mut() {
        Some(all) => all,
        None => unreachable!("it is what was just put there"),
    }
}

/// One look at an autoscaler.
struct Look {
    object: Object,
    tree: Value,
    conditions: Vec<Value>,
    /// Only the usage is asked for, so that there is some to compare with at the next look.
    is_first: bool,
    now: Now,
    by: Autoscaler,
}

/// The target, once its scale is known.
struct Target {
    kind: &'static Kind,
    scale: Value,
    bounds: Bounds,
}

/// What is to be written about the metrics: an entry each.
type Current = Vec<Value>;

fn begin(view: &View<'_>, object: Object, all: &mut All, actions: &mut Actions) -> Next {
    let now = view.now;
    let known = all.entry(place(object.namespace(), object.name()));
    let is_first = matches!(known, stdx::ordered::Entry::Vacant(_));
    let known = known.or_default();
    if !is_first && now.mono < known.due {
        return Next::After(known.due.since(now.mono));
    }
    let by = Tuning::of(view).autoscaler;
    known.due = now.mono + by.sync_every;
    let tree = object.tree();
    let conditions = tree.list("status.conditions").to_vec();
    let mut look = Look { object, tree, conditions, is_first, now, by };
    match target(&look, &view.kinds()) {
        Err(why) => look.without_scale(&why, actions),
        Ok((kind, path)) => {
            actions.ask = Some(Ask::new(
                vec![Question::Read(vec![path])],
                move |view, memory, answers, actions| {
                    match answers.into_iter().next() {
                        Some(Ok(scale)) => {
                            scaled(view, look, kind, scale, remembered(memory), actions)
                        }
                        Some(Err(status)) => look.without_scale(status.message(), actions),
                        None => {}
                    }
                    Next::After(by.sync_every)
                },
            ));
        }
    }
    Next::After(by.sync_every)
}

/// No kind of this name is served, in upstream's words.
fn no_match(group: &str, kind: &str) -> String {
    format!("no matches for kind {kind:?} in group {group:?}")
}

/// The kind that is scaled, and the path of the target's scale.
fn target(look: &Look, kinds: &Kinds) -> Result<(&'static Kind, String), String> {
    let about = look.tree.at("spec.scaleTargetRef");
    let version = about.str("apiVersion");
    let group = match version.matches('/').count() {
        0 => "",
        1 => version.split_once('/').map_or("", |(group, _)| group),
        _ => return Err(format!("unexpected GroupVersion string: {version}")),
    };
    let name = about.str("kind");
    let kind = kinds.by_name(group, name).ok_or_else(|| no_match(group, name))?;
    let mut forms = kinds.resources().iter().map(api::Resource::form);
    let form = forms.find(|form| form.kind == kind && form.group() == group);
    let form = form.ok_or_else(|| no_match(group, name))?;
    let path = ResourcePath {
        group: group.to_owned(),
        version: form.version().to_owned(),
        namespace: look.object.namespace().to_owned(),
        plural: kind.plural.to_owned(),
        name: about.str("name").to_owned(),
        subresource: "scale".into(),
        ..ResourcePath::default()
    };
    Ok((kind, path.to_string()))
}

fn scaled(
    view: &View<'_>,
    mut look: Look,
    kind: &'static Kind,
    scale: Value,
    all: &mut All,
    actions: &mut Actions,
) {
    look.set(
        "AbleToScale",
        "True",
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let count = |path| look.tree.int(path);
    let bounds = Bounds {
        current: scale.int("spec.replicas").unwrap_or(0),
        min: count("spec.minReplicas").unwrap_or(1),
        max: count("spec.maxReplicas").unwrap_or(0),
    };
    let known = all.entry(place(look.object.namespace(), look.object.name())).or_default();
    known.history.begin(bounds.current, look.now.mono);
    let Bounds { current, min, max } = bounds;
    let target = Target { kind, scale, bounds };
    if current == 0 && min != 0 {
        look.set(
            "ScalingActive",
            "False",
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
        );
        return look.finish(current, 0, Vec::new(), false, actions);
    }
    if current > max {
        let why = "Current number of replicas above Spec.MaxReplicas";
        return rescale(look, target, max, why.into(), Vec::new(), actions);
    }
    if current < min {
        let why = "Current number of replicas below Spec.MinReplicas";
        return rescale(look, target, min, why.into(), Vec::new(), actions);
    }
    let pods = match selected(view, &mut look, target.scale.str("status.selector"), all, actions) {
        Ok(pods) => pods,
        Err(why) => return look.failed(&why, current, Vec::new(), actions),
    };
    ask_metrics(view, look, target, pods, actions);
}

/// The pods that the target's selector selects, if no other autoscaler has them.
fn selected(
    view: &View<'_>,
    look: &mut Look,
    text: &str,
    all: &mut All,
    actions: &mut Actions,
) -> Result<Vec<Object>, String> {
    let mut refused = |look: &mut Look, event, reason, why: String, shown: Option<&str>| {
        look.warn(event, &why, actions);
        look.set("ScalingActive", "False", reason, shown.unwrap_or(&why));
        Err(why)
    };
    if text.is_empty() {
        let shown = "the HPA target's scale is missing a selector";
        return refused(
            look,
            "SelectorRequired",
            "InvalidSelector",
            "selector is required".into(),
            Some(shown),
        );
    }
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(why) => {
            let why = format!(
                "couldn't convert selector into a corresponding internal selector object: {why}"
            );
            return refused(look, "InvalidSelector", "InvalidSelector", why, None);
        }
    };
    let (namespace, name) = (look.object.namespace().to_owned(), look.object.name().to_owned());
    let pods = view.selected(&POD, &namespace, &selector);
    all.entry(place(&namespace, &name)).or_default().selector = Some(selector);
    let of_namespace =
        all.range(place(&namespace, "")..).take_while(|((ns, _), _)| *ns == namespace);
    let selects = |known: &Known| {
        let selector = known.selector.as_ref();
        selector.is_some_and(|selector| pods.iter().any(|pod| selector.matches(pod.labels())))
    };
    let selecting: Vec<String> = of_namespace
        .filter(|(_, known)| selects(known))
        .map(|((namespace, name), _)| format!("{{{name} {namespace}}}"))
        .collect();
    if selecting.len() > 1 {
        let why = format!(
            "pods by selector {text} are controlled by multiple HPAs: [{}]",
            selecting.join(" ")
        );
        return refused(look, "AmbiguousSelector", "AmbiguousSelector", why, None);
    }
    Ok(pods)
}

/// What `metrics` looks at.
fn scene<'a>(look: &'a Look, target: &'a Target, pods: &'a [Object]) -> Scene<'a> {
    Scene {
        namespace: look.object.namespace(),
        selector: target.scale.str("status.selector"),
        pods,
        replicas: target.bounds.current,
        status_replicas: target.scale.int("status.replicas").unwrap_or(0),
        now: look.now,
        by: look.by,
    }
}

fn ask_metrics(
    view: &View<'_>,
    look: Look,
    target: Target,
    pods: Vec<Object>,
    actions: &mut Actions,
) {
    let kinds = view.kinds();
    let scene = scene(&look, &target, &pods);
    // One that cannot be asked for keeps its place.
    let mut questions = Vec::new();
    let mut refused = Vec::new();
    for metric in look.tree.list("spec.metrics") {
        match metrics::paths(metric, &scene, &kinds) {
            Ok(paths) => {
                questions.push(Question::Read(paths));
                refused.push(None);
            }
            Err(why) => refused.push(Some(why)),
        }
    }
    actions.ask = Some(Ask::new(questions, move |_, memory, answers, actions| {
        let mut answers = answers.into_iter();
        let lost = || Err(Status::unavailable("it was not asked"));
        let answers = refused.into_iter().map(|refused| match refused {
            Some(why) => Err(Status::bad_request(why)),
            None => answers.next().unwrap_or_else(lost),
        });
        let answers: Vec<Result<Value, Status>> = answers.collect();
        let again = Next::After(look.by.sync_every);
        if !look.is_first {
            measured(look, target, &pods, &answers, remembered(memory), actions);
        }
        again
    }));
}

fn measured(
    mut look: Look,
    target: Target,
    pods: &[Object],
    answers: &[Result<Value, Status>],
    all: &mut All,
    actions: &mut Actions,
) {
    let current = target.bounds.current;
    let metrics = look.tree.list("spec.metrics").to_vec();
    let looked: Vec<Result<Found, Failed>> = {
        let scene = scene(&look, &target, pods);
        metrics
            .iter()
            .zip(answers)
            .map(|(metric, answer)| metrics::look(metric, answer, &scene))
            .collect()
    };
    let mut best: Option<(i64, &str)> = None;
    let mut statuses = Current::new();
    let mut failed: Vec<&Failed> = Vec::new();
    for one in &looked {
        match one {
            Ok(found) => {
                let replicas = found.proposal.replicas;
                // As upstream: any other proposal replaces one of none.
                if best.is_none_or(|(most, _)| most == 0 || replicas > most) {
                    best = Some((replicas, &found.name));
                }
                statuses.push(found.status.clone());
            }
            Err(why) => {
                look.warn(why.reason, &why.why, actions);
                failed.push(why);
                statuses.push(api::json!({"type": ""}));
            }
        }
    }
    let (asked, name) = best.unwrap_or((0, ""));
    if let [first, ..] = failed[..]
        && (failed.len() >= metrics.len() || asked < current)
    {
        let message = format!("the HPA was unable to compute the replica count: {}", first.why);
        look.set("ScalingActive", "False", first.reason, &message);
        let separator = if first.what.is_empty() { "" } else { ": " };
        let why = format!(
            "invalid metrics ({} invalid out of {}), first error is: {}{separator}{}",
            failed.len(),
            metrics.len(),
            first.what,
            first.why
        );
        return look.failed(&why, current, statuses, actions);
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    look.set("ScalingActive", "True", "ValidMetricFound", &message);
    let desired = asked.max(0);
    let known = all.entry(place(look.object.namespace(), look.object.name())).or_default();
    let behavior = look.tree.at("spec.behavior");
    let settled = known.history.settle(
        behavior,
        target.bounds,
        desired,
        (look.now.mono, look.by.down_window_secs),
    );
    look.set("AbleToScale", "True", settled.able.0, settled.able.1);
    let limited = if settled.is_limited { "True" } else { "False" };
    look.set("ScalingLimited", limited, settled.limited.0, settled.limited.1);
    if settled.replicas == current {
        return look.finish(current, current, statuses, false, actions);
    }
    let why = match desired {
        desired if desired > current => format!("{name} above target"),
        desired if desired < current => "All metrics below target".into(),
        _ => String::new(),
    };
    rescale(look, target, settled.replicas, why, statuses, actions);
}

/// Changes the scale, and tells of it.
fn rescale(
    mut look: Look,
    target: Target,
    desired: i64,
    why: String,
    statuses: Current,
    actions: &mut Actions,
) {
    if look.is_first {
        return;
    }
    let Target { kind, mut scale, bounds } = target;
    scale.set("spec.replicas", desired);
    let question = Question::Update { kind, subresource: "scale", object: scale };
    actions.ask = Some(Ask::new(vec![question], move |_, memory, answers, actions| {
        let current = bounds.current;
        if let Some(Err(status)) = answers.into_iter().next() {
            let error = status.message();
            let message = format!("New size: {desired}; reason: {why}; error: {error}");
            look.warn("FailedRescale", &message, actions);
            let message =
                format!("the HPA controller was unable to update the target scale: {error}");
            look.set("AbleToScale", "False", "FailedUpdateScale", &message);
            let desired = look.tree.int("status.desiredReplicas").unwrap_or(0);
            look.finish(current, desired, statuses, false, actions);
            return Next::After(look.by.sync_every);
        }
        let message =
            format!("the HPA controller was able to update the target scale to {desired}");
        look.set("AbleToScale", "True", "SucceededRescale", &message);
        actions.event(
            &look.object,
            "SuccessfulRescale",
            format!("New size: {desired}; reason: {why}"),
        );
        let all = remembered(memory);
        let known = all.entry(place(look.object.namespace(), look.object.name())).or_default();
        known.history.changed(look.tree.at("spec.behavior"), current, desired, look.now.mono);
        look.finish(current, desired, statuses, true, actions);
        Next::After(look.by.sync_every)
    }));
}

impl Look {
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let condition = Condition { kind, status, reason, message: message.to_owned() };
        conditions::set(&mut self.conditions, &condition, self.now);
    }

    fn warn(&self, reason: &'static str, message: &str, actions: &mut Actions) {
        if !self.is_first {
            actions.warning(&self.object, reason, message);
        }
    }

    /// The target's scale is not known.
    fn without_scale(&mut self, why: &str, actions: &mut Actions) {
        self.warn("FailedGetScale", why, actions);
        let message =
            format!("the HPA controller was unable to get the target's current scale: {why}");
        self.set("AbleToScale", "False", "FailedGetScale", &message);
        let mut status = self.tree.at("status").clone();
        status.set("conditions", self.conditions.clone());
        self.write(status, actions);
    }

    /// Nothing is decided.
    fn failed(&mut self, why: &str, current: i64, statuses: Current, actions: &mut Actions) {
        let desired = self.tree.int("status.desiredReplicas").unwrap_or(0);
        self.finish(current, desired, statuses, false, actions);
        self.warn("FailedComputeMetricsReplicas", why, actions);
    }

    fn finish(
        &mut self,
        current: i64,
        desired: i64,
        statuses: Current,
        is_scaled: bool,
        actions: &mut Actions,
    ) {
        let mut status = api::json!({"currentReplicas": current, "desiredReplicas": desired});
        match self.tree.at("status.lastScaleTime") {
            _ if is_scaled => status.set("lastScaleTime", api::time::format(self.now.wall)),
            Value::Null => {}
            before => status.set("lastScaleTime", before.clone()),
        }
        if !statuses.is_empty() {
            status.set("currentMetrics", statuses);
        }
        status.set("conditions", self.conditions.clone());
        self.write(status, actions);
    }

    fn write(&self, status: Value, actions: &mut Actions) {
        if !self.is_first {
            write_status(actions, &self.object, &self.tree, status);
        }
    }
}
