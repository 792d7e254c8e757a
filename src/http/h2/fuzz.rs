//! Random and mutated frames, mixed with random use of the streams, against the state machine itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stdx::prng::Prng;
use stdx::time::Mono;
use wire::headers::Headers;
use wire::hpack::Encoder;
use wire::http2::{self as codec, Code};

use super::state::State;
use super::{Config, RecvHalf, Role, SendHalf, Shared, halves, lock};
use crate::body::{Chunk, Source};

const HEADER_MAX_BYTES: usize = 4096;

fn config(role: Role) -> Config {
    Config {
        role,
        stream_window: 65_536,
        connection_window: 100_000,
        streams_max: 8,
        header_max_bytes: HEADER_MAX_BYTES,
        greeting_max: Duration::from_secs(1),
        idle_max: Duration::from_secs(1),
        stall_max: Duration::from_secs(1),
        ping_after: Duration::from_secs(1),
        ping_max: Duration::from_secs(1),
    }
}

/// Some frame on some stream, mostly a sensible one.
fn random_frame(
    prng: &mut Prng,
    encoder: &mut Encoder,
    role: Role,
    next: &mut u32,
    open: &[u32],
    out: &mut Vec<u8>,
) {
    let is_fresh = role == Role::Server && (*next == 0 || prng.chance(25));
    if is_fresh {
        *next = (*next + 2) | 1;
    }
    let stream = match () {
        () if is_fresh => *next,
        () if prng.below(300) == 0 => prng.below(u64::from(*next) + 4) as u32,
        () => open.get(prng.below(open.len() as u64) as usize).copied().unwrap_or(0),
    };
    // Streams begin with HEADERS, and before the first there is little to say.
    let kind = if is_fresh { 0 } else { prng.below(12) };
    let kind = if stream == 0 { 9 } else { kind };
    let end = prng.chance(30);
    match kind {
        0..=3 => {
            let mut fields = Headers::new();
            match role {
                Role::Server => {
                    fields.append(":method", ["GET", "POST", "HEAD"][prng.below(3) as usize]);
                    fields.append(":scheme", "https");
                    fields.append(":path", format!("/{}", prng.below(5)));
                }
                Role::Client => {
                    fields.append(":status", ["200", "100", "x"][prng.below(3) as usize])
                }
            }
            if prng.chance(20) {
                fields.append("content-length", prng.below(20).to_string());
            }
            if prng.chance(2) {
                fields.append("x", vec![b'x'; prng.below(4200) as usize]);
            }
            let mut block = Vec::new();
            encoder.encode(&fields, &mut block);
            codec::emit_headers(out, stream, &block, end);
        }
        4..=6 => {
            let data = vec![1; prng.below(16_000) as usize];
            codec::emit_data(out, stream, &data[..data.len() / (1 + prng.below(50) as usize)], end);
        }
        7 => codec::emit_reset(out, stream.max(1), Code(prng.below(14) as u32)),
        8 if prng.chance(50) => codec::emit_settings(
            out,
            &[(4, prng.below(200_000) as u32), (1, prng.below(5000) as u32)],
        ),
        8 | 9 => codec::emit_ping(out, prng.chance(50), [1; 8]),
        10 if prng.chance(3) => codec::emit_goaway(out, stream, Code::NO_ERROR, "x"),
        _ => codec::emit_window_update(out, stream, 1 + prng.below(50_000) as i64),
    }
    if prng.below(300) == 0 && !out.is_empty() {
        let at = prng.below(out.len() as u64) as usize;
        out[at] = prng.next_u64() as u8;
    }
}

/// What the users of streams hold.
#[derive(Default)]
struct Users {
    senders: Vec<SendHalf>,
    readers: Vec<RecvHalf>,
    last_opened: u32,
}

impl Users {
    fn act(&mut self, prng: &mut Prng, shared: &Shared, role: Role) {
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        if role == Role::Client && prng.chance(30) {
            let fields = Headers::new().with(":method", "GET").with(":path", "/");
            let opened = lock(shared).open(&fields, prng.chance(50), false);
            if let Some(id) = opened {
                self.last_opened = id;
                let (send, recv) = halves(shared, id);
                self.senders.push(send);
                self.readers.push(recv);
            }
        }
        if !self.senders.is_empty() {
            let at = prng.below(self.senders.len() as u64) as usize;
            match prng.below(6) {
                0 => self.senders[at]
                    .send_head(&Headers::new().with(":status", "200"), prng.chance(20)),
                1 | 2 if self.senders[at].poll_ready(&mut cx).is_ready() => {
                    self.senders[at].push(Chunk::from(vec![2; prng.below(40_000) as usize]));
                }
                3 => self.senders.swap_remove(at).finish(Headers::new()),
                4 => self.senders.swap_remove(at).finish(Headers::new().with("x", "y")),
                5 if prng.chance(20) => drop(self.senders.swap_remove(at)),
                _ => {}
            }
        }
        if !self.readers.is_empty() {
            let at = prng.below(self.readers.len() as u64) as usize;
            match prng.below(4) {
                0 => drop(self.readers.swap_remove(at)),
                1 => {
                    let _ = self.readers[at].poll_head(&mut cx);
                }
                _ => {
                    let _ = self.readers[at].poll_chunk(&mut cx);
                }
            }
        }
    }
}

/// Returns how many steps it took until the connection failed, if it did.
fn run(seed: u64, role: Role) -> u32 {
    let mut prng = Prng::new(seed);
    let shared: Shared = Arc::new(Mutex::new(State::new(config(role), Mono(1))));
    let (mut encoder, mut next, mut users) = (Encoder::new(), 0, Users::default());
    let (mut input, mut n_steps) = (Vec::new(), 0);
    codec::emit_settings(&mut input, &[]);
    while n_steps < 400 {
        n_steps += 1;
        if prng.chance(60) {
            let open: Vec<u32> = {
                let state = lock(&shared);
                state.streams.iter().filter(|(_, s)| !s.is_closed).map(|(id, _)| *id).collect()
            };
            random_frame(&mut prng, &mut encoder, role, &mut next, &open, &mut input);
        }
        let mut at = 0;
        while let Some((frame, length)) = codec::parse(&input[at..]) {
            lock(&shared).receive(frame);
            at += length;
        }
        input.drain(..at);
        for (id, _, _) in std::mem::take(&mut lock(&shared).opened) {
            let (send, recv) = halves(&shared, id);
            users.senders.push(send);
            users.readers.push(recv);
        }
        users.act(&mut prng, &shared, role);
        if role == Role::Client {
            next = users.last_opened;
        }
        let mut out = Vec::new();
        if prng.chance(50) {
            lock(&shared).fill(&mut out, 32 * 1024);
        }
        check(&shared, &out);
        if lock(&shared).failure.is_some() {
            break;
        }
    }
    drop(users);
    lock(&shared).end("the end".to_owned());
    let state = lock(&shared);
    assert_eq!((state.n_open, state.streams.len()), (0, 0), "seed {seed}: streams are left over");
    n_steps
}

/// What must hold after every step.
fn check(shared: &Shared, out: &[u8]) {
    let state = lock(shared);
    let received: usize =
        state.streams.values().flat_map(|stream| &stream.received).map(Vec::len).sum();
    assert!(received <= 200_000, "{received} bytes received and not read");
    assert!(state.n_open <= state.streams.len());
    let mut rest = out.strip_prefix(codec::PREFACE).unwrap_or(out);
    while let Some((frame, length)) = codec::parse(rest) {
        frame.expect("we send proper frames");
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "half a frame was sent");
}

#[test]
fn no_frames_and_no_use_break_the_state() {
    let n_steps: u32 = (0..400).map(|seed| run(seed, Role::Server) + run(seed, Role::Client)).sum();
    assert!(n_steps > 20_000, "connections fail too early to prove anything: {n_steps} steps");
}
