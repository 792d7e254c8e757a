//! The one place that knows how we run: executor, timers, sockets, disk, clocks, randomness.
//!
//! Everything else asks here. Two worlds stand behind these functions: the operating system's
//! (smol), and a simulated one (`rt::sim`) whose clock, randomness and task order come from a seed.
//! Must not know: HTTP, Kubernetes, or what its callers do.

mod clock;
mod datagrams;
pub mod fs;
mod machine;
mod memory;
mod pool;
pub mod process;
pub mod signal;
pub mod sim;
pub mod terminal;
mod watch;
mod world;

pub use clock::{ClockSettings, follow_clock, now, resume_eras, shift_wall};
pub use event_listener::{Event, EventListener};
pub use machine::{memory_bytes, own_figures};
pub use memory::follow_memory;
pub use smol::{Async, Timer as OsTimer};
pub use watch::FileWatch;
pub use world::{
    Elapsed, Sleep, Task, Unblock, block_on, random, random_u64, sleep, sleep_until, spawn,
    spawn_named, start_workers, timeout, unblock,
};

/// Sockets of the operating system.
pub mod net {
    pub use crate::datagrams::Datagrams;
    pub use smol::net::unix::{UnixDatagram, UnixListener, UnixStream};
    pub use smol::net::{TcpListener, TcpStream, UdpSocket};

    /// Whether an address may be another machine's beyond this link.
    pub fn is_far(ip: std::net::IpAddr) -> bool {
        use std::net::IpAddr;
        match ip.to_canonical() {
            // All of 0.0.0.0/8 is "this host".
            IpAddr::V4(ip) => {
                let is_this = ip.is_loopback() || ip.octets()[0] == 0;
                !(is_this || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
            }
            IpAddr::V6(ip) => match ip.segments() {
                // An IPv4 address in the deprecated form, loopback and unspecified among them.
                [0, 0, 0, 0, 0, 0, _, _] => false,
                [first, ..] => !ip.is_multicast() && first & 0xffc0 != 0xfe80,
            },
        }
    }

    /// Prepares a connection for messages that are small, prompt and rare: no waiting for more to
    /// send, and a peer that vanished without a word is noticed within about two minutes.
    pub fn tune(stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        sys::tcp::keep_alive(stream, 60, 15, 4)
    }

    #[cfg(test)]
    mod tests {
        use super::is_far;

        #[test]
        fn what_is_near() {
            for (ip, far) in [
                ("127.0.0.1", false),
                ("127.9.9.9", false),
                ("169.254.169.254", false),
                ("0.0.0.0", false),
                ("0.1.2.3", false),
                ("224.0.0.1", false),
                ("255.255.255.255", false),
                ("::1", false),
                ("::", false),
                ("::ffff:127.0.0.1", false),
                ("::ffff:169.254.1.1", false),
                ("::7f00:1", false),
                ("fe80::1", false),
                ("febf::1", false),
                ("ff02::1", false),
                ("10.0.0.1", true),
                ("192.0.2.10", true),
                ("::ffff:192.0.2.10", true),
                ("2001:db8::1", true),
                ("fd00::1", true),
            ] {
                assert_eq!(is_far(ip.parse().unwrap()), far, "{ip}");
            }
        }
    }
}

/// Async byte streams (the futures-io traits) and their helpers.
pub mod io {
    pub use smol::io::{
        AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncWrite,
        AsyncWriteExt, BufReader, BufWriter, Cursor, Error, ErrorKind, ReadHalf, Result, WriteHalf,
        copy, split,
    };
}

pub mod future {
    pub use smol::future::{
        Boxed, FutureExt, or, pending, poll_fn, poll_once, race, ready, try_zip, yield_now, zip,
    };
}

pub mod stream {
    pub use smol::stream::{Boxed, Stream, StreamExt, iter, once, pending, poll_fn, unfold};
}

/// Bounded queues only: an unbounded one is a leak waiting for a slow reader.
pub mod channel {
    pub use smol::channel::{
        Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, bounded,
    };

    /// As `bounded`, for queues that are long and mostly empty: `bounded` takes the room for all
    /// messages at once, this one as they come. Senders cannot wait.
    pub fn bounded_lazily<T>(messages_max: usize) -> (LazySender<T>, Receiver<T>) {
        let (sender, receiver) = smol::channel::unbounded();
        (LazySender { sender, messages_max }, receiver)
    }

    /// The sending end of [`bounded_lazily`].
    #[derive(Debug)]
    pub struct LazySender<T> {
        sender: Sender<T>,
        messages_max: usize,
    }

    impl<T> LazySender<T> {
        /// Sends now or not at all. Senders that meet here may pass the bound by as many as they are.
        ///
        /// # Errors
        /// With the message, if the queue is full or nobody receives any more.
        pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            match self.sender.len() < self.messages_max {
                true => self.sender.try_send(message),
                false => Err(TrySendError::Full(message)),
            }
        }

        pub fn is_closed(&self) -> bool {
            self.sender.is_closed()
        }
    }

    impl<T> Clone for LazySender<T> {
        fn clone(&self) -> Self {
            LazySender { sender: self.sender.clone(), messages_max: self.messages_max }
        }
    }
}

pub mod lock {
    pub use smol::lock::{
        Mutex, MutexGuard, MutexGuardArc, OnceCell, RwLock, Semaphore, SemaphoreGuard,
        SemaphoreGuardArc,
    };
}

/// A future on the heap, as object-safe async traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
