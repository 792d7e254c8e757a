//! Expressions about an attempt, in CEL: `matchConditions`, and everything in policies.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/{cel,webhook/matchconditions}.

use std::cell::RefCell;

use api::{Status, Value, policy};
use cel::{CALL_MAX, Decision, Host, Input, Out, Program, Query, Spent, UNANSWERED, Val};

use super::Act;
use super::webhooks::review::{self, Failure};
use super::webhooks::{Subject, name, namespace};
use crate::auth::Attributes;
use crate::user::{SERVICE_ACCOUNTS, User};
use crate::webhook::hooks::Condition;

/// How often one expression may ask the authorizer; each answer costs a third of what it may cost.
const QUESTIONS_MAX: usize = 4;

/// Answers of the authorizer, as far as they are known.
#[derive(Default)]
struct Answers {
    known: RefCell<Vec<(Query, Decision)>>,
    asked: RefCell<Option<Query>>,
}

impl Host for Answers {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        api::violations(format, text)
    }

    fn authorize(&self, query: &Query) -> Option<Decision> {
        let known = self.known.borrow();
        let found = known.iter().find(|(known, _)| known == query);
        if found.is_none() {
            *self.asked.borrow_mut() = Some(query.clone());
        }
        found.map(|(_, decision)| decision.clone())
    }
}

/// What expressions see of an attempt.
pub(super) struct Seen {
    object: Value,
    old: Value,
    request: Value,
}

impl Seen {
    /// In the version that rules name.
    pub(super) async fn of(subject: &Subject<'_>, tree: &Value) -> Result<Seen, Status> {
        let told = |failure| match failure {
            Failure::Status(status) => status,
            Failure::Calling(why) => Status::internal(why),
        };
        let object = subject.object(tree).await.map_err(told)?;
        let request = review::request(subject, &object);
        Ok(Seen { old: subject.old().await.map_err(told)?, object, request })
    }
}

/// All expressions about an attempt may cost more than is allowed for.
pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The evaluation of expressions about one attempt.
pub(super) struct Evaluation<'v> {
    act: &'v Act<'v>,
    answers: Answers,
    pub(super) values: Vec<Val<'v>>,
    /// By values that are kept.
    spent: Spent,
}

impl<'v> Evaluation<'v> {
    pub(super) fn of(act: &'v Act<'v>, seen: &'v Seen) -> Evaluation<'v> {
        let own = Query {
            group: act.form.group().into(),
            resource: act.kind.plural.into(),
            subresource: act.subresource().into(),
            namespace: namespace(act, &seen.object).into(),
            name: name(act, &seen.object).into(),
            ..Query::default()
        };
        let mut values = vec![Val::Null; policy::VARIABLES];
        values[policy::OBJECT] = Val::json(&seen.object);
        values[policy::OLD_OBJECT] = Val::json(&seen.old);
        values[policy::REQUEST] =
            Val::typed(&seen.request, policy::request_schema()).unwrap_or(Val::Null);
        values[policy::AUTHORIZER] = Val::authorizer(Query::default());
        values[policy::REQUEST_RESOURCE] = Val::resource_check(own);
        let spent = Spent::up_to(CALL_MAX);
        Evaluation { act, answers: Answers::default(), values, spent }
    }

    /// The value of an expression and its cost; what is kept of several may not grow without bound together. It
    /// is evaluated again for each answer that it asks the authorizer for.
    pub(super) async fn run(&mut self, program: &'v Program, keeps: bool) -> (Out<Val<'v>>, u64) {
        let mut asked = 0;
        loop {
            let mut spent = self.spent.next(CALL_MAX);
            let (found, query) = self.once(program, &mut spent);
            match query {
                Some(query) if asked < QUESTIONS_MAX => {
                    let decision = decide(self.act, &query).await;
                    self.answers.known.borrow_mut().push((query, decision));
                    asked += 1;
                }
                _ => {
                    let cost = spent.cost;
                    if keeps {
                        self.spent = spent;
                    }
                    return (found, cost);
                }
            }
        }
    }

    /// The value of an expression as far as the authorizer has answered, and what it waits for.
    fn once(&self, program: &'v Program, spent: &mut Spent) -> (Out<Val<'v>>, Option<Query>) {
        let input = Input { variables: &self.values, host: &self.answers };
        let found = program.run(&input, spent);
        let query = self.answers.asked.borrow_mut().take();
        let waits = matches!(&found, Err(why) if why.message == UNANSWERED);
        (found, query.filter(|_| waits))
    }

    /// The value of an expression, in its own terms, or what is wrong with it.
    ///
    /// # Errors
    /// [`OUT_OF_BUDGET`] if it costs more than is left of `budget`.
    pub(super) async fn value(
        &mut self,
        of: &'v Condition,
        budget: &mut u64,
    ) -> Result<Result<Val<'v>, String>, &'static str> {
        let program = match &of.program {
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
            Ok(program) => program,
        };
        let (found, cost) = self.run(program, false).await;
        let left = budget.checked_sub(cost);
        // What cost more than there was leaves nothing for others.
        *budget = left.unwrap_or(0);
        left.ok_or(OUT_OF_BUDGET)?;
        Ok(found.map_err(|why| {
            format!("expression '{}' resulted in error: {}", of.expression, why.message)
        }))
    }

    /// Whether all conditions hold, within what is left of [`cel::CONDITIONS_MAX`]. Where some cannot be evaluated and none
    /// is false, they do not if `fails_open`.
    ///
    /// # Errors
    /// What could not be evaluated.
    pub(super) async fn hold(
        &mut self,
        conditions: &'v [Condition],
        fails_open: bool,
        budget: &mut u64,
    ) -> Result<bool, String> {
        let mut failed = Vec::new();
        for condition in conditions {
            match self.value(condition, budget).await {
                Ok(Ok(Val::Bool(true))) => {}
                Ok(Ok(Val::Bool(false))) => return Ok(false),
                Ok(Ok(_)) => failed.push("no such overload".into()),
                Ok(Err(why)) => failed.push(why),
                Err(over) => {
                    failed = vec![over.to_owned()];
                    break;
                }
            }
        }
        if failed.is_empty() || fails_open {
            return Ok(failed.is_empty());
        }
        Err(match &failed[..] {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }
}

/// Asks the authorizer about the caller, or the service account that is named.
async fn decide(act: &Act<'_>, query: &Query) -> Decision {
    let account = query.account.as_ref().map(|(namespace, name)| User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")],
        ..User::default()
    });
    let user = account.as_ref().unwrap_or(&act.caller.user);
    let attributes = match &query.path {
        Some(path) => Attributes::path(&query.verb, path),
        None => Attributes {
            verb: query.verb.clone(),
            group: query.group.clone(),
            version: "*".into(),
            resource: query.resource.clone(),
            subresource: query.subresource.clone(),
            namespace: query.namespace.clone(),
            name: query.name.clone(),
            field_selector: query.field_selector.clone(),
            label_selector: query.label_selector.clone(),
            path: String::new(),
        },
    };
    let decision = act.core.authorizer.decide(&act.core.store, user, &attributes).await;
    let error = Some(decision.error).filter(|error| !error.is_empty());
    Decision { allowed: decision.allowed, reason: decision.reason, error }
}
