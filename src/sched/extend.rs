//! Extenders: servers of an administrator's that filter and score nodes, and bind pods, beside the plug-ins.
//!
//! The scheduler asks by number and is answered by whoever runs it ([`Question::Outside`]); see [`crate::Extender::urls`].

use std::collections::VecDeque;
use std::time::Duration;

use api::controller::{Ask, Question};
use api::{Actions, Lens, Next, Value, View, json};
use stdx::OrdMap;

use crate::extender::{Extender, N_VERBS, Verb};
use crate::filter::Refusal;
use crate::node::Node;
use crate::place;
use crate::pod::Pod;
use crate::profile::Profiles;
use crate::spread;

/// What is done in one pass; the rest follows in the next, on a fresh view. Pods that wait for a node as they did before
/// cost no action, so however many there are, those behind them get their turn.
pub(crate) const ACTIONS_MAX: usize = 100;

/// After an extender that did not answer.
const UNANSWERED_RETRY: Duration = Duration::from_secs(5);

/// What is left of a pass that waits for answers.
pub(crate) struct Batch {
    pub(crate) pending: VecDeque<Pod>,
    pub(crate) nodes: OrdMap<String, Node>,
    /// Pods that may still be asked about in this pass.
    pub(crate) asked_left: usize,
    /// Somebody did not answer, which wakes nobody.
    pub(crate) again: bool,
}

/// Places pods until one must be asked about.
pub(crate) fn go_on(mut batch: Batch, view: &View<'_>, actions: &mut Actions) -> Next {
    while let Some(pod) = batch.pending.pop_front() {
        if actions.list.len() >= ACTIONS_MAX {
            return Next::After(Duration::ZERO);
        }
        let Some(profile) = pod.pending(view) else { continue };
        if care(view, &pod) && !(profile.gates && pod.gated()) {
            // Those behind them come when something wakes the next pass; the ones that nobody refused yet come first.
            let Some(left) = batch.asked_left.checked_sub(1) else { continue };
            batch.asked_left = left;
            return consult(batch, pod, view, actions);
        }
        place::place(pod, profile, &mut batch.nodes, view, actions);
    }
    match (batch.asked_left, batch.again) {
        (_, true) | (0, _) => Next::After(UNANSWERED_RETRY),
        _ => Next::Done,
    }
}

/// A pod that is being placed with their help.
struct Consulted {
    batch: Batch,
    pod: Pod,
    fitting: Vec<String>,
    refusals: OrdMap<String, Refusal>,
}

/// Whether any is asked about this pod.
fn care(view: &View<'_>, pod: &Pod) -> bool {
    Profiles::extenders(view).iter().any(|extender| extender.cares(&pod.requests))
}

/// Places the first pod of a batch, asking, and goes on with the others.
fn consult(batch: Batch, mut pod: Pod, view: &View<'_>, actions: &mut Actions) -> Next {
    let Some(profile) = pod.pending(view) else { return go_on(batch, view, actions) };
    spread::give_constraints(&mut pod, profile, view);
    let (fitting, refusals) = place::in_world(&pod, profile, &batch.nodes, view, |world| {
        let (fitting, refusals) = place::look(&pod, world);
        (fitting.iter().map(|node| node.name.clone()).collect(), refusals)
    });
    filter(Consulted { batch, pod, fitting, refusals }, 0, view, actions)
}

/// Asks the extenders from `first` on which nodes would do, one after the other.
fn filter(mut c: Consulted, first: usize, view: &View<'_>, actions: &mut Actions) -> Next {
    let extenders = Profiles::extenders(view);
    let next = (first..extenders.len())
        .find(|idx| extenders[*idx].does(Verb::Filter) && extenders[*idx].cares(&c.pod.requests));
    let Some(idx) = next.filter(|_| !c.fitting.is_empty()) else {
        return prioritize(c, view, actions);
    };
    let question = question(&c, &extenders[idx], idx, Verb::Filter);
    let then =
        move |view: &View<'_>, _: &mut _, answers: Vec<Result<Value, _>>, actions: &mut Actions| {
            let Some(extender) = Profiles::extenders(view).get(idx) else { return Next::Done };
            let answer = answers.into_iter().next().unwrap_or(Ok(Value::Null));
            let answer = answer.map_err(|status: api::Status| status.message().to_owned());
            match answer.and_then(|answer| c.take(extender, &answer)) {
                Err(why) if !extender.ignorable => failed(c, &why, view, actions),
                _ => filter(c, idx + 1, view, actions),
            }
        };
    actions.ask = Some(Ask::new(vec![question], then));
    Next::Done
}

/// Asks all of them how good the nodes are; who does not answer has no say.
fn prioritize(c: Consulted, view: &View<'_>, actions: &mut Actions) -> Next {
    let extenders = Profiles::extenders(view);
    let asked = extenders.iter().enumerate().filter(|(_, extender)| {
        extender.does(Verb::Prioritize) && extender.cares(&c.pod.requests) && c.fitting.len() > 1
    });
    let asked: Vec<(usize, i64)> = asked.map(|(idx, extender)| (idx, extender.weight)).collect();
    if asked.is_empty() {
        return settle(c, &OrdMap::new(), view, actions);
    }
    let questions =
        asked.iter().map(|(idx, _)| question(&c, &extenders[*idx], *idx, Verb::Prioritize));
    let questions: Vec<Question> = questions.collect();
    actions.ask = Some(Ask::new(questions, move |view, _, answers, actions| {
        let mut scores: OrdMap<String, i64> = OrdMap::new();
        for ((_, weight), answer) in asked.iter().zip(answers) {
            let answer = answer.unwrap_or_default();
            for one in answer.as_array().into_iter().flatten() {
                // Theirs go up to 10, ours to 100.
                let score = field(one, "Score").as_i64().unwrap_or(0).clamp(0, 10) * 10;
                if let Some(host) = field(one, "Host").as_str() {
                    *scores.entry(host.to_owned()).or_default() += score * weight;
                }
            }
        }
        settle(c, &scores, view, actions)
    }));
    Next::Done
}

/// Chooses, and binds, by an extender where one does.
fn settle(
    mut c: Consulted,
    scores: &OrdMap<String, i64>,
    view: &View<'_>,
    actions: &mut Actions,
) -> Next {
    let extenders = Profiles::extenders(view);
    let binder =
        extenders.iter().position(|one| one.does(Verb::Bind) && one.cares(&c.pod.requests));
    let before = actions.list.len();
    let Some(profile) = c.pod.pending(view) else {
        return go_on(c.batch, view, actions);
    };
    let done = place::in_world(&c.pod, profile, &c.batch.nodes, view, |world| {
        let fitting = c.fitting.iter().filter_map(|name| world.nodes.get(name));
        let fitting: Vec<&Node> = fitting.collect();
        place::settle(&c.pod, world, (&fitting, &c.refusals), scores, (view, &mut *actions))
    });
    done.book(c.pod.clone(), &mut c.batch.nodes);
    let is_bind = |action: &api::Action| matches!(action, api::Action::Bind { .. });
    let bind = actions.list.iter().skip(before).position(is_bind).map(|at| before + at);
    let (Some(idx), Some(bind)) = (binder, bind) else {
        return go_on(c.batch, view, actions);
    };
    let bind = actions.list.remove(bind);
    let api::Action::Bind { namespace, pod, uid, node } = &bind else { return Next::Done };
    let body = json!({"PodName": pod, "PodNamespace": namespace, "PodUID": uid, "Node": node});
    let question = Question::Outside { whom: idx * N_VERBS + Verb::Bind as usize, body };
    actions.ask = Some(Ask::new(vec![question], move |view, _, answers, actions| {
        let ignorable = Profiles::extenders(view).get(idx).is_some_and(|one| one.ignorable);
        let answer = answers.into_iter().next().unwrap_or(Ok(Value::Null));
        let why = match &answer {
            Ok(answer) => field(answer, "Error").as_str().unwrap_or("").to_owned(),
            Err(status) => status.message().to_owned(),
        };
        match (why.is_empty(), ignorable) {
            (true, _) => go_on(c.batch, view, actions),
            (false, true) => {
                actions.push(bind);
                go_on(c.batch, view, actions)
            }
            // The event that it was placed is not true.
            (false, false) => {
                actions.list.truncate(before);
                failed(c, &why, view, actions)
            }
        }
    }));
    Next::Done
}

/// The pod waits for the extender, and is tried again soon.
fn failed(mut c: Consulted, why: &str, view: &View<'_>, actions: &mut Actions) -> Next {
    place::condition(&c.pod, "SchedulerError", why, None, view, actions);
    c.batch.again = true;
    go_on(c.batch, view, actions)
}

fn question(c: &Consulted, extender: &Extender, idx: usize, verb: Verb) -> Question {
    let mut body = json!({"Pod": c.pod.tree, "Nodes": null, "NodeNames": null});
    match extender.by_name {
        true => body["NodeNames"] = c.fitting.clone().into(),
        false => {
            let nodes = c.fitting.iter().filter_map(|name| c.batch.nodes.get(name));
            let nodes: Vec<Value> = nodes.map(|node: &Node| node.tree.clone()).collect();
            body["Nodes"] = json!({"metadata": {}, "items": nodes});
        }
    }
    Question::Outside { whom: idx * N_VERBS + verb as usize, body }
}

/// A field of an answer, whose name Go reads in any case.
fn field<'v>(tree: &'v Value, name: &str) -> &'v Value {
    let found = tree.as_object().into_iter().flatten();
    let mut found = found.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    found.next().unwrap_or(&Value::Null)
}

impl Consulted {
    /// Takes what a filter answered.
    fn take(&mut self, extender: &Extender, answer: &Value) -> Result<(), String> {
        if let Some(why) = field(answer, "Error").as_str().filter(|why| !why.is_empty()) {
            return Err(why.to_owned());
        }
        let by_name = field(answer, "NodeNames").as_array().filter(|_| extender.by_name);
        let left: VecDeque<String> = match by_name {
            Some(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => {
                let nodes = field(answer, "Nodes").list("items").iter();
                nodes.map(|node| node.str("metadata.name").to_owned()).collect()
            }
        };
        if let Some(name) = left.iter().find(|name| !self.fitting.contains(name)) {
            return Err(format!(
                "extender {:?} claims a filtered node {name:?} which is not found in the input node list",
                extender.url
            ));
        }
        for (list, curable) in [("FailedAndUnresolvableNodes", false), ("FailedNodes", true)] {
            for (name, why) in field(answer, list).as_object().into_iter().flatten() {
                let reasons = vec![why.as_str().unwrap_or("").to_owned()];
                if self.fitting.contains(name) {
                    let refusal = Refusal { reasons, curable };
                    self.refusals.entry(name.clone()).or_insert(refusal);
                }
            }
        }
        let gone = self.fitting.iter().filter(|name| !left.contains(name));
        for name in gone {
            let reasons = vec![format!("FilteredByExtender {}", extender.url)];
            let refusal = Refusal { reasons, curable: true };
            self.refusals.entry(name.clone()).or_insert(refusal);
        }
        self.fitting.retain(|name| left.contains(name));
        Ok(())
    }
}
