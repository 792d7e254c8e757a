//! HorizontalPodAutoscaler: makes something bigger or smaller as its load asks for.

use super::autoscaling_v1;
use crate::kind::*;

pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    name: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    declared: &Declared {
        version: "v2",
        short: &["hpa"],
        categories: &["all"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        generation: false,
        also: &[Served {
            group: "autoscaling",
            version: "v1",
            root: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
            from_stored: autoscaling_v1::from_stored,
            fields: &[],
        }],
        doc: "Makes something bigger or smaller as its load asks for.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.autoscaling.v2
HorizontalPodAutoscaler kind
   1 metadata ObjectMeta
   2 spec     HorizontalPodAutoscalerSpec
   3 status   HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec
   1 scaleTargetRef~ CrossVersionObjectReference -- What is made bigger or smaller.
   2 minReplicas     i32? = 1 -- The fewest replicas.
   3 maxReplicas~    i32 -- The most replicas.
   4 metrics         []MetricSpec -- What the number of replicas is computed from; the largest result counts.
   5 behavior        HorizontalPodAutoscalerBehavior? -- How fast it may go up and down.
CrossVersionObjectReference
   1 kind~      str
   2 name~      str
   3 apiVersion str
MetricSpec
   1 type~             str
   2 object            ObjectMetricSource?
   3 pods              PodsMetricSource?
   4 resource          ResourceMetricSource?
   5 external          ExternalMetricSource?
   7 containerResource ContainerResourceMetricSource?
HorizontalPodAutoscalerBehavior
   1 scaleUp   HPAScalingRules?
   2 scaleDown HPAScalingRules?
HPAScalingRules
   1 selectPolicy               str? of Disabled|Max|Min
   2 policies                   []HPAScalingPolicy?
   3 stabilizationWindowSeconds i32?
HPAScalingPolicy
   1 type~          str
   2 value~         i32
   3 periodSeconds~ i32
ObjectMetricSource
   1 describedObject~ CrossVersionObjectReference
   2 target~          MetricTarget
   3 metric~          MetricIdentifier
PodsMetricSource
   1 metric~ MetricIdentifier
   2 target~ MetricTarget
ResourceMetricSource
   1 name~   str
   2 target~ MetricTarget
ContainerResourceMetricSource
   1 name~      str
   2 target~    MetricTarget
   3 container~ str
ExternalMetricSource
   1 metric~ MetricIdentifier
   2 target~ MetricTarget
MetricIdentifier
   1 name~    str
   2 selector LabelSelector?
MetricTarget
   1 type~              str
   2 value              quantity?
   3 averageValue       quantity?
   4 averageUtilization i32?
HorizontalPodAutoscalerStatus
   1 observedGeneration i64?
   2 lastScaleTime      time?
   3 currentReplicas    i32
   4 desiredReplicas~   i32
   5 currentMetrics!    []MetricStatus
   6 conditions         []HorizontalPodAutoscalerCondition map(type) merge(type)
HorizontalPodAutoscalerCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
MetricStatus
   1 type~             str
   2 object            ObjectMetricStatus?
   3 pods              PodsMetricStatus?
   4 resource          ResourceMetricStatus?
   5 external          ExternalMetricStatus?
   7 containerResource ContainerResourceMetricStatus?
ObjectMetricStatus
   1 metric~          MetricIdentifier
   2 current~         MetricValueStatus
   3 describedObject~ CrossVersionObjectReference
PodsMetricStatus
   1 metric~  MetricIdentifier
   2 current~ MetricValueStatus
ResourceMetricStatus
   1 name~    str
   2 current~ MetricValueStatus
ContainerResourceMetricStatus
   1 name~      str
   2 current~   MetricValueStatus
   3 container~ str
ExternalMetricStatus
   1 metric~  MetricIdentifier
   2 current~ MetricValueStatus
MetricValueStatus
   1 value              quantity?
   2 averageValue       quantity?
   3 averageUtilization i32?
package io.k8s.api.autoscaling.v1
HorizontalPodAutoscaler kind
   1 metadata ObjectMeta
   2 spec     HorizontalPodAutoscalerSpec
   3 status   HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec
   1 scaleTargetRef~                CrossVersionObjectReference -- What is made bigger or smaller.
   2 minReplicas                    i32? = 1 -- The fewest replicas.
   3 maxReplicas~                   i32 -- The most replicas.
   4 targetCPUUtilizationPercentage i32? -- How much of what its pods request of CPU is to be used.
CrossVersionObjectReference atomic
   1 kind~      str
   2 name~      str
   3 apiVersion str
HorizontalPodAutoscalerStatus
   1 observedGeneration              i64?
   2 lastScaleTime                   time?
   3 currentReplicas~                i32
   4 desiredReplicas~                i32
   5 currentCPUUtilizationPercentage i32?
";
