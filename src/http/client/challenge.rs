//! What a server asks for that wants to know who asks (RFC 9110, section 11.6.1).

/// One way to say who one is that a server takes: `Bearer realm="...",service="..."`.
#[derive(Debug)]
pub struct Challenge {
    /// Lower case.
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let mut value = String::new();
                    let mut letters = quoted.char_indices();
                    let end = loop {
                        match letters.next()? {
                            (at, '"') => break at + 1,
                            (_, '\\') => value.push(letters.next()?.1),
                            (_, letter) => value.push(letter),
                        }
                    };
                    (value, &quoted[end..])
                }
                None => {
                    let end = after.find([',', ' ']).unwrap_or(after.len());
                    (after[..end].to_owned(), &after[end..])
                }
            };
            parameters.push((name.trim().to_ascii_lowercase(), value));
            rest = after;
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    /// A parameter by its lower-case name; "" if there is none.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.parameter("realm"), "https://auth.docker.io/token");
        assert_eq!(challenge.parameter("scope"), "repository:a/b:pull");
        assert_eq!(
            Challenge::parse("Basic realm=\"a \\\"b\\\"\", charset=UTF-8")
                .unwrap()
                .parameter("realm"),
            "a \"b\""
        );
        assert_eq!(Challenge::parse("Basic").unwrap().scheme, "basic");
        assert!(Challenge::parse("Bearer realm=\"open").is_none());
    }
}
