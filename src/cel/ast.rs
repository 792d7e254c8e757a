//! The tree of an expression: nodes in one vector, children by index, small enough to be kept for each rule.

use crate::value::Val;

/// A node's place in its tree.
pub(crate) type Id = u32;

/// How deep a tree may be: what walks it may recurse.
pub(crate) const DEPTH_MAX: u16 = 300;
/// How many nodes a tree may have: macros copy what they are given.
pub(crate) const NODES_MAX: usize = 100_000;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where in the text it begins, in bytes.
    pub(crate) at: u32,
    pub(crate) depth: u16,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Const(Val<'static>),
    Ident(Box<str>),
    /// A declared variable, by its place among the declarations.
    Var(u16),
    /// A variable of a comprehension, by its place on the stack of those.
    Local(u16),
    Select {
        of: Id,
        field: Box<str>,
        /// `has(of.field)`
        test: bool,
    },
    /// A call before it was resolved; of a method the target is the first argument.
    Call {
        name: Box<str>,
        method: bool,
        args: Box<[Id]>,
    },
    /// A call of a function, and which of its overloads it is if that is known.
    Apply {
        op: crate::functions::Op,
        overload: Option<u16>,
        args: Box<[Id]>,
    },
    List(Box<[Item]>),
    /// Keys and values.
    Map(Box<[Entry]>),
    /// Of an object: names of fields as constant keys.
    Object(Box<str>, Box<[Entry]>),
    Fold(Box<Fold>),
    /// What could not be parsed; an error was reported.
    Broken,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) value: Id,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) key: Id,
    pub(crate) value: Id,
    pub(crate) optional: bool,
}

/// A comprehension: what every macro over lists and maps becomes.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub(crate) range: Id,
    pub(crate) var: Box<str>,
    pub(crate) accu: Box<str>,
    pub(crate) init: Id,
    pub(crate) condition: Id,
    pub(crate) step: Id,
    pub(crate) result: Id,
    /// Where its two variables are on the stack: the accumulator, then the variable.
    pub(crate) slot: u16,
}

/// The nodes of one expression.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// More or deeper than allowed: what was added after that is not whole.
    pub(crate) too_deep: bool,
    pub(crate) too_many: bool,
}

impl Tree {
    /// The node `id`, which this tree made.
    pub(crate) fn get(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn kind(&self, id: Id) -> &Kind {
        &self.get(id).kind
    }

    /// Adds a node; beyond the bounds one that has no children, and the tree remembers it.
    pub(crate) fn add(&mut self, at: u32, mut kind: Kind) -> Id {
        let mut depth = 0;
        each_child(&kind, &mut |child| depth = depth.max(self.get(child).depth + 1));
        if depth > DEPTH_MAX || self.nodes.len() >= NODES_MAX {
            self.too_deep |= depth > DEPTH_MAX;
            self.too_many |= depth <= DEPTH_MAX;
            kind = Kind::Broken;
            depth = 0;
        }
        self.nodes.push(Node { at, depth, kind });
        self.nodes.len() as Id - 1
    }

    /// Whether the tree cannot be used because a bound was met.
    pub(crate) fn is_over(&self) -> bool {
        self.too_deep || self.too_many
    }

    /// A copy of everything below `id`.
    pub(crate) fn copy(&mut self, id: Id) -> Id {
        if self.is_over() {
            return id;
        }
        let Node { at, mut kind, .. } = self.get(id).clone();
        map_children(&mut kind, &mut |child| self.copy(child));
        self.add(at, kind)
    }

    /// Everything below `id` put into `into`, and nothing else of this tree.
    pub(crate) fn moved(&self, id: Id, into: &mut Tree) -> Id {
        let Node { at, mut kind, .. } = self.get(id).clone();
        map_children(&mut kind, &mut |child| self.moved(child, into));
        into.add(at, kind)
    }

    /// `a.b.c` of plain selections and identifiers.
    pub(crate) fn qualified(&self, id: Id) -> Option<String> {
        match self.kind(id) {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { of, field, test: false } => {
                let mut name = self.qualified(*of)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}

/// Replaces each child of a node by what `to` says.
fn map_children(kind: &mut Kind, to: &mut dyn FnMut(Id) -> Id) {
    match kind {
        Kind::Select { of, .. } => *of = to(*of),
        Kind::Call { args, .. } | Kind::Apply { args, .. } => {
            args.iter_mut().for_each(|arg| *arg = to(*arg));
        }
        Kind::List(items) => items.iter_mut().for_each(|item| item.value = to(item.value)),
        Kind::Map(entries) | Kind::Object(_, entries) => {
            for entry in entries.iter_mut() {
                (entry.key, entry.value) = (to(entry.key), to(entry.value));
            }
        }
        Kind::Fold(fold) => {
            let Fold { range, init, condition, step, result, .. } = &mut **fold;
            for part in [range, init, condition, step, result] {
                *part = to(*part);
            }
        }
        _ => {}
    }
}

/// Calls `see` for each child of a node, in the order in which they are evaluated.
pub(crate) fn each_child(kind: &Kind, see: &mut dyn FnMut(Id)) {
    match kind {
        Kind::Select { of, .. } => see(*of),
        Kind::Call { args, .. } | Kind::Apply { args, .. } => args.iter().for_each(|id| see(*id)),
        Kind::List(items) => items.iter().for_each(|item| see(item.value)),
        Kind::Map(entries) | Kind::Object(_, entries) => entries.iter().for_each(|entry| {
            see(entry.key);
            see(entry.value);
        }),
        Kind::Fold(fold) => {
            [fold.range, fold.init, fold.condition, fold.step, fold.result]
                .into_iter()
                .for_each(see);
        }
        _ => {}
    }
}
