//! What is wrong with an expression, and how upstream shows it: the place, the line and a caret.

use stdx::Arrange;

/// Of more than these the rest is only counted.
const ISSUES_MAX: usize = 100;
/// Longer lines are not shown.
const SNIPPET_MAX: usize = 16_384;

/// Once so much is shown, in bytes, lines of the text are shown no more.
const SHOWN_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Where in the text, in bytes.
    pub(crate) at: u32,
    pub(crate) message: String,
}

/// Everything that is wrong with one text.
#[derive(Debug)]
pub(crate) struct Issues<'a> {
    pub(crate) text: &'a str,
    list: Vec<Issue>,
    more: usize,
}

impl<'a> Issues<'a> {
    pub(crate) fn of(text: &'a str) -> Issues<'a> {
        Issues { text, list: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, at: u32, message: String) {
        if self.list.len() < ISSUES_MAX {
            self.list.push(Issue { at, message });
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.more = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them in the order of the text, as `ERROR: <input>:1:5: ...` with the line and a caret.
    pub(crate) fn shown(mut self) -> String {
        // Stable: what is wrong with one place stays in order.
        self.list.arrange_by_key(|issue| issue.at);
        let mut out = String::new();
        for issue in &self.list {
            if !out.is_empty() {
                out.push('\n');
            }
            self.show(issue, &mut out);
        }
        if self.more > 0 {
            out.push_str(&format!("\n{} more errors were truncated", self.more));
        }
        out
    }

    fn show(&self, issue: &Issue, out: &mut String) {
        if issue.at == u32::MAX {
            // Of the whole text, not of a place in it.
            out.push_str(&format!("ERROR: <input>:-1:0: {}", issue.message));
            return;
        }
        let before = &self.text[..issue.at as usize];
        let begins = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[begins..].chars().count();
        out.push_str(&format!("ERROR: <input>:{line}:{}: {}", column + 1, issue.message));
        let snippet = self.text[begins..].lines().next().unwrap_or("");
        if snippet.len() > SNIPPET_MAX || out.len() > SHOWN_MAX {
            return;
        }
        out.push_str("\n | ");
        out.push_str(&snippet.replace('\t', " "));
        out.push_str("\n | ");
        let mut letters = snippet.chars();
        for letter in letters.by_ref().take(column) {
            out.push(if letter.is_ascii() { '.' } else { '\u{ff0e}' });
        }
        out.push(if letters.next().is_none_or(|next| next.is_ascii()) { '^' } else { '\u{ff3e}' });
    }
}
