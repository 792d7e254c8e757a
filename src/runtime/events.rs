//! Fan-out of events: every subscriber gets each once, and none can hold the others up.

use std::sync::{Mutex, PoisonError};

use rt::channel::{LazySender, Receiver, TrySendError, bounded_lazily};

use crate::EVENTS_MAX;
use crate::status::Event;

#[derive(Debug, Default)]
pub(crate) struct Events {
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    sender: LazySender<Event>,
    /// Events were dropped; say so as soon as there is room.
    lagged: bool,
}

impl Events {
    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = bounded_lazily(EVENTS_MAX);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Subscriber { sender, lagged: false });
        receiver
    }

    pub(crate) fn publish(&self, event: &Event) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain_mut(|subscriber| {
            if subscriber.lagged && subscriber.sender.try_send(Event::Lagged).is_ok() {
                subscriber.lagged = false;
            }
            if subscriber.lagged {
                return !subscriber.sender.is_closed();
            }
            match subscriber.sender.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lagged = true;
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }
}
