//! A naive model of transactions, and random ones for it.

use std::cmp::Ordering;

use stdx::{OrdMap, prng::Prng};
use store::{
    Bytes, Compare, Done, KeyValue, Query, Relation, Request, Response, Span, Target, Txn,
};

pub(crate) fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

pub(crate) fn put(key: &str, value: &str) -> Request {
    Request::Put { key: bytes(key), value: bytes(value), lease: 0 }
}

pub(crate) fn compare(span: Span, target: Target, relation: Relation) -> Compare {
    Compare { span, target, relation }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn shown<'a>(items: impl IntoIterator<Item = &'a KeyValue>) -> String {
    let one = |kv: &KeyValue| {
        format!("{}={}@{}v{}", text(&kv.key), text(&kv.value), kv.mod_revision, kv.version)
    };
    items.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(crate) fn answers(done: &Done) -> Vec<String> {
    answers_of(&done.responses)
}

fn answers_of(responses: &[Response]) -> Vec<String> {
    let one = |response: &Response| match response {
        Response::Put(before) => format!("put {}", shown(before)),
        Response::Delete(before) => format!("deleted {}", shown(before)),
        Response::Range(range) => format!("{} +{}", shown(&range.items), range.remaining),
        Response::Txn(held, inner) => format!("{held} {:?}", answers_of(inner)),
    };
    responses.iter().map(one).collect()
}

/// Value, create revision, mod revision, version.
pub(crate) type Naive = OrdMap<String, (String, u64, u64, u64)>;

pub(crate) const KEYS: [&str; 5] = ["/a", "/a/1", "/b", "/b/1", "/c"];
const SPANS: [&str; 4] = ["/", "/a", "/b/", "/x"];

pub(crate) fn random_span(prng: &mut Prng) -> Span {
    match prng.chance(50) {
        true => Span::key(KEYS[prng.below(5) as usize]),
        false => Span::prefix(SPANS[prng.below(4) as usize]),
    }
}

pub(crate) fn random_requests(prng: &mut Prng, depth: usize) -> Vec<Request> {
    let one = |prng: &mut Prng| match prng.below(8) {
        2 if depth > 0 => Request::Txn(random_txn_within(prng, 9, depth - 1)),
        0 | 3 => Request::Delete(random_span(prng)),
        1 | 4 => {
            Request::Range(Query { limit: prng.below(3) as usize, ..Query::of(random_span(prng)) })
        }
        _ => put(KEYS[prng.below(5) as usize], &prng.below(4).to_string()),
    };
    // As few inside as an append of the model has place for.
    (0..prng.below(if depth > 0 { 5 } else { 3 })).map(|_| one(prng)).collect()
}

pub(crate) fn random_txn(prng: &mut Prng, revision: u64) -> Txn {
    random_txn_within(prng, revision, 1)
}

fn random_txn_within(prng: &mut Prng, revision: u64, depth: usize) -> Txn {
    let mut compares = Vec::new();
    for _ in 0..prng.below(3) {
        let near = revision.saturating_sub(prng.below(6));
        let target = match prng.below(5) {
            0 => Target::Value(bytes(&prng.below(4).to_string())),
            1 => Target::Version(prng.below(3)),
            2 => Target::CreateRevision(near * prng.below(2)),
            3 => Target::Lease(0),
            _ => Target::ModRevision(near),
        };
        use Relation::{Equal, Greater, Less, NotEqual};
        let relation = [Equal, NotEqual, Less, Greater][prng.below(4) as usize];
        compares.push(compare(random_span(prng), target, relation));
    }
    let (then, otherwise) = (random_requests(prng, depth), random_requests(prng, depth));
    Txn { compares, then, otherwise, ..Txn::default() }
}

fn naive_holds(naive: &Naive, compare: &Compare) -> bool {
    let related = |order: Ordering| match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Less => order.is_lt(),
        Relation::Greater => order.is_gt(),
    };
    let one = |kv: &(String, u64, u64, u64), exists: bool| match &compare.target {
        Target::Value(value) => exists && related(kv.0.cmp(&text(value))),
        Target::Version(version) => related(kv.3.cmp(version)),
        Target::CreateRevision(revision) => related(kv.1.cmp(revision)),
        Target::ModRevision(revision) => related(kv.2.cmp(revision)),
        Target::Lease(lease) => related(0.cmp(lease)),
    };
    let mut found =
        naive.iter().filter(|(key, _)| compare.span.contains(key.as_bytes())).peekable();
    match found.peek() {
        None => one(&Default::default(), false),
        Some(_) => found.all(|(_, kv)| one(kv, true)),
    }
}

pub(crate) fn naive_shown<'a>(
    items: impl IntoIterator<Item = (&'a String, &'a (String, u64, u64, u64))>,
) -> String {
    let one = |(key, kv): (&String, &(String, u64, u64, u64))| {
        format!("{key}={}@{}v{}", kv.0, kv.2, kv.3)
    };
    items.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// What the transaction must answer, where `next` gives each change its revision.
pub(crate) fn naive_run_numbered(
    naive: &mut Naive,
    txn: &Txn,
    next: &mut dyn FnMut() -> u64,
) -> (bool, Vec<String>) {
    let before = naive.clone();
    naive_run_on(&before, naive, txn, next)
}

/// The same, where comparisons look at what was `before`.
fn naive_run_on(
    before: &Naive,
    naive: &mut Naive,
    txn: &Txn,
    next: &mut dyn FnMut() -> u64,
) -> (bool, Vec<String>) {
    let holds = txn.compares.iter().all(|compare| naive_holds(before, compare));
    let mut answers = Vec::new();
    for request in if holds { &txn.then } else { &txn.otherwise } {
        match request {
            Request::Update { .. } => unreachable!("none is made at random"),
            Request::Txn(inner) => {
                let (held, inner) = naive_run_on(before, naive, inner, next);
                answers.push(format!("{held} {inner:?}"));
            }
            Request::Put { key, value, .. } => {
                let (key, old) = (text(key), naive.get(&text(key)).cloned());
                answers.push(format!("put {}", naive_shown(old.as_ref().map(|old| (&key, old)))));
                let revision = next();
                let created = old.as_ref().map_or(revision, |kv| kv.1);
                let version = old.map_or(1, |kv| kv.3 + 1);
                naive.insert(key, (text(value), created, revision, version));
            }
            Request::Delete(span) => {
                let covered = |key: &String| span.contains(key.as_bytes());
                let gone: Naive = naive
                    .iter()
                    .filter(|(key, _)| covered(key))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                naive.retain(|key, _| !covered(key));
                for _ in &gone {
                    next();
                }
                answers.push(format!("deleted {}", naive_shown(&gone)));
            }
            Request::Range(query) => {
                let found: Vec<_> =
                    naive.iter().filter(|(key, _)| query.span.contains(key.as_bytes())).collect();
                let n = if query.limit == 0 { found.len() } else { found.len().min(query.limit) };
                answers.push(format!("{} +{}", naive_shown(found[..n].to_vec()), found.len() - n));
            }
        }
    }
    (holds, answers)
}
