//! The one place that knows how we run: executor, timers, sockets, disk, clocks, randomness.
//!
//! Everything else asks here. Two worlds stand behind these functions: the operating system's
//! (smol), and a simulated one (`rt::sim`) whose clock, randomness and task order come from a seed.
//! Must not know: HTTP, Kubernetes, or what its callers do.

mod clock;
pub mod fs;
pub mod process;
pub mod signal;
pub mod sim;
mod watch;
mod world;

pub use clock::{ClockSettings, follow_clock, now, shift_wall};
pub use event_listener::{Event, EventListener};
pub use smol::{Async, Timer as OsTimer};
pub use watch::FileWatch;
pub use world::{
    Elapsed, Sleep, Task, block_on, random, random_u64, sleep, sleep_until, spawn, spawn_named,
    start_workers, timeout, unblock,
};

/// Sockets of the operating system.
pub mod net {
    pub use smol::net::unix::{UnixDatagram, UnixListener, UnixStream};
    pub use smol::net::{TcpListener, TcpStream, UdpSocket, resolve};

    /// Prepares a connection for messages that are small, prompt and rare: no waiting for more to
    /// send, and a peer that vanished without a word is noticed within about two minutes.
    pub fn tune(stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        sys::tcp::keep_alive(stream, 60, 15, 4)
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
}

pub mod lock {
    pub use smol::lock::{
        Mutex, MutexGuard, OnceCell, RwLock, Semaphore, SemaphoreGuard, SemaphoreGuardArc,
    };
}

/// A future on the heap, as object-safe async traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
