//! Header fields as HTTP/1, HTTP/2 and SPDY all carry them: an ordered list of lower-case names and byte values.

use std::fmt;

/// All fields in two allocations: the text, and where each field ends.
///
/// Names are stored in lower case and looked up without regard to case. A value never holds CR, LF or
/// NUL (they become spaces), so a value taken from anywhere cannot split a message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: Vec<u8>,
    /// Per field: the end of its name and the end of its value in `text`.
    ends: Vec<(u32, u32)>,
}

impl Headers {
    pub const fn new() -> Headers {
        Headers { text: Vec::new(), ends: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What the fields count against a limit, as HTTP/2 counts: names, values and 32 bytes a field.
    pub fn size(&self) -> usize {
        self.text.len() + 32 * self.ends.len()
    }

    /// Fields in order, names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            // Names are ASCII: `append` refuses all others.
            let name = std::str::from_utf8(&self.text[start..name_end]).unwrap_or("");
            let value = &self.text[name_end..value_end];
            start = value_end;
            (name, value)
        })
    }

    /// The first value of `name` as bytes.
    pub(crate) fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of `name`, if it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name` that is UTF-8, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Whether the comma-separated lists under `name` hold `token`, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Adds a field after those that are there. A name that is no HTTP token (or `:pseudo`) is not added.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        if !is_name(name.as_bytes()) {
            return;
        }
        let value = value.as_ref();
        let (Ok(name_end), Ok(value_end)) = (
            u32::try_from(self.text.len() + name.len()),
            u32::try_from(self.text.len() + name.len() + value.len()),
        ) else {
            return;
        };
        self.text.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
        self.text
            .extend(value.iter().map(|&b| if matches!(b, 0 | b'\r' | b'\n') { b' ' } else { b }));
        self.ends.push((name_end, value_end));
    }

    /// Replaces every field of that name by one.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        if self.contains(name) {
            self.remove(name);
        }
        self.append(name, value);
    }

    /// Removes every field of that name.
    pub fn remove(&mut self, name: &str) {
        self.retain(|n, _| !n.eq_ignore_ascii_case(name));
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let mut kept = Headers::new();
        for (name, value) in self.iter() {
            if keep(name, value) {
                kept.append(name, value);
            }
        }
        *self = kept;
    }

    /// `append` for building in one expression.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Headers {
        self.append(name, value);
        self
    }
}

/// Whether `name` may name a field: a token, or a token after the colon of a pseudo field.
pub fn is_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|&b| is_token_byte(b))
}

/// RFC 9110 `tchar`.
pub fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl fmt::Debug for Headers {
    /// Names only for what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                let secret = matches!(name, "authorization" | "cookie" | "proxy-authorization");
                (name, if secret { "***".into() } else { String::from_utf8_lossy(value) })
            }))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_are_found_in_any_case() {
        let mut headers =
            Headers::new().with("Accept", "a").with("X-B", "1").with("accept", "b, C");
        assert_eq!(headers.get("ACCEPT"), Some("a"));
        assert_eq!(headers.get_all("accept").collect::<Vec<_>>(), ["a", "b, C"]);
        assert!(headers.has_token("Accept", "c") && !headers.has_token("accept", "d"));
        headers.set("x-b", "2");
        assert_eq!(headers.get("x-b"), Some("2"));
        headers.remove("Accept");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn nothing_can_split_a_message() {
        let mut headers = Headers::new().with("x", "a\r\nevil: 1\0");
        headers.append("bad name", "x");
        headers.append("bad\r\nname", "x");
        headers.append("", "x");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x", &b"a  evil: 1 "[..])]);
    }
}
