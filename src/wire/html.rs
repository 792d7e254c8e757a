//! Links in HTML: found as the text passes, and replaced where they stand.
//!
//! Only as much of the grammar as that takes (WHATWG HTML, 13.2.5): tags with their attributes, comments,
//! and elements whose content is text. Everything else passes byte by byte.

use std::ops::Range;

/// The longest tag that is looked into; what is longer passes as it is.
const TAG_MAX_BYTES: usize = 8 << 10;

/// Which attributes of which elements are links (HTML 4.01, index of attributes, and HTML 5's).
const LINKS: [(&str, &[&str]); 26] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
    ("track", &["src"]),
];

/// Elements whose content has no tags but their own end.
const TEXTS: [&str; 9] =
    ["iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// Where the reader stands between two tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Content,
    Comment,
    /// One of `TEXTS`.
    Text(&'static str),
}

/// Replaces links in a document that comes in pieces.
#[derive(Debug)]
pub struct Links {
    inside: Inside,
    /// What may be the beginning of something: at most a tag.
    held: Vec<u8>,
}

impl Default for Links {
    fn default() -> Links {
        Links { inside: Inside::Content, held: Vec::new() }
    }
}

impl Links {
    /// Takes the next piece, and appends to `out` what is certain by then. `replace` says what a link
    /// becomes, as it is to stand in the text; `None` leaves it.
    pub fn push(
        &mut self,
        piece: &[u8],
        replace: &dyn Fn(&str) -> Option<String>,
        out: &mut Vec<u8>,
    ) {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let taken = match self.inside {
                Inside::Content => self.content(rest, replace, out),
                Inside::Comment => self.comment(rest, out),
                Inside::Text(name) => self.text(name, rest, out),
            };
            match taken {
                Some(taken) => at += taken,
                None if rest.len() > TAG_MAX_BYTES => {
                    out.extend_from_slice(rest);
                    return;
                }
                None => break,
            }
        }
        self.held = text.split_off(at);
    }

    /// What was held back when the document ended.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Passes what stands before the next tag, or that tag; `None` if its end is not there yet.
    fn content(
        &mut self,
        rest: &[u8],
        replace: &dyn Fn(&str) -> Option<String>,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let start = rest.iter().position(|&b| b == b'<').unwrap_or(rest.len());
        if start > 0 {
            return Some(pass(&rest[..start], out));
        }
        match rest.get(1)? {
            b'!' if "<!--".as_bytes().starts_with(&rest[..rest.len().min(4)]) => {
                if rest.len() < 4 {
                    return None;
                }
                // `<!-->` is a whole comment, so the dashes stay.
                self.inside = Inside::Comment;
                Some(pass(&rest[..2], out))
            }
            letter if letter.is_ascii_alphabetic() => {
                let tag = Tag::read(rest)?;
                tag.write(rest, replace, out);
                let name = &rest[tag.name.clone()];
                let text = TEXTS.iter().find(|text| name.eq_ignore_ascii_case(text.as_bytes()));
                self.inside = text.map_or(Inside::Content, |text| Inside::Text(text));
                Some(tag.end)
            }
            _ => Some(pass(&rest[..1], out)),
        }
    }

    fn comment(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if let Some(end) = find(rest, b"-->") {
            self.inside = Inside::Content;
            return Some(pass(&rest[..end + 3], out));
        }
        pass_but(rest, 2, out)
    }

    fn text(&mut self, name: &str, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let end = format!("</{name}");
        if let Some(at) = find(rest, end.as_bytes()) {
            self.inside = Inside::Content;
            return Some(pass(&rest[..at + 2], out));
        }
        pass_but(rest, end.len() - 1, out)
    }
}

fn pass(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(bytes);
    bytes.len()
}

/// Passes all but the last `kept` bytes, which may begin what is looked for.
fn pass_but(rest: &[u8], kept: usize, out: &mut Vec<u8>) -> Option<usize> {
    let passed = rest.len().saturating_sub(kept);
    (passed > 0).then(|| pass(&rest[..passed], out))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted))
}

/// A start tag: where its name, and the values of its attributes, lie in the text that begins with it.
struct Tag {
    name: Range<usize>,
    attributes: Vec<(Range<usize>, Range<usize>)>,
    end: usize,
}

impl Tag {
    /// `None` if the text ends before the tag.
    fn read(text: &[u8]) -> Option<Tag> {
        let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
            text[from..].iter().position(|&b| stop(b)).map(|found| from + found)
        };
        let space = |b: u8| b.is_ascii_whitespace();
        let name = 1..until(1, &|b| space(b) || b == b'/' || b == b'>')?;
        let mut tag = Tag { name: name.clone(), attributes: Vec::new(), end: 0 };
        let mut at = name.end;
        loop {
            at = until(at, &|b| !space(b) && b != b'/')?;
            if text[at] == b'>' {
                tag.end = at + 1;
                return Some(tag);
            }
            // A first `=` belongs to the name.
            let key = at..until(at + 1, &|b| space(b) || matches!(b, b'/' | b'>' | b'='))?;
            at = until(key.end, &|b| !space(b))?;
            if text[at] != b'=' {
                continue;
            }
            at = until(at + 1, &|b| !space(b))?;
            let value = match text[at] {
                b'>' => continue,
                quote @ (b'"' | b'\'') => at + 1..until(at + 1, &|b| b == quote)?,
                _ => at..until(at, &|b| space(b) || b == b'>')?,
            };
            at = value.end + usize::from(matches!(text[value.end], b'"' | b'\''));
            tag.attributes.push((key, value));
        }
    }

    fn write(&self, text: &[u8], replace: &dyn Fn(&str) -> Option<String>, out: &mut Vec<u8>) {
        let name = &text[self.name.clone()];
        let links = LINKS.iter().find(|(element, _)| name.eq_ignore_ascii_case(element.as_bytes()));
        let mut written = 0;
        for (key, value) in links.iter().flat_map(|_| &self.attributes) {
            let key = &text[key.clone()];
            let is_link = links.is_some_and(|(_, names)| {
                names.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()))
            });
            let link = std::str::from_utf8(&text[value.clone()]).ok().filter(|_| is_link);
            if let Some(new) = link.and_then(replace) {
                out.extend_from_slice(&text[written..value.start]);
                out.extend_from_slice(new.as_bytes());
                written = value.end;
            }
        }
        out.extend_from_slice(&text[written..self.end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document in pieces of `size` bytes, with `/base` before what begins with a slash.
    fn replaced(document: &str, size: usize) -> String {
        let replace = |link: &str| link.starts_with('/').then(|| format!("/base{link}"));
        let (mut links, mut out) = (Links::default(), Vec::new());
        for piece in document.as_bytes().chunks(size) {
            links.push(piece, &replace, &mut out);
        }
        out.extend(links.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_are_found_however_the_document_is_cut() {
        for (document, wanted) in [
            (r#"<a href="/x">t</a>"#, r#"<a href="/base/x">t</a>"#),
            ("<A HREF='/x' title=/y>", "<A HREF='/base/x' title=/y>"),
            ("<a href=/x>", "<a href=/base/x>"),
            ("<a\nhref = /x/ class=b>", "<a\nhref = /base/x/ class=b>"),
            (
                "<img src=/a longdesc='/b' alt=\"<a href='/c'>\">",
                "<img src=/base/a longdesc='/base/b' alt=\"<a href='/c'>\">",
            ),
            ("<br/><form action='/f'/>", "<br/><form action='/base/f'/>"),
            ("a < b <a href='rel'><p href='/no'>", "a < b <a href='rel'><p href='/no'>"),
            ("<!-- <a href='/x'> --><a href='/y'>", "<!-- <a href='/x'> --><a href='/base/y'>"),
            ("<!--><a href='/y'>", "<!--><a href='/base/y'>"),
            ("<!doctype html><a href='/y'>", "<!doctype html><a href='/base/y'>"),
            (
                "<script src='/s'>'<a href=\"/x\">'</SCRIPT><a href='/y'>",
                "<script src='/base/s'>'<a href=\"/x\">'</SCRIPT><a href='/base/y'>",
            ),
            ("<title></titl></title><a href=/y>", "<title></titl></title><a href=/base/y>"),
            ("<a href><a href=><a =x href='/y'>", "<a href><a href=><a =x href='/base/y'>"),
            ("<a href='/x", "<a href='/x"),
            ("text <", "text <"),
            ("<!-", "<!-"),
            ("é <a title='é' href='/é'>", "é <a title='é' href='/base/é'>"),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(replaced(document, size), wanted, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_does_not_end_is_not_kept() {
        for start in ["<a href='", "<a ", "<!-- ", "<script>"] {
            let (mut links, mut out) = (Links::default(), Vec::new());
            for _ in 0..1000 {
                links.push(&[b'x'; 100], &|_| None, &mut out);
                links.push(start.as_bytes(), &|_| None, &mut out);
                assert!(links.held.len() <= TAG_MAX_BYTES + 100, "{start}: {}", links.held.len());
            }
            assert_eq!(out.len() + links.finish().len(), 1000 * (100 + start.len()));
        }
    }
}
