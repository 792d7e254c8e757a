//! The server's end: the sessions that agents have opened, by node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::client::Dial;
use http::tunnel::{MESSAGE_MAX_BYTES, Session};
use http::{Request, Response, websocket};
use stdx::OrdMap;

use crate::settings::egress::Mode;

/// Sessions of one node: it may reach this server at several addresses. The newest is used.
const SESSIONS_MAX: usize = 4;
/// Nodes that have sessions.
const NODES_MAX: usize = 8192;

/// The tunnels of this server's agents.
pub(crate) struct Tunnels {
    mode: Mode,
    sessions: Mutex<OrdMap<String, Vec<Arc<Session>>>>,
}

impl Tunnels {
    pub(crate) fn new(mode: Mode) -> Arc<Tunnels> {
        Arc::new(Tunnels { mode, sessions: Mutex::default() })
    }

    /// Opens the tunnel that `node` asks for.
    pub(crate) fn accept(self: &Arc<Tunnels>, node: String, mut request: Request) -> Response {
        let (response, accepted) = match websocket::accept(&mut request, &[], MESSAGE_MAX_BYTES) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal,
        };
        let tunnels = Arc::clone(self);
        rt::spawn_named("tunnel", async move {
            let Ok(socket) = accepted.stream().await else { return };
            let session = Arc::new(Session::new());
            let kept = Kept { tunnels: &tunnels, node: &node, session: &session };
            if !tunnels.add(&node, &session) {
                return log::warn!("node {node}: there are too many tunnels");
            }
            log::info!("Node {node} has opened a tunnel");
            // A box, so that what is held until now is not held for the tunnel's life.
            let ended = Box::pin(session.open(socket)).await;
            drop(kept);
            log::info!("The tunnel of node {node} is over: {ended}");
        })
        .detach();
        response
    }

    /// Takes a session for the node's newest; of too many, the oldest ends. False if there are too many nodes.
    fn add(&self, node: &str, session: &Arc<Session>) -> bool {
        let mut sessions = self.lock();
        if sessions.len() >= NODES_MAX && !sessions.contains_key(node) {
            return false;
        }
        let of_node = sessions.entry(node.to_owned()).or_default();
        if of_node.len() >= SESSIONS_MAX {
            of_node.remove(0).end("a newer tunnel of the node took its place");
        }
        of_node.push(Arc::clone(session));
        true
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        for session in self.lock().values().flatten() {
            session.end("the server stops");
        }
    }

    fn newest(&self, node: &str) -> Option<Arc<Session>> {
        self.lock().get(node).and_then(|of_node| of_node.last().cloned())
    }

    fn lock(&self) -> MutexGuard<'_, OrdMap<String, Vec<Arc<Session>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl server::Tunnels for Tunnels {
    fn to(&self, node: &str) -> Option<Arc<dyn Dial>> {
        let newest = (self.mode != Mode::Disabled).then(|| self.newest(node)).flatten();
        newest.map(|session| session as Arc<dyn Dial>)
    }

    fn to_pods(&self, node: &str) -> Option<Arc<dyn Dial>> {
        self.mode.has_pods().then(|| self.to(node)).flatten()
    }
}

/// A session in the table, for as long as it lives.
struct Kept<'a> {
    tunnels: &'a Tunnels,
    node: &'a str,
    session: &'a Arc<Session>,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut sessions = self.tunnels.lock();
        let Some(of_node) = sessions.get_mut(self.node) else { return };
        of_node.retain(|session| !Arc::ptr_eq(session, self.session));
        if of_node.is_empty() {
            sessions.remove(self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use server::Tunnels as _;

    use super::*;

    #[test]
    fn the_newest_session_of_a_node_is_used() {
        let tunnels = Tunnels::new(Mode::Agent);
        let sessions: Vec<Arc<Session>> = (0..5).map(|_| Arc::new(Session::new())).collect();
        let kept = |session| Kept { tunnels: &tunnels, node: "one", session };
        let used = || {
            tunnels
                .newest("one")
                .map(|newest| sessions.iter().position(|s| Arc::ptr_eq(s, &newest)))
        };
        assert_eq!(used(), None);
        for (idx, session) in sessions.iter().enumerate() {
            assert!(tunnels.add("one", session));
            assert_eq!(used(), Some(Some(idx)));
        }
        // The first had to go, and cannot be used any more.
        assert!(sessions[0].connect("tcp", "127.0.0.1:10250").is_err());
        assert!(sessions[1].connect("tcp", "127.0.0.1:10250").is_ok());
        for (ended, next) in [
            (3, Some(Some(4))),
            (4, Some(Some(2))),
            (0, Some(Some(2))),
            (2, Some(Some(1))),
            (1, None),
        ] {
            drop(kept(&sessions[ended]));
            assert_eq!(used(), next, "{ended}");
        }
        assert!(tunnels.lock().is_empty());
        assert!(tunnels.add("two", &sessions[1]));
        assert!(tunnels.to("two").is_some() && tunnels.to("one").is_none());
        tunnels.end();
        assert!(sessions[1].connect("tcp", "127.0.0.1:10250").is_err());
        let unused = Tunnels::new(Mode::Disabled);
        assert!(unused.add("two", &sessions[1]) && unused.to("two").is_none());
        for (mode, has_pods) in [(Mode::Agent, false), (Mode::Pod, true), (Mode::Cluster, true)] {
            let tunnels = Tunnels::new(mode);
            assert!(tunnels.add("two", &sessions[1]) && tunnels.to("two").is_some());
            assert_eq!(tunnels.to_pods("two").is_some(), has_pods, "{mode:?}");
        }
    }
}
