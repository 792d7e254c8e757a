//! A value that may hold a secret: no message, log line or debug output shows it.

use std::fmt;

/// A value of a Secret, or a text that something of one was put into. It has no `Display`, so it is in no
/// formatted text, and its `Debug` shows dots. Whoever needs the value calls [`reveal`](Sensitive::reveal); which files
/// may is a list in `tidy`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sensitive<T = String>(T);

impl<T> Sensitive<T> {
    /// The value: to hand it on to its reader, never into words.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Sensitive<T> {
        Sensitive(value)
    }
}

impl From<&str> for Sensitive {
    fn from(text: &str) -> Sensitive {
        Sensitive(text.to_owned())
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_nothing() {
        let pair: [(&str, Sensitive); 1] = [("NAME", "hunter2".into())];
        assert_eq!(format!("{pair:?}"), "[(\"NAME\", ...)]");
        assert_eq!(pair[0].1.reveal(), "hunter2");
    }
}
