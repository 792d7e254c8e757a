//! Configurations, and what becomes of them.

use super::*;
use api::json;

fn with(profiles: Value) -> Result<Read, String> {
    read(
        &json!({"apiVersion": VERSION, "kind": "KubeSchedulerConfiguration", "profiles": profiles}),
    )
}

fn one(profile: Value) -> Profile {
    with(json!([profile])).unwrap().profiles.0.swap_remove(0)
}

#[test]
fn nothing_is_the_default_profile() {
    let read = with(json!([])).unwrap();
    let profile = &read.profiles.0[0];
    assert_eq!(profile.name, DEFAULT_NAME);
    assert_eq!(profile.weights, DEFAULT.weights);
    assert!(profile.preempts && profile.gates && !read.profiles.spreads());
    let all = PLUGINS
        .iter()
        .filter_map(|(_, points, plugin)| plugin.filter(|_| points.contains("filter")));
    assert!(all.into_iter().all(|plugin| profile.has(plugin)));
    assert!(read.idle.is_empty());
}

#[test]
fn plugins_are_chosen_by_point_and_for_all_points() {
    let profile = one(json!({"plugins": {
        "score": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "NodeResourcesFit", "weight": 9}]},
        "filter": {"disabled": [{"name": "TaintToleration"}]},
    }}));
    assert_eq!(profile.weights, [3, 2, 9, 2, 2, 1, 0]);
    assert!(!profile.has(Plugin::TaintToleration) && profile.has(Plugin::NodeAffinity));
    let profile = one(json!({"plugins": {
        "multiPoint": {"disabled": [{"name": "*"}], "enabled": [
            {"name": "PrioritySort"}, {"name": "DefaultBinder"}, {"name": "TaintToleration", "weight": 7}, {"name": "NodeAffinity"},
        ]},
        "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality"}]},
    }}));
    assert_eq!(profile.weights, [0, 0, 0, 0, 0, 0, 1]);
    assert!(profile.has(Plugin::TaintToleration) && !profile.has(Plugin::NodePorts));
    assert!(!profile.preempts && !profile.gates);
    let profile = one(
        json!({"plugins": {"multiPoint": {"enabled": [{"name": "NodeAffinity", "weight": 5}]}}}),
    );
    assert_eq!(profile.weights, [3, 5, 1, 2, 2, 1, 1]);
}

#[test]
fn arguments_are_taken() {
    let added = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}});
    let profile = one(
        json!({"schedulerName": "x", "percentageOfNodesToScore": 30, "pluginConfig": [
            {"name": "NodeAffinity", "args": {"apiVersion": VERSION, "kind": "NodeAffinityArgs", "addedAffinity": added}},
            {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 4}},
            {"name": "NodeResourcesBalancedAllocation", "args": {"resources": [{"name": "cpu", "weight": 1}]}},
            {"name": "NodeResourcesFit", "args": {"ignoredResourceGroups": ["example.com"], "scoringStrategy": {
                "type": "RequestedToCapacityRatio", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory"}],
                "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}]}}}},
            {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}},
            {"name": "DefaultPreemption", "args": {"minCandidateNodesPercentage": 20}},
        ]}),
    );
    assert_eq!((&*profile.name, profile.nodes_percent), ("x", 30));
    assert_eq!(profile.added_affinity, added);
    assert_eq!(profile.strategy, Strategy::Ratio(vec![(0, 0), (50, 100)]));
    assert_eq!(profile.fit_resources, [("cpu".to_owned(), 3), ("memory".to_owned(), 1)]);
    assert!(profile.ignores("example.com/gpu") && !profile.ignores("example.org/gpu"));
    assert!(!profile.ignores("cpu"));
    assert_eq!((profile.hard_affinity_weight, profile.balanced.len()), (4, 1));
    assert_eq!(profile.default_constraints.len(), 1);
}

#[test]
fn what_upstream_refuses_is_refused_in_its_words() {
    let plugin =
        |name: &str, args: Value| json!([{"pluginConfig": [{"name": name, "args": args}]}]);
    let points = |points: Value| json!([{"plugins": points}]);
    for (profiles, words) in [
        (
            json!([{}, {}]),
            "[profiles[0].schedulerName: Required value, profiles[1].schedulerName: Required value]",
        ),
        (
            json!([{"schedulerName": "a"}, {"schedulerName": "a"}]),
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
        ),
        (json!([{"name": "a"}]), "strict decoding error: unknown field \"profiles[0].name\""),
        (
            json!([{"percentageOfNodesToScore": 101}]),
            "profiles[0].percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            points(json!({"filter": {"enabled": [{"name": "Foo"}]}})),
            "FilterPlugin \"Foo\" does not exist",
        ),
        (
            points(json!({"filter": {"enabled": [{"name": "ImageLocality"}]}})),
            "plugin \"ImageLocality\" does not extend FilterPlugin plugin",
        ),
        (
            points(json!({"bind": {"disabled": [{"name": "*"}]}})),
            "at least one bind plugin is needed for profile with scheduler name \"default-scheduler\"",
        ),
        (
            points(json!({"filter": {"enabled": [{"name": "EBSLimits"}]}})),
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"kubescheduler.config.k8s.io/v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
        ),
        (
            plugin("InterPodAffinity", json!({"hardPodAffinityWeight": 101})),
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            plugin("NodeResourcesFit", json!({"scoringStrategy": {"type": "Best"}})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            plugin(
                "NodeResourcesFit",
                json!({"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 101}]}}),
            ),
            "profiles[0].pluginConfig[0].args.scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]",
        ),
        (
            plugin(
                "DefaultPreemption",
                json!({"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": -1}),
            ),
            "profiles[0].pluginConfig[0].args.minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)",
        ),
        (
            plugin(
                "PodTopologySpread",
                json!({"defaultConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]}),
            ),
            "profiles[0].pluginConfig[0].args.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty",
        ),
        (
            plugin("NodeAffinity", json!({"kind": "PodAffinityArgs"})),
            "decoding .profiles[0].pluginConfig[0]: args for plugin NodeAffinity were not of type kubescheduler.config.k8s.io/v1, Kind=NodeAffinityArgs, got , Kind=PodAffinityArgs",
        ),
    ] {
        assert_eq!(with(profiles).unwrap_err(), words);
    }
    let whole = |changes: Value| {
        let mut tree = json!({"apiVersion": VERSION, "kind": "KubeSchedulerConfiguration"});
        for (name, value) in changes.as_object().unwrap() {
            tree[name] = value.clone();
        }
        read(&tree).map(|read| read.idle.join(" "))
    };
    assert_eq!(
        whole(json!({"podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 2})).unwrap_err(),
        "podMaxBackoffSeconds: Invalid value: 2: must be greater than or equal to PodInitialBackoffSeconds"
    );
    for (extender, words) in [
        (
            json!({"prioritizeVerb": "p"}),
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            json!({"preemptVerb": "p"}),
            "extenders[0].preemptVerb is not supported by this version of k3rs yet",
        ),
        (json!({"verb": "p"}), "strict decoding error: unknown field \"extenders[0].verb\""),
        (
            json!({"managedResources": [{"name": "cpu"}]}),
            "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
        ),
        (json!({"httpTimeout": "5"}), "extenders[0].httpTimeout: time: invalid duration \"5\""),
    ] {
        assert_eq!(whole(json!({"extenders": [extender]})).unwrap_err(), words);
    }
    let binder = json!({"urlPrefix": "http://x", "bindVerb": "b"});
    assert_eq!(
        whole(json!({"extenders": [binder, binder]})).unwrap_err(),
        "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind"
    );
    assert_eq!(
        whole(json!({"leaderElection": {"leaderElect": false}, "parallelism": 4})).unwrap(),
        "parallelism leaderElection"
    );
    assert_eq!(
        read(&json!({"kind": "Pod", "apiVersion": "v1"})).unwrap_err(),
        "no kind \"Pod\" is registered for version \"v1\" in scheme"
    );
}

#[test]
fn extenders_are_read() {
    let tree = json!({"apiVersion": VERSION, "kind": "KubeSchedulerConfiguration", "extenders": [
        {"urlPrefix": "http://x/scheduler/", "filterVerb": "f", "bindVerb": "b", "httpTimeout": "200ms", "ignorable": true,
            "managedResources": [{"name": "example.com/gpu", "ignoredByScheduler": true}]},
        {"urlPrefix": "https://y", "prioritizeVerb": "p", "weight": 2, "nodeCacheCapable": true, "enableHTTPS": true},
    ]});
    let Profiles(profiles, extenders) = read(&tree).unwrap().profiles;
    assert!(profiles[0].ignores("example.com/gpu"));
    let [first, second] = &extenders[..] else { panic!() };
    assert_eq!(first.urls(), ["http://x/scheduler/f", "", "http://x/scheduler/b"]);
    assert_eq!((first.timeout, first.ignorable), (Duration::from_millis(200), true));
    assert_eq!(
        (second.urls()[1].as_str(), second.weight, second.by_name),
        ("https://y/p", 2, true)
    );
    assert_eq!(second.timeout, Duration::from_secs(5));
}
