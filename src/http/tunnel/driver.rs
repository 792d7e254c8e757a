//! The I/O of a tunnel's session: one task that receives, sends and looks at the time.

use std::time::Duration;

use rt::future::{or, poll_fn};
use stdx::{Context, Error, Result};

use super::state::{Outgoing, PING_EVERY, SILENCE_MAX};
use super::{Exits, Session, Stream, lock};
use crate::websocket::{Message, Receiver, Sender, WebSocket};

/// How long the peer may take for one message of ours.
const SEND_MAX: Duration = SILENCE_MAX;
/// How long it may take for our goodbye.
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Driver<'a> {
    pub(super) session: &'a Session,
    /// An agent's; a server lets nobody in.
    pub(super) exits: Option<&'a dyn Exits>,
}

/// Ends the session also where its task is dropped.
struct End<'a>(&'a Session);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end("tunnel disconnect");
    }
}

impl Driver<'_> {
    /// Runs the session to its end.
    pub(super) async fn run(self, socket: WebSocket) -> Error {
        let WebSocket { mut sender, mut receiver } = socket;
        let shared = &self.session.0;
        let _end = End(self.session);
        lock(shared).heard(rt::now().mono);
        let work = or(self.receive(&mut receiver), self.send(&mut sender));
        let ended = or(work, self.watch()).await;
        let error = ended.err().unwrap_or_else(|| {
            Error::new(lock(shared).over().unwrap_or("the peer closed the tunnel").to_owned())
        });
        lock(shared).end(format!("tunnel disconnect: {error}"));
        let _ = rt::timeout(CLOSE_MAX, sender.close()).await;
        error
    }

    async fn receive(&self, receiver: &mut Receiver) -> Result<()> {
        let shared = &self.session.0;
        loop {
            poll_fn(|cx| lock(shared).poll_room(cx)).await;
            let Some(sign) = receiver.next_sign().await else { return Ok(()) };
            let message = sign?;
            lock(shared).heard(rt::now().mono);
            match message {
                None => {}
                Some(Message::Binary(bytes)) => self.take(&bytes)?,
                Some(Message::Text(_)) => return Err(Error::new("wrong websocket message type")),
            }
        }
    }

    fn take(&self, bytes: &[u8]) -> Result<()> {
        let shared = &self.session.0;
        let received = lock(shared).receive(bytes);
        let Some(wanted) = received.context(|| "read a message of the tunnel")? else {
            return Ok(());
        };
        let exits = self.exits.filter(|exits| exits.allows(&wanted.network, &wanted.address));
        if lock(shared).accept(&wanted, exits.is_some())
            && let Some(exits) = exits
        {
            let stream = Stream { shared: shared.clone(), id: wanted.id };
            exits.lead(&wanted.address, stream);
        }
        Ok(())
    }

    async fn send(&self, sender: &mut Sender) -> Result<()> {
        while let Some(next) = poll_fn(|cx| lock(&self.session.0).poll_outgoing(cx)).await {
            let sending = async {
                match next {
                    Outgoing::Ping => sender.ping().await,
                    Outgoing::Message(bytes) => sender.send(Message::Binary(bytes)).await,
                }
            };
            rt::timeout(SEND_MAX, sending)
                .await
                .context(|| "send a message through the tunnel")??;
        }
        Ok(())
    }

    /// Ends the session of a peer that is not there any more; an agent asks for a sign of life.
    async fn watch(&self) -> Result<()> {
        let shared = &self.session.0;
        loop {
            let now = rt::now().mono;
            let Some(until) = lock(shared).silent_until(now) else {
                return Err(Error::new("the peer has been silent for too long"));
            };
            match self.exits {
                Some(_) => {
                    rt::sleep(PING_EVERY).await;
                    lock(shared).tick(rt::now().mono);
                }
                None => rt::sleep_until(until).await,
            }
        }
    }
}
