//! What the supervisor answers beside the Kubernetes API: who we are, for those who want to join.

use crate::paths::Paths;

/// The answer to a path that needs no credentials, or `None` if it is not one of ours.
/// (`/cacerts` and `/ping`, as k3s's agents ask before they trust anything.)
pub fn public(path: &str, ca_pem: &str) -> Option<(&'static str, Vec<u8>)> {
    match path {
        "/cacerts" | "/v1-k3s/cacerts" => {
            Some(("text/plain; charset=utf-8", ca_pem.as_bytes().to_vec()))
        }
        "/ping" => Some(("text/plain; charset=utf-8", b"pong".to_vec())),
        _ => None,
    }
}

/// A file under `server/static/` for `/static/...`, with no way out of that directory.
pub fn static_file(paths: &Paths, path: &str) -> Option<Vec<u8>> {
    let relative = path.strip_prefix("/static/")?;
    let ordinary =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if !relative.split('/').all(ordinary) {
        return None;
    }
    rt::fs::read_optional(paths.static_files().join(relative)).ok().flatten()
}
