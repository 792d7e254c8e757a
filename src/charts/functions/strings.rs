//! Texts: cut, padded, joined, cased, searched, and paths.

use std::rc::Rc;

use regex_lite::NoExpand;
use template::{List, Map, Run, Value};

use super::text::{bytes, int, made, shown, strings, text};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("hello", "", |_, _, _| Ok(Value::text("Hello!"))),
    ("quote", "a*", |_, run, args| quoted(run, args, |one| template::quote(&one))),
    ("squote", "a*", |_, run, args| {
        quoted(run, args, |one| format!("'{}'", String::from_utf8_lossy(&one)))
    }),
    ("toString", "a", |_, run, args| Ok(Value::text(shown(run.heap, &args[0])?))),
    ("indent", "is", |_, run, args| indented(run, args, "")),
    ("nindent", "is", |_, run, args| indented(run, args, "\n")),
    ("trunc", "is", trunc),
    ("substr", "iis", substr),
    ("trim", "s", |_, run, args| made(run.heap, text(&args[0]).trim())),
    ("trimAll", "ss", trim_all),
    ("trimall", "ss", trim_all),
    ("trimSuffix", "ss", |_, _, args| {
        let subject = bytes(&args[1]);
        Ok(Value::text(subject.strip_suffix(bytes(&args[0])).unwrap_or(subject)))
    }),
    ("trimPrefix", "ss", |_, _, args| {
        let subject = bytes(&args[1]);
        Ok(Value::text(subject.strip_prefix(bytes(&args[0])).unwrap_or(subject)))
    }),
    ("upper", "s", |_, run, args| made(run.heap, text(&args[0]).to_uppercase())),
    ("lower", "s", |_, run, args| made(run.heap, text(&args[0]).to_lowercase())),
    ("title", "s", |_, run, args| made(run.heap, words(&text(&args[0]), true))),
    ("untitle", "s", |_, run, args| made(run.heap, words(&text(&args[0]), false))),
    ("swapcase", "s", |_, run, args| made(run.heap, swapcase(&text(&args[0])))),
    ("nospace", "s", |_, run, args| {
        made(run.heap, text(&args[0]).replace(char::is_whitespace, ""))
    }),
    ("initials", "s", |_, run, args| {
        let firsts = text(&args[0])
            .split_whitespace()
            .filter_map(|word| word.chars().next())
            .collect::<String>();
        made(run.heap, firsts)
    }),
    ("repeat", "is", repeat),
    ("contains", "ss", |_, _, args| Ok(Value::Bool(text(&args[1]).contains(&*text(&args[0]))))),
    ("hasPrefix", "ss", |_, _, args| Ok(Value::Bool(bytes(&args[1]).starts_with(bytes(&args[0]))))),
    ("hasSuffix", "ss", |_, _, args| Ok(Value::Bool(bytes(&args[1]).ends_with(bytes(&args[0]))))),
    ("cat", "a*", cat),
    ("replace", "sss", replace),
    ("plural", "ssi", |_, _, args| Ok(args[usize::from(int(&args[2]) != 1)].clone())),
    ("abbrev", "is", |_, run, args| abbrev(run, 0, int(&args[0]), &args[1])),
    ("abbrevboth", "iis", |_, run, args| abbrev(run, int(&args[0]), int(&args[1]), &args[2])),
    ("wrap", "is", |_, run, args| wrap(run, int(&args[0]), "\n", false, &text(&args[1]))),
    ("wrapWith", "iss", |_, run, args| {
        wrap(run, int(&args[0]), &text(&args[1]), true, &text(&args[2]))
    }),
    ("snakecase", "s", |_, run, args| made(run.heap, snake(&text(&args[0]), '_'))),
    ("kebabcase", "s", |_, run, args| made(run.heap, snake(&text(&args[0]), '-'))),
    ("camelcase", "s", |_, run, args| made(run.heap, pascal(&text(&args[0])))),
    ("splitList", "ss", |_, run, args| {
        let (mark, subject) = (text(&args[0]), text(&args[1]));
        run.heap.charge(subject.len() * 40)?;
        Ok(Value::texts(parts(&subject, &mark, usize::MAX).into_iter()))
    }),
    ("split", "ss", |_, run, args| numbered(run, &args[0], usize::MAX, &args[1])),
    ("splitn", "sis", |_, run, args| {
        let n = usize::try_from(int(&args[1])).unwrap_or(usize::MAX);
        numbered(run, &args[0], n, &args[2])
    }),
    ("join", "sa", |_, run, args| {
        let joined = strings(run.heap, &args[1])?.join(bytes(&args[0]));
        made(run.heap, joined)
    }),
    ("sortAlpha", "a", |_, run, args| {
        let mut texts = strings(run.heap, &args[0])?;
        stdx::Arrange::arrange(&mut texts[..]);
        Ok(Value::texts(texts.into_iter()))
    }),
    ("toStrings", "a", |_, run, args| Ok(Value::texts(strings(run.heap, &args[0])?.into_iter()))),
    ("base", "s", |_, run, args| made(run.heap, base(&text(&args[0])))),
    ("osBase", "s", |_, run, args| made(run.heap, base(&text(&args[0])))),
    ("dir", "s", |_, run, args| made(run.heap, dir(&text(&args[0])))),
    ("osDir", "s", |_, run, args| made(run.heap, dir(&text(&args[0])))),
    ("clean", "s", |_, run, args| made(run.heap, clean(&text(&args[0])))),
    ("osClean", "s", |_, run, args| made(run.heap, clean(&text(&args[0])))),
    ("ext", "s", |_, run, args| made(run.heap, extension(&text(&args[0])))),
    ("osExt", "s", |_, run, args| made(run.heap, extension(&text(&args[0])))),
    ("isAbs", "s", |_, _, args| Ok(Value::Bool(bytes(&args[0]).starts_with(b"/")))),
    ("osIsAbs", "s", |_, _, args| Ok(Value::Bool(bytes(&args[0]).starts_with(b"/")))),
    ("regexMatch", "ss", regex_match),
    ("mustRegexMatch", "ss", regex_match),
    ("regexFind", "ss", regex_find),
    ("mustRegexFind", "ss", regex_find),
    ("regexFindAll", "ssi", regex_find_all),
    ("mustRegexFindAll", "ssi", regex_find_all),
    ("regexReplaceAll", "sss", |engine, run, args| regex_replace(engine, run, args, true)),
    ("mustRegexReplaceAll", "sss", |engine, run, args| regex_replace(engine, run, args, true)),
    ("regexReplaceAllLiteral", "sss", |engine, run, args| regex_replace(engine, run, args, false)),
    ("mustRegexReplaceAllLiteral", "sss", |engine, run, args| {
        regex_replace(engine, run, args, false)
    }),
    ("regexSplit", "ssi", regex_split),
    ("mustRegexSplit", "ssi", regex_split),
    ("regexQuoteMeta", "s", |_, run, args| made(run.heap, quote_meta(&text(&args[0])))),
];

fn quoted(run: &Run<'_>, args: Given<'_>, quote: fn(Vec<u8>) -> String) -> Out {
    let mut out = Vec::new();
    for arg in args.iter().filter(|arg| !arg.is_nil()) {
        out.push(quote(shown(run.heap, arg)?));
    }
    made(run.heap, out.join(" "))
}

fn indented(run: &Run<'_>, args: Given<'_>, before: &str) -> Out {
    let width = usize::try_from(int(&args[0])).map_err(|_| "strings: negative Repeat count")?;
    let subject = bytes(&args[1]);
    let n_lines = 1 + subject.iter().filter(|byte| **byte == b'\n').count();
    run.heap.charge(subject.len().saturating_add(width.saturating_mul(n_lines)))?;
    let mut out = Vec::with_capacity(subject.len() + width * n_lines + 1);
    out.extend_from_slice(before.as_bytes());
    for (idx, line) in subject.split(|byte| *byte == b'\n').enumerate() {
        if idx > 0 {
            out.push(b'\n');
        }
        out.extend(std::iter::repeat_n(b' ', width));
        out.extend_from_slice(line);
    }
    Ok(Value::Text(Rc::from(out)))
}

fn trunc(_: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    let (n, subject) = (int(&args[0]), bytes(&args[1]));
    let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(match size < subject.len() {
        false => args[1].clone(),
        true if n < 0 => Value::text(&subject[subject.len() - size..]),
        true => Value::text(&subject[..size]),
    })
}

fn substr(_: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    let (start, end, subject) = (int(&args[0]), int(&args[1]), bytes(&args[2]));
    let end = usize::try_from(end).ok().filter(|end| *end <= subject.len());
    let range = match usize::try_from(start) {
        Err(_) => 0..end.unwrap_or(subject.len()),
        Ok(start) => start..end.unwrap_or(subject.len()),
    };
    match subject.get(range) {
        Some(part) => Ok(Value::text(part)),
        None => Err("runtime error: slice bounds out of range".to_owned()),
    }
}

fn trim_all(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let cut = text(&args[0]);
    made(run.heap, text(&args[1]).trim_matches(|c| cut.contains(c)))
}

/// The first letters of words as capitals, or small.
fn words(subject: &str, is_upper: bool) -> String {
    let mut out = String::with_capacity(subject.len());
    let mut at_start = true;
    for c in subject.chars() {
        match (at_start, is_upper) {
            (true, true) => out.extend(c.to_uppercase()),
            (true, false) => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        at_start = match (is_upper, c.is_ascii()) {
            (true, true) => !(c.is_ascii_alphanumeric() || c == '_'),
            _ => c.is_whitespace(),
        };
    }
    out
}

fn swapcase(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    let mut at_start = true;
    for c in subject.chars() {
        match c {
            c if c.is_uppercase() => out.extend(c.to_lowercase()),
            c if c.is_lowercase() && at_start => out.extend(c.to_uppercase()),
            c if c.is_lowercase() => out.extend(c.to_uppercase()),
            c => out.push(c),
        }
        at_start = c.is_whitespace();
    }
    out
}

fn repeat(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let n = usize::try_from(int(&args[0])).map_err(|_| "strings: negative Repeat count")?;
    let subject = bytes(&args[1]);
    run.heap.charge(subject.len().saturating_mul(n))?;
    Ok(Value::text(subject.repeat(n)))
}

fn cat(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let mut out = Vec::new();
    for arg in args.iter().filter(|arg| !arg.is_nil()) {
        out.append(&mut template::show(arg, run.heap)?);
        out.push(b' ');
    }
    out.pop();
    Ok(Value::text(out))
}

fn replace(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let (old, new, subject) = (text(&args[0]), text(&args[1]), text(&args[2]));
    let n = subject.matches(&*old).count();
    run.heap.charge(subject.len().saturating_add(n.saturating_mul(new.len())))?;
    Ok(Value::text(subject.replace(&*old, &new)))
}

fn abbrev(run: &Run<'_>, offset: i64, width: i64, subject: &Value) -> Out {
    let (mut offset, width) = match (usize::try_from(offset), usize::try_from(width)) {
        (Ok(offset), Ok(width)) if width >= 4 && !(offset > 0 && width < 7) => (offset, width),
        _ => return Ok(subject.clone()),
    };
    let whole = text(subject);
    let chars: Vec<char> = whole.chars().collect();
    run.heap.charge(chars.len() * 4)?;
    if chars.len() <= width {
        return Ok(subject.clone());
    }
    if offset > chars.len() || chars.len() - offset < width - 3 {
        offset = chars.len() - (width - 3);
    }
    let part = |range: std::ops::Range<usize>| chars[range].iter().collect::<String>();
    let out = if offset <= 4 {
        part(0..width - 3) + "..."
    } else if offset + width - 3 < chars.len() {
        format!("...{}...", part(offset..offset + width - 6))
    } else {
        format!("...{}", part(chars.len() - (width - 3)..chars.len()))
    };
    made(run.heap, out)
}

fn wrap(run: &Run<'_>, width: i64, mark: &str, cuts_words: bool, subject: &str) -> Out {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    let chars: Vec<char> = subject.chars().collect();
    run.heap.charge(chars.len().saturating_mul(5 + mark.len()))?;
    let mut out = String::new();
    let mut start = 0;
    while chars.len() - start > width {
        if chars[start] == ' ' {
            start += 1;
            continue;
        }
        let window = &chars[start..=start + width];
        if let Some(space) = window.iter().rposition(|c| *c == ' ') {
            out.extend(&chars[start..start + space]);
            start += space + 1;
        } else if cuts_words {
            out.extend(&chars[start..start + width]);
            start += width;
        } else {
            match chars[start + width..].iter().position(|c| *c == ' ') {
                Some(space) => {
                    let end = start + width + space;
                    out.extend(&chars[start..end]);
                    start = end + 1;
                }
                None => break,
            }
        }
        out.push_str(mark);
    }
    out.extend(&chars[start..]);
    Ok(Value::text(out))
}

fn is_connector(c: char) -> bool {
    matches!(c, '-' | '_') || c.is_whitespace()
}

/// `fooBar2` as `foo_bar_2`, as huandu's xstrings makes it of words of one kind each.
fn snake(subject: &str, mark: char) -> String {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Number,
        Upper,
        Lower,
        Connector,
        Punctuation,
    }
    let kind = |c: char| match c {
        c if is_connector(c) => Kind::Connector,
        c if c.is_ascii_punctuation() => Kind::Punctuation,
        c if c.is_numeric() => Kind::Number,
        c if c.is_uppercase() => Kind::Upper,
        _ => Kind::Lower,
    };
    let chars: Vec<char> = subject.chars().collect();
    let mut out = String::with_capacity(subject.len() + 8);
    for (idx, c) in chars.iter().enumerate() {
        let own = kind(*c);
        let before = idx.checked_sub(1).map(|idx| kind(chars[idx]));
        let next = chars.get(idx + 1).map(|c| kind(*c));
        let is_border = match (before, own) {
            (None | Some(Kind::Connector | Kind::Punctuation), _) => false,
            (_, Kind::Connector | Kind::Punctuation) => false,
            (Some(Kind::Upper), Kind::Upper) => next == Some(Kind::Lower),
            (Some(Kind::Lower | Kind::Number), Kind::Upper) => true,
            (Some(Kind::Upper), Kind::Lower) => false,
            (Some(Kind::Lower | Kind::Upper), Kind::Number) => true,
            _ => false,
        };
        if is_border {
            out.push(mark);
        }
        match own {
            Kind::Connector => out.push(mark),
            _ => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// `foo_bar` as `FooBar`.
fn pascal(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    let mut chars = subject.chars().peekable();
    while let Some(c) = chars.next_if(|c| is_connector(*c)) {
        out.push(c);
    }
    let (mut at_start, mut was_upper) = (true, false);
    while let Some(c) = chars.next() {
        if is_connector(c) {
            let is_last = chars.peek().is_none();
            if is_last || chars.peek().is_some_and(|next| is_connector(*next)) {
                out.push(c);
            }
            at_start = true;
            continue;
        }
        if at_start {
            was_upper = c.is_uppercase();
            out.extend(c.to_uppercase());
            at_start = false;
        } else if was_upper && c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            was_upper = false;
            out.push(c);
        }
    }
    out
}

/// Go's `SplitN`: an empty mark splits characters.
fn parts<'a>(subject: &'a str, mark: &str, n: usize) -> Vec<&'a str> {
    if n == 0 {
        return Vec::new();
    }
    if mark.is_empty() {
        let mut out: Vec<&str> = Vec::new();
        let mut starts = subject.char_indices().map(|(at, _)| at).peekable();
        while let Some(start) = starts.next() {
            if out.len() + 1 == n {
                out.push(&subject[start..]);
                break;
            }
            out.push(&subject[start..starts.peek().copied().unwrap_or(subject.len())]);
        }
        return out;
    }
    subject.splitn(n, mark).collect()
}

/// Parts as a map of `_0`, `_1` and so on.
fn numbered(run: &Run<'_>, mark: &Value, n: usize, subject: &Value) -> Out {
    let (mark, subject) = (text(mark), text(subject));
    run.heap.charge(subject.len() * 60)?;
    let mut entries = stdx::OrdMap::new();
    for (idx, part) in parts(&subject, &mark, n).into_iter().enumerate() {
        entries.insert(Rc::from(format!("_{idx}")), Value::text(part));
    }
    Ok(Value::Map(Map::new("map[string]string", entries)))
}

fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        None | Some("") => "/".to_owned(),
        Some(last) => last.to_owned(),
    }
}

fn dir(path: &str) -> String {
    let end = path.rfind('/').map_or(0, |at| at + 1);
    clean(&path[..end])
}

/// Go's `path.Clean`.
pub(super) fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match out.last() {
                Some(last) if *last != ".." => {
                    out.pop();
                }
                _ if is_rooted => {}
                _ => out.push(".."),
            },
            part => out.push(part),
        }
    }
    let joined = out.join("/");
    match (is_rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or("");
    name.rfind('.').map_or("", |at| &name[at..])
}

fn regex_match(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let subject = text(&args[1]);
    run.heap.step(subject.len() as u64)?;
    Ok(Value::Bool(engine.regex(&text(&args[0]))?.is_match(&subject)))
}

fn regex_find(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let subject = text(&args[1]);
    run.heap.step(subject.len() as u64)?;
    let regex = engine.regex(&text(&args[0]))?;
    made(run.heap, regex.find(&subject).map_or("", |found| found.as_str()))
}

fn regex_find_all(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let subject = text(&args[1]);
    run.heap.step(subject.len() as u64)?;
    run.heap.charge(subject.len() * 40)?;
    let regex = engine.regex(&text(&args[0]))?;
    let n = usize::try_from(int(&args[2])).unwrap_or(usize::MAX);
    Ok(Value::texts(regex.find_iter(&subject).take(n).map(|found| found.as_str())))
}

fn regex_replace(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>, expands: bool) -> Out {
    let (subject, by) = (text(&args[1]), text(&args[2]));
    run.heap.step(subject.len() as u64)?;
    run.heap.charge((subject.len() + 1).saturating_mul(by.len() + 1))?;
    let regex = engine.regex(&text(&args[0]))?;
    let out = match expands {
        true => regex.replace_all(&subject, &*by),
        false => regex.replace_all(&subject, NoExpand(&by)),
    };
    made(run.heap, out.as_bytes())
}

fn regex_split(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let subject = text(&args[1]);
    run.heap.step(subject.len() as u64)?;
    run.heap.charge(subject.len() * 40)?;
    let regex = engine.regex(&text(&args[0]))?;
    let n = int(&args[2]);
    if n == 0 {
        return Ok(Value::List(Rc::new(List { type_name: "[]string", items: Vec::new() })));
    }
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    let mut out = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for found in regex.find_iter(&subject) {
        if out.len() + 1 >= n {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            out.push(&subject[begin..end]);
        }
        begin = found.end();
    }
    if end != subject.len() || out.is_empty() {
        out.push(&subject[begin..]);
    }
    Ok(Value::texts(out.into_iter()))
}

fn quote_meta(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for c in subject.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
