//! Watches: many on one stream, each with a number.

use super::{Bytes, Error, Field, KeyValue, Left, ResponseHeader, messages, one_of, open_enums};
use crate::protobuf::{Reader, Wire, put_bytes, put_varint};

open_enums! {
    EventType { PUT = 0, DELETE = 1, }
}

one_of! {
    WatchRequest {
        1 Create(WatchCreateRequest),
        2 Cancel(WatchCancelRequest),
        3 Progress(WatchProgressRequest),
    }
}

messages! {
    Event {
        1 kind: EventType,
        /// Of a deletion: the key, and the revision of the deletion as `mod_revision`.
        2 kv: KeyValue,
        3 prev_kv: Option<KeyValue>,
    }

    WatchCreateRequest {
        1 key: Bytes,
        2 range_end: Bytes,
        /// The first revision of interest; 0: from now on.
        3 start_revision: i64,
        4 progress_notify: bool,
        5 filters: Filters,
        6 prev_kv: bool,
        /// 0: the server chooses.
        7 watch_id: i64,
        /// Whether a large answer may come in parts.
        8 fragment: bool,
    }

    WatchCancelRequest {
        1 watch_id: i64,
    }

    /// Asks for how far all watches of the stream are.
    WatchProgressRequest {}

    WatchResponse {
        1 header: ResponseHeader,
        2 watch_id: i64,
        3 created: bool,
        4 canceled: bool,
        /// Not 0: the watch asked for what is compacted up to here.
        5 compact_revision: i64,
        6 cancel_reason: String,
        /// Whether another part of the same answer follows.
        7 fragment: bool,
        11 events: Vec<Event>,
    }
}

/// Kinds of events that a watch does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub no_put: bool,
    pub no_delete: bool,
}

impl Filters {
    fn add(&mut self, filter: u64) {
        self.no_put |= filter == 0;
        self.no_delete |= filter == 1;
    }
}

/// On the wire a list of numbers, packed or not.
impl Field for Filters {
    fn is_empty(&self) -> bool {
        *self == Filters::default()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        let all: &[u8] = match (self.no_put, self.no_delete) {
            (true, true) => &[0, 1],
            (true, false) => &[0],
            (false, true) => &[1],
            (false, false) => &[],
        };
        put_bytes(out, number, all);
    }
    fn take(&mut self, wire: Wire<'_>, _: &mut Left) -> Result<(), Error> {
        match wire {
            Wire::Varint(filter) => self.add(filter),
            packed => {
                // Each number gets a tag before it, for the reader of fields.
                let mut tagged = Vec::new();
                put_varint(&mut tagged, 1 << 3);
                let n_tag = tagged.len();
                for number in packed.bytes()?.split_inclusive(|byte| *byte < 0x80) {
                    tagged.truncate(n_tag);
                    tagged.extend_from_slice(number);
                    let number = Reader::new(&tagged).next()?;
                    number
                        .map_or(Ok(0), |(_, wire)| wire.varint())
                        .map(|filter| self.add(filter))?;
                }
            }
        }
        Ok(())
    }
}
