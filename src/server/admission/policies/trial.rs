//! One evaluation of a policy: an attempt, one parameter, and what the expressions say of it.

use api::{Value, policy};
use cel::{CONDITIONS_MAX, Val};

use crate::admission::Act;
use crate::admission::evaluation::{Evaluation, OUT_OF_BUDGET, Seen};
use crate::webhook::hooks::Condition;
use crate::webhook::policies::{Expressions, Policy, Validation};

/// How long a message that an expression makes may be, in bytes.
const MESSAGE_MAX: usize = 5 * 1024;
/// How much of an annotation's value is kept, in bytes.
const ANNOTATION_MAX: usize = 10 * 1024;

/// Why an attempt is refused.
pub(super) struct Denial {
    pub(super) message: String,
    pub(super) reason: String,
}

/// What a policy says about an attempt with one parameter.
#[derive(Default)]
pub(super) struct Verdict {
    /// By the place of the validation.
    pub(super) denials: Vec<(usize, Denial)>,
    pub(super) annotations: Vec<(String, String)>,
    /// Annotations that could not be evaluated.
    pub(super) broken: Vec<Denial>,
}

/// One evaluation of a policy.
pub(super) struct Trial<'t> {
    pub(super) policy: &'t Policy,
    pub(super) seen: &'t Seen,
    pub(super) namespace: &'t Value,
    pub(super) param: &'t Value,
}

impl<'t> Trial<'t> {
    /// The verdict, and what it cost.
    pub(super) async fn run(&self, act: &'t Act<'t>, budget: u64) -> (Verdict, u64) {
        let expressions = self.policy.expressions();
        let mut evaluation = Evaluation::of(act, self.seen);
        evaluation.values[policy::PARAMS] = Val::json(self.param);
        let mut verdict = Verdict::default();
        let mut left = CONDITIONS_MAX;
        let held =
            evaluation.hold(&expressions.conditions, self.policy.fails_open, &mut left).await;
        let conditions = CONDITIONS_MAX - left;
        match held {
            Ok(true) => {}
            Ok(false) => return (verdict, conditions),
            Err(why) => {
                verdict.denials = self.failed(0, why);
                return (verdict, conditions);
            }
        }
        evaluation.values[policy::NAMESPACE_OBJECT] =
            Val::typed(self.namespace, policy::namespace_schema()).unwrap_or(Val::Null);
        let unknown = std::iter::repeat_n(Val::Null, expressions.variables.len());
        evaluation.values.extend(unknown);
        let costs = vec![None; expressions.variables.len()];
        let charged = vec![false; costs.len()];
        let mut composed = Composed { evaluation, expressions, costs, charged, budget };
        if let Err(over) = self.judge(&mut composed, &mut verdict).await {
            verdict.denials = self.failed(0, over.into());
        }
        let cost = budget.saturating_sub(composed.budget);
        composed.charged.fill(false);
        composed.budget = budget;
        if let Err(over) = self.annotate(&mut composed, &mut verdict).await {
            verdict.denials = self.failed(0, over.into());
        }
        let annotating = budget.saturating_sub(composed.budget);
        (verdict, conditions.saturating_add(cost).saturating_add(annotating))
    }

    /// The verdict where nothing is left to evaluate anything with.
    pub(super) fn exhausted(&self) -> Verdict {
        Verdict { denials: self.failed(0, OUT_OF_BUDGET.into()), ..Verdict::default() }
    }

    /// Why it could not be evaluated, unless that does not matter.
    fn failed(&self, idx: usize, message: String) -> Vec<(usize, Denial)> {
        let denial = Denial { message, reason: String::new() };
        if self.policy.fails_open { Vec::new() } else { vec![(idx, denial)] }
    }

    async fn judge(
        &self,
        composed: &mut Composed<'t>,
        verdict: &mut Verdict,
    ) -> Result<(), &'static str> {
        let validations = &composed.expressions.validations;
        let mut broken = Vec::new();
        for (idx, validation) in validations.iter().enumerate() {
            match composed.value(&validation.condition).await? {
                Ok(Val::Bool(true)) => {}
                Ok(_) => broken.push((idx, None)),
                Err(why) => broken.push((idx, Some(why))),
            }
        }
        composed.charged.fill(false);
        composed.forget_authorizer();
        for (idx, why) in broken {
            let validation = &validations[idx];
            let found = match why {
                Some(why) => Err(why),
                None => message(composed, validation).await,
            };
            match found {
                Err(why) => verdict.denials.extend(self.failed(idx, why)),
                Ok(message) => {
                    let denial = Denial { message, reason: validation.reason.clone() };
                    verdict.denials.push((idx, denial));
                }
            }
        }
        Ok(())
    }

    async fn annotate(
        &self,
        composed: &mut Composed<'t>,
        verdict: &mut Verdict,
    ) -> Result<(), &'static str> {
        composed.forget_authorizer();
        for (key, condition) in &composed.expressions.annotations {
            match composed.value(condition).await? {
                Ok(value) => {
                    let text = value.as_str().unwrap_or_default().trim();
                    let text = &text[..text.floor_char_boundary(ANNOTATION_MAX)];
                    if !text.is_empty() {
                        verdict.annotations.push((key.clone(), text.to_owned()));
                    }
                }
                Err(_) if self.policy.fails_open => {}
                Err(message) => verdict.broken.push(Denial { message, reason: String::new() }),
            }
        }
        Ok(())
    }
}

/// What is told of a validation that failed.
async fn message<'t>(
    composed: &mut Composed<'t>,
    validation: &'t Validation,
) -> Result<String, String> {
    if let Some(told) = &validation.told {
        let made = composed.value(told).await;
        let made = made.map_err(|over| format!("failed messageExpression: {over}"))?;
        let text = made.ok().and_then(|made| made.as_str().map(|text| text.trim().to_owned()));
        let fits =
            |text: &String| !text.is_empty() && text.len() <= MESSAGE_MAX && !text.contains('\n');
        if let Some(text) = text.filter(fits) {
            return Ok(text);
        }
    }
    Ok(match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.condition.expression.trim()),
        message => message.to_owned(),
    })
}

/// Expressions that may name variables. These are evaluated when the first that names them is.
struct Composed<'t> {
    evaluation: Evaluation<'t>,
    expressions: &'t Expressions,
    /// Of each variable that was evaluated.
    costs: Vec<Option<u64>>,
    /// Variables that were paid for by this group of expressions.
    charged: Vec<bool>,
    budget: u64,
}

impl<'t> Composed<'t> {
    async fn value(&mut self, of: &'t Condition) -> Result<Result<Val<'t>, String>, &'static str> {
        let needed = self.needed(of);
        for (nth, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            let cost = match self.costs[nth] {
                Some(cost) => cost,
                None => self.evaluate(nth).await,
            };
            if !std::mem::replace(&mut self.charged[nth], true) {
                let left = self.budget.checked_sub(cost);
                self.budget = left.unwrap_or(0);
                left.ok_or(OUT_OF_BUDGET)?;
            }
        }
        self.evaluation.value(of, &mut self.budget).await
    }

    /// Messages and annotations have none, as upstream.
    fn forget_authorizer(&mut self) {
        for nth in [policy::AUTHORIZER, policy::REQUEST_RESOURCE] {
            let why = "no such attribute(s): authorizer";
            self.evaluation.values[nth] = Val::Missing(why.into());
        }
    }

    /// Which variables it names, and which those name.
    fn needed(&self, of: &Condition) -> Vec<bool> {
        let variables = &self.expressions.variables;
        let mut needed = vec![false; variables.len()];
        let mark = |condition: &Condition, needed: &mut Vec<bool>| {
            let used = condition.program.iter().flat_map(cel::Program::used);
            for nth in used.filter_map(|nth| nth.checked_sub(policy::VARIABLES)) {
                needed[nth] = true;
            }
        };
        mark(of, &mut needed);
        for nth in (0..variables.len()).rev() {
            if needed[nth] {
                mark(&variables[nth], &mut needed);
            }
        }
        needed
    }

    async fn evaluate(&mut self, nth: usize) -> u64 {
        let Condition { expression, program } = &self.expressions.variables[nth];
        let (value, cost) = match program {
            Err(why) => {
                let why = format!("composited variable {expression:?} fails to compile: {why}");
                (Val::Missing(why.into()), 0)
            }
            Ok(program) => {
                let (found, cost) = self.evaluation.run(program, true).await;
                let value = found.unwrap_or_else(|why| {
                    let why = &why.message;
                    let why =
                        format!("composited variable {expression:?} fails to evaluate: {why}");
                    Val::Missing(why.into())
                });
                (value, cost)
            }
        };
        self.evaluation.values[policy::VARIABLES + nth] = value;
        self.costs[nth] = Some(cost);
        cost
    }
}
