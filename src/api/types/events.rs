//! The Event of events.k8s.io.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.events.v1
Event kind
   1 metadata!                ObjectMeta
   2 eventTime*               microtime
   3 series                   EventSeries?
   4 reportingController      str
   5 reportingInstance        str
   6 action                   str
   7 reason                   str
   8 regarding                ObjectReference
   9 related                  ObjectReference?
  10 note                     str
  11 type                     str
  12 deprecatedSource         EventSource
  13 deprecatedFirstTimestamp time
  14 deprecatedLastTimestamp  time
  15 deprecatedCount          i32
EventSeries
   1 count*            i32
   2 lastObservedTime* microtime
";
