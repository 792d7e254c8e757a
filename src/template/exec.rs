//! Templates executed: nodes to text, pipelines to values.

use std::rc::Rc;

use crate::builtins::{self, Builtin};
use crate::format;
use crate::node::{Arg, At, Callee, Command, Node, Number, Pipe, Tree, Word};
use crate::parse::{Names, Set};
use crate::value::{Heap, Int, Map, Object, Value};

/// The functions that templates may call, besides Go's own.
pub trait Functions: Names {
    /// Calls it. The arguments fit the signature; where one may be nil it is [`Value::Nil`].
    ///
    /// # Errors
    /// What the template's error says after `error calling NAME: `.
    fn call(&self, run: &mut Run<'_>, function: u16, args: &[Value]) -> Result<Value, String>;

    /// Calls a method of a map of a type of its own; `None` if there is none of this name.
    fn method(
        &self,
        _run: &mut Run<'_>,
        _map: &Rc<Map>,
        _name: &str,
        _args: &[Value],
    ) -> Option<Result<Value, String>> {
        None
    }
}

/// What a key gives that a map has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// Nothing, and fields of it are nothing.
    Default,
    /// Nil, and a field of it is an error.
    Zero,
    /// An error.
    Error,
}

/// Longest error; each template around it repeats what is inside.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// Stack that an execution uses, of the megabyte that the smallest of our threads have.
const STACK_BYTES_MAX: usize = 500 << 10;
/// Arguments of one call.
const ARGS_MAX: usize = 1000;

/// One execution.
pub struct Run<'a> {
    pub heap: &'a Heap,
    /// The templates that are seen now.
    pub set: Rc<Set>,
    functions: &'a dyn Functions,
    missing_key: MissingKey,
    depth: usize,
    /// Where the stack was when it began.
    stack: usize,
}

/// An address near the end of the present stack.
fn stack_address() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

impl<'a> Run<'a> {
    pub fn new(
        set: Rc<Set>,
        functions: &'a dyn Functions,
        missing_key: MissingKey,
        heap: &'a Heap,
    ) -> Run<'a> {
        Run { heap, set, functions, missing_key, depth: 0, stack: stack_address() }
    }

    /// Executes the template `name` with `data` as its dot.
    ///
    /// # Errors
    /// What Go would say, or which bound was passed.
    pub fn execute(&mut self, name: &str, data: &Value) -> Result<Vec<u8>, String> {
        let Some(tree) = self.set.find(name).cloned() else {
            return Err(format!(
                "template: no template {name:?} associated with template \"gotpl\""
            ));
        };
        let mut out = Vec::new();
        self.execute_tree(&tree, data, &mut out)?;
        Ok(out)
    }

    /// Reads `text` as a template that sees all others, and executes it. What it defines ends with it.
    ///
    /// # Errors
    /// As [`Set::parse`] and [`Run::execute`].
    pub fn execute_text(
        &mut self,
        name: &str,
        text: &str,
        data: &Value,
    ) -> Result<Vec<u8>, String> {
        self.heap.charge(text.len())?;
        let mut set = Set::over(&self.set)?;
        set.parse(name, text, self.functions)?;
        let outer = std::mem::replace(&mut self.set, Rc::new(set));
        let done = self.execute(name, data);
        self.set = outer;
        done
    }

    fn execute_tree(
        &mut self,
        tree: &Rc<Tree>,
        data: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut state =
            State { run: self, tree, out, variables: vec![(Rc::from("$"), data.clone())] };
        state.walk(&tree.nodes, data)?;
        Ok(())
    }
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("depth", &self.depth).finish_non_exhaustive()
    }
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// One template in execution.
struct State<'r, 'a, 't> {
    run: &'r mut Run<'a>,
    tree: &'t Tree,
    out: &'r mut Vec<u8>,
    variables: Vec<(Rc<str>, Value)>,
}

impl State<'_, '_, '_> {
    /// An error at a node that reaches from `start` to `end` and is said to be at `at`.
    fn error(&self, at: At, start: At, end: At, what: &str) -> String {
        let (tree, place) = (self.tree, self.tree.place(at));
        let excerpt = tree.excerpt(start, end);
        let mut text = format!(
            "template: {}:{place}: executing {} at <{excerpt}>: {what}",
            tree.file,
            format::quote(tree.name.as_bytes())
        );
        if text.len() > ERROR_BYTES_MAX {
            // The beginning says where it was called, the end what is wrong.
            let (mut head, mut tail) = (ERROR_BYTES_MAX / 2, text.len() - ERROR_BYTES_MAX / 2);
            while !text.is_char_boundary(head) {
                head -= 1;
            }
            while !text.is_char_boundary(tail) {
                tail += 1;
            }
            text = format!("{} ... {}", &text[..head], &text[tail..]);
        }
        text
    }

    fn error_at(&self, arg: &Arg, what: &str) -> String {
        self.error(arg.at, arg.start, arg.end, what)
    }

    fn enter(&mut self, at: At) -> Result<(), String> {
        let used_bytes = self.run.stack.abs_diff(stack_address());
        if self.run.depth >= self.run.heap.depth_max || used_bytes > STACK_BYTES_MAX {
            let what = "exceeded maximum template depth";
            return Err(self.error(at, at, at, what));
        }
        self.run.depth += 1;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.run.heap.charge(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            self.run.heap.step(1)?;
            let flow = match node {
                Node::Text(range) => {
                    let tree = self.tree;
                    self.write(&tree.text.as_bytes()[range.clone()])?;
                    Flow::On
                }
                Node::Action(pipe) => {
                    let value = self.pipeline(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.print(&value)?;
                    }
                    Flow::On
                }
                Node::If { is_with, branches, otherwise } => {
                    self.branches(*is_with, branches, otherwise, dot)?
                }
                Node::Range { at, pipe, body, otherwise } => {
                    self.range(*at, pipe, body, otherwise, dot)?
                }
                Node::Template { at, end, name, pipe } => {
                    self.template(*at, *end, name, pipe.as_ref(), dot)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn print(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Text(text) => self.write(text),
            Value::Invalid => self.write(b"<no value>"),
            _ => {
                let shown = format::show(value, self.run.heap)?;
                self.write(&shown)
            }
        }
    }

    /// A block inside a block: counted, so that our own stack is bounded.
    fn block(&mut self, nodes: &[Node], dot: &Value, at: At) -> Result<Flow, String> {
        self.enter(at)?;
        let flow = self.walk(nodes, dot)?;
        self.run.depth -= 1;
        Ok(flow)
    }

    fn branches(
        &mut self,
        is_with: bool,
        branches: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let mark = self.variables.len();
        let at = branches.first().map_or(0, |(pipe, _)| pipe.at);
        let mut flow = None;
        for (pipe, nodes) in branches {
            let value = self.pipeline(pipe, dot)?;
            if value.truth() {
                flow = Some(self.block(nodes, if is_with { &value } else { dot }, at)?);
                break;
            }
        }
        let flow = match flow {
            Some(flow) => flow,
            None => self.block(otherwise, dot, at)?,
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(
        &mut self,
        at: At,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let outer = self.variables.len();
        let mut value = self.pipeline(pipe, dot)?;
        let mark = self.variables.len();
        if let Value::Object(object) = &value
            && matches!(object.kind(), "map" | "slice")
        {
            value = object.plain();
        }
        let mut n = 0usize;
        let mut once = |state: &mut Self, index: Value, element: &Value| -> Result<bool, String> {
            state.run.heap.step(1)?;
            n += 1;
            state.iteration(pipe, mark, index, element);
            let flow = state.block(body, element, at)?;
            state.variables.truncate(mark);
            Ok(flow != Flow::Break)
        };
        match &value {
            Value::Invalid | Value::Nil => {}
            Value::Int(..) if pipe.variables.len() > 1 => {
                let shown = format::sprint(&value, self.run.heap)?;
                let what = format!("can't use {shown} to iterate over more than one variable");
                return Err(self.error(at, pipe.at, pipe.end, &what));
            }
            Value::Int(end, kind) => {
                for idx in 0..*end {
                    if !once(self, Value::Invalid, &Value::Int(idx, *kind))? {
                        break;
                    }
                }
            }
            Value::List(list) => {
                for (idx, item) in (0i64..).zip(&list.items) {
                    if !once(self, Value::int(idx), item)? {
                        break;
                    }
                }
            }
            Value::Bytes(bytes) => {
                for (idx, byte) in (0i64..).zip(bytes.iter()) {
                    let item = Value::Int(i64::from(*byte), Int::Uint8);
                    if !once(self, Value::int(idx), &item)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                // The body may change the map.
                let entries: Vec<_> =
                    map.entries.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                self.run.heap.charge(entries.len() * 32)?;
                for (key, item) in entries {
                    if !once(self, Value::Text(Rc::from(key)), &item)? {
                        break;
                    }
                }
            }
            other => {
                let shown = format::sprint(other, self.run.heap)?;
                let what = format!("range can't iterate over {shown}");
                return Err(self.error(at, pipe.at, pipe.end, &what));
            }
        }
        let mut flow = Flow::On;
        if n == 0 {
            flow = self.block(otherwise, dot, at)?;
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    /// Gives a range's variables their values.
    fn iteration(&mut self, pipe: &Pipe, mark: usize, index: Value, element: &Value) {
        let n = pipe.variables.len();
        if pipe.is_assignment {
            let (first, second) = (pipe.variables.first(), pipe.variables.get(1));
            if let Some(second) = second {
                self.assign(second, element.clone());
            }
            if let Some(first) = first {
                let value = if second.is_some() { index } else { element.clone() };
                self.assign(first, value);
            }
            return;
        }
        if n > 0 {
            self.variables[mark - 1].1 = element.clone();
        }
        if n > 1 {
            self.variables[mark - 2].1 = index;
        }
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|one| &*one.0 == name) {
            variable.1 = value;
        }
    }

    fn template(
        &mut self,
        at: At,
        end: At,
        name: &Rc<str>,
        pipe: Option<&Pipe>,
        dot: &Value,
    ) -> Result<(), String> {
        let Some(tree) = self.run.set.find(name).cloned() else {
            let what = format!("template {name:?} not defined");
            return Err(self.error(at, at, end, &what));
        };
        let data = match pipe {
            Some(pipe) => self.pipeline(pipe, dot)?,
            None => Value::Invalid,
        };
        self.enter(at)?;
        self.run.execute_tree(&tree, &data, self.out)?;
        self.run.depth -= 1;
        Ok(())
    }

    fn pipeline(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            let given = self.command(command, dot, value)?;
            value = Some(match given {
                Value::Nil => Value::Invalid,
                other => other,
            });
        }
        let value = value.unwrap_or(Value::Invalid);
        for name in &pipe.variables {
            if pipe.is_assignment {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        self.run.heap.step(1)?;
        let (first, rest) = (&command.args[0], &command.args[1..]);
        match &first.word {
            Word::Function(callee) => {
                return self.function(*callee, first, command, rest, dot, last);
            }
            Word::Field(names) => {
                return self.chain(dot.clone(), names, first, rest, dot, last);
            }
            Word::Variable(name, names) if !names.is_empty() => {
                let value = self.variable(name);
                return self.chain(value, names, first, rest, dot, last);
            }
            Word::Chain(inner, names) => {
                let value = self.arg(inner, dot)?;
                return self.chain(value, names, first, rest, dot, last);
            }
            _ => {}
        }
        if !rest.is_empty() || last.is_some() {
            let what = format!(
                "can't give argument to non-function {}",
                self.tree.excerpt(first.start, first.end)
            );
            return Err(self.error_at(first, &what));
        }
        if let Word::Nil = first.word {
            return Err(self.error_at(first, "nil is not a command"));
        }
        self.arg(first, dot)
    }

    fn variable(&self, name: &str) -> Value {
        let found = self.variables.iter().rev().find(|one| &*one.0 == name);
        found.map_or(Value::Invalid, |one| one.1.clone())
    }

    /// An argument whose type is not known.
    fn arg(&mut self, arg: &Arg, dot: &Value) -> Result<Value, String> {
        self.run.heap.step(1)?;
        Ok(match &arg.word {
            Word::Dot => dot.clone(),
            Word::Nil => Value::Nil,
            Word::Bool(truth) => Value::Bool(*truth),
            Word::Number(Number { int: Some(int), is_float: false, .. }) => Value::int(*int),
            Word::Number(number) => Value::Float(number.float.unwrap_or_default()),
            Word::Text(text) => Value::Text(text.clone()),
            Word::Field(names) => self.chain(dot.clone(), names, arg, &[], dot, None)?,
            Word::Variable(name, names) => {
                let value = self.variable(name);
                self.chain(value, names, arg, &[], dot, None)?
            }
            Word::Function(callee) => {
                let command = Command { at: arg.at, end: arg.end, args: Vec::new() };
                self.function(*callee, arg, &command, &[], dot, None)?
            }
            Word::Pipe(pipe) => {
                self.enter(arg.at)?;
                let value = self.pipeline(pipe, dot)?;
                self.run.depth -= 1;
                value
            }
            Word::Chain(inner, names) => {
                if let Word::Nil = inner.word {
                    let what = "indirection through explicit nil";
                    return Err(self.error_at(arg, what));
                }
                let value = self.arg(inner, dot)?;
                self.chain(value, names, arg, &[], dot, None)?
            }
        })
    }

    /// `.a.b.c`, where the last one may be a method with arguments.
    fn chain(
        &mut self,
        mut value: Value,
        names: &[Rc<str>],
        arg: &Arg,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let Some((final_name, before)) = names.split_last() else { return Ok(value) };
        for name in before {
            value = self.field(&value, name, arg, &[], dot, None)?;
        }
        self.field(&value, final_name, arg, args, dot, last)
    }

    fn field(
        &mut self,
        value: &Value,
        name: &Rc<str>,
        arg: &Arg,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        self.run.heap.step(1)?;
        let has_args = !args.is_empty() || last.is_some();
        match value {
            Value::Invalid => {
                if self.run.missing_key == MissingKey::Error {
                    let what = format!("nil data; no entry for key {name:?}");
                    return Err(self.error_at(arg, &what));
                }
                Ok(Value::Invalid)
            }
            Value::Nil => {
                let what = format!("nil pointer evaluating interface {{}}.{name}");
                Err(self.error_at(arg, &what))
            }
            Value::Map(map) => {
                if map.type_name != "map[string]interface {}"
                    && let Some(done) = self.map_method(map, name, arg, args, dot, last)
                {
                    return done;
                }
                if has_args {
                    let what = format!("{name} is not a method but has arguments");
                    return Err(self.error_at(arg, &what));
                }
                if let Some(value) = map.get(name) {
                    return Ok(value);
                }
                match self.run.missing_key {
                    MissingKey::Default => Ok(Value::Invalid),
                    MissingKey::Zero => Ok(map.zero()),
                    MissingKey::Error => {
                        let what = format!("map has no entry for key {name:?}");
                        Err(self.error_at(arg, &what))
                    }
                }
            }
            Value::Object(object) => self.member(&object.clone(), name, arg, args, dot, last),
            other => {
                let what = format!("can't evaluate field {name} in type {}", other.type_name());
                Err(self.error_at(arg, &what))
            }
        }
    }

    /// A method of a map, if there is one.
    fn map_method(
        &mut self,
        map: &Rc<Map>,
        name: &str,
        arg: &Arg,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Option<Result<Value, String>> {
        let mut values = Vec::new();
        for one in args {
            match self.arg(one, dot) {
                Ok(value) => values.push(settled(value)),
                Err(error) => return Some(Err(error)),
            }
        }
        values.extend(last.map(settled));
        let functions = self.run.functions;
        let done = functions.method(self.run, map, name, &values)?;
        Some(done.map_err(|what| self.error_at(arg, &format!("error calling {name}: {what}"))))
    }

    /// A field or method of an object.
    fn member(
        &mut self,
        object: &Rc<dyn Object>,
        name: &Rc<str>,
        arg: &Arg,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        if args.is_empty()
            && last.is_none()
            && let Some(value) = object.field(name)
        {
            return Ok(value);
        }
        let mut values = Vec::new();
        for one in args {
            values.push(settled(self.arg(one, dot)?));
        }
        values.extend(last.map(settled));
        match object.method(self.run.heap, name, &values) {
            Some(Ok(value)) => Ok(value),
            Some(Err(what)) => Err(self.error_at(arg, &format!("error calling {name}: {what}"))),
            None => {
                let what = match object.field(name) {
                    Some(_) => format!("{name} has arguments but cannot be invoked as function"),
                    None => {
                        format!("can't evaluate field {name} in type {}", object.type_name())
                    }
                };
                Err(self.error_at(arg, &what))
            }
        }
    }

    fn function(
        &mut self,
        callee: Callee,
        word: &Arg,
        command: &Command,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let signature = callee.signature().as_bytes();
        let is_variadic = signature.last() == Some(&b'*');
        let kinds = if is_variadic { &signature[..signature.len() - 1] } else { signature };
        let n_fixed = if is_variadic { kinds.len() - 1 } else { kinds.len() };
        let n_given = args.len() + usize::from(last.is_some());
        let name = self.tree.excerpt(word.start, word.end);
        if n_given > ARGS_MAX {
            return Err(self.error_at(word, &format!("more than {ARGS_MAX} arguments for {name}")));
        }
        if is_variadic && n_given < n_fixed {
            let what = format!(
                "wrong number of args for {name}: want at least {n_fixed} got {}",
                args.len()
            );
            return Err(self.error_at(word, &what));
        }
        if !is_variadic && n_given != n_fixed {
            let what = format!("wrong number of args for {name}: want {n_fixed} got {n_given}");
            return Err(self.error_at(word, &what));
        }
        if let Callee::Builtin(builtin @ (Builtin::And | Builtin::Or)) = callee {
            return self.and_or(builtin == Builtin::Or, args, dot, last);
        }
        let kind = |idx: usize| kinds[idx.min(kinds.len() - 1)];
        let mut values = Vec::with_capacity(n_given);
        for (idx, arg) in args.iter().enumerate() {
            values.push(self.typed(arg, kind(idx), dot)?);
        }
        if let Some(last) = last {
            let idx = values.len();
            values.push(self.checked(last, kind(idx)).map_err(|what| self.error_at(word, &what))?);
        }
        // A function that executes templates is a step down for our stack as well.
        self.enter(word.at)?;
        let given = match callee {
            Callee::Builtin(builtin) => builtins::call(builtin, self.run.heap, &name, &values),
            Callee::Given(idx, _) => {
                let functions = self.run.functions;
                functions.call(self.run, idx, &values)
            }
        };
        self.run.depth -= 1;
        given.map_err(|what| {
            self.error(
                command.at,
                command.at,
                command.end,
                &format!("error calling {name}: {what}"),
            )
        })
    }

    fn and_or(
        &mut self,
        is_or: bool,
        args: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let mut value = Value::Nil;
        for arg in args {
            value = self.arg(arg, dot)?;
            if value.truth() == is_or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// An argument for a parameter of a kind.
    fn typed(&mut self, arg: &Arg, kind: u8, dot: &Value) -> Result<Value, String> {
        let expected = match (kind, &arg.word) {
            (b'i', Word::Number(Number { int: Some(int), .. })) => return Ok(Value::int(*int)),
            (b'i', Word::Text(_) | Word::Bool(_) | Word::Number(_)) => "integer",
            (b's', Word::Bool(_) | Word::Number(_)) => "string",
            (b'b', Word::Text(_) | Word::Number(_)) => "bool",
            (b's' | b'i' | b'b', Word::Nil) => {
                let what = format!("cannot assign nil to {}", type_of(kind));
                return Err(self.error_at(arg, &what));
            }
            (b'm' | b'l', Word::Text(_) | Word::Bool(_) | Word::Number(_)) => {
                let shown = self.tree.excerpt(arg.start, arg.end);
                let what = format!("can't handle {shown} for arg of type {}", type_of(kind));
                return Err(self.error_at(arg, &what));
            }
            _ => "",
        };
        if !expected.is_empty() {
            let shown = self.tree.excerpt(arg.start, arg.end);
            let what = format!("expected {expected}; found {shown}");
            return Err(self.error_at(arg, &what));
        }
        let value = self.arg(arg, dot)?;
        self.checked(value, kind).map_err(|what| self.error_at(arg, &what))
    }

    fn checked(&self, value: Value, kind: u8) -> Result<Value, String> {
        let wanted = type_of(kind);
        match (kind, &value) {
            (b'a', _) => Ok(settled(value)),
            (b'm' | b'l', Value::Nil | Value::Invalid) => Ok(Value::Nil),
            (_, Value::Invalid) => Err(format!("invalid value; expected {wanted}")),
            (_, Value::Nil) => {
                Err(format!("wrong type for value; expected {wanted}; got interface {{}}"))
            }
            (b's', Value::Text(_)) | (b'i', Value::Int(_, Int::Int)) | (b'b', Value::Bool(_)) => {
                Ok(value)
            }
            (b'm', Value::Map(map)) if map.type_name != "map[string]string" => Ok(value),
            (b'l', Value::List(list)) if list.type_name == "[]interface {}" => Ok(value),
            _ => Err(format!("wrong type for value; expected {wanted}; got {}", value.type_name())),
        }
    }
}

fn type_of(kind: u8) -> &'static str {
    match kind {
        b's' => "string",
        b'i' => "int",
        b'b' => "bool",
        b'm' => "map[string]interface {}",
        b'l' => "[]interface {}",
        _ => "interface {}",
    }
}

/// What a function sees of it: there is only one nil there.
fn settled(value: Value) -> Value {
    match value {
        Value::Invalid => Value::Nil,
        value => value,
    }
}
