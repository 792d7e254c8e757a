//! The page that a description is written on, and the templates that write most of it.
//!
//! A template is a text; each of its lines becomes one line of the page. `~` is a tab, `{path}` what the object has at
//! this path. `{path@form=other}` says in which form, and what stands there if the form is empty; `{path=other}`, if the
//! object has nothing there. What comes
//! before a line, up to `|`, says when it is there: `?path` if there is something, `+path` if it is neither empty, zero
//! nor false, `!path` if it is, `-path` if there is nothing, `*path` once for each element of a list, whose paths are its own.
//! `{nothing}` keeps a space at the end of a line. A line that begins with `%` is written by code (`sections.rs`).

use api::selector::Selector;
use api::{Lens, Value};

use crate::needs::Related;
use crate::words::{self, Zone};
use stdx::time::Wall;

pub(crate) struct Page<'a> {
    /// Lines with tabs in them.
    pub(crate) text: String,
    /// Spaces before whatever is written at once.
    pub(crate) nest: usize,
    /// Whether secrets are named with their namespaces, as in a PersistentVolume.
    pub(crate) is_persistent: bool,
    /// Writes a section: its name, title and path as the template has them.
    pub(crate) section: fn(&mut Page<'_>, &str, &str, &str, &Value),
    pub(crate) related: &'a Related,
    pub(crate) now: Wall,
    pub(crate) zone: Zone<'a>,
}

impl Page<'_> {
    /// Writes as it is, after the spaces of the nesting.
    pub(crate) fn put(&mut self, texts: &[&str]) {
        (0..self.nest).for_each(|_| self.text.push(' '));
        texts.iter().for_each(|text| self.text.push_str(text));
    }

    /// The same, and the end of the line.
    pub(crate) fn line(&mut self, texts: &[&str]) {
        self.put(texts);
        self.text.push('\n');
    }

    /// Writes a template about `root`.
    pub(crate) fn render(&mut self, template: &str, root: &Value) {
        for line in template.lines() {
            self.render_line(line, root);
        }
    }

    fn render_line(&mut self, line: &str, root: &Value) {
        let mut line = line;
        while let Some(sign) = line.chars().next().filter(|c| "?+!-*".contains(*c)) {
            let Some((path, rest)) = line[1..].split_once('|') else { break };
            let value = root.at(path);
            match sign {
                '*' => {
                    for element in root.list(path) {
                        self.render_plain(rest, element);
                    }
                    return;
                }
                '?' if value.is_null() => return,
                '+' if is_empty(value) => return,
                '!' if !is_empty(value) => return,
                '-' if !value.is_null() => return,
                _ => line = rest,
            }
        }
        self.render_plain(line, root);
    }

    fn render_plain(&mut self, line: &str, root: &Value) {
        if let Some(section) = line.strip_prefix('%') {
            let (name, rest) = section.split_once(' ').unwrap_or((section, ""));
            let (title, path) = rest.split_once('|').unwrap_or((rest, ""));
            return (self.section)(self, name, title, path, root);
        }
        self.put(&[]);
        let mut rest = line;
        while let Some(at) = rest.find(['~', '{']) {
            self.text.push_str(&rest[..at]);
            let is_tab = rest[at..].starts_with('~');
            rest = &rest[at + 1..];
            if is_tab {
                self.text.push('\t');
            } else if let Some((place, after)) = rest.split_once('}') {
                self.fill(place, root);
                rest = after;
            }
        }
        self.text.push_str(rest);
        self.text.push('\n');
    }

    /// Writes what a template has between braces.
    fn fill(&mut self, place: &str, root: &Value) {
        let (place, other) = place.split_once('=').unwrap_or((place, ""));
        let (path, form) = place.split_once('@').unwrap_or((place, ""));
        let value = root.at(path);
        let text = match form {
            "time" => words::rfc1123(value, self.zone),
            "gotime" => words::go_time(value, self.zone),
            "join" => words::join(value.as_array().map_or(&[], Vec::as_slice), ","),
            "list" => words::join(value.as_array().map_or(&[], Vec::as_slice), ", "),
            // Go prints the empty list, too.
            "go" if value.is_null() => "[]".to_owned(),
            "labels" => words::labels(value),
            "selector" if value.is_null() => "<none>".to_owned(),
            "selector" => words::or(Selector::text(value), "<none>"),
            "text" if value.is_null() => String::new(),
            "text" => Selector::text(value),
            "bool" => match value.as_bool() {
                Some(true) => "True".to_owned(),
                Some(false) => "False".to_owned(),
                None => "<unset>".to_owned(),
            },
            "secret" if value.is_null() => "nil".to_owned(),
            "secret" if self.is_persistent => {
                let (name, namespace) = (value.str("name"), value.str("namespace"));
                format!("&SecretReference{{Name:{name},Namespace:{namespace},}}")
            }
            "secret" => format!("&LocalObjectReference{{Name:{},}}", value.str("name")),
            _ if value.is_null() => String::new(),
            _ => words::plain(value),
        };
        let is_other = if form.is_empty() { value.is_null() } else { text.is_empty() };
        self.text.push_str(if is_other { other } else { &text });
    }

    /// A map below its title, one line an entry, in order: `title:` a tab, `key=value`.
    pub(crate) fn labels(&mut self, title: &str, map: &Value) {
        self.put(&[title, ":\t"]);
        let mut is_first = true;
        for (key, value) in map.pairs("") {
            self.next(&mut is_first);
            self.line(&[key, "=", value]);
        }
        self.none(is_first);
    }

    /// As `labels`, of annotations: without the one that `kubectl apply` keeps, and long ones cut.
    pub(crate) fn annotations(&mut self, title: &str, map: &Value) {
        self.put(&[title, ":\t"]);
        let mut is_first = true;
        for (key, value) in map.pairs("") {
            if key == "kubectl.kubernetes.io/last-applied-configuration" {
                continue;
            }
            self.next_line(&mut is_first);
            let value = value.strip_suffix('\n').unwrap_or(value);
            if value.len() + key.len() + 2 <= SHOWN_MAX && !value.contains('\n') {
                self.line(&[key, ": ", value]);
                continue;
            }
            self.line(&[key, ":"]);
            for part in value.split('\n') {
                let (part, more) = shorten(part, SHOWN_MAX - 2);
                self.line(&["\t  ", part, more]);
            }
        }
        self.none(is_first);
    }

    /// Before an element of a list below a title: from the second on an empty first column.
    pub(crate) fn next(&mut self, is_first: &mut bool) {
        if !std::mem::replace(is_first, false) {
            self.put(&[]);
            self.put(&["\t"]);
        }
    }

    fn next_line(&mut self, is_first: &mut bool) {
        if !std::mem::replace(is_first, false) {
            self.put(&["\t"]);
        }
    }

    /// After a list below a title: that there was nothing in it.
    pub(crate) fn none(&mut self, is_empty: bool) {
        if is_empty {
            self.line(&["<none>"]);
        }
    }
}

/// Bytes of an annotation with its key that fit on a line.
const SHOWN_MAX: usize = 140;

/// The first bytes of a text, up to a whole character, and `...` if there were more.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> (&str, &str) {
    if text.len() <= bytes_max {
        (text, "")
    } else {
        (&text[..text.floor_char_boundary(bytes_max)], "...")
    }
}

/// Whether Go's zero value stands there, or nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn templates_say_when_and_how() {
        let related = Related::default();
        let object = json!({
            "a": "x", "zero": 0, "empty": "", "no": false, "yes": true,
            "list": [{"n": 1}, {"n": 2}], "names": ["p", "q"], "map": {"k": "v"},
        });
        for (template, want) in [
            ("A:~{a}", "A:\tx\n"),
            ("?zero|Z:~{zero}", "Z:\t0\n"),
            ("+zero|Z:~{zero}\n!zero|none", "none\n"),
            ("?gone|no\n!gone|yes", "yes\n"),
            ("*list|  {n}/{m=-}", "  1/-\n  2/-\n"),
            ("+list|+a|both", "both\n"),
            (
                "{names@join} {names@list} {names} {gone@join=<none>} {gone@go}",
                "p,q p, q [p q] <none> []\n",
            ),
            (
                "{map@labels} {gone@labels} {yes@bool} {no@bool} {gone@bool}",
                "k=v <none> True False <unset>\n",
            ),
            ("{gone@secret} {map@secret}", "nil &LocalObjectReference{Name:,}\n"),
            ("%name a b|path", "namea bpath\n"),
        ] {
            let zone = |_: i64| (0, "UTC".to_owned());
            let mut page = Page {
                text: String::new(),
                nest: 0,
                is_persistent: false,
                section: |page, name, title, path, _| page.line(&[name, title, path]),
                related: &related,
                now: Wall(0),
                zone: &zone,
            };
            page.render(template, &object);
            assert_eq!(page.text, want, "{template}");
        }
    }

    #[test]
    fn long_annotations_are_cut_at_a_character() {
        assert_eq!(shorten("aä", 2), ("a", "..."));
        assert_eq!(shorten("aä", 3), ("aä", ""));
    }
}
