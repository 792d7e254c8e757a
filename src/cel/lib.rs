//! CEL, the expression language of Kubernetes' validation rules and admission policies, as Kubernetes 1.32 has it.
//!
//! Pure: no I/O, no clock. An expression is read into a tree (`lex`, `parse`, `expand`), its types are checked
//! against declared variables and their schemas (`check`), its worst cost is estimated (`cost`), and then it is
//! kept, small, to be evaluated over JSON by reference (`eval`, `apply`) within upstream's cost limits.
//! Whoever writes expressions is hostile: text, depth, nodes, steps, memory and cost are bounded.

mod ast;
mod check;
mod cost;
mod eval;
mod functions;
mod library;
mod pattern;
mod plan;
mod schema;
mod syntax;
mod types;
mod validate;
mod value;
mod words;

#[cfg(test)]
mod tests;

pub use check::Variable;
pub use cost::Range;
pub use eval::Input;
pub use pattern::Regex;
pub use schema::{Identity, Place, Schemas, Shape, is_identifier};
pub use syntax::parse::SOURCE_MAX;
pub use types::Type;
pub use value::auth::{Decision, Host, Query, UNANSWERED};
pub use value::net::parse_url as url;
pub use value::spend::{CALL_MAX, CONDITIONS_MAX, OBJECT_MAX, Spent};
pub use value::{Fail, Out, Val};

use ast::{Id, Kind, Tree};
use syntax::issue::Issues;

/// An expression that can be evaluated.
#[derive(Debug, Clone)]
pub struct Program {
    tree: Tree,
    root: Id,
}

/// What was found about an expression.
#[derive(Debug)]
pub struct Compiled<'s> {
    pub program: Program,
    /// The type of its value.
    pub output: Type<'s>,
    /// What it costs at least and at most.
    pub cost: Range,
}

/// Why an expression is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Its text: everything that is wrong with it, as upstream shows it.
    Text(String),
    /// A constant in it.
    Constant(String),
}

/// Reads and checks an expression. Sizes of what `variables` hold are taken from `schema` for the cost.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn compile<'s>(
    text: &str,
    variables: &[Variable<'s>],
    schema: Option<Place<'s>>,
) -> Result<Compiled<'s>, Wrong> {
    let mut issues = Issues::of(text);
    let (mut tree, root) = syntax::parse::parse(&mut issues);
    if !issues.is_empty() {
        return Err(Wrong::Text(issues.shown()));
    }
    let checked = check::check(&mut tree, root, variables, &mut issues);
    if issues.is_empty() {
        validate::validate(&tree, root, &checked, &mut issues);
    }
    if !issues.is_empty() {
        return Err(Wrong::Text(issues.shown()));
    }
    let cost = cost::estimate(&tree, root, &checked, schema);
    plan::plan(&mut tree, root).map_err(|why| Wrong::Constant(why.message.into_owned()))?;
    let mut small = Tree::default();
    let small_root = tree.moved(root, &mut small);
    small.nodes.shrink_to_fit();
    let output = checked.types[root as usize].clone();
    Ok(Compiled { program: Program { tree: small, root: small_root }, output, cost })
}

impl Program {
    /// About how much memory it takes.
    pub fn heap_bytes(&self) -> usize {
        self.tree.nodes.capacity() * size_of::<ast::Node>()
    }

    /// Evaluates it.
    ///
    /// # Errors
    ///
    /// What the expression itself does wrong, or that it costs more than `spent` allows.
    pub fn run<'a>(&'a self, input: &Input<'_, 'a>, spent: &mut Spent) -> Out<Val<'a>> {
        eval::evaluate(&self.tree, self.root, input, spent)
    }

    /// How deep its tree is.
    pub fn depth(&self) -> usize {
        usize::from(self.tree.get(self.root).depth)
    }

    /// The places of the variables that it uses, some more than once.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        self.tree.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Var(nth) => Some(usize::from(*nth)),
            _ => None,
        })
    }

    /// Whether it selects `field` of the variable that was declared at place `nth`, by `v.field`, `v.?field` or `has`.
    pub fn selects(&self, nth: usize, field: &str) -> bool {
        let kind = |id: Id| self.tree.kind(id);
        let is_it = |id: Id| matches!(kind(id), Kind::Var(used) if usize::from(*used) == nth);
        self.tree.nodes.iter().any(|node| match &node.kind {
            Kind::Select { of, field: own, .. } => is_it(*of) && **own == *field,
            Kind::Apply { op: functions::Op::OptSelect, args, .. } => match args[..] {
                [of, own] => {
                    is_it(of)
                        && matches!(kind(own), Kind::Const(own) if own.as_str() == Some(field))
                }
                _ => false,
            },
            _ => false,
        })
    }

    /// Whether it uses the variable that was declared at place `nth`.
    pub fn uses(&self, nth: usize) -> bool {
        let same = |kind: &Kind| matches!(kind, Kind::Var(used) if usize::from(*used) == nth);
        self.tree.nodes.iter().any(|node| same(&node.kind))
    }
}
