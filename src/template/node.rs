//! What a template is once it is read.

use std::ops::Range;
use std::rc::Rc;

use crate::builtins::Builtin;
use crate::value::Signature;

/// A position in the text, in bytes.
pub(crate) type At = u32;

/// A template: its nodes, and the text that they point into.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The name of the file or text that it was read from, for errors.
    pub(crate) file: Rc<str>,
    pub(crate) name: Rc<str>,
    pub(crate) text: Rc<str>,
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(Range<usize>),
    Action(Pipe),
    /// `if`, or `with`; each `else if` is a branch more.
    If {
        is_with: bool,
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        at: At,
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        at: At,
        end: At,
        name: Rc<str>,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) at: At,
    pub(crate) end: At,
    pub(crate) variables: Vec<Rc<str>>,
    /// `=` instead of `:=`.
    pub(crate) is_assignment: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) at: At,
    pub(crate) end: At,
    pub(crate) args: Vec<Arg>,
}

#[derive(Debug)]
pub(crate) struct Arg {
    /// Where it begins.
    pub(crate) start: At,
    /// What errors call its position: of fields, where the second one begins.
    pub(crate) at: At,
    pub(crate) end: At,
    pub(crate) word: Word,
}

#[derive(Debug)]
pub(crate) enum Word {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(Rc<[u8]>),
    Field(Vec<Rc<str>>),
    Variable(Rc<str>, Vec<Rc<str>>),
    Function(Callee),
    Pipe(Box<Pipe>),
    Chain(Box<Arg>, Vec<Rc<str>>),
}

/// A number as it is written: what it is depends on where it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) int: Option<i64>,
    pub(crate) float: Option<f64>,
    /// It is written as a float.
    pub(crate) is_float: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    Builtin(Builtin),
    /// The index that [`crate::Names::find`] gave.
    Given(u16, Signature),
}

impl Callee {
    pub(crate) fn signature(self) -> Signature {
        match self {
            Callee::Builtin(builtin) => builtin.signature(),
            Callee::Given(_, signature) => signature,
        }
    }
}

impl Tree {
    /// `LINE:COLUMN` as Go counts them.
    pub(crate) fn place(&self, at: At) -> String {
        let before = &self.text.as_bytes()[..(at as usize).min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |idx| idx + 1);
        format!("{line}:{}", before.len() - start)
    }

    /// The source between two positions with its white space made single, as Go prints a node.
    pub(crate) fn excerpt(&self, start: At, end: At) -> String {
        let text = self.text.get(start as usize..end as usize).unwrap_or("").trim();
        let mut out = String::new();
        let mut quote = None;
        for c in text.chars() {
            if quote.is_none() && c.is_whitespace() {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
                continue;
            }
            match quote {
                None if c == '"' || c == '`' => quote = Some(c),
                Some(open) if open == c && !out.ends_with('\\') => quote = None,
                _ => {}
            }
            out.push(c);
        }
        out
    }
}
