//! Asks a URL for static pods, one Pod or a PodList, again and again.
//!
//! What was read last stays in force while the URL does not answer. Facts: upstream's `pkg/kubelet/config/http.go`.

use std::sync::Arc;
use std::time::Duration;

use api::{Lens, LensMut, Object};
use http::Request;
use http::client::{Client, Endpoint, Options, Url};
use http::tls::{Trust, client_config, system_roots};
use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::config::StaticUrlConfig;
use crate::shared::Shared;
use crate::static_pods::{self, MANIFESTS_MAX};
use crate::static_url::{Last, StaticUrl};

/// How long an answer may take, as upstream.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX_BYTES: usize = 2 << 20;
/// What an answer may take of memory while it is read.
const TREE_MAX_BYTES: usize = 16 << 20;
const REDIRECTS_MAX: usize = 10;
/// Failures in a row that are told.
const TOLD_MAX: u32 = 3;

/// Asks for the kubelet's life.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(of) = &shared.static_url else { return };
    let config = &shared.config.static_url;
    // Each answer on a connection of its own: there is one in twenty seconds.
    let client = Client::new(Options { idle_per_endpoint_max: 0, ..Options::default() });
    let mut failures = 0_u32;
    loop {
        let looked = match rt::timeout(ANSWER_MAX, fetch(&client, config)).await {
            Ok(Ok(text)) => look(&shared, of, text).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(format!("no answer within {} s", ANSWER_MAX.as_secs()))),
        };
        match looked {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures <= TOLD_MAX {
                    log::warn!("Failed to read pods from URL {}: {error}", config.url);
                }
                if failures == TOLD_MAX {
                    log::warn!(
                        "Failed to read pods from URL {} {TOLD_MAX} times: no more is said of it until it answers",
                        config.url
                    );
                }
            }
        }
        rt::sleep(config.every).await;
    }
}

/// What the URL says now.
async fn fetch(client: &Client, config: &StaticUrlConfig) -> Result<Vec<u8>> {
    let first = Url::parse(&config.url)?;
    let mut at = first.clone();
    for _ in 0..REDIRECTS_MAX {
        let endpoint = match at.is_tls() {
            true => {
                let built =
                    rt::unblock(|| client_config(Trust::Roots(system_roots()), None)).await?;
                Endpoint::url(&at, &built)
            }
            false => Endpoint::tcp(&*at.host, at.port),
        };
        let mut request = Request::get(&at.target).header("accept", "*/*");
        // They may be secrets, which are for nobody that it leads to.
        if (&at.scheme, &at.host, at.port) == (&first.scheme, &first.host, first.port) {
            for (name, value) in &config.headers {
                request = request.header(name, value);
            }
        }
        let mut response = Box::pin(client.send(&endpoint, request)).await?;
        match (response.status, response.headers.get("location")) {
            (200, _) => return response.body.read_all(ANSWER_MAX_BYTES).await,
            (301 | 302 | 303 | 307 | 308, Some(location)) => at = at.join(location)?,
            (status, _) => return Err(Error::new(format!("status {status}"))),
        }
    }
    Err(Error::new(format!("stopped after {REDIRECTS_MAX} redirects")))
}

/// Takes an answer that is not the last one.
async fn look(shared: &Arc<Shared>, of: &StaticUrl, text: Vec<u8>) -> Result<()> {
    if text.is_empty() {
        return Err(Error::new("zero-length data received"));
    }
    if of.says(&text) {
        return Ok(());
    }
    let (node, now) = (shared.config.node_name.clone(), rt::now().wall);
    let last = rt::unblock(move || -> Result<Last> {
        let pods = pods(&text, &node, now)?;
        Ok(Last { text, pods })
    });
    of.set(last.await?);
    Ok(())
}

/// The pods of an answer. One that is wrong refuses all, as upstream.
fn pods(text: &[u8], node: &str, now: Wall) -> Result<Vec<Object>> {
    let mut left = TREE_MAX_BYTES;
    let mut within = |bytes| {
        left = left.saturating_sub(bytes);
        left > 0
    };
    let read = api::codec::yaml_tree(text, &mut within).context(|| "parse it")?;
    let tree = read.tree;
    match (tree.str("apiVersion"), tree.str("kind")) {
        ("v1", "Pod") => Ok(vec![static_pods::parse(text, node, now, "http")?]),
        ("v1", "PodList") => {
            let items = tree.list("items");
            if items.len() > MANIFESTS_MAX {
                return Err(Error::new(format!(
                    "it has {} pods, more than {MANIFESTS_MAX}",
                    items.len()
                )));
            }
            let pods = items.iter().map(|item| {
                let mut item = item.clone();
                item.set("apiVersion", "v1");
                item.set("kind", "Pod");
                static_pods::parse(item.to_string().as_bytes(), node, now, "http")
            });
            pods.collect()
        }
        (version, kind) => Err(Error::new(format!(
            "couldn't parse as single or multiple pods: it is a {kind:?} of {version:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;
    use podplan::CONFIG_SOURCE;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let found =
            pods(text.as_bytes(), "n", Wall::from_secs(0)).map_err(|error| error.to_string())?;
        let source =
            |pod: &Object| pod.tree().entry("metadata.annotations", CONFIG_SOURCE) == Some("http");
        assert!(found.iter().all(source));
        Ok(found.iter().map(|pod| pod.name().to_owned()).collect())
    }

    #[test]
    fn an_answer_is_a_pod_or_a_list_of_them() {
        let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
        let mut one = pod("one");
        one["apiVersion"] = "v1".into();
        one["kind"] = "Pod".into();
        assert_eq!(names(&one.to_string()).unwrap(), ["one-n"]);
        assert_eq!(
            names("apiVersion: v1\nkind: Pod\nmetadata: {name: yes-one}\nspec: {containers: [{name: a, image: i}]}\n").unwrap(),
            ["yes-one-n"]
        );
        let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [pod("a"), pod("b")]});
        assert_eq!(names(&list.to_string()).unwrap(), ["a-n", "b-n"]);
        assert!(names(r#"{"apiVersion":"v1","kind":"PodList","items":[]}"#).unwrap().is_empty());
        let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [pod("a"), {"metadata": {"name": "b"}}]});
        assert!(names(&list.to_string()).is_err(), "one is wrong");
        for text in
            ["some words", "{", r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"}}"#]
        {
            assert!(names(text).is_err(), "{text}");
        }
    }
}
