//! The kubelet's sockets for programs of the node: device plugins register at one, monitors ask at the other who has which
//! device.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::grpc::{self, Code, Incoming, Status};
use http::server::{Limits, Listener, Server, Service};
use http::{Request, Response};
use rt::BoxFuture;
use rt::net::UnixListener;
use stdx::{Context, Result};
use wire::message::Message;
use wire::plugins::{POD_RESOURCES, REGISTRATION, RegisterRequest};

use crate::devices;
use crate::shared::Shared;

/// What a request may have, and how long it may take to come.
const REQUEST_MAX_BYTES: usize = 64 << 10;
const READ_MAX: Duration = Duration::from_secs(10);
/// In either directory.
const SOCKET: &str = "kubelet.sock";

/// Serves plugins and monitors for the kubelet's life.
pub(crate) async fn run(shared: Arc<Shared>) {
    let root = shared.config.root_directory.clone();
    // What earlier plugins left goes: by the new socket they see that they are to register again.
    let opened = rt::unblock(move || -> Result<(UnixListener, UnixListener)> {
        let plugins = root.join("device-plugins");
        rt::fs::create_dir_all(&plugins, 0o750)?;
        for path in rt::fs::list_dir(&plugins)? {
            use std::os::unix::fs::FileTypeExt;
            if path.symlink_metadata().is_ok_and(|it| it.file_type().is_socket()) {
                rt::fs::remove_file(&path)?;
            }
        }
        let resources = root.join("pod-resources");
        rt::fs::create_dir_all(&resources, 0o750)?;
        Ok((listen(&plugins)?, listen(&resources)?))
    });
    let (plugins, resources) = match opened.await {
        Ok(listeners) => listeners,
        Err(error) => return log::info!("There are no device plugins on this node: {error}"),
    };
    let serve = |listener, is_for_plugins| {
        let limits = Limits {
            connections_max: 32,
            shares_places: false,
            streams_max: 16,
            body_max_bytes: (REQUEST_MAX_BYTES + 1024) as u64,
            ..Limits::default()
        };
        let front = Front { shared: Arc::clone(&shared), is_for_plugins };
        let server = Server::new(Arc::new(front), limits);
        async move { server.serve(Listener::Unix(listener), None).await }
    };
    let served = rt::future::zip(serve(plugins, true), serve(resources, false)).await;
    if let (Err(error), _) | (_, Err(error)) = served {
        log::error!("serve device plugins: {error}");
    }
}

/// The kubelet's socket in a directory, for root alone. Blocking.
fn listen(directory: &Path) -> Result<UnixListener> {
    let path = directory.join(SOCKET);
    rt::fs::remove_file(&path)?;
    let listener = UnixListener::bind(&path).context(|| format!("listen on {}", path.display()))?;
    let opened = sys::file::open_dir(directory)
        .and_then(|directory| sys::tree::set_mode_at(directory.as_fd(), Path::new(SOCKET), 0o600));
    opened.context(|| format!("keep {} for root", path.display()))?;
    Ok(listener)
}

/// Who connects to one of the two sockets.
struct Front {
    shared: Arc<Shared>,
    is_for_plugins: bool,
}

impl Service for Front {
    fn call(&self, mut request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            // Whoever may open the socket is root.
            request.peer.vouch("administrator");
            let incoming = Incoming::of_request(&mut request, REQUEST_MAX_BYTES);
            grpc::respond(self.answer(request.path(), incoming).await)
        })
    }
}

impl Front {
    async fn answer(&self, path: &str, incoming: Incoming) -> Result<Vec<u8>, Status> {
        let message = rt::timeout(READ_MAX, incoming.single()).await;
        let late = |rt::Elapsed| Status::new(Code::DEADLINE_EXCEEDED, "the request takes too long");
        let message = message.map_err(late)??;
        let unknown = || Status::new(Code::UNIMPLEMENTED, format!("unknown method {path}"));
        match self.is_for_plugins {
            true if path.strip_prefix(REGISTRATION) == Some("Register") => {
                let asked = RegisterRequest::decode(&message, devices::ITEMS_MAX);
                let asked =
                    asked.map_err(|error| Status::new(Code::INTERNAL, error.to_string()))?;
                let registered = devices::register(&self.shared.devices, asked).await;
                registered.map_err(|why| Status::new(Code::UNKNOWN, why)).map(|()| Vec::new())
            }
            true => Err(unknown()),
            false => {
                let method = path.strip_prefix(POD_RESOURCES).ok_or_else(unknown)?;
                let live = self.shared.slots.all().into_iter().map(|slot| slot.snapshot());
                let live = live.filter(|it| !it.terminal).filter_map(|snapshot| snapshot.pod);
                let (devices, cpus) = (&self.shared.devices, self.shared.cpus.as_ref());
                devices::answer(devices, cpus, method, live.collect()).ok_or_else(unknown)
            }
        }
    }
}
