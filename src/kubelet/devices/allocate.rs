//! Which devices a pod gets: asked for by its containers' limits, once, before the node takes it.

use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::OrdSet;
use wire::message::Message;
use wire::plugins::{
    AllocateResponse, DeviceIds, Holding, Holdings, OfContainers, Preference,
    PreferredAllocationRequest,
};

use super::plugin::Plugin;
use super::{Devices, FILE, ITEMS_MAX, State};

/// Some devices of a resource for a container.
struct Wish {
    container: String,
    resource: String,
    n: usize,
    /// Whether containers that start after this one has ended may have the same.
    passes_on: bool,
}

/// What was found for a wish.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    /// Of the pod's own that another container has had: they are had again.
    again: Vec<String>,
    free: Vec<String>,
}

/// Finds devices for everything that the pod of this uid asks plugins for; does nothing for one that has got them. `live`
/// says which pods may still have some.
///
/// # Errors
/// Why it cannot have them, in upstream's words.
pub(crate) async fn allocate(
    devices: &Devices,
    uid: &str,
    pod: &Value,
    live: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let wishes = wishes(&devices.state(), pod);
    if wishes.is_empty() {
        return Ok(());
    }
    let _choosing = devices.choosing.lock().await;
    if devices.state().held.contains_key(uid) {
        return Ok(());
    }
    // What nobody has any more is free.
    devices.state().held.retain(|uid, _| live(uid));
    let mut all: Vec<Holding> = Vec::new();
    let mut passed: Vec<(String, String)> = Vec::new();
    for wish in wishes {
        let holding = devices.grant(&wish, &passed, &all).await?;
        for id in &holding.ids {
            let pair = (wish.resource.clone(), id.clone());
            match wish.passes_on {
                true if passed.contains(&pair) => {}
                true => passed.push(pair),
                false => passed.retain(|known| *known != pair),
            }
        }
        all.push(holding);
    }
    let holdings = Holdings { all };
    let (bytes, directory) = (holdings.encode(), devices.agent_directory.join("pods").join(uid));
    let written = rt::unblock(move || {
        rt::fs::create_dir_all(&directory, 0o750)?;
        rt::fs::write_atomic(directory.join(FILE), &bytes, 0o600)
    });
    written.await.map_err(|error| error.to_string())?;
    devices.state().held.insert(uid.to_owned(), holdings.all);
    Ok(())
}

/// What the pod's containers ask for of what plugins offer, in the order in which they start.
fn wishes(state: &State, pod: &Value) -> Vec<Wish> {
    let mut all = Vec::new();
    for (list, is_init) in [("spec.initContainers", true), ("spec.containers", false)] {
        for container in pod.list(list) {
            let limits = container.at("resources.limits").as_object();
            for (resource, amount) in limits.into_iter().flatten() {
                let amount = Quantity::from_tree(amount).map_or(0, Quantity::units);
                let n = usize::try_from(amount).unwrap_or(0);
                if n > 0 && state.offers.contains_key(resource) {
                    all.push(Wish {
                        container: container.str("name").to_owned(),
                        resource: resource.clone(),
                        n,
                        passes_on: is_init && container.str("restartPolicy") != "Always",
                    });
                }
            }
        }
    }
    all
}

/// The devices for a wish: first those that the pod's init containers leave, then free ones, in the order of their ids.
fn choose(
    state: &State,
    wish: &Wish,
    passed: &[(String, String)],
    own: &[Holding],
) -> Result<Choice, String> {
    let Wish { resource, n, .. } = wish;
    let offer = state.offers.get(resource);
    let offer = offer.filter(|offer| offer.plugin.is_some());
    let offer = offer.ok_or_else(|| format!("cannot allocate unregistered device {resource}"))?;
    let healthy: Vec<&String> =
        offer.devices.iter().filter(|(_, it)| it.is_healthy).map(|(id, _)| id).collect();
    if healthy.is_empty() {
        return Err(format!(
            "no healthy devices present; cannot allocate unhealthy devices {resource}"
        ));
    }
    let left: Vec<&String> =
        passed.iter().filter(|(of, _)| of == resource).map(|(_, id)| id).collect();
    let again: Vec<String> = left.into_iter().take(*n).cloned().collect();
    let taken: OrdSet<&String> = state
        .held
        .values()
        .flatten()
        .chain(own)
        .filter(|holding| holding.resource == *resource)
        .flat_map(|holding| &holding.ids)
        .collect();
    let free: Vec<String> = healthy.into_iter().filter(|id| !taken.contains(id)).cloned().collect();
    if free.len() < n - again.len() {
        return Err(format!(
            "requested number of devices unavailable for {resource}. Requested: {}, Available: {}",
            n - again.len(),
            free.len()
        ));
    }
    Ok(Choice { again, free })
}

/// As many of the free devices as are wanted, those that the plugin prefers first.
fn settled(choice: Choice, n: usize, preferred: &[String]) -> Vec<String> {
    let Choice { mut again, mut free } = choice;
    let mut chosen = OrdSet::new();
    for id in preferred {
        if free.contains(id) {
            chosen.insert(id.clone());
        }
    }
    let (mut first, rest): (Vec<String>, Vec<String>) =
        free.drain(..).partition(|id| chosen.contains(id));
    first.extend(rest);
    first.truncate(n - again.len());
    again.extend(first);
    again
}

impl Devices {
    async fn grant(
        &self,
        wish: &Wish,
        passed: &[(String, String)],
        own: &[Holding],
    ) -> Result<Holding, String> {
        let (choice, plugin, prefers) = {
            let state = self.state();
            let choice = choose(&state, wish, passed, own)?;
            let offer = state.offers.get(&wish.resource);
            let plugin = offer.and_then(|offer| offer.plugin.clone());
            let prefers = offer.is_some_and(|it| it.options.get_preferred_allocation_available);
            (choice, plugin.ok_or("the plugin has gone")?, prefers)
        };
        let must_choose =
            choice.again.len() < wish.n && choice.again.len() + choice.free.len() > wish.n;
        let preferred = match prefers && must_choose {
            true => preferred(&plugin, &choice, wish.n).await?,
            false => Vec::new(),
        };
        let ids = settled(choice, wish.n, &preferred);
        let request = OfContainers { containers: vec![DeviceIds { ids: ids.clone() }] };
        let answer = plugin.allocate(&request.encode()).await?;
        let answer = AllocateResponse::decode(&answer, ITEMS_MAX).map_err(|it| it.to_string())?;
        let Some(gets) = answer.containers.into_iter().next() else {
            return Err(format!(
                "no containers return in allocation response for {}",
                wish.resource
            ));
        };
        let (container, resource) = (wish.container.clone(), wish.resource.clone());
        Ok(Holding { container, resource, ids, gets })
    }
}

async fn preferred(plugin: &Plugin, choice: &Choice, n: usize) -> Result<Vec<String>, String> {
    let preference = Preference {
        available: choice.again.iter().chain(&choice.free).cloned().collect(),
        must_include: choice.again.clone(),
        allocation_size: i32::try_from(n).unwrap_or(i32::MAX),
    };
    let request = PreferredAllocationRequest { container_requests: vec![preference] };
    let time = std::time::Duration::from_secs(10);
    let answer = plugin.call("GetPreferredAllocation", &request.encode(), time).await?;
    let answer = OfContainers::decode(&answer, ITEMS_MAX).map_err(|error| error.to_string())?;
    Ok(answer.containers.into_iter().next().unwrap_or_default().ids)
}

#[cfg(test)]
mod tests {
    use super::super::{Offer, Offered};
    use super::*;
    use api::json;

    fn state(devices: &[(&str, bool)]) -> State {
        let one = |(id, is_healthy): &(&str, bool)| {
            ((*id).to_owned(), Offered { is_healthy: *is_healthy, topology: None })
        };
        let plugin = Some(Plugin::nobody());
        let offer =
            Offer { plugin, devices: devices.iter().map(one).collect(), ..Offer::default() };
        let mut state = State::default();
        state.offers.insert("e.com/d".into(), offer);
        state.offers.insert("e.com/gone".into(), Offer::default());
        state
    }

    fn wish(resource: &str, n: usize) -> Wish {
        Wish { container: "c".into(), resource: resource.into(), n, passes_on: false }
    }

    fn holding(id: &str) -> Holding {
        Holding { resource: "e.com/d".into(), ids: vec![id.into()], ..Holding::default() }
    }

    #[test]
    fn healthy_devices_that_nobody_has_are_chosen() {
        let mut state = state(&[("a", true), ("b", false), ("c", true), ("d", true)]);
        state.held.insert("u".into(), vec![holding("a")]);
        let choice = choose(&state, &wish("e.com/d", 1), &[], &[holding("c")]).unwrap();
        assert_eq!(choice, Choice { again: Vec::new(), free: vec!["d".into()] });
        let why = |resource: &str, n| choose(&state, &wish(resource, n), &[], &[]).unwrap_err();
        assert_eq!(
            why("e.com/d", 3),
            "requested number of devices unavailable for e.com/d. Requested: 3, Available: 2"
        );
        assert_eq!(why("e.com/gone", 1), "cannot allocate unregistered device e.com/gone");
    }

    #[test]
    fn what_an_init_container_had_is_had_again() {
        let state = state(&[("a", true), ("b", true)]);
        let passed = [("e.com/d".to_owned(), "b".to_owned())];
        let choice = choose(&state, &wish("e.com/d", 2), &passed, &[holding("b")]).unwrap();
        assert_eq!(settled(choice, 2, &[]), ["b", "a"]);
    }

    #[test]
    fn a_plugins_preference_goes_first_if_it_is_free() {
        let free = ["a", "b", "c"].map(str::to_owned).to_vec();
        let choice = Choice { again: Vec::new(), free };
        assert_eq!(settled(choice, 2, &["c".into(), "x".into()]), ["c", "a"]);
    }

    #[test]
    fn limits_of_what_plugins_offer_are_wishes() {
        let limits =
            |n: i64| json!({"limits": {"cpu": "1", "e.com/d": n.to_string(), "x.io/y": "1"}});
        let pod = json!({"spec": {
            "initContainers": [{"name": "i", "resources": limits(1)}],
            "containers": [{"name": "c", "resources": limits(2)}, {"name": "n", "resources": limits(0)}]}});
        let all = wishes(&state(&[]), &pod);
        let told: Vec<_> = all.iter().map(|it| (&*it.container, it.n, it.passes_on)).collect();
        assert_eq!(told, [("i", 1, true), ("c", 2, false)]);
    }
}
