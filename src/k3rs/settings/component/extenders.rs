//! Asks the scheduler's extenders over HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Lens, Status, Value};
use client::{Access, Hook, Outside, Source};
use sched::Extender;
use stdx::{Context, Result};

/// What an answer may be.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// All extenders' verbs, in the order of their numbers.
pub(crate) struct Extenders(Vec<Option<(Hook, Duration)>>);

impl Extenders {
    /// `None` if there are none. Blocking: reads certificates.
    ///
    /// # Errors
    /// If a URL or what TLS needs cannot be used.
    pub(crate) fn open(extenders: &[Extender]) -> Result<Option<Arc<Extenders>>> {
        if extenders.is_empty() {
            return Ok(None);
        }
        let mut hooks = Vec::new();
        for extender in extenders {
            for url in extender.urls() {
                hooks.push(match url.is_empty() {
                    true => None,
                    false => {
                        let hook = Hook::new(access(extender, &url), "kube-scheduler");
                        let hook = hook.context(|| format!("use the extender {url:?}"))?;
                        Some((hook, extender.timeout))
                    }
                });
            }
        }
        Ok(Some(Arc::new(Extenders(hooks))))
    }
}

fn access(extender: &Extender, url: &str) -> Access {
    let tls = &extender.tls;
    let source = |data: &str, file: &str| match (tls.str(data), tls.str(file)) {
        ("", "") => Source::None,
        ("", path) => Source::File(PathBuf::from(path)),
        (data, _) => Source::Inline(wire::base64::decode(data).unwrap_or_default()),
    };
    let ca = source("caData", "caFile");
    // As upstream: who names no CA believes everybody.
    let insecure = tls.flag("insecure") || (extender.https && ca == Source::None);
    Access {
        server: url.to_owned(),
        ca,
        insecure,
        server_name: tls.str("serverName").to_owned(),
        certificate: source("certData", "certFile"),
        key: source("keyData", "keyFile"),
        ..Access::default()
    }
}

impl Outside for Extenders {
    fn ask(&self, whom: usize, body: Value) -> rt::BoxFuture<'_, Result<Value, Status>> {
        Box::pin(async move {
            let Some(Some((hook, timeout))) = self.0.get(whom) else {
                return Err(Status::internal("there is no such extender"));
            };
            let question = body.to_string();
            let answer = match rt::timeout(
                *timeout,
                hook.ask(question.as_bytes(), ANSWER_MAX_BYTES),
            )
            .await
            {
                Ok(answer) => {
                    answer.map_err(|error| Status::internal(format!("{hook:?}: {error}")))?
                }
                Err(rt::Elapsed) => {
                    return Err(Status::internal(format!("{hook:?}: context deadline exceeded")));
                }
            };
            wire::json::parse(&answer)
                .map(|parsed| parsed.tree)
                .map_err(|error| Status::internal(format!("{hook:?}: {error}")))
        })
    }
}
