//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1): read strictly, checked in upstream's words, and made profiles of.

use std::borrow::Cow;
use std::time::Duration;

use api::{Lens, Value};

use crate::extender::Extender;
use crate::profile::{DEFAULT, DEFAULT_NAME, N_SCORES, Plugin, Profile, Profiles, Strategy};

/// What a configuration says.
#[derive(Debug)]
pub struct Read {
    pub profiles: Profiles,
    /// Fields that do nothing here.
    pub idle: Vec<String>,
}

/// Bounds of what one may hold.
const PROFILES_MAX: usize = 64;
const ENTRIES_MAX: usize = 256;

/// A plug-in: its name, where it takes part, its bit where it refuses or scores nodes here, and its default weight.
type Known = (&'static str, &'static str, Option<Plugin>);

/// Upstream's, in its order. Where one takes part in what has no counterpart here, nothing follows from it.
const PLUGINS: [Known; 18] = [
    ("SchedulingGates", "preEnqueue", None),
    ("PrioritySort", "queueSort", None),
    ("NodeUnschedulable", "filter", Some(Plugin::NodeUnschedulable)),
    ("NodeName", "filter", None),
    ("TaintToleration", "filter preScore score", Some(Plugin::TaintToleration)),
    ("NodeAffinity", "preFilter filter preScore score", Some(Plugin::NodeAffinity)),
    ("NodePorts", "preFilter filter", Some(Plugin::NodePorts)),
    ("NodeResourcesFit", "preFilter filter preScore score", Some(Plugin::NodeResourcesFit)),
    ("VolumeRestrictions", "preFilter filter", Some(Plugin::VolumeRestrictions)),
    ("NodeVolumeLimits", "preFilter filter", Some(Plugin::NodeVolumeLimits)),
    (
        "VolumeBinding",
        "preFilter filter reserve preBind preScore score",
        Some(Plugin::VolumeBinding),
    ),
    ("VolumeZone", "preFilter filter", None),
    ("PodTopologySpread", "preFilter filter preScore score", Some(Plugin::PodTopologySpread)),
    ("InterPodAffinity", "preFilter filter preScore score", Some(Plugin::InterPodAffinity)),
    ("DefaultPreemption", "postFilter", None),
    (
        "NodeResourcesBalancedAllocation",
        "preScore score",
        Some(Plugin::NodeResourcesBalancedAllocation),
    ),
    ("ImageLocality", "score", Some(Plugin::ImageLocality)),
    ("DefaultBinder", "bind", None),
];

const POINTS: &str = "preEnqueue queueSort preFilter filter postFilter preScore score reserve permit preBind bind postBind";

/// Removed from this version of the configuration.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

const VERSION: &str = "kubescheduler.config.k8s.io/v1";

/// Reads a configuration.
///
/// # Errors
/// In upstream's words, what is wrong with it, or what this version cannot do.
pub fn read(tree: &Value) -> Result<Read, String> {
    if (tree.str("apiVersion"), tree.str("kind")) != (VERSION, "KubeSchedulerConfiguration") {
        return Err(format!(
            "no kind {:?} is registered for version {:?} in scheme",
            tree.str("kind"),
            tree.str("apiVersion")
        ));
    }
    const IDLE: &str = "parallelism leaderElection clientConnection enableProfiling enableContentionProfiling podInitialBackoffSeconds podMaxBackoffSeconds delayCacheUntilActive";
    only(tree, "", &format!("apiVersion kind percentageOfNodesToScore profiles extenders {IDLE}"))?;
    let mut wrong = Wrong::default();
    let given = |name: &&str| !tree.at(name).is_null();
    let mut idle: Vec<String> = IDLE.split(' ').filter(given).map(str::to_owned).collect();
    // Nothing waits before it is tried again here: what changes wakes the queue.
    let first = number(tree, "", "podInitialBackoffSeconds")?.unwrap_or(1);
    let most = number(tree, "", "podMaxBackoffSeconds")?.unwrap_or(10);
    if number(tree, "", "parallelism")?.is_some_and(|n| n <= 0) {
        wrong.invalid(
            "parallelism",
            tree.at("parallelism"),
            "should be an integer value greater than zero",
        );
    }
    let percent = nodes_percent(tree, "", &mut wrong)?;
    if first <= 0 {
        wrong.invalid("podInitialBackoffSeconds", &first.into(), "must be greater than 0");
    }
    if most < first {
        wrong.invalid(
            "podMaxBackoffSeconds",
            &most.into(),
            "must be greater than or equal to PodInitialBackoffSeconds",
        );
    }
    let listed = items(tree, "", "profiles")?;
    if listed.len() > PROFILES_MAX {
        return Err(format!("more than {PROFILES_MAX} profiles"));
    }
    let none = Value::Null;
    let listed = if listed.is_empty() { std::slice::from_ref(&none) } else { listed };
    let mut profiles: Vec<Profile> = Vec::new();
    for (idx, entry) in listed.iter().enumerate() {
        let path = format!("profiles[{idx}]");
        only(entry, &path, "schedulerName percentageOfNodesToScore plugins pluginConfig")?;
        let mut profile = Profile { nodes_percent: percent, ..DEFAULT.clone() };
        profile.name = match entry.at("schedulerName") {
            Value::Null if listed.len() == 1 => Cow::Borrowed(DEFAULT_NAME),
            name => Cow::Owned(name.as_str().unwrap_or("").to_owned()),
        };
        if profile.name.is_empty() {
            wrong.0.push(format!("{path}.schedulerName: Required value"));
        } else if let Some(same) = profiles.iter().position(|other| other.name == profile.name) {
            wrong.0.push(format!(
                "{path}.schedulerName: Duplicate value: \"profiles[{same}].schedulerName\""
            ));
        }
        if !entry.at("percentageOfNodesToScore").is_null() {
            profile.nodes_percent = nodes_percent(entry, &path, &mut wrong)?;
        }
        plugins(entry.at("plugins"), &path, &mut profile, &mut wrong)?;
        arguments(entry, &path, &mut profile, (&mut wrong, &mut idle))?;
        profiles.push(profile);
    }
    let extenders = extenders(tree, &mut profiles, &mut wrong)?;
    match wrong.0.len() {
        0 => Ok(Read { profiles: Profiles(profiles, extenders), idle }),
        1 => Err(wrong.0.swap_remove(0)),
        _ => Err(format!("[{}]", wrong.0.join(", "))),
    }
}

/// The servers to be asked; what they manage alone is ignored by all profiles.
fn extenders(
    tree: &Value,
    profiles: &mut [Profile],
    wrong: &mut Wrong,
) -> Result<Vec<Extender>, String> {
    /// Each is waited for.
    const EXTENDERS_MAX: usize = 8;
    let listed = items(tree, "", "extenders")?;
    if listed.len() > EXTENDERS_MAX {
        return Err(format!("extenders: more than {EXTENDERS_MAX}"));
    }
    let (mut read, mut n_binders, mut seen) = (Vec::new(), 0, Vec::new());
    for (idx, one) in listed.iter().enumerate() {
        let path = format!("extenders[{idx}]");
        only(
            one,
            &path,
            "urlPrefix filterVerb preemptVerb prioritizeVerb weight bindVerb enableHTTPS tlsConfig httpTimeout nodeCacheCapable managedResources ignorable",
        )?;
        only(
            one.at("tlsConfig"),
            &format!("{path}.tlsConfig"),
            "insecure serverName certFile keyFile caFile certData keyData caData",
        )?;
        if !one.str("preemptVerb").is_empty() {
            return Err(format!("{path}.preemptVerb is not supported by this version of k3rs yet"));
        }
        let weight = number(one, &path, "weight")?.unwrap_or(0);
        let verbs =
            ["filterVerb", "prioritizeVerb", "bindVerb"].map(|verb| one.str(verb).to_owned());
        let scores = !verbs[1].is_empty();
        wrong.unless(
            !scores || weight > 0,
            &format!("{path}.weight"),
            &weight.into(),
            "must have a positive weight applied to it",
        );
        n_binders += usize::from(!verbs[2].is_empty());
        let mut managed = Vec::new();
        for (idx, resource) in items(one, &path, "managedResources")?.iter().enumerate() {
            let path = format!("{path}.managedResources[{idx}]");
            only(resource, &path, "name ignoredByScheduler")?;
            let (path, name) = (format!("{path}.name"), resource.str("name").to_owned());
            let value = Value::from(name.clone());
            if let Err(why) = api::names::qualified(&name) {
                wrong.invalid(&path, &value, &why);
            } else {
                let domain = name.split_once('/').map_or("", |(domain, _)| domain);
                let native = domain.is_empty() || domain.ends_with("kubernetes.io");
                wrong.unless(!native, &path, &value, "is an invalid extended resource name");
            }
            wrong.unless(
                !seen.contains(&name),
                &path,
                &value,
                "duplicate extender managed resource name",
            );
            if resource.flag("ignoredByScheduler") {
                profiles.iter_mut().for_each(|profile| profile.ignored.push(name.clone()));
            }
            seen.push(name.clone());
            managed.push(name);
        }
        let timeout = match one.at("httpTimeout") {
            Value::Null => 0,
            text => text
                .as_str()
                .and_then(stdx::duration::parse)
                .ok_or_else(|| format!("{path}.httpTimeout: time: invalid duration {text}"))?,
        };
        let timeout = u64::try_from(timeout).ok().filter(|nanos| *nanos > 0);
        read.push(Extender {
            url: one.str("urlPrefix").to_owned(),
            verbs,
            timeout: timeout.map_or(Duration::from_secs(5), Duration::from_nanos),
            https: one.flag("enableHTTPS"),
            tls: one.at("tlsConfig").clone(),
            weight,
            by_name: one.flag("nodeCacheCapable"),
            ignorable: one.flag("ignorable"),
            managed,
        });
    }
    if n_binders > 1 {
        wrong.invalid(
            "extenders",
            &format!("found {n_binders} extenders implementing bind").into(),
            "only one extender can implement bind",
        );
    }
    Ok(read)
}

/// What does not hold, gathered.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn invalid(&mut self, path: &str, value: &Value, why: &str) {
        self.0.push(format!("{path}: Invalid value: {value}: {why}"));
    }

    fn unless(&mut self, holds: bool, path: &str, value: &Value, why: &str) {
        if !holds {
            self.invalid(path, value, why);
        }
    }
}

/// Refuses other fields than these.
fn only(tree: &Value, path: &str, fields: &str) -> Result<(), String> {
    if !tree.is_object() && !tree.is_null() {
        return Err(format!("json: cannot unmarshal {tree} into Go struct field {path}"));
    }
    for name in tree.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !fields.split(' ').any(|field| field == name) {
            let dot = if path.is_empty() { "" } else { "." };
            return Err(format!("strict decoding error: unknown field \"{path}{dot}{name}\""));
        }
    }
    Ok(())
}

fn number(tree: &Value, path: &str, field: &str) -> Result<Option<i64>, String> {
    match tree.at(field) {
        Value::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or_else(|| {
            format!(
                "json: cannot unmarshal {value} into Go struct field {path}.{field} of type int"
            )
        }),
    }
}

fn items<'t>(tree: &'t Value, path: &str, field: &str) -> Result<&'t [Value], String> {
    match tree.at(field) {
        Value::Null => Ok(&[]),
        Value::Array(items) if items.len() <= ENTRIES_MAX => Ok(items),
        _ => Err(format!("{path}.{field}: want a list of at most {ENTRIES_MAX} entries")),
    }
}

/// Upstream's 0 is a share that falls with the size of the cluster; all nodes are better, and fast enough here.
fn nodes_percent(tree: &Value, path: &str, wrong: &mut Wrong) -> Result<u8, String> {
    let n = number(tree, path, "percentageOfNodesToScore")?.unwrap_or(0);
    let dot = if path.is_empty() { "" } else { "." };
    let path = format!("{path}{dot}percentageOfNodesToScore");
    wrong.unless((0..=100).contains(&n), &path, &n.into(), "not in valid range [0-100]");
    Ok(match n {
        1..100 => u8::try_from(n).unwrap_or(100),
        _ => 100,
    })
}

/// A `PluginSet`: the names that are on with their weights, and those that are off.
#[derive(Default)]
struct Set<'t> {
    on: Vec<(&'t str, i64)>,
    off: Vec<&'t str>,
}

impl<'t> Set<'t> {
    fn read(tree: &'t Value, path: &str) -> Result<Set<'t>, String> {
        only(tree, path, "enabled disabled")?;
        let mut set = Set::default();
        for (idx, one) in items(tree, path, "enabled")?.iter().enumerate() {
            let path = format!("{path}.enabled[{idx}]");
            only(one, &path, "name weight")?;
            set.on.push((one.str("name"), number(one, &path, "weight")?.unwrap_or(0)));
        }
        for (idx, one) in items(tree, path, "disabled")?.iter().enumerate() {
            only(one, &format!("{path}.disabled[{idx}]"), "name weight")?;
            set.off.push(one.str("name"));
        }
        Ok(set)
    }

    fn weight(&self, name: &str) -> Option<i64> {
        self.on.iter().find(|(on, _)| *on == name).map(|(_, weight)| *weight)
    }

    fn is_off(&self, name: &str) -> bool {
        self.off.iter().any(|off| *off == "*" || *off == name)
    }
}

/// What `plugins` makes of a profile.
fn plugins(
    tree: &Value,
    path: &str,
    profile: &mut Profile,
    wrong: &mut Wrong,
) -> Result<(), String> {
    let path = format!("{path}.plugins");
    only(tree, &path, &format!("multiPoint {POINTS}"))?;
    let all = Set::read(tree.at("multiPoint"), &format!("{path}.multiPoint"))?;
    (profile.filters, profile.weights) = (0, [0; N_SCORES]);
    (profile.preempts, profile.gates) = (false, false);
    known(&all, "multiPoint", &path, wrong);
    let mut sorts = 0;
    let mut binds = false;
    for point in POINTS.split(' ') {
        let set = Set::read(tree.at(point), &format!("{path}.{point}"))?;
        known(&set, point, &path, wrong);
        for (idx, (name, points, plugin)) in PLUGINS.iter().enumerate() {
            if !points.split(' ').any(|own| own == point) {
                continue;
            }
            let by_all = match (all.weight(name), all.is_off(name)) {
                (Some(0), _) | (None, false) => Some(default_weight(idx)),
                (weight, _) => weight,
            };
            let weight = match set.weight(name) {
                Some(weight) => Some(weight),
                None => by_all.filter(|_| !set.is_off(name)),
            };
            let Some(weight) = weight else { continue };
            match (point, plugin) {
                ("filter", Some(plugin)) => profile.filters |= 1 << *plugin as u16,
                ("score", Some(plugin)) => {
                    if let Some(slot) = profile.weights.get_mut(*plugin as usize) {
                        *slot = weight.max(1);
                    }
                }
                ("postFilter", _) => profile.preempts = true,
                ("preEnqueue", _) => profile.gates = true,
                ("queueSort", _) => sorts += 1,
                ("bind", _) => binds = true,
                _ => {}
            }
            // As upstream, whose scores are 64 bits wide; 100 is the most that one gives.
            if !(0..=i64::from(i32::MAX)).contains(&weight) {
                return Err(format!("score plugin {name:?} is not configured with weight"));
            }
        }
    }
    let name = &profile.name;
    if sorts != 1 {
        wrong.0.push(format!(
            "only one queue sort plugin required for profile with scheduler name {name:?}, but got {sorts}"
        ));
    }
    if !binds {
        wrong.0.push(format!(
            "at least one bind plugin is needed for profile with scheduler name {name:?}"
        ));
    }
    Ok(())
}

fn default_weight(idx: usize) -> i64 {
    let plugin = PLUGINS[idx].2;
    plugin.and_then(|plugin| DEFAULT.weights.get(plugin as usize)).copied().unwrap_or(1)
}

/// Complains of plug-ins that are not there, or not at this point, or twice.
fn known(set: &Set<'_>, point: &str, path: &str, wrong: &mut Wrong) {
    let interface = match point {
        "multiPoint" => "MultiPoint".to_owned(),
        point => {
            let mut letters = point.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            format!("{}{}Plugin", first.unwrap_or_default(), letters.as_str())
        }
    };
    for (idx, (name, _)) in set.on.iter().enumerate() {
        if REMOVED.contains(name) {
            let path = format!("{path}.{point}.enabled[{idx}]");
            wrong.invalid(&path, &(*name).into(), &format!("was invalid in version {VERSION:?} (KubeSchedulerConfiguration is version {VERSION:?})"));
            continue;
        }
        match PLUGINS.iter().find(|(known, ..)| known == name) {
            None => wrong.0.push(format!("{interface} {name:?} does not exist")),
            Some((_, points, _))
                if point != "multiPoint" && !points.split(' ').any(|own| own == point) =>
            {
                wrong.0.push(format!("plugin {name:?} does not extend {interface} plugin"));
            }
            Some(_) => {}
        }
        if set.on[..idx].iter().any(|(other, _)| other == name) {
            wrong.0.push(format!("plugin {name:?} already registered as {interface:?}"));
        }
    }
}

/// What `pluginConfig` makes of a profile.
fn arguments(
    entry: &Value,
    path: &str,
    profile: &mut Profile,
    (wrong, idle): (&mut Wrong, &mut Vec<String>),
) -> Result<(), String> {
    let listed = items(entry, path, "pluginConfig")?;
    for (idx, one) in listed.iter().enumerate() {
        let path = format!("{path}.pluginConfig[{idx}]");
        only(one, &path, "name args")?;
        let name = one.str("name");
        if listed[..idx].iter().any(|other| other.str("name") == name) {
            wrong.0.push(format!("{path}: Duplicate value: {name:?}"));
            continue;
        }
        let args = one.at("args");
        let kind = args.str("kind");
        if !kind.is_empty() && kind != format!("{name}Args") {
            return Err(format!(
                "decoding .{path}: args for plugin {name} were not of type {VERSION}, Kind={name}Args, got {}, Kind={kind}",
                args.str("apiVersion")
            ));
        }
        let path = format!("{path}.args");
        let fields = |fields: &str| only(args, &path, &format!("apiVersion kind {fields}"));
        match name {
            "DefaultPreemption" => {
                fields("minCandidateNodesPercentage minCandidateNodesAbsolute")?;
                preemption(args, &path, wrong)?;
            }
            "InterPodAffinity" => {
                fields("hardPodAffinityWeight ignorePreferredTermsOfExistingPods")?;
                let weight = number(args, &path, "hardPodAffinityWeight")?;
                profile.hard_affinity_weight = weight.unwrap_or(0);
                let path = format!("{path}.hardPodAffinityWeight");
                let holds = weight.is_none_or(|n| (0..=100).contains(&n));
                wrong.unless(holds, &path, &weight.into(), "not in valid range [0, 100]");
            }
            "NodeAffinity" => {
                fields("addedAffinity")?;
                affinity(args.at("addedAffinity"), &format!("{path}.addedAffinity"), wrong)?;
                profile.added_affinity = args.at("addedAffinity").clone();
            }
            "NodeResourcesBalancedAllocation" => {
                fields("resources")?;
                let resources = resources(args, &path)?;
                for (idx, (name, weight)) in resources.iter().enumerate() {
                    let path = format!("{path}.resources[{idx}]");
                    if resources[..idx].iter().any(|(other, _)| other == name) {
                        wrong.0.push(format!("{path}.name: Duplicate value: {name:?}"));
                    }
                    wrong.unless(
                        *weight == 1,
                        &format!("{path}.weight"),
                        &(*weight).into(),
                        "must be 1",
                    );
                }
                profile.balanced = resources.into_iter().map(|(name, _)| name).collect();
            }
            "NodeResourcesFit" => {
                fields("ignoredResources ignoredResourceGroups scoringStrategy")?;
                fit(args, &path, profile, wrong)?;
            }
            "PodTopologySpread" => {
                fields("defaultConstraints defaultingType")?;
                spread(args, &path, profile, wrong)?;
            }
            "VolumeBinding" => {
                fields("bindTimeoutSeconds shape")?;
                let secs = number(args, &path, "bindTimeoutSeconds")?.unwrap_or(600);
                let path = |field| format!("{path}.{field}");
                wrong.unless(
                    secs >= 0,
                    &path("bindTimeoutSeconds"),
                    &secs.into(),
                    "invalid BindTimeoutSeconds, should not be a negative value",
                );
                wrong.unless(args.at("shape").is_null(), &path("shape"), args.at("shape"), "unexpected field `shape`, remove it or turn on the feature gate VolumeCapacityPriority");
                idle.push(path("bindTimeoutSeconds"));
            }
            // Arguments of what is nowhere are nobody's to read, as upstream.
            _ => idle.push(format!("{path} ({name})")),
        }
    }
    Ok(())
}

fn preemption(args: &Value, path: &str, wrong: &mut Wrong) -> Result<(), String> {
    // All candidates are looked at, so these are always reached.
    let percent = number(args, path, "minCandidateNodesPercentage")?.unwrap_or(10);
    let absolute = number(args, path, "minCandidateNodesAbsolute")?.unwrap_or(100);
    let fields = ["minCandidateNodesPercentage", "minCandidateNodesAbsolute"];
    let [percent_path, absolute_path] = fields.map(|field| format!("{path}.{field}"));
    wrong.unless(
        (0..=100).contains(&percent),
        &percent_path,
        &percent.into(),
        "not in valid range [0, 100]",
    );
    wrong.unless(absolute >= 0, &absolute_path, &absolute.into(), "not in valid range [0, inf)");
    if percent == 0 && absolute == 0 {
        let why = |other: &str| format!("cannot be zero at the same time as {other}");
        wrong.invalid(&percent_path, &0.into(), &why(fields[1]));
        wrong.invalid(&absolute_path, &0.into(), &why(fields[0]));
    }
    Ok(())
}

/// A `resources` list with its weights, 1 where there is none.
fn resources(tree: &Value, path: &str) -> Result<Vec<(String, i64)>, String> {
    let listed = items(tree, path, "resources")?.iter().enumerate();
    let read = listed.map(|(idx, one)| {
        let path = format!("{path}.resources[{idx}]");
        only(one, &path, "name weight")?;
        let weight = number(one, &path, "weight")?.filter(|weight| *weight != 0).unwrap_or(1);
        Ok((one.str("name").to_owned(), weight))
    });
    read.collect()
}

fn fit(args: &Value, path: &str, profile: &mut Profile, wrong: &mut Wrong) -> Result<(), String> {
    for (field, slot) in [
        ("ignoredResources", &mut profile.ignored),
        ("ignoredResourceGroups", &mut profile.ignored_groups),
    ] {
        for (idx, value) in items(args, path, field)?.iter().enumerate() {
            let name = value.as_str().unwrap_or("");
            let path = format!("{path}.{field}[{idx}]");
            if field == "ignoredResourceGroups" {
                wrong.unless(
                    !name.contains('/'),
                    &path,
                    value,
                    "resource group name can't contain '/'",
                );
            }
            if let Err(why) = api::names::qualified(name) {
                wrong.invalid(&path, value, &why);
            }
            slot.push(name.to_owned());
        }
    }
    let strategy = args.at("scoringStrategy");
    if strategy.is_null() {
        return Ok(());
    }
    let path = format!("{path}.scoringStrategy");
    only(strategy, &path, "type resources requestedToCapacityRatio")?;
    let shape = strategy.at("requestedToCapacityRatio");
    only(shape, &format!("{path}.requestedToCapacityRatio"), "shape")?;
    profile.strategy = match strategy.str("type") {
        "LeastAllocated" => Strategy::Least,
        "MostAllocated" => Strategy::Most,
        "RequestedToCapacityRatio" => Strategy::Ratio(curve(shape, &path, wrong)?),
        other => {
            wrong.0.push(format!(
                "{path}.type: Unsupported value: {other:?}: supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\""
            ));
            Strategy::Least
        }
    };
    let resources = resources(strategy, &path)?;
    for (idx, (name, weight)) in resources.iter().enumerate() {
        let holds = (1..=100).contains(weight);
        let path = format!("{path}.resources[{idx}].weight");
        wrong.unless(
            holds,
            &path,
            &(*weight).into(),
            &format!("resource weight of {name} not in valid range (0, 100]"),
        );
    }
    profile.fit_resources = resources;
    Ok(())
}

/// The points of a shape; scores go up to 10 there and to 100 here.
fn curve(tree: &Value, path: &str, wrong: &mut Wrong) -> Result<Vec<(i64, i64)>, String> {
    let path = format!("{path}.shape");
    let listed = items(tree, &path, "shape")?;
    if listed.is_empty() {
        wrong.0.push(format!("{path}: Required value: at least one point must be specified"));
    }
    let mut points: Vec<(i64, i64)> = Vec::new();
    for (idx, one) in listed.iter().enumerate() {
        let path = format!("{path}[{idx}]");
        only(one, &path, "utilization score")?;
        let x = number(one, &path, "utilization")?.unwrap_or(0);
        let y = number(one, &path, "score")?.unwrap_or(0);
        let (x_path, y_path) = (format!("{path}.utilization"), format!("{path}.score"));
        let sorted = points.last().is_none_or(|(before, _)| *before < x);
        wrong.unless(
            sorted,
            &x_path,
            &x.into(),
            "utilization values must be sorted in increasing order",
        );
        wrong.unless((0..=100).contains(&x), &x_path, &x.into(), "not in valid range [0, 100]");
        wrong.unless((0..=10).contains(&y), &y_path, &y.into(), "not in valid range [0, 10]");
        points.push((x, y.saturating_mul(10)));
    }
    Ok(points)
}

fn spread(
    args: &Value,
    path: &str,
    profile: &mut Profile,
    wrong: &mut Wrong,
) -> Result<(), String> {
    let listed = items(args, path, "defaultConstraints")?;
    let kind = args.at("defaultingType");
    match kind.as_str().unwrap_or("System") {
        "List" => {}
        "System" => wrong.unless(
            listed.is_empty(),
            &format!("{path}.defaultingType"),
            &"System".into(),
            "when .defaultConstraints are not empty",
        ),
        _ => wrong.0.push(format!(
            "{path}.defaultingType: Unsupported value: {kind}: supported values: \"System\", \"List\""
        )),
    }
    for (idx, one) in listed.iter().enumerate() {
        let path = format!("{path}.defaultConstraints[{idx}]");
        only(
            one,
            &path,
            "maxSkew topologyKey whenUnsatisfiable labelSelector minDomains nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys",
        )?;
        let skew = number(one, &path, "maxSkew")?.unwrap_or(0);
        wrong.unless(
            skew > 0,
            &format!("{path}.maxSkew"),
            &skew.into(),
            "not in valid range (0, inf)",
        );
        let (key, when) = (one.str("topologyKey"), one.str("whenUnsatisfiable"));
        if key.is_empty() {
            wrong.0.push(format!("{path}.topologyKey: Required value: can not be empty"));
        } else if let Err(why) = api::names::qualified(key) {
            wrong.invalid(&format!("{path}.topologyKey"), &key.into(), &why);
        }
        match when {
            "DoNotSchedule" | "ScheduleAnyway" => {}
            "" => wrong.0.push(format!("{path}.whenUnsatisfiable: Required value: can not be empty")),
            _ => wrong.0.push(format!(
                "{path}.whenUnsatisfiable: Unsupported value: {when:?}: supported values: \"DoNotSchedule\", \"ScheduleAnyway\""
            )),
        }
        if !one.at("labelSelector").is_null() {
            wrong.0.push(format!("{path}.labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod"));
        }
        let is_same = |other: &&Value| {
            (other.str("topologyKey"), other.str("whenUnsatisfiable")) == (key, when)
        };
        if listed[..idx].iter().any(|other| is_same(&other)) {
            wrong.0.push(format!("{path}: Duplicate value: \"{{{key}, {when}}}\""));
        }
    }
    profile.default_constraints = listed.to_vec();
    Ok(())
}

/// Checks a node affinity's terms as far as a scheduler must understand them.
fn affinity(tree: &Value, path: &str, wrong: &mut Wrong) -> Result<(), String> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    only(tree, path, &format!("{REQUIRED} {PREFERRED}"))?;
    let required = tree.at(REQUIRED);
    let required_path = format!("{path}.{REQUIRED}");
    only(required, &required_path, "nodeSelectorTerms")?;
    for (idx, one) in items(required, &required_path, "nodeSelectorTerms")?.iter().enumerate() {
        term(one, &format!("{required_path}.nodeSelectorTerms[{idx}]"), wrong)?;
    }
    for (idx, one) in items(tree, path, PREFERRED)?.iter().enumerate() {
        let path = format!("{path}.{PREFERRED}[{idx}]");
        only(one, &path, "weight preference")?;
        number(one, &path, "weight")?;
        term(one.at("preference"), &format!("{path}.preference"), wrong)?;
    }
    Ok(())
}

fn term(tree: &Value, path: &str, wrong: &mut Wrong) -> Result<(), String> {
    only(tree, path, "matchExpressions matchFields")?;
    for field in ["matchExpressions", "matchFields"] {
        for (idx, one) in items(tree, path, field)?.iter().enumerate() {
            let path = format!("{path}.{field}[{idx}]");
            only(one, &path, "key operator values")?;
            let operator = one.str("operator");
            let n = items(one, &path, "values")?.len();
            let holds = match operator {
                "In" | "NotIn" => n > 0,
                "Exists" | "DoesNotExist" => n == 0,
                "Gt" | "Lt" => n == 1,
                _ => {
                    wrong.0.push(format!("{path}.operator: Invalid value: {operator:?}: not a valid selector operator"));
                    continue;
                }
            };
            let why = match operator {
                "In" | "NotIn" => "for 'in', 'notin' operators, values set can't be empty",
                "Gt" | "Lt" => "for 'Gt', 'Lt' operators, exactly one value is required",
                _ => "values set must be empty for exists and does not exist",
            };
            wrong.unless(holds, &format!("{path}.values"), one.at("values"), why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
