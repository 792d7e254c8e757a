//! From words to a tree, in upstream's grammar and words of errors.
//!
//! Source: github.com/google/cel-go/parser. After the first word that does not fit nothing more is read.

use crate::ast::{Entry, Id, Item, Kind, Tree};
use crate::syntax::expand;
use crate::syntax::issue::Issues;
use crate::syntax::lex::{Token, Word, unquoted, words};
use crate::value::Val;
use crate::words::RESERVED;

/// How long an expression may be, in characters.
pub const SOURCE_MAX: usize = 100_000;
/// How deep brackets may nest.
const NESTING_MAX: usize = 250;
/// What an expression may begin with.
const BEGINS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Operators between operands, by how tightly they bind.
const BINARY: [(&str, &str, u8); 12] = [
    ("==", "_==_", 1),
    ("!=", "_!=_", 1),
    ("<", "_<_", 1),
    ("<=", "_<=_", 1),
    (">", "_>_", 1),
    (">=", "_>=_", 1),
    ("in", "@in", 1),
    ("+", "_+_", 2),
    ("-", "_-_", 2),
    ("*", "_*_", 3),
    ("/", "_/_", 3),
    ("%", "_%_", 3),
];

/// A word did not fit: reading ends.
pub(crate) struct Stop;
type Parsed<T> = Result<T, Stop>;

/// The tree of `issues.text` and its root; what is wrong with it is added to `issues`.
pub(crate) fn parse(issues: &mut Issues<'_>) -> (Tree, Id) {
    let text = issues.text;
    let mut tree = Tree::default();
    let length = text.chars().count();
    if length > SOURCE_MAX {
        let message =
            format!("expression code point size exceeds limit: size: {length}, limit {SOURCE_MAX}");
        issues.add(u32::MAX, message);
        return (tree, 0);
    }
    let (tokens, unknown) = words(text);
    for (from, to) in unknown {
        let message = format!("Syntax error: token recognition error at: '{}'", &text[from..to]);
        issues.add(from as u32, message);
    }
    let mut parser = Parser { tree: &mut tree, issues, tokens, next: 0, nesting: 0 };
    let root = parser.whole().unwrap_or_default();
    if tree.is_over() && issues.is_empty() {
        let message = if tree.too_deep {
            "max recursion depth exceeded"
        } else {
            "expression is too large when its macros are expanded"
        };
        issues.add(u32::MAX, message.into());
    }
    (tree, root)
}

pub(crate) struct Parser<'p, 'a> {
    pub(crate) tree: &'p mut Tree,
    pub(crate) issues: &'p mut Issues<'a>,
    tokens: Vec<Token>,
    next: usize,
    nesting: usize,
}

impl Parser<'_, '_> {
    fn peek(&self) -> Token {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek().word, Word::Sign(found) if found == sign)
    }

    fn take(&mut self, sign: &str) -> Option<Token> {
        let token = self.peek();
        self.is(sign).then(|| {
            self.next += 1;
            token
        })
    }

    fn after(&self, sign: &str) -> bool {
        let next = self.tokens.get(self.next + 1).map(|next| next.word);
        matches!(next, Some(Word::Sign(found)) if found == sign)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn text(&self, token: Token) -> &str {
        &self.issues.text[token.at as usize..token.end as usize]
    }

    fn shown(&self, token: Token) -> String {
        match token.word {
            Word::End => "<EOF>".into(),
            _ => self.text(token).into(),
        }
    }

    fn stop<T>(&mut self, message: String) -> Parsed<T> {
        let at = self.peek().at;
        self.issues.add(at, format!("Syntax error: {message}"));
        Err(Stop)
    }

    fn mismatched<T>(&mut self, expecting: &str) -> Parsed<T> {
        let found = self.shown(self.peek());
        self.stop(format!("mismatched input '{found}' expecting {expecting}"))
    }

    fn expect(&mut self, sign: &str) -> Parsed<Token> {
        match self.take(sign) {
            Some(token) => Ok(token),
            None if matches!(sign, "]" | "}" | ")") => {
                self.mismatched(&format!("{{'{sign}', ','}}"))
            }
            None => self.mismatched(&format!("'{sign}'")),
        }
    }

    /// Reports what is wrong at `at`; reading goes on.
    pub(crate) fn wrong(&mut self, at: u32, message: String) -> Id {
        self.issues.add(at, message);
        self.tree.add(at, Kind::Broken)
    }

    fn whole(&mut self) -> Parsed<Id> {
        let root = self.expr()?;
        if self.peek().word == Word::End {
            return Ok(root);
        }
        let found = self.shown(self.peek());
        // One word too many is left out, more are a mismatch.
        let last = self.tokens.get(self.next + 1).is_some_and(|next| next.word == Word::End);
        if last {
            return self.stop(format!("extraneous input '{found}' expecting <EOF>"));
        }
        self.mismatched("<EOF>")
    }

    /// No expression begins here. One word too many in front of one is left out.
    fn no_beginning<T>(&mut self) -> Parsed<T> {
        let next = self.tokens.get(self.next + 1).map(|next| next.word);
        let begins = match next {
            Some(Word::Sign(sign)) => {
                matches!(sign, "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null")
            }
            Some(Word::End) | None => false,
            Some(_) => true,
        };
        let found = self.shown(self.peek());
        let before = self.next.checked_sub(1).map(|before| self.tokens[before].word);
        let negated = matches!(before, Some(Word::Sign("!")));
        let what = if begins || negated { "extraneous" } else { "mismatched" };
        self.stop(format!("{what} input '{found}' expecting {BEGINS}"))
    }

    fn expr(&mut self) -> Parsed<Id> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let message = format!("expression recursion limit exceeded: {NESTING_MAX}");
            self.issues.add(u32::MAX, message);
            return Err(Stop);
        }
        let condition = self.logic(&["||", "&&"])?;
        let whole = match self.take("?") {
            Some(sign) => {
                let yes = self.logic(&["||", "&&"])?;
                self.expect(":")?;
                let no = self.expr()?;
                self.call(sign.at, "_?_:_", false, vec![condition, yes, no])
            }
            None => condition,
        };
        self.nesting -= 1;
        Ok(whole)
    }

    pub(crate) fn call(&mut self, at: u32, name: &str, method: bool, args: Vec<Id>) -> Id {
        self.tree.add(at, Kind::Call { name: name.into(), method, args: args.into() })
    }

    /// Terms joined by the first of `signs`, whose operands are joined by the rest of them.
    fn logic(&mut self, signs: &[&'static str]) -> Parsed<Id> {
        let Some((sign, inner)) = signs.split_first() else { return self.binary(1) };
        let mut terms = vec![self.logic(inner)?];
        let mut places = Vec::new();
        while let Some(token) = self.take(sign) {
            places.push(token.at);
            terms.push(self.logic(inner)?);
        }
        let name = if *sign == "||" { "_||_" } else { "_&&_" };
        Ok(self.balanced(name, &terms, &places))
    }

    /// A tree of little depth: the order of evaluation stays that of the text.
    fn balanced(&mut self, name: &str, terms: &[Id], places: &[u32]) -> Id {
        let [only] = terms else {
            let middle = places.len() / 2;
            let left = self.balanced(name, &terms[..=middle], &places[..middle]);
            let right = self.balanced(name, &terms[middle + 1..], &places[middle + 1..]);
            return self.call(places[middle], name, false, vec![left, right]);
        };
        *only
    }

    fn binary(&mut self, least: u8) -> Parsed<Id> {
        let mut left = self.unary()?;
        loop {
            let Word::Sign(sign) = self.peek().word else { return Ok(left) };
            let found = BINARY.iter().find(|(text, _, binds)| *text == sign && *binds >= least);
            let Some((_, name, binds)) = found else { return Ok(left) };
            let at = self.advance().at;
            let right = self.binary(binds + 1)?;
            left = self.call(at, name, false, vec![left, right]);
        }
    }

    fn unary(&mut self) -> Parsed<Id> {
        let sign = if self.is("!") { "!" } else { "-" };
        let first = self.peek();
        let mut count = 0;
        while self.is(sign) {
            let next = self.tokens[(self.next + 1).min(self.tokens.len() - 1)].word;
            if count == 0 && sign == "-" && matches!(next, Word::Int | Word::Float) {
                // The sign of a number.
                break;
            }
            self.next += 1;
            count += 1;
        }
        if count > 0 && sign == "-" && self.is("!") {
            return self.stop("no viable alternative at input '-!'".into());
        }
        let operand = self.member()?;
        Ok(match (sign, count % 2) {
            (_, 0) => operand,
            ("!", _) => self.call(first.at, "!_", false, vec![operand]),
            _ => self.call(first.at, "-_", false, vec![operand]),
        })
    }

    fn member(&mut self) -> Parsed<Id> {
        let mut whole = self.primary()?;
        loop {
            if let Some(dot) = self.take(".") {
                whole = self.selected(whole, dot)?;
            } else if let Some(bracket) = self.take("[") {
                let name = if self.take("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                if self.take("]").is_none() {
                    return self.mismatched("']'");
                }
                whole = self.call(bracket.at, name, false, vec![whole, index]);
            } else if self.is("{") && self.tree.qualified(whole).is_some() {
                let name = self.tree.qualified(whole).unwrap_or_default();
                whole = self.object(&name)?;
            } else {
                return Ok(whole);
            }
        }
    }

    /// What follows a dot: a field, an optional field or the call of a method.
    fn selected(&mut self, of: Id, dot: Token) -> Parsed<Id> {
        let optional = self.take("?").is_some();
        if self.peek().word != Word::Ident {
            if matches!(self.peek().word, Word::Sign(_)) && !self.text(self.peek()).is_empty() {
                let found = self.shown(self.peek());
                if found != "in" && found.starts_with(|first: char| first.is_ascii_alphabetic()) {
                    return self.mismatched("IDENTIFIER");
                }
            }
            let found = self.shown(self.peek());
            return match self.peek().word {
                Word::End => self.stop(format!("no viable alternative at input '.{}'", "")),
                _ => self.stop(format!("no viable alternative at input '.{found}'")),
            };
        }
        let token = self.advance();
        let name = self.text(token).to_owned();
        if optional {
            let field = self.tree.add(token.at, Kind::Const(Val::text(&name)));
            return Ok(self.call(dot.at, "_?._", false, vec![of, field]));
        }
        let Some(open) = self.take("(") else {
            let field = name.into();
            return Ok(self.tree.add(dot.at, Kind::Select { of, field, test: false }));
        };
        let args = self.arguments()?;
        Ok(self.call_or_macro(open.at, &name, Some(of), args))
    }

    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.take(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn call_or_macro(&mut self, at: u32, name: &str, of: Option<Id>, args: Vec<Id>) -> Id {
        if let Some(expanded) = expand::expand(self, at, name, of, &args) {
            return expanded;
        }
        let method = of.is_some();
        let args = of.into_iter().chain(args).collect();
        self.call(at, name, method, args)
    }

    fn primary(&mut self) -> Parsed<Id> {
        let token = self.peek();
        let Word::Sign(sign) = token.word else { return self.operand(token) };
        let literal = match sign {
            "true" => Val::Bool(true),
            "false" => Val::Bool(false),
            "null" => Val::Null,
            "-" => {
                self.next += 1;
                let number = self.peek();
                if !matches!(number.word, Word::Int | Word::Float) {
                    let found = self.shown(number);
                    return self.stop(format!("no viable alternative at input '-{found}'"));
                }
                self.next += 1;
                let text = format!("-{}", self.text(number));
                return Ok(self.number(token.at, number.word, &text));
            }
            "(" => {
                self.next += 1;
                let inner = self.expr()?;
                if self.take(")").is_none() {
                    let found = self.shown(self.peek());
                    return self.stop(format!("missing ')' at '{found}'"));
                }
                return Ok(inner);
            }
            "[" => return self.list(),
            "{" => return self.map(),
            "." => {
                self.next += 1;
                let name = self.peek();
                if name.word != Word::Ident {
                    let seen = &self.issues.text[token.at as usize..name.end as usize];
                    return self.stop(format!("no viable alternative at input '{seen}'"));
                }
                return self.identifier(token.at, ".");
            }
            _ => return self.no_beginning(),
        };
        self.next += 1;
        Ok(self.tree.add(token.at, Kind::Const(literal)))
    }

    fn operand(&mut self, token: Token) -> Parsed<Id> {
        match token.word {
            Word::Ident => return self.identifier(token.at, ""),
            Word::End | Word::Sign(_) => return self.no_beginning(),
            _ => {}
        }
        self.next += 1;
        let text = self.text(token).to_owned();
        Ok(match token.word {
            Word::Str | Word::Bytes => {
                let bytes = token.word == Word::Bytes;
                let read = unquoted(if bytes { &text[1..] } else { &text }, bytes);
                let value = read.and_then(|read| match bytes {
                    true => Some(Val::Bytes(read.into())),
                    false => String::from_utf8(read).ok().map(|read| Val::text(&read)),
                });
                match value {
                    Some(value) => self.tree.add(token.at, Kind::Const(value)),
                    None => self.wrong(token.at, "unable to unescape string".into()),
                }
            }
            word => self.number(token.at, word, &text),
        })
    }

    fn number(&mut self, at: u32, word: Word, text: &str) -> Id {
        let negative = if text.starts_with('-') { "-" } else { "" };
        let digits = text.trim_start_matches('-').trim_end_matches(['u', 'U']);
        let (digits, base) = match digits.strip_prefix("0x") {
            Some(hex) if word != Word::Float => (hex, 16),
            _ => (text.trim_start_matches('-').trim_end_matches(['u', 'U']), 10),
        };
        let (value, what) = match word {
            Word::Uint => (u64::from_str_radix(digits, base).ok().map(Val::Uint), "uint"),
            Word::Float => {
                let read = text.parse::<f64>().ok().filter(|read| read.is_finite());
                (read.map(Val::Double), "double")
            }
            _ => {
                let signed = format!("{negative}{digits}");
                (i64::from_str_radix(&signed, base).ok().map(Val::Int), "int")
            }
        };
        match value {
            Some(value) => self.tree.add(at, Kind::Const(value)),
            None => self.wrong(at, format!("invalid {what} literal")),
        }
    }

    fn identifier(&mut self, at: u32, dot: &str) -> Parsed<Id> {
        let token = self.advance();
        let name = self.text(token).to_owned();
        if RESERVED.contains(&name.as_str()) {
            return Ok(self.wrong(at, format!("reserved identifier: {name}")));
        }
        let name = format!("{dot}{name}");
        if let Some(open) = self.take("(") {
            let args = self.arguments()?;
            return Ok(self.call_or_macro(open.at, &name, None, args));
        }
        Ok(self.tree.add(token.at, Kind::Ident(name.into())))
    }

    fn list(&mut self) -> Parsed<Id> {
        let open = self.advance();
        let mut items = Vec::new();
        if self.is(",") && self.after("]") {
            self.next += 1;
        }
        while self.take("]").is_none() {
            let optional = self.take("?").is_some();
            items.push(Item { value: self.expr()?, optional });
            if self.take(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        Ok(self.tree.add(open.at, Kind::List(items.into())))
    }

    fn map(&mut self) -> Parsed<Id> {
        let open = self.advance();
        let mut entries = Vec::new();
        if self.is(",") && self.after("}") {
            self.next += 1;
        }
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.tree.add(open.at, Kind::Map(entries.into())))
    }

    fn object(&mut self, name: &str) -> Parsed<Id> {
        let open = self.advance();
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            if self.peek().word != Word::Ident {
                return self.mismatched("IDENTIFIER");
            }
            let field = self.advance();
            let key = Val::text(self.text(field));
            let at = self.expect(":")?.at;
            let key = self.tree.add(at, Kind::Const(key));
            entries.push(Entry { key, value: self.expr()?, optional });
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.tree.add(open.at, Kind::Object(name.into(), entries.into())))
    }
}
