//! What an expression costs at worst, before anything is evaluated: the number that upstream lets into a CRD.
//!
//! Source: github.com/google/cel-go/checker/cost.go, k8s.io/apiserver/pkg/cel/library/cost.go.

use std::collections::HashMap;

use crate::ast::{Fold, Id, Kind, Tree};
use crate::check::Checked;
use crate::functions::{Op, signature};
use crate::library::price::{CHECK, REGEX, TRAVERSAL};
use crate::schema::Place;
use crate::syntax::ACCUMULATOR;
use crate::types::Type;
use crate::value::Val;

/// The least and the most of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

const ONE: Range = Range { min: 1, max: 1 };
const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

impl Range {
    fn exactly(of: u64) -> Range {
        Range { min: of, max: of }
    }

    fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Rounded up, never above the largest number.
    fn scaled(self, by: f64) -> Range {
        let scale = |of: u64| (of as f64 * by).ceil() as u64;
        Range { min: scale(self.min), max: scale(self.max) }
    }

    fn read(self) -> Range {
        self.scaled(TRAVERSAL)
    }

    fn or(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The cost of the expression below `root`. Sizes of what `self` has come from its schema, if it has one.
pub(crate) fn estimate<'s>(
    tree: &Tree,
    root: Id,
    checked: &Checked<'s>,
    schema: Option<Place<'s>>,
) -> Range {
    let mut coster = Coster {
        tree,
        checked,
        schema,
        places: HashMap::new(),
        sizes: HashMap::new(),
        vars: Vec::new(),
    };
    coster.node(root)
}

/// What is known of the place that a value came from.
#[derive(Clone, Copy)]
enum Came<'s> {
    From(Place<'s>),
    /// The key of a map.
    Key,
    /// A schema does not have it.
    Elsewhere,
}

struct Coster<'c, 's> {
    tree: &'c Tree,
    checked: &'c Checked<'s>,
    schema: Option<Place<'s>>,
    places: HashMap<Id, Came<'s>>,
    sizes: HashMap<Id, Range>,
    /// Variables of comprehensions: name, and the range that they go through.
    vars: Vec<(Box<str>, Id, u16)>,
}

struct Call {
    cost: Range,
    size: Option<Range>,
}

fn costs(cost: Range) -> Option<Call> {
    Some(Call { cost, size: None })
}

impl<'s> Coster<'_, 's> {
    fn of(&self, id: Id) -> &Type<'s> {
        &self.checked.types[id as usize]
    }

    fn node(&mut self, id: Id) -> Range {
        match self.tree.kind(id) {
            Kind::Const(Val::Type(_)) => {
                self.root(id);
                ONE
            }
            Kind::Const(_) => Range::default(),
            Kind::Var(_) => {
                self.root(id);
                ONE
            }
            Kind::Local(slot) => {
                self.local(id, *slot);
                ONE
            }
            Kind::Select { of, field, test } => self.select(id, *of, field, *test),
            Kind::Apply { op, args, .. } => self.call(id, *op, args),
            Kind::List(items) => {
                let sum = items
                    .iter()
                    .fold(Range::default(), |sum, item| sum.plus(self.node(item.value)));
                sum.plus(Range::exactly(10))
            }
            Kind::Map(entries) => {
                let mut sum = Range::exactly(30);
                for entry in entries {
                    sum = sum.plus(self.node(entry.key)).plus(self.node(entry.value));
                }
                sum
            }
            Kind::Fold(fold) => self.fold(id, fold),
            Kind::Object(..) | Kind::Call { .. } | Kind::Ident(_) | Kind::Broken => {
                Range::default()
            }
        }
    }

    fn root(&mut self, id: Id) {
        if let Some(schema) = self.schema {
            self.places.insert(id, Came::From(schema));
        }
    }

    fn local(&mut self, id: Id, slot: u16) {
        let Some((_, range, _)) = self.vars.iter().rev().find(|(_, _, known)| *known == slot)
        else {
            // The variable of a binding is taken for a declared one.
            if self.vars.iter().any(|(name, ..)| **name == *ACCUMULATOR) {
                return;
            }
            return self.root(id);
        };
        let came = match (self.of(*range), self.places.get(range)) {
            // Upstream takes what comes from nowhere for the whole object.
            (Type::List(_) | Type::Map(_), None) => return self.root(id),
            (_, None) => return,
            (Type::List(_), Some(Came::From(place))) => {
                place.inner().map_or(Came::Elsewhere, Came::From)
            }
            (Type::Map(_), Some(Came::From(_))) => Came::Key,
            _ => return,
        };
        self.places.insert(id, came);
    }

    fn select(&mut self, id: Id, of: Id, field: &str, test: bool) -> Range {
        let sum = self.node(of);
        if test {
            return sum;
        }
        if let Some(came) = self.places.get(&of) {
            let field = match came {
                Came::From(place) => place.field(field).map_or(Came::Elsewhere, Came::From),
                _ => Came::Elsewhere,
            };
            self.places.insert(id, field);
        }
        match self.of(of) {
            Type::Map(_) | Type::Object(_) | Type::Named(_) | Type::Param(_) => sum.plus(ONE),
            _ => sum,
        }
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Range {
        let sum = self.node(fold.range).plus(self.node(fold.init));
        self.vars.push((fold.accu.clone(), fold.range, u16::MAX));
        self.vars.push((fold.var.clone(), fold.range, fold.slot + 1));
        let condition = self.node(fold.condition);
        let step = self.node(fold.step);
        self.vars.pop();
        let result = self.node(fold.result);
        self.vars.pop();
        let count = self.size(fold.range);
        self.sizes.insert(id, count);
        sum.plus(result).plus(count.times(step.plus(condition)))
    }

    /// The size that the expression itself or a schema says.
    fn known_size(&self, id: Id) -> Option<Range> {
        if let Some(size) = self.sizes.get(&id) {
            return Some(*size);
        }
        let exact = match self.tree.kind(id) {
            Kind::Const(Val::Type(_)) => None,
            Kind::Const(value) => Some(value.size().unwrap_or(1)),
            Kind::List(items) => Some(items.len() as u64),
            Kind::Map(entries) => Some(entries.len() as u64),
            _ => None,
        };
        exact.map(Range::exactly).or_else(|| self.size_of_place(*self.places.get(&id)?))
    }

    fn size_of_place(&self, came: Came<'s>) -> Option<Range> {
        match came {
            Came::From(place) => Some(Range { min: 0, max: place.longest().unwrap_or(0) }),
            Came::Key => Some(Range::default()),
            Came::Elsewhere => None,
        }
    }

    /// As the language's own functions see it: scalars are one.
    fn size(&self, id: Id) -> Range {
        let scalar = matches!(
            self.of(id),
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Time | Type::Uint
        );
        self.known_size(id).unwrap_or(if scalar { ONE } else { UNKNOWN })
    }

    /// As Kubernetes' functions see it.
    fn length(&self, id: Id) -> Range {
        self.known_size(id).unwrap_or(UNKNOWN)
    }

    fn call(&mut self, id: Id, op: Op, args: &[Id]) -> Range {
        let overloads = self.checked.overloads[id as usize].clone();
        let method = overloads.first().is_some_and(|one| signature(*one).starts_with('.'));
        // Upstream looks at the target last.
        let (target, rest) = match args.split_first() {
            Some((target, rest)) if method => (Some(*target), rest),
            _ => (None, args),
        };
        let paid: Vec<Range> = rest.iter().map(|arg| self.node(*arg)).collect();
        let sum = target.map_or(Range::default(), |target| self.node(target));
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in &overloads {
            let known = signature(*overload);
            let call = self.one(op, known, target, rest, &paid);
            cost = cost.or(call.cost);
            size = match (size, call.size) {
                (Some(one), Some(other)) => Some(one.or(other)),
                (one, other) => one.or(other),
            };
            let below = match known {
                "LAi:A" | "MABA:B" if op == Op::Index => args.first(),
                _ => None,
            };
            if let Some(Came::From(place)) = below.and_then(|of| self.places.get(of)).copied() {
                let came = place.inner().map_or(Came::Elsewhere, Came::From);
                self.places.insert(id, came);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
        if overloads.is_empty() { Range::default() } else { sum.plus(cost) }
    }

    fn one(&self, op: Op, known: &str, target: Option<Id>, args: &[Id], paid: &[Range]) -> Call {
        let all = paid.iter().fold(Range::default(), |sum, one| sum.plus(*one));
        if let Some(call) = self.kubernetes(op, known, target, args) {
            return Call { cost: call.cost.plus(all), size: call.size };
        }
        match (op, paid) {
            (Op::And | Op::Or, [left, right]) => {
                let cost = Range { min: left.min, max: left.max.saturating_add(right.max) };
                return Call { cost, size: None };
            }
            (Op::Conditional, [condition, yes, no]) => {
                let size = self.size(args[1]).or(self.size(args[2]));
                return Call { cost: condition.plus(yes.or(*no)), size: Some(size) };
            }
            _ => {}
        }
        let call = self.standard(op, known, target, args);
        let call = call.unwrap_or(Call { cost: ONE, size: None });
        Call { cost: call.cost.plus(all), size: call.size }
    }

    /// The language's own functions.
    fn standard(&self, op: Op, known: &str, target: Option<Id>, args: &[Id]) -> Option<Call> {
        let arg = |nth: usize| args.get(nth).map(|arg| self.size(*arg));
        match op {
            Op::Format => costs(self.size(target?).read()),
            Op::ToBytes if known == "s:y" => {
                let size = arg(0)?;
                let max = size.max.wrapping_mul(4);
                Some(Call { cost: size.read(), size: Some(Range { min: size.min, max }) })
            }
            Op::ToString if known == "y:s" => {
                let size = arg(0)?;
                Some(Call {
                    cost: size.read(),
                    size: Some(Range { min: size.min / 4, max: size.max }),
                })
            }
            Op::Quote => {
                let size = arg(0)?;
                let longer = Range {
                    min: size.min.wrapping_add(2),
                    max: size.max.wrapping_mul(2).wrapping_add(2),
                };
                Some(Call { cost: size.read(), size: Some(longer) })
            }
            Op::StartsWith | Op::EndsWith => costs(arg(0)?.read()),
            Op::In if known == "ALA:b" => costs(arg(1)?),
            Op::Matches if known == ".ss:b" => {
                let text = self.size(target?).plus(ONE).read();
                costs(text.times(arg(0)?.scaled(REGEX)))
            }
            Op::Contains => costs(self.size(target?).read().times(arg(0)?.read())),
            Op::Add if matches!(known, "ss:s" | "yy:y" | "LALA:LA") => {
                let size = arg(0)?.plus(arg(1)?);
                let cost = if known == "LALA:LA" { ONE } else { size.read() };
                Some(Call { cost, size: Some(size) })
            }
            Op::Less | Op::LessEquals | Op::Greater | Op::GreaterEquals
                if !matches!(known, "ss:b" | "yy:b") =>
            {
                None
            }
            Op::Less
            | Op::LessEquals
            | Op::Greater
            | Op::GreaterEquals
            | Op::Equals
            | Op::Differs => {
                let max = arg(0)?.max.min(arg(1)?.max);
                costs(Range { min: u64::from(max > 0), max }.read())
            }
            _ => None,
        }
    }

    /// The functions that Kubernetes counts in its own way.
    fn kubernetes(&self, op: Op, known: &str, target: Option<Id>, args: &[Id]) -> Option<Call> {
        let arg = |nth: usize| args.get(nth).map(|arg| self.length(*arg));
        let of = || target.map(|target| self.length(target));
        let address = Range { min: 4, max: 16 };
        match op {
            Op::AuthCheck => costs(Range::exactly(CHECK)),
            Op::AuthFieldSelector | Op::AuthLabelSelector => {
                let length = arg(0)?;
                let requirements = length.scaled(0.5).scaled(50.0);
                costs(Range::exactly(10).plus(length.read()).plus(requirements))
            }
            Op::IsSorted | Op::Sum | Op::Max | Op::Min | Op::IndexOf | Op::LastIndexOf => {
                let Type::List(of_type) = self.of(target?) else { return costs(of()?.read()) };
                let one = match **of_type {
                    Type::Str | Type::Bytes => ONE.plus(self.element(target?).read()),
                    _ => ONE,
                };
                costs(of()?.times(one))
            }
            Op::Url => {
                let size = arg(0)?;
                Some(Call { cost: size.read(), size: Some(size) })
            }
            Op::LowerAscii | Op::UpperAscii | Op::Substring | Op::Trim => {
                let size = of()?;
                Some(Call { cost: size.read(), size: Some(size) })
            }
            Op::Replace => {
                let size = replaced(of()?, arg(0)?, arg(1)?);
                Some(Call { cost: of()?.scaled(2.0 * TRAVERSAL), size: Some(size) })
            }
            Op::Split => {
                let size = of()?;
                let max = match args.get(1).map(|arg| self.tree.kind(*arg)) {
                    Some(Kind::Const(Val::Int(most))) => *most as u64,
                    _ => size.max,
                };
                let cost = size.scaled(2.0 * TRAVERSAL);
                Some(Call { cost, size: Some(Range { min: 0, max }) })
            }
            Op::Join => {
                let count = of()?;
                let mut size = match self.of(target?) {
                    Type::List(_) => count.times(self.element(target?)),
                    _ => Range::default(),
                };
                if let Some(by) = arg(0) {
                    let gaps = Range {
                        min: count.min.saturating_sub(1),
                        max: count.max.saturating_sub(1),
                    };
                    size = size.plus(by.times(gaps));
                }
                Some(Call { cost: size.read(), size: Some(size) })
            }
            Op::Find | Op::FindAll => {
                let size = of()?;
                let cost = size.plus(ONE).read().times(arg(0)?.scaled(REGEX));
                Some(Call { cost, size: Some(Range { min: 0, max: size.max }) })
            }
            // Upstream asks whether these have a target, by a test that is always true.
            Op::Cidr | Op::IsIp | Op::IsCidr | Op::Quantity | Op::IsQuantity => {
                costs(arg(0)?.read())
            }
            Op::Ip if known == "s:p" => costs(arg(0)?.read()),
            Op::IpIsCanonical => costs(arg(0)?.scaled(2.0 * TRAVERSAL)),
            Op::ContainsIp | Op::ContainsCidr => {
                let mut cost = address.plus(address).read();
                if op == Op::ContainsCidr {
                    cost = cost.plus(address.read()).plus(ONE);
                }
                if known == ".cs:b" {
                    cost = cost.plus(arg(0)?.read());
                }
                costs(cost)
            }
            Op::FormatValidate => costs(arg(0)?.read().scaled(128.0 * REGEX)),
            Op::SetsContains | Op::SetsIntersects => costs(arg(0)?.times(arg(1)?).plus(ONE)),
            Op::SetsEquivalent => costs(arg(0)?.times(arg(1)?).scaled(2.0).plus(ONE)),
            Op::Equals => self.equality(args),
            _ => None,
        }
    }

    /// The size of a list's elements.
    fn element(&self, list: Id) -> Range {
        let came = match self.places.get(&list) {
            Some(Came::From(place)) => place.inner().map_or(Came::Elsewhere, Came::From),
            _ => Came::Elsewhere,
        };
        self.size_of_place(came).unwrap_or(UNKNOWN)
    }

    fn equality(&self, args: &[Id]) -> Option<Call> {
        let (Type::Named(one), Type::Named(other)) = (self.of(args[0]), self.of(args[1])) else {
            return None;
        };
        if one != other {
            return None;
        }
        match *one {
            "kubernetes.NamedFormat" => costs(Range { min: 1, max: 64 }.read()),
            "kubernetes.URL" => {
                let size = self.sizes.get(&args[1]).copied().unwrap_or(ONE);
                costs(Range { min: 1, max: size.max }.read())
            }
            _ => costs(ONE),
        }
    }
}

/// How long a text is after `old` was replaced by `new`.
fn replaced(of: Range, old: Range, new: Range) -> Range {
    let (mut count, mut kept) = (Range::default(), Range::default());
    if old.min == 0 {
        count.max = of.max.saturating_add(1);
        kept.max = of.max;
    } else if new.max <= old.min {
        kept.max = of.max;
    } else {
        count.max = (of.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = of.min.saturating_add(1);
        kept.min = of.min;
    } else if old.max <= new.min {
        kept.min = of.min;
    } else {
        count.min = (of.min as f64 / old.max as f64).ceil() as u64;
    }
    count.times(new).plus(kept)
}
