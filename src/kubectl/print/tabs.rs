//! Columns of text, padded as kubectl pads them.

/// Between columns.
const PADDING: usize = 3;
/// The narrowest column.
const WIDTH_MIN: usize = 6;

/// Lays out tables. Later rows are as wide as earlier ones, at least: a watch prints one row after another.
#[derive(Debug)]
pub(crate) struct Tabs {
    widths: Vec<usize>,
    min: usize,
    padding: usize,
}

impl Tabs {
    pub(crate) fn new() -> Tabs {
        Tabs { widths: Vec::new(), min: WIDTH_MIN, padding: PADDING }
    }

    pub(crate) fn with(min: usize, padding: usize) -> Tabs {
        Tabs { widths: Vec::new(), min, padding }
    }

    /// Makes the first column wide enough for so many characters.
    pub(crate) fn reserve(&mut self, n_chars: usize) {
        self.widths = vec![self.min.max(n_chars + self.padding)];
    }

    /// Rows as lines. The last cell of a row is not padded.
    pub(crate) fn format(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (idx, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
                if self.widths.len() <= idx {
                    self.widths.push(self.min);
                }
                self.widths[idx] = self.widths[idx].max(cell.chars().count() + self.padding);
            }
        }
        let mut text = String::new();
        for row in rows {
            for (idx, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if idx + 1 < row.len() {
                    let missing = self.widths[idx].saturating_sub(cell.chars().count());
                    text.extend(std::iter::repeat_n(' ', missing));
                }
            }
            text.push('\n');
        }
        text
    }
}
