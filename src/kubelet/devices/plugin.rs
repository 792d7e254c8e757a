//! Device plugins: they register, and are followed and called at their sockets.

use std::sync::Arc;
use std::time::Duration;

use http::Headers;
use http::client::{Client, Endpoint, Options, Protocol};
use http::grpc::{self, Code, Status};
use stdx::OrdMap;
use wire::message::Message;
use wire::plugins::{DEVICE_PLUGIN, DeviceIds, Holding, ListAndWatchResponse, RegisterRequest};

use super::{Devices, ITEMS_MAX, MESSAGE_MAX_BYTES, Offered, RESOURCES_MAX};

/// The only version there is, as upstream's.
const VERSION: &str = "v1beta1";
/// How long what a plugin offered is remembered once it is gone, as upstream.
const GONE_MAX: Duration = Duration::from_secs(300);
/// How long a plugin may take to give devices, and to make them ready, as upstream for the latter.
const ALLOCATE_MAX: Duration = Duration::from_secs(60);
const START_MAX: Duration = Duration::from_secs(30);

/// Where a plugin listens.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    client: Client,
    endpoint: Endpoint,
}

impl Plugin {
    #[cfg(test)]
    pub(super) fn nobody() -> Plugin {
        Plugin { client: Client::new(Options::default()), endpoint: Endpoint::unix("/nowhere") }
    }

    pub(super) async fn call(
        &self,
        method: &str,
        message: &[u8],
        time: Duration,
    ) -> Result<Vec<u8>, String> {
        let path = format!("{DEVICE_PLUGIN}{method}");
        let headers = Headers::new();
        let answer =
            grpc::unary(&self.client, &self.endpoint, &path, &headers, message, MESSAGE_MAX_BYTES);
        match rt::timeout(time, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(format!("rpc error: {}", shortened(&status.message))),
            Err(rt::Elapsed) => Err(format!("{method} takes longer than {} s", time.as_secs())),
        }
    }

    pub(super) async fn allocate(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.call("Allocate", message, ALLOCATE_MAX).await
    }
}

/// What a plugin says goes into events and statuses.
fn shortened(text: &str) -> String {
    const WORDS_MAX_CHARS: usize = 1024;
    text.chars().take(WORDS_MAX_CHARS).collect()
}

/// Takes a plugin that says it is there, and follows it from now on.
///
/// # Errors
/// Why it is not taken, in upstream's words.
pub(crate) async fn register(devices: &Arc<Devices>, asked: RegisterRequest) -> Result<(), String> {
    let RegisterRequest { version, endpoint, resource_name: name, options } = asked;
    if version != VERSION {
        return Err(format!(
            "requested API version {version:?} is not supported by kubelet. Supported version is [{VERSION:?}]"
        ));
    }
    if !api::quota::is_extended(&name) {
        return Err(format!("the ResourceName {name:?} is invalid"));
    }
    if endpoint.is_empty() || endpoint.contains('/') || endpoint.starts_with('.') {
        return Err(format!("the endpoint {endpoint:?} is no socket beside the kubelet's"));
    }
    let socket = devices.root.join("device-plugins").join(&endpoint);
    let plugin = Plugin {
        client: Client::new(Options::default()),
        endpoint: Endpoint::unix(socket).protocol(Protocol::Http2),
    };
    {
        let mut state = devices.state();
        if !state.offers.contains_key(&name) && state.offers.len() >= RESOURCES_MAX {
            return Err(format!("there are {RESOURCES_MAX} resources of plugins already"));
        }
        let offer = state.offers.entry(name.clone()).or_default();
        offer.turn += 1;
        (offer.plugin, offer.options) = (Some(plugin.clone()), options);
        let follower = follow(Arc::downgrade(devices), name.clone(), plugin, offer.turn);
        offer.follower = Some(rt::spawn(follower));
    }
    log::info!("device plugin {endpoint}: offers {name}");
    let keeper = Arc::clone(devices);
    rt::unblock(move || keeper.keep_names()).await.map_err(|error| error.to_string())
}

/// Takes what the plugin says of its devices until it is gone, and forgets them a while later.
async fn follow(devices: std::sync::Weak<Devices>, name: String, plugin: Plugin, turn: u64) {
    let (path, headers) = (format!("{DEVICE_PLUGIN}ListAndWatch"), Headers::new());
    let (mut outgoing, mut incoming) =
        grpc::streaming(&plugin.client, &plugin.endpoint, &path, &headers, MESSAGE_MAX_BYTES);
    let mut ended = outgoing.send(&[]).await;
    drop(outgoing);
    let change = |change: &dyn Fn(&mut OrdMap<String, Offered>)| {
        let Some(devices) = devices.upgrade() else { return };
        if let Some(offer) = devices.state().offers.get_mut(&name).filter(|it| it.turn == turn) {
            change(&mut offer.devices);
        }
        devices.changed.notify(usize::MAX);
    };
    while ended.is_ok() {
        match incoming.next().await {
            Ok(Some(message)) => match ListAndWatchResponse::decode(&message, ITEMS_MAX) {
                Ok(told) => change(&|known| *known = offered(told.clone())),
                Err(error) => ended = Err(Status::new(Code::INTERNAL, error.to_string())),
            },
            Ok(None) => break,
            Err(status) => ended = Err(status),
        }
    }
    let why = ended.err().map_or_else(|| "it has ended".to_owned(), |it| shortened(&it.message));
    log::warn!("device plugin of {name}: {why}");
    change(&|known| known.values_mut().for_each(|device| device.is_healthy = false));
    rt::sleep(GONE_MAX).await;
    change(&|known| known.clear());
}

fn offered(told: ListAndWatchResponse) -> OrdMap<String, Offered> {
    let one = |device: wire::plugins::Device| {
        let is_healthy = device.health == "Healthy";
        (device.id, Offered { is_healthy, topology: device.topology })
    };
    told.devices.into_iter().map(one).collect()
}

impl Devices {
    /// Tells a plugin that a container with its devices starts, if it wants to know.
    pub(super) async fn tell_start(&self, holding: &Holding) -> Result<(), String> {
        let plugin = match self.state().offers.get(&holding.resource) {
            Some(offer) if offer.options.pre_start_required => offer.plugin.clone(),
            _ => None,
        };
        let Some(plugin) = plugin else { return Ok(()) };
        let ids = DeviceIds { ids: holding.ids.clone() };
        let told = plugin.call("PreStartContainer", &ids.encode(), START_MAX).await;
        told.map(drop)
            .map_err(|why| format!("device plugin PreStartContainer rpc failed with err: {why}"))
    }
}
