//! What tests share: a temporary directory that goes when the test does, and an API of closures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Status;
use client::{Answer, Api, Client, Request, WatchEvent, WatchStream};
use rt::BoxFuture;

pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = rt::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn directory(what: &str) -> Directory {
    let name = format!("kubelet-{what}-{}-{:x}", std::process::id(), rt::random_u64());
    let path = std::env::temp_dir().join(name);
    rt::fs::create_dir_all(&path, 0o755).unwrap();
    Directory(path)
}

type Call = dyn Fn(Request) -> Result<Answer, Status> + Send + Sync;

/// An API whose answers are a closure's, and whose watches all carry what the test sends.
struct FakeApi {
    call: Box<Call>,
    events: rt::channel::Receiver<WatchEvent>,
}

struct FakeWatch(rt::channel::Receiver<WatchEvent>);

impl Api for FakeApi {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        let answer = (self.call)(request);
        Box::pin(async move { answer })
    }

    fn watch(&self, _: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        let watch: Box<dyn WatchStream> = Box::new(FakeWatch(self.events.clone()));
        Box::pin(async move { Ok(watch) })
    }
}

impl WatchStream for FakeWatch {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(async { self.0.recv().await.ok().map(Ok) })
    }
}

/// A client of such an API, and where to send watch events.
pub(crate) fn client(
    call: impl Fn(Request) -> Result<Answer, Status> + Send + Sync + 'static,
) -> (Client, rt::channel::Sender<WatchEvent>) {
    let (sender, events) = rt::channel::bounded(16);
    (Client::new(Arc::new(FakeApi { call: Box::new(call), events })), sender)
}
