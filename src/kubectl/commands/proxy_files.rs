//! The files of `kubectl proxy --www`.

use std::io::Read;
use std::path::{Path, PathBuf};

use http::{Body, Headers, Response};
use stdx::Arrange;

use super::proxy::{link, plain};

const INDEX: &str = "index.html";
const BUFFER_BYTES: usize = 64 << 10;

/// What files are, by their names' ends; others by how they begin.
const TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
];

/// What is at `name`, a clean path that begins with no slash, below a directory. Blocking.
pub(super) fn answer(directory: &str, name: &str) -> Response {
    let mut path = Path::new(directory).join(name.trim_end_matches('/'));
    let own = path.file_name().map(|own| own.to_string_lossy().into_owned()).unwrap_or_default();
    let is_directory = match rt::fs::metadata(&path) {
        Ok(meta) => meta.is_dir(),
        Err(_) => return plain(404, "404 page not found"),
    };
    let is_named_so = name.is_empty() || name.ends_with('/');
    let redirect = |place: String| Response::new(301).header("location", place);
    match (is_directory, is_named_so) {
        (false, _) if name.rsplit('/').next() == Some(INDEX) => return redirect("./".to_owned()),
        (true, false) => return redirect(format!("{}/", link(&own))),
        (false, true) => return redirect(format!("../{}", link(&own))),
        (false, false) => {}
        (true, true) => {
            path.push(INDEX);
            if !rt::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
                path.pop();
                return listing(&path);
            }
        }
    }
    match rt::fs::open(&path) {
        Ok(file) => contents(path, file),
        Err(_) => plain(403, "403 Forbidden"),
    }
}

fn listing(path: &Path) -> Response {
    let mut names = rt::fs::dir_names(path);
    names.arrange();
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            .to_owned();
    for (name, is_directory) in names {
        let name = name.to_string_lossy();
        let slash = if is_directory { "/" } else { "" };
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        page.push_str(&format!("<a href=\"{}{slash}\">{shown}{slash}</a>\n", link(&name)));
    }
    page.push_str("</pre>\n");
    Response::new(200).header("content-type", "text/html; charset=utf-8").body(page)
}

/// A file as it is read, piece by piece.
fn contents(path: PathBuf, mut file: impl Read + Send + 'static) -> Response {
    let mut piece = next(&mut file);
    let extension = path.extension().map(|it| it.to_string_lossy().to_lowercase());
    let known = TYPES.iter().find(|(end, _)| extension.as_deref() == Some(*end));
    let kind = known.map_or_else(|| guessed(&piece), |(_, kind)| *kind);
    let (mut sender, body) = Body::channel(BUFFER_BYTES);
    rt::spawn(async move {
        while !piece.is_empty() {
            if sender.send(piece).await.is_err() {
                return;
            }
            (piece, file) = rt::unblock(move || (next(&mut file), file)).await;
        }
        sender.finish(Headers::new());
    })
    .detach();
    Response::new(200).header("content-type", kind).body_stream(body)
}

/// The next piece of a file, empty at its end.
fn next(file: &mut impl Read) -> Vec<u8> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let n = file.read(&mut buffer).unwrap_or(0);
    buffer.truncate(n);
    buffer
}

fn guessed(beginning: &[u8]) -> &'static str {
    let is_text = !beginning.iter().any(|b| matches!(b, 0..=8 | 11 | 14..=26 | 28..=31));
    if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}
