//! Gateway API's filters, as far as they are not also Traefik's.

/// Changes of header fields; names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modify {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// Another path in place of the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Full(String),
    /// In place of a prefix, which is `matched` and has no slash at its end.
    Prefix {
        matched: String,
        with: String,
    },
}

/// An answer that sends the client elsewhere. What is absent stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub path: Option<Change>,
    pub status: u16,
    /// Where the request came in.
    pub listener_port: u16,
}

/// What the endpoint gets in place of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub hostname: Option<String>,
    pub path: Option<Change>,
}

impl Change {
    /// The path that comes of `path`.
    pub fn apply(&self, path: &str) -> String {
        match self {
            Change::Full(path) => path.clone(),
            Change::Prefix { matched, with } => {
                let rest = path.strip_prefix(matched.as_str()).unwrap_or(path);
                let whole = [with.trim_end_matches('/'), rest].concat();
                if whole.is_empty() { "/".into() } else { whole }
            }
        }
    }
}
