//! Templates from their text. Blocks are read with a stack, parentheses by recursion of a stated depth.

use std::rc::Rc;
use stdx::OrdMap;

use crate::lex::{self, Placed, Token};
use crate::node::{Arg, At, Callee, Command, Node, Pipe, Tree, Word};
use crate::value::Signature;

/// Parentheses inside each other.
const PARENS_MAX: usize = 100;
/// Blocks (`if`, `range`, `with`, `define`, `block`) inside each other.
const BLOCKS_MAX: usize = 200;
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Templates that one text defines.
const DEFINES_MAX: usize = 10_000;
/// Sets over each other: texts read while a text read while another is executed.
const SETS_MAX: usize = 200;

/// Which functions there are besides Go's own.
pub trait Names {
    /// An index of the caller's, and what the function takes.
    fn find(&self, name: &str) -> Option<(u16, Signature)>;
}

/// Templates that know each other by name. A set may lie over another, whose templates it sees and hides.
#[derive(Default)]
pub struct Set {
    own: OrdMap<Rc<str>, Rc<Tree>>,
    below: Option<Rc<Set>>,
    n_below: usize,
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    /// A set that sees what `below` has, and changes nothing of it.
    ///
    /// # Errors
    /// If too many lie over each other.
    pub fn over(below: &Rc<Set>) -> Result<Set, String> {
        if below.n_below >= SETS_MAX {
            return Err(format!("more than {SETS_MAX} templates are read inside each other"));
        }
        Ok(Set { own: OrdMap::default(), below: Some(below.clone()), n_below: below.n_below + 1 })
    }

    /// Reads `text` as the template `name`, with all that it defines. A definition replaces an older one of the same
    /// name, unless there is nothing in it.
    ///
    /// # Errors
    /// What is wrong with the text, as Go says it.
    pub fn parse(&mut self, name: &str, text: &str, functions: &dyn Names) -> Result<(), String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("template: {name}: more than {TEXT_BYTES_MAX} bytes"));
        }
        let name: Rc<str> = Rc::from(name);
        let mut parser = Parser {
            file: name.clone(),
            text: Rc::from(text),
            functions,
            tokens: Vec::new(),
            idx: 0,
            variables: vec![Rc::from("$")],
            trees: Vec::new(),
            parens: 0,
        };
        parser.run(name)?;
        for tree in parser.trees {
            if is_empty(&tree) && self.find(&tree.name).is_some() {
                continue;
            }
            self.own.insert(tree.name.clone(), Rc::new(tree));
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Rc<Tree>> {
        let mut set = self;
        loop {
            if let Some(tree) = set.own.get(name) {
                return Some(tree);
            }
            set = set.below.as_deref()?;
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.own.keys()).finish()
    }
}

/// Only white space and comments.
fn is_empty(tree: &Tree) -> bool {
    tree.nodes.iter().all(|node| match node {
        Node::Text(range) => tree.text[range.clone()].trim().is_empty(),
        _ => false,
    })
}

struct Parser<'a> {
    file: Rc<str>,
    text: Rc<str>,
    functions: &'a dyn Names,
    /// Of the present action.
    tokens: Vec<Placed>,
    idx: usize,
    variables: Vec<Rc<str>>,
    trees: Vec<Tree>,
    parens: usize,
}

/// A block that is not closed yet, with what was read before it.
struct Open {
    kind: Kind,
    /// Nodes before it in the list that it belongs to.
    outer: Vec<Node>,
    n_variables: usize,
}

enum Kind {
    /// Branches that are complete, and the pipe of the present one; `None` in `else`.
    If {
        is_with: bool,
        branches: Vec<(Pipe, Vec<Node>)>,
        pipe: Option<Pipe>,
    },
    Range {
        at: At,
        pipe: Pipe,
        body: Option<Vec<Node>>,
    },
    Define {
        name: Rc<str>,
        outer_variables: Vec<Rc<str>>,
        /// A `block`: where it is used, and with what.
        call: Option<(At, At, Pipe)>,
    },
}

impl Parser<'_> {
    fn error(&self, at: usize, what: &str) -> String {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("template: {}:{line}: {what}", self.file)
    }

    fn run(&mut self, name: Rc<str>) -> Result<(), String> {
        let text = self.text.clone();
        let mut stack: Vec<Open> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut pos = 0;
        let mut is_trimmed = false;
        loop {
            if is_trimmed {
                let rest = &text.as_bytes()[pos..];
                pos += rest.iter().take_while(|byte| lex::is_space(**byte)).count();
            }
            let Some(offset) = text[pos..].find("{{") else {
                if pos < text.len() {
                    nodes.push(Node::Text(pos..text.len()));
                }
                break;
            };
            let open = pos + offset;
            let bytes = text.as_bytes();
            let mut inside = open + 2;
            let mut end = open;
            if bytes.get(inside) == Some(&b'-')
                && bytes.get(inside + 1).is_some_and(|byte| lex::is_space(*byte))
            {
                inside += 2;
                while end > pos && lex::is_space(bytes[end - 1]) {
                    end -= 1;
                }
            }
            if end > pos {
                nodes.push(Node::Text(pos..end));
            }
            if text[inside..].starts_with("/*") {
                (pos, is_trimmed) = self.comment(inside)?;
                continue;
            }
            let action = lex::action(&text, inside).map_err(|(at, what)| self.error(at, &what))?;
            (self.tokens, self.idx) = (action.tokens, 0);
            (pos, is_trimmed) = (action.next, action.is_trimmed);
            self.action(&mut stack, &mut nodes)?;
        }
        if !stack.is_empty() {
            return Err(self.error(text.len(), "unexpected EOF"));
        }
        self.add(name, nodes)
    }

    /// Skips a comment: where the text goes on, and whether it is trimmed.
    fn comment(&self, inside: usize) -> Result<(usize, bool), String> {
        let Some(length) = self.text[inside..].find("*/") else {
            return Err(self.error(inside, "unclosed comment"));
        };
        let end = inside + length + 2;
        match lex::closing(&self.text[end..]) {
            Some((length, is_trimmed)) => Ok((end + length, is_trimmed)),
            None => Err(self.error(end, "comment ends before closing delimiter")),
        }
    }

    fn add(&mut self, name: Rc<str>, nodes: Vec<Node>) -> Result<(), String> {
        if self.trees.len() >= DEFINES_MAX {
            return Err(self.error(self.text.len(), "too many templates in one text"));
        }
        let tree = Tree { file: self.file.clone(), name, text: self.text.clone(), nodes };
        match self.trees.iter_mut().find(|older| older.name == tree.name) {
            None => self.trees.push(tree),
            Some(older) if is_empty(older) => *older = tree,
            Some(_) if is_empty(&tree) => {}
            Some(_) => {
                let what = format!("template: multiple definition of template {:?}", tree.name);
                return Err(self.error(self.text.len(), &what));
            }
        }
        Ok(())
    }

    fn action(&mut self, stack: &mut Vec<Open>, nodes: &mut Vec<Node>) -> Result<(), String> {
        self.skip_space();
        let at = self.at();
        let keyword = match &self.peek().token {
            Token::Word(word) => word.clone(),
            _ => Rc::from(""),
        };
        if !matches!(
            &*keyword,
            "if" | "with"
                | "range"
                | "define"
                | "block"
                | "else"
                | "end"
                | "template"
                | "break"
                | "continue"
        ) {
            let pipe = self.pipeline("command", false)?;
            nodes.push(Node::Action(pipe));
            return Ok(());
        }
        self.idx += 1;
        let n_variables = self.variables.len();
        let kind = match &*keyword {
            "if" | "with" => Kind::If {
                is_with: &*keyword == "with",
                branches: Vec::new(),
                pipe: Some(self.pipeline(&keyword, false)?),
            },
            "range" => {
                let pipe = self.pipeline("range", false)?;
                Kind::Range { at, pipe, body: None }
            }
            "define" => {
                if !stack.is_empty() {
                    return Err(self.error(at as usize, "unexpected {{define}}"));
                }
                let name = self.name("define clause")?;
                self.end_of("define clause")?;
                self.definition(name, None)
            }
            "block" => {
                let name = self.name("block clause")?;
                let pipe = self.pipeline("block clause", false)?;
                let end = pipe.end;
                self.definition(name, Some((at, end, pipe)))
            }
            "else" => return self.otherwise(stack, nodes, at),
            "end" => {
                self.end_of("end")?;
                return self.close(stack, nodes, at);
            }
            "template" => {
                let name = self.name("template clause")?;
                self.skip_space();
                let mut end = self.peek().at;
                let mut pipe = None;
                if self.peek().token == Token::End {
                    self.idx += 1;
                } else {
                    let read = self.pipeline("template clause", false)?;
                    end = read.end;
                    pipe = Some(read);
                }
                nodes.push(Node::Template { at, end, name, pipe });
                return Ok(());
            }
            word => {
                let is_break = word == "break";
                let in_range = stack
                    .iter()
                    .rev()
                    .take_while(|open| !matches!(open.kind, Kind::Define { .. }))
                    .any(|open| matches!(open.kind, Kind::Range { body: None, .. }));
                if !in_range {
                    let what = format!("{{{{{word}}}}} outside {{{{range}}}}");
                    return Err(self.error(at as usize, &what));
                }
                self.end_of(if is_break { "{{break}}" } else { "{{continue}}" })?;
                nodes.push(if is_break { Node::Break } else { Node::Continue });
                return Ok(());
            }
        };
        if stack.len() >= BLOCKS_MAX {
            return Err(self.error(at as usize, "max expression depth exceeded"));
        }
        stack.push(Open { kind, outer: std::mem::take(nodes), n_variables });
        Ok(())
    }

    fn definition(&mut self, name: Rc<str>, call: Option<(At, At, Pipe)>) -> Kind {
        let outer_variables = std::mem::replace(&mut self.variables, vec![Rc::from("$")]);
        Kind::Define { name, outer_variables, call }
    }

    fn otherwise(
        &mut self,
        stack: &mut [Open],
        nodes: &mut Vec<Node>,
        at: At,
    ) -> Result<(), String> {
        self.skip_space();
        let next = match &self.peek().token {
            Token::Word(word) => word.clone(),
            _ => Rc::from(""),
        };
        let is_chain = match stack.last().map(|open| &open.kind) {
            Some(Kind::If { is_with, pipe: Some(_), .. }) => {
                &*next == if *is_with { "with" } else { "if" }
            }
            Some(Kind::Range { body: None, .. }) => false,
            _ => return Err(self.error(at as usize, "unexpected {{else}}")),
        };
        let mut next_pipe = None;
        if is_chain {
            self.idx += 1;
            next_pipe = Some(self.pipeline(&next, false)?);
        } else {
            self.end_of("else")?;
        }
        match stack.last_mut().map(|open| &mut open.kind) {
            Some(Kind::If { branches, pipe, .. }) => {
                if let Some(done) = std::mem::replace(pipe, next_pipe) {
                    branches.push((done, std::mem::take(nodes)));
                }
            }
            Some(Kind::Range { body, .. }) => *body = Some(std::mem::take(nodes)),
            _ => {}
        }
        Ok(())
    }

    fn close(
        &mut self,
        stack: &mut Vec<Open>,
        nodes: &mut Vec<Node>,
        at: At,
    ) -> Result<(), String> {
        let Some(open) = stack.pop() else {
            return Err(self.error(at as usize, "unexpected {{end}}"));
        };
        let last = std::mem::replace(nodes, open.outer);
        match open.kind {
            Kind::If { is_with, mut branches, pipe } => {
                let mut otherwise = Vec::new();
                match pipe {
                    Some(pipe) => branches.push((pipe, last)),
                    None => otherwise = last,
                }
                nodes.push(Node::If { is_with, branches, otherwise });
                self.variables.truncate(open.n_variables);
            }
            Kind::Range { at, pipe, body } => {
                let (body, otherwise) = match body {
                    Some(body) => (body, last),
                    None => (last, Vec::new()),
                };
                nodes.push(Node::Range { at, pipe, body, otherwise });
                self.variables.truncate(open.n_variables);
            }
            Kind::Define { name, outer_variables, call } => {
                self.variables = outer_variables;
                self.add(name.clone(), last)?;
                if let Some((at, end, pipe)) = call {
                    nodes.push(Node::Template { at, end, name, pipe: Some(pipe) });
                }
            }
        }
        Ok(())
    }

    fn peek(&self) -> &Placed {
        // The last token is the end, which nothing steps over but what is done with the action.
        &self.tokens[self.idx.min(self.tokens.len() - 1)]
    }

    fn at(&self) -> At {
        self.peek().at
    }

    fn skip_space(&mut self) {
        while self.peek().token == Token::Space {
            self.idx += 1;
        }
    }

    fn unexpected(&self, context: &str) -> String {
        let placed = self.peek();
        let shown = match &placed.token {
            Token::End => "\"}}\"".to_owned(),
            _ => {
                let text = &self.text[placed.at as usize..placed.end as usize];
                match &placed.token {
                    Token::Word(word) if is_keyword(word) => format!("<{word}>"),
                    _ => crate::format::quote(text.as_bytes()),
                }
            }
        };
        self.error(placed.at as usize, &format!("unexpected {shown} in {context}"))
    }

    fn name(&mut self, context: &str) -> Result<Rc<str>, String> {
        self.skip_space();
        match &self.peek().token {
            Token::Text(text) => {
                let name = Rc::from(String::from_utf8_lossy(text));
                self.idx += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(context)),
        }
    }

    fn end_of(&mut self, context: &str) -> Result<(), String> {
        self.skip_space();
        match self.peek().token {
            Token::End => Ok(()),
            _ => Err(self.unexpected(context)),
        }
    }

    fn pipeline(&mut self, context: &str, in_parens: bool) -> Result<Pipe, String> {
        self.skip_space();
        let at = self.at();
        let mut pipe =
            Pipe { at, end: at, variables: Vec::new(), is_assignment: false, commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        let closing = if in_parens { Token::Mark(b')') } else { Token::End };
        loop {
            self.skip_space();
            let token = &self.peek().token;
            if *token == closing {
                break;
            }
            match token {
                Token::End | Token::Mark(b')') => return Err(self.unexpected(context)),
                _ => {}
            }
            let command = self.command(context)?;
            pipe.commands.push(command);
        }
        pipe.end = self.at();
        if pipe.commands.is_empty() {
            return Err(self.error(at as usize, &format!("missing value for {context}")));
        }
        for (idx, command) in pipe.commands.iter().enumerate().skip(1) {
            let is_constant = matches!(
                command.args[0].word,
                Word::Bool(_) | Word::Dot | Word::Nil | Word::Number(_) | Word::Text(_)
            );
            if is_constant {
                let what = format!("non executable command in pipeline stage {}", idx + 1);
                return Err(self.error(command.at as usize, &what));
            }
        }
        self.idx += 1;
        Ok(pipe)
    }

    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<(), String> {
        loop {
            self.skip_space();
            let Token::Variable(name) = &self.peek().token else { return Ok(()) };
            let name = name.clone();
            let before = self.idx;
            self.idx += 1;
            self.skip_space();
            match self.peek().token {
                Token::Declare | Token::Assign => {
                    pipe.is_assignment = self.peek().token == Token::Assign;
                    self.idx += 1;
                    pipe.variables.push(name);
                    for name in &pipe.variables {
                        if pipe.is_assignment {
                            self.known_variable(name, pipe.at)?;
                        }
                    }
                    if !pipe.is_assignment {
                        self.variables.extend(pipe.variables.iter().cloned());
                    }
                    return Ok(());
                }
                Token::Mark(b',') => {
                    self.idx += 1;
                    pipe.variables.push(name);
                    if context != "range" || pipe.variables.len() > 1 {
                        let what = format!("too many declarations in {context}");
                        return Err(self.error(pipe.at as usize, &what));
                    }
                    self.skip_space();
                    if !matches!(self.peek().token, Token::Variable(_)) {
                        let what = "range can only initialize variables";
                        return Err(self.error(pipe.at as usize, what));
                    }
                }
                _ => {
                    self.idx = before;
                    return Ok(());
                }
            }
        }
    }

    fn known_variable(&self, name: &Rc<str>, at: At) -> Result<(), String> {
        match self.variables.contains(name) {
            true => Ok(()),
            false => Err(self.error(at as usize, &format!("undefined variable {name:?}"))),
        }
    }

    fn command(&mut self, context: &str) -> Result<Command, String> {
        let at = self.at();
        let mut args = Vec::new();
        let mut end;
        loop {
            self.skip_space();
            end = self.at();
            if let Some(arg) = self.operand(context)? {
                end = arg.end;
                args.push(arg);
            }
            match self.peek().token {
                Token::Space => continue,
                Token::End | Token::Mark(b')') => {}
                Token::Mark(b'|') => {
                    self.idx += 1;
                    self.skip_space();
                    if matches!(self.peek().token, Token::End | Token::Mark(b')')) {
                        let what = format!("missing value for {context}");
                        return Err(self.error(self.at() as usize, &what));
                    }
                }
                _ => return Err(self.unexpected("operand")),
            }
            break;
        }
        if args.is_empty() {
            return Err(self.error(at as usize, "empty command"));
        }
        Ok(Command { at, end, args })
    }

    fn operand(&mut self, context: &str) -> Result<Option<Arg>, String> {
        let start = self.at();
        let Some(word) = self.term(context)? else { return Ok(None) };
        let end = self.tokens[self.idx - 1].end;
        let mut arg = Arg { start, at: start, end, word };
        let at = self.at();
        let mut fields = Vec::new();
        while let Token::Field(name) = &self.peek().token {
            fields.push(name.clone());
            arg.end = self.peek().end;
            self.idx += 1;
        }
        if fields.is_empty() {
            return Ok(Some(arg));
        }
        match &mut arg.word {
            Word::Field(names) | Word::Variable(_, names) => {
                names.append(&mut fields);
                arg.at = at;
            }
            Word::Bool(_) | Word::Text(_) | Word::Number(_) | Word::Nil | Word::Dot => {
                let term = &self.text[arg.start as usize..at as usize];
                let what = format!("unexpected . after term {term:?}");
                return Err(self.error(at as usize, &what));
            }
            _ => {
                let end = arg.end;
                arg = Arg { start, at, end, word: Word::Chain(Box::new(arg), fields) };
            }
        }
        Ok(Some(arg))
    }

    fn term(&mut self, context: &str) -> Result<Option<Word>, String> {
        let at = self.at();
        let word = match self.peek().token.clone() {
            Token::Word(word) => match &*word {
                "true" => Word::Bool(true),
                "false" => Word::Bool(false),
                "nil" => Word::Nil,
                word if is_keyword(word) => return Err(self.unexpected(context)),
                word => match self.functions.find(word) {
                    Some((idx, signature)) => Word::Function(Callee::Given(idx, signature)),
                    None => match crate::builtins::find(word) {
                        Some(builtin) => Word::Function(Callee::Builtin(builtin)),
                        None => {
                            let what = format!("function {word:?} not defined");
                            return Err(self.error(at as usize, &what));
                        }
                    },
                },
            },
            Token::Dot => Word::Dot,
            Token::Variable(name) => {
                self.known_variable(&name, at)?;
                Word::Variable(name, Vec::new())
            }
            Token::Field(name) => Word::Field(vec![name]),
            Token::Number(number) => Word::Number(number.0),
            Token::Text(text) => Word::Text(text),
            Token::Mark(b'(') => {
                self.parens += 1;
                if self.parens > PARENS_MAX {
                    return Err(self.error(at as usize, "max expression depth exceeded"));
                }
                self.idx += 1;
                let pipe = self.pipeline("parenthesized pipeline", true)?;
                self.parens -= 1;
                return Ok(Some(Word::Pipe(Box::new(pipe))));
            }
            Token::End | Token::Mark(b'|' | b')') | Token::Space => return Ok(None),
            _ => return Err(self.unexpected(context)),
        };
        self.idx += 1;
        Ok(Some(word))
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "block"
            | "break"
            | "continue"
            | "define"
            | "else"
            | "end"
            | "if"
            | "range"
            | "template"
            | "with"
    )
}
