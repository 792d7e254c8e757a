//! What happened to an object: the table of its events.

use api::{Lens, Value};
use stdx::Arrange;
use stdx::time::Wall;

use crate::needs::Part;
use crate::page::Page;
use crate::words;

/// Nothing if events were not asked for; a list that could not be fetched counts as empty.
pub(crate) fn write(page: &mut Page<'_>) {
    let related = page.related;
    let mut lists = related.iter().filter(|(part, _)| *part == Part::Events).peekable();
    if lists.peek().is_none() {
        return;
    }
    let lists = lists.filter_map(|(_, answer)| answer.as_ref().ok());
    let mut events: Vec<&Value> = lists.flat_map(|list| list.list("")).collect();
    if events.is_empty() {
        return page.line(&["Events:\t<none>"]);
    }
    let last = |event: &Value| {
        api::time::parse(event.str("lastTimestamp")).map_or(i64::MIN, |time| time.0)
    };
    events.arrange_by(|a, b| last(a).cmp(&last(b)));
    page.line(&[
        "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------",
    ]);
    for event in events {
        let age = event_age(page.now, event);
        let source = event.str("source.component");
        let source = if source.is_empty() { event.str("reportingComponent") } else { source };
        let message = event.str("message").trim();
        let line = [
            "  ",
            event.str("type"),
            "\t",
            event.str("reason"),
            "\t",
            &age,
            "\t",
            source,
            "\t",
            message,
        ];
        page.line(&line);
    }
}

/// How long ago something happened: `3m`, or `3m (x4 over 10m)` of what happened more than once.
pub fn event_age(now: Wall, event: &Value) -> String {
    let since = |path: &str| words::age(now, event.at(path));
    let is_new = event.has("eventTime");
    let first = since(if is_new { "eventTime" } else { "firstTimestamp" });
    let count = event.int("count").unwrap_or(0);
    if event.has("series") {
        let count = event.int("series.count").unwrap_or(0);
        format!("{} (x{count} over {first})", since("series.lastObservedTime"))
    } else if count > 1 {
        format!("{} (x{count} over {first})", since("lastTimestamp"))
    } else {
        first
    }
}
