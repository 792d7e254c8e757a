//! Columns of text: Go's tabwriter, for texts that are whole.

/// Text whose cells end with tabs, with spaces in place of the tabs: a column is as wide as its widest cell in lines
/// that follow one another, and `padding` more, but at least `width_min`. The last cell of a line belongs to no column.
pub fn align(text: &str, width_min: usize, padding: usize) -> String {
    let is_end = |c: char| c == '\n' || c == '\x0c';
    // Which columns the cells of all lines are in, one after another, and how wide those are.
    let (mut places, mut widths) = (Vec::<usize>::new(), Vec::<usize>::new());
    let mut open: Vec<usize> = Vec::new();
    for line in text.split(is_end) {
        let mut cells = line.split(is_tab).peekable();
        let mut column = 0;
        while let Some(cell) = cells.next() {
            if cells.peek().is_none() {
                break;
            }
            if column == open.len() {
                open.push(widths.len());
                widths.push(width_min);
            }
            let width = &mut widths[open[column]];
            *width = (*width).max(cell.chars().count() + padding);
            places.push(open[column]);
            column += 1;
        }
        open.truncate(column);
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut places = places.into_iter();
    for (idx, line) in text.split(is_end).enumerate() {
        if idx > 0 {
            out.push('\n');
        }
        let mut cells = line.split(is_tab).peekable();
        while let Some(cell) = cells.next() {
            out.push_str(cell);
            if cells.peek().is_some() {
                let width = places.next().map_or(0, |place| widths[place]);
                (cell.chars().count()..width).for_each(|_| out.push(' '));
            }
        }
    }
    out
}

fn is_tab(c: char) -> bool {
    c == '\t' || c == '\x0b'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_blocks_of_lines() {
        for (text, want) in [
            ("", ""),
            ("a", "a"),
            ("a\tb\nccc\td\n", "a    b\nccc  d\n"),
            // A line without the column ends it.
            ("a\tb\nnone\nccc\td\n", "a  b\nnone\nccc  d\n"),
            ("a\tbb\tc\nd\te\n\tf\tg\n", "a  bb  c\nd  e\n   f  g\n"),
            ("\t\tx\n", "    x\n"),
            ("ä\tb\nab\tc\n", "ä   b\nab  c\n"),
            ("a\t\n", "a  \n"),
        ] {
            assert_eq!(align(text, 0, 2), want, "{text:?}");
        }
        assert_eq!(align("a\tb\n", 6, 3), "a     b\n");
    }

    #[test]
    fn a_table_of_a_million_tabs_takes_time_in_proportion() {
        let text = "\t".repeat(500_000) + "\n" + &"a\n".repeat(500_000);
        assert_eq!(align(&text, 0, 1).len(), 500_000 + 1 + 1_000_000);
    }
}
