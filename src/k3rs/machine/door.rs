//! The local door: a unix socket for the commands of this machine's root (`k3rs ctr`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{Lens, Value, json};
use http::{Request, Response};
use rt::net::UnixListener;
use runtime::{Images, images::PullAuth};
use stdx::{Context, Error, Result};

use crate::settings::config::Config;

/// Questions are small.
const QUESTION_MAX_BYTES: usize = 64 << 10;

/// Where the door is: only root may open it.
pub(crate) fn socket(config: &Config) -> PathBuf {
    config.run_dir.join("k3rs.sock")
}

/// Opens the door for the process's life.
pub(crate) async fn open(config: &Config, images: Images) -> Result<http::server::Server> {
    let path = socket(config);
    rt::fs::create_dir_all(&config.run_dir, 0o755)?;
    let listener = listen(&path)?;
    let server = http::server::Server::new(Arc::new(Door(images)), http::server::Limits::default());
    let serving = server.clone();
    rt::spawn_named("local door", async move {
        if let Err(error) = serving.serve(http::server::Listener::Unix(listener), None).await {
            log::error!("serve {}: {error}", path.display());
        }
    })
    .detach();
    Ok(server)
}

/// A socket that only its owner may connect to, in the place of one that an earlier process left.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    rt::fs::remove_file(path)?;
    let listener = UnixListener::bind(path).context(|| format!("listen on {}", path.display()))?;
    rt::fs::set_mode(path, 0o600)?;
    Ok(listener)
}

struct Door(Images);

impl http::server::Service for Door {
    fn call(&self, mut request: Request) -> rt::BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.answer(&mut request).await {
                Ok(tree) => Response::json(200, tree.to_string()),
                Err(error) => {
                    Response::json(500, json!({"message": error.to_string()}).to_string())
                }
            }
        })
    }
}

impl Door {
    async fn answer(&self, request: &mut Request) -> Result<Value> {
        let bytes = request.body.read_all(QUESTION_MAX_BYTES).await?;
        let question: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).context(|| "read the question")?
        };
        let reference = question.str("reference");
        match (request.method.as_str(), request.path()) {
            ("GET", "/images") => {
                Ok(json!({"images": self.0.list().iter().map(show).collect::<Vec<_>>()}))
            }
            ("POST", "/images/import") => {
                let path = PathBuf::from(question.str("path"));
                let name = path.display().to_string();
                let open = move || {
                    rt::fs::File::open(&path)
                        .map(|file| Box::new(file) as Box<dyn std::io::Read + Send>)
                };
                Ok(json!({"images": self.0.import_archive(&name, true, open).await?}))
            }
            ("POST", "/images/pull") => {
                let (username, password) =
                    (question.str("username").to_owned(), question.str("password").to_owned());
                let auth = (!username.is_empty()).then(|| PullAuth {
                    username,
                    password: password.into(),
                    ..PullAuth::default()
                });
                Ok(show(&self.0.pull(reference, auth).await?))
            }
            ("POST", "/images/remove") => match self.0.get(reference) {
                None => Err(Error::new(format!("image {reference:?}: not found"))),
                Some(_) => self.0.remove(reference).await.map(|()| Value::Null),
            },
            ("POST", "/images/tag") => {
                self.0.tag(reference, question.str("tag")).await.map(|()| Value::Null)
            }
            (method, path) => {
                Err(Error::new(format!("{method} {path} is nothing that this door answers")))
            }
        }
    }
}

fn show(image: &runtime::images::Image) -> Value {
    json!({
        "id": image.id, "tags": image.tags, "digests": image.digests, "size": image.size_bytes,
        "platform": format!("{}/{}", image.config.os, image.config.architecture),
    })
}
