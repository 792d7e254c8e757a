//! The service: which method a request calls, and the bounds of what comes in.

use std::sync::Arc;
use std::time::Duration;

use http::grpc::{self, Code, Incoming, Status};
use http::server::{Limits, Server, Service};
use http::{Method, Request, Response};
use rt::BoxFuture;
use wire::etcd::{Message, method};

use crate::budget::Charge;
use crate::front::{Answer, Front, read};
use crate::refusal::REQUEST_TOO_LARGE;
use crate::{lease, watch};

/// A request may be so large, as in etcd.
const REQUEST_MAX_BYTES: usize = 3 << 19;
/// What a message may have beside the request it holds; more is not read.
const MESSAGE_MAX_BYTES: usize = REQUEST_MAX_BYTES + (512 << 10);
/// A message comes within this time, once it has begun: it keeps others out.
const READ_MAX: Duration = Duration::from_secs(30);
/// What streams of requests may have in a message: a watch's key and range.
const STREAMED_MAX_BYTES: usize = 64 << 10;
impl Front {
    /// A server for it, without a listener yet.
    pub fn server(&self) -> Server {
        let limits = Limits {
            connections_max: self.0.settings.connections_max,
            // Clients keep connections that they seldom use.
            idle_max: Duration::from_secs(600),
            // Who takes nothing of what was asked for holds it in memory.
            stall_max: Duration::from_secs(60),
            ..Limits::default()
        };
        Server::new(Arc::new(self.clone()), limits)
    }

    async fn answer(&self, mut request: Request) -> Response {
        let is_grpc = request
            .headers
            .get("content-type")
            .is_some_and(|it| it.starts_with("application/grpc"));
        if request.method != Method::Post || !is_grpc {
            return Response::text(415, "this is the etcd v3 API, which speaks gRPC\n");
        }
        if self.0.settings.certificates && request.peer.certificates.is_empty() {
            let words = "a client certificate is required";
            return grpc::respond(Err(Status::new(Code::UNAUTHENTICATED, words)));
        }
        // Whoever reaches it may do everything: none is less of a stranger than another.
        request.peer.vouch("etcd client");
        let is_watch = request.path() == method::WATCH;
        if !is_watch && request.path() != method::LEASE_KEEP_ALIVE {
            return self.answer_one(request).await;
        }
        let incoming = Incoming::of_request(&mut request, STREAMED_MAX_BYTES);
        let (outgoing, response) = grpc::respond_streaming();
        let stream: BoxFuture<'static, ()> = match is_watch {
            true => Box::pin(watch::run(self.clone(), incoming, outgoing)),
            false => Box::pin(lease::keep_alive(self.clone(), incoming, outgoing)),
        };
        rt::spawn(stream).detach();
        response
    }

    async fn answer_one(&self, mut request: Request) -> Response {
        let incoming = Incoming::of_request(&mut request, MESSAGE_MAX_BYTES);
        let answer = match self.message(incoming).await {
            Ok((message, _charge)) if message.len() <= REQUEST_MAX_BYTES => {
                self.call(request.path(), &message, &request.authority).await
            }
            Ok(_) => Err(REQUEST_TOO_LARGE.status()),
            Err(status) => Err(status),
        };
        match answer {
            Ok((message, None)) => grpc::respond(Ok(message)),
            Ok((message, held)) => {
                let mut response = grpc::respond(Ok(message));
                response.body = response.body.holding(held);
                response
            }
            Err(status) => grpc::respond(Err(status)),
        }
    }

    /// The message of a request, once there is room for it.
    async fn message(&self, mut incoming: Incoming) -> Result<(Vec<u8>, Charge), Status> {
        let charge = self.0.requests.take(incoming.length().await?).await?;
        let message = rt::timeout(READ_MAX, incoming.single()).await;
        let late = |rt::Elapsed| Status::new(Code::DEADLINE_EXCEEDED, "the request takes too long");
        Ok((message.map_err(late)??, charge))
    }

    /// Calls a method with one request and one answer.
    async fn call(&self, path: &str, message: &[u8], authority: &str) -> Result<Answer, Status> {
        let answer = match path {
            method::RANGE => return self.range(read(message)?).await,
            method::TXN => return self.txn(&read(message)?).await,
            method::PUT => self.put(read(message)?).await?.encode(),
            method::DELETE_RANGE => return self.delete_range(read(message)?).await,
            method::COMPACT => self.compact(&read(message)?).await?.encode(),
            method::LEASE_GRANT => self.lease_grant(&read(message)?).await?.encode(),
            method::LEASE_REVOKE => self.lease_revoke(&read(message)?).await?.encode(),
            method::LEASE_TIME_TO_LIVE => self.lease_time_to_live(&read(message)?).await?.encode(),
            method::LEASE_LEASES => self.lease_leases().await.encode(),
            path => self.upkeep(path, message, authority).await?,
        };
        Ok((answer, None))
    }
}

impl Service for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.answer(request))
    }

    fn body_max_bytes(&self, _: &Method, target: &str, _: &Limits) -> u64 {
        match target {
            // Their messages have a bound each.
            method::WATCH | method::LEASE_KEEP_ALIVE => u64::MAX,
            _ => (MESSAGE_MAX_BYTES + 4096) as u64,
        }
    }
}
