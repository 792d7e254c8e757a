//! PEM: named sections of base64 in text.

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub label: String,
    /// Whether lines of headers stand before the content.
    pub has_headers: bool,
    pub content: Vec<u8>,
}

/// The sections of a text, those that are not base64 left out.
pub fn sections(text: &[u8]) -> Vec<Section> {
    let text = String::from_utf8_lossy(text);
    let mut sections = Vec::new();
    let mut rest: &str = &text;
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start + 11..];
        let Some(end) = rest.find("-----") else { break };
        let label = rest[..end].to_owned();
        rest = &rest[end + 5..];
        let Some(end) = rest.find("-----END ") else { break };
        let lines = rest[..end].lines();
        let has_headers = lines.clone().any(|line| line.contains(':'));
        let body: String = lines
            .filter(|line| !line.contains(':'))
            .flat_map(str::split_ascii_whitespace)
            .collect();
        if let Some(content) = crate::base64::decode(&body) {
            sections.push(Section { label, has_headers, content });
        }
        rest = &rest[end..];
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_other_text() {
        let text = b"x\n-----BEGIN A-----\nAQID\n-----END A-----\n-----BEGIN B-----\nK: v\n\nBA==\n-----END B-----\n-----BEGIN C-----\n!\n-----END C-----";
        let found = sections(text);
        let shown: Vec<_> = found
            .iter()
            .map(|it| (it.label.as_str(), it.has_headers, it.content.as_slice()))
            .collect();
        assert_eq!(shown, [("A", false, &[1, 2, 3][..]), ("B", true, &[4])]);
        assert_eq!(sections(b"-----BEGIN "), []);
    }
}
