//! The service: which method a request calls, and the bounds of what comes in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::grpc::{self, Code, Incoming};
use http::server::{Limits, Server, Service};
use http::{Method, Request, Response};
use rt::BoxFuture;
use wire::cri::{IMAGE_SERVICE, RUNTIME_SERVICE};
use wire::message::Message;

use crate::refusal::{Answer, Refusal};
use crate::{Shared, events, files};

/// A request may be so large: a container's plan must fit into a frame to its shim.
const REQUEST_MAX_BYTES: usize = 4 << 20;
/// Repeated items in a request, at whatever depth.
const ITEMS_MAX: usize = 64 << 10;
/// Requests under way at once, those that wait for something among them.
const REQUESTS_MAX: usize = 256;
/// A request comes within this time.
const READ_MAX: Duration = Duration::from_secs(30);

/// A server for it, without a listener yet.
pub(crate) fn server(shared: Arc<Shared>) -> Server {
    let limits = Limits {
        connections_max: 64,
        shares_places: false,
        streams_max: 64,
        body_max_bytes: (REQUEST_MAX_BYTES + (64 << 10)) as u64,
        // Clients keep connections that they seldom use.
        idle_max: Duration::from_secs(600),
        ..Limits::default()
    };
    Server::new(Arc::new(Front(shared)), limits)
}

struct Front(Arc<Shared>);

impl Service for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.answer(request))
    }
}

/// One of the requests under way.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.n_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Front {
    async fn answer(&self, mut request: Request) -> Response {
        let content = request.headers.get("content-type").unwrap_or_default();
        if request.method != Method::Post || !content.starts_with("application/grpc") {
            return Response::text(
                415,
                "this is the Container Runtime Interface, which speaks gRPC\n",
            );
        }
        // Whoever may open the socket may do everything.
        request.peer.vouch("administrator");
        if !self.0.swept.swap(true, Ordering::Relaxed) {
            files::sweep(&self.0).await;
        }
        let incoming = Incoming::of_request(&mut request, REQUEST_MAX_BYTES);
        if request.path() == "/runtime.v1.RuntimeService/GetContainerEvents" {
            let (outgoing, response) = grpc::respond_streaming();
            rt::spawn(events::run(Arc::clone(&self.0), incoming, outgoing)).detach();
            return response;
        }
        let turn = Turn(&self.0);
        let answer = match self.0.n_requests.fetch_add(1, Ordering::Relaxed) {
            n if n < REQUESTS_MAX => self.unary(request.path(), incoming).await,
            _ => Err(Refusal::new(Code::RESOURCE_EXHAUSTED, "too many requests are under way")),
        };
        drop(turn);
        grpc::respond(answer.map_err(|refusal| refusal.0))
    }

    async fn unary(&self, path: &str, incoming: Incoming) -> Answer<Vec<u8>> {
        let message = rt::timeout(READ_MAX, incoming.single()).await;
        let late =
            |rt::Elapsed| Refusal::new(Code::DEADLINE_EXCEEDED, "the request takes too long");
        let message = message.map_err(late)??;
        let answer: BoxFuture<'_, Answer<Vec<u8>>> =
            match (path.strip_prefix(RUNTIME_SERVICE), path.strip_prefix(IMAGE_SERVICE)) {
                (Some(method), _) => Box::pin(self.runtime(method, &message)),
                (_, Some(method)) => Box::pin(self.images(method, &message)),
                _ => return Err(unimplemented(path)),
            };
        answer.await
    }

    async fn runtime(&self, method: &str, message: &[u8]) -> Answer<Vec<u8>> {
        let shared = &self.0;
        Ok(match method {
            "Version" => shared.version().encode(),
            "Status" => shared.status(&read(message)?).encode(),
            "RuntimeConfig" => shared.runtime_config().encode(),
            // The node's pod range is not the client's to say; containerd without a template ignores it, too.
            "UpdateRuntimeConfig" => Vec::new(),
            "RunPodSandbox" => shared.run_sandbox(read(message)?).await?.encode(),
            "StopPodSandbox" => shared.stop_sandbox(&read(message)?).await?,
            "RemovePodSandbox" => shared.remove_sandbox(&read(message)?).await?,
            "PodSandboxStatus" => shared.sandbox_status(&read(message)?).await?.encode(),
            "ListPodSandbox" => shared.list_sandboxes(&read(message)?).encode(),
            "CreateContainer" => shared.create_container(read(message)?).await?.encode(),
            "StartContainer" => shared.start_container(&read(message)?).await?,
            "StopContainer" => shared.stop_container(&read(message)?).await?,
            "RemoveContainer" => shared.remove_container(&read(message)?).await?,
            "ListContainers" => shared.list_containers(&read(message)?).encode(),
            "ContainerStatus" => shared.container_status(&read(message)?).await?.encode(),
            "UpdateContainerResources" => shared.update_container(&read(message)?).await?,
            "ReopenContainerLog" => shared.reopen_log(&read(message)?).await?,
            "ExecSync" => shared.exec_sync(read(message)?).await?.encode(),
            "Exec" => shared.exec(read(message)?).await?.encode(),
            "Attach" => shared.attach(&read(message)?).await?.encode(),
            "PortForward" => shared.port_forward(&read(message)?).await?.encode(),
            "ContainerStats" => shared.container_stats(&read(message)?).await?.encode(),
            "ListContainerStats" => shared.list_container_stats(&read(message)?).await.encode(),
            "PodSandboxStats" => shared.sandbox_stats(&read(message)?).await?.encode(),
            "ListPodSandboxStats" => shared.list_sandbox_stats(&read(message)?).await.encode(),
            "ListMetricDescriptors" => shared.metric_descriptors().encode(),
            "ListPodSandboxMetrics" => shared.list_metrics().await.encode(),
            "CheckpointContainer" => {
                let message = "CheckpointContainer: containers cannot be checkpointed on this node";
                return Err(Refusal::new(Code::UNIMPLEMENTED, message));
            }
            method => return Err(unimplemented(method)),
        })
    }

    async fn images(&self, method: &str, message: &[u8]) -> Answer<Vec<u8>> {
        let shared = &self.0;
        Ok(match method {
            "ListImages" => shared.list_images(&read(message)?).encode(),
            "ImageStatus" => shared.image_status(&read(message)?).encode(),
            "PullImage" => shared.pull_image(read(message)?).await?.encode(),
            "RemoveImage" => shared.remove_image(&read(message)?).await?,
            "ImageFsInfo" => shared.image_fs_info().await?.encode(),
            method => return Err(unimplemented(method)),
        })
    }
}

fn unimplemented(method: &str) -> Refusal {
    Refusal::new(Code::UNIMPLEMENTED, format!("unknown method {method}"))
}

pub(crate) fn read<M: Message + Default>(message: &[u8]) -> Answer<M> {
    M::decode(message, ITEMS_MAX).map_err(|error| {
        Refusal::new(Code::INTERNAL, format!("error unmarshalling request: {error}"))
    })
}
