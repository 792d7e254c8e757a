//! What a session's state answers to what comes, in tables.

use super::*;

fn cx() -> Task<'static> {
    Task::from_waker(Waker::noop())
}

fn state() -> State {
    State::new(Mono(0))
}

/// All that waits to be sent: connection, kind and payload in words.
fn sent(state: &mut State) -> Vec<String> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(outgoing)) = state.poll_outgoing(&mut cx()) {
        all.push(match &outgoing {
            Outgoing::Ping => "ping".to_owned(),
            Outgoing::Message(bytes) => match codec::parse(bytes).unwrap() {
                (id, Message::Data(data)) if data.len() > 8 => {
                    format!("{id} data of {}", data.len())
                }
                (id, Message::Data(data)) => format!("{id} data {}", String::from_utf8_lossy(data)),
                (id, Message::Connect { network, address }) => {
                    format!("{id} connect {network}/{address}")
                }
                (id, Message::Error(why)) => format!("{id} error {why}"),
                (id, Message::SyncConnections(ids)) => format!("{id} sync {ids:?}"),
                (id, other) => format!("{id} {other:?}"),
            },
        });
    }
    all
}

fn receive(state: &mut State, id: i64, kind: Kind, payload: &[u8]) -> Option<Wanted> {
    state.receive(&codec::emit(7, id, kind, payload)).unwrap()
}

fn write(state: &mut State, id: i64, bytes: &[u8]) -> Result<usize, io::ErrorKind> {
    match state.poll_write(id, bytes, &mut cx()) {
        Poll::Ready(written) => written.map_err(|error| error.kind()),
        Poll::Pending => Ok(0),
    }
}

/// What a reader gets: bytes, the end, an error, or nothing yet.
fn read(state: &mut State, id: i64, max: usize) -> String {
    let mut buf = vec![0; max];
    match state.poll_read(id, &mut buf, &mut cx()) {
        Poll::Pending => "nothing yet".into(),
        Poll::Ready(Ok(0)) => "the end".into(),
        Poll::Ready(Ok(n)) if n > 8 => format!("{n} bytes"),
        Poll::Ready(Ok(n)) => String::from_utf8_lossy(&buf[..n]).into_owned(),
        Poll::Ready(Err(error)) => format!("error {error}"),
    }
}

/// An agent with connection `id`.
fn accepted(state: &mut State, id: i64) {
    let wanted = receive(state, id, Kind::Connect, b"tcp/127.0.0.1:10250").unwrap();
    assert_eq!((&*wanted.network, &*wanted.address), ("tcp", "127.0.0.1:10250"));
    assert!(state.accept(&wanted, true));
}

#[test]
fn a_connection_from_its_opening_to_its_end() {
    let mut server = state();
    let id = server.open("tcp", "127.0.0.1:10250").unwrap();
    assert_eq!(write(&mut server, id, b"hello"), Ok(5));
    assert_eq!(read(&mut server, id, 8), "nothing yet");
    assert_eq!(sent(&mut server), ["1 connect tcp/127.0.0.1:10250", "1 data hello"]);
    receive(&mut server, id, Kind::Data, b"answer");
    receive(&mut server, id, Kind::Error, b"EOF");
    assert_eq!(read(&mut server, id, 3), "ans", "what came before the end is there");
    assert_eq!(read(&mut server, id, 8), "wer");
    assert_eq!(read(&mut server, id, 8), "the end");
    assert_eq!(write(&mut server, id, b"x"), Err(io::ErrorKind::BrokenPipe));
    server.close(id, codec::EOF);
    assert!(sent(&mut server).is_empty(), "the peer knows already");
    assert!(server.connections.is_empty() && server.received_bytes == 0);
}

#[test]
fn a_user_that_leaves_is_heard_to_the_end() {
    for (paused, wants) in [
        (false, &["9 data bye", "9 error EOF"][..]),
        // What may not be sent yet waits.
        (true, &[]),
    ] {
        let mut agent = state();
        accepted(&mut agent, 9);
        if paused {
            receive(&mut agent, 9, Kind::Pause, b"");
        }
        write(&mut agent, 9, b"bye").unwrap();
        agent.close(9, codec::EOF);
        // Nobody reads it any more.
        receive(&mut agent, 9, Kind::Data, b"more");
        assert_eq!(sent(&mut agent), wants);
        if paused {
            receive(&mut agent, 9, Kind::Resume, b"");
            assert_eq!(sent(&mut agent), ["9 data bye", "9 error EOF"]);
        }
        assert!(agent.connections.is_empty() && agent.received_bytes == 0);
    }
    let mut agent = state();
    accepted(&mut agent, 9);
    agent.close(9, "dial tcp: connection refused");
    assert_eq!(sent(&mut agent), ["9 error dial tcp: connection refused"]);
}

#[test]
fn errors_reach_the_reader_in_their_words() {
    let mut server = state();
    let id = server.open("tcp", "127.0.0.1:1").unwrap();
    receive(&mut server, id, Kind::Error, b"connect not allowed");
    assert_eq!(read(&mut server, id, 8), "error connect not allowed");
    server.close(id, codec::EOF);
    assert_eq!(sent(&mut server), ["1 connect tcp/127.0.0.1:1"]);
    let id = server.open("tcp", "127.0.0.1:1").unwrap();
    server.end("tunnel disconnect".into());
    assert_eq!(read(&mut server, id, 8), "error tunnel disconnect");
    assert_eq!(write(&mut server, id, b"x"), Err(io::ErrorKind::BrokenPipe));
    assert_eq!(server.open("tcp", "127.0.0.1:1"), Err("tunnel disconnect".into()));
    assert_eq!(server.poll_outgoing(&mut cx()), Poll::Ready(None));
}

#[test]
fn what_is_about_no_connection() {
    for (kind, payload, answers) in [
        (Kind::Data, &b"x"[..], &["5 error connection not found 5"][..]),
        // An error is not answered by another, or two sides would never stop.
        (Kind::Error, b"EOF", &[]),
        (Kind::Pause, b"", &[]),
        (Kind::Resume, b"", &[]),
    ] {
        let mut state = state();
        assert_eq!(receive(&mut state, 5, kind, payload), None);
        assert_eq!(sent(&mut state), answers, "{kind:?}");
    }
}

#[test]
fn openings_that_are_refused() {
    let mut agent = state();
    let wanted = receive(&mut agent, 3, Kind::Connect, b"tcp/192.0.2.1:22").unwrap();
    assert!(!agent.accept(&wanted, false));
    assert_eq!(sent(&mut agent), ["3 error connect not allowed"]);
    // A number that is in use: neither of the two goes on.
    accepted(&mut agent, 4);
    let again = receive(&mut agent, 4, Kind::Connect, b"tcp/127.0.0.1:10250").unwrap();
    assert!(!agent.accept(&again, true));
    assert_eq!(sent(&mut agent), ["4 error the connection's number is in use"]);
    assert_eq!(read(&mut agent, 4, 8), "error the peer used the connection's number again");
    agent.close(4, codec::EOF);
    for id in 0..CONNECTIONS_MAX as i64 {
        accepted(&mut agent, id);
    }
    let further = receive(&mut agent, 5000, Kind::Connect, b"tcp/127.0.0.1:10250").unwrap();
    assert!(!agent.accept(&further, true));
    assert_eq!(sent(&mut agent), ["5000 error the tunnel has too many connections"]);
    assert!(agent.open("tcp", "x").is_err());
    assert!(state().open("tcp", &"x".repeat(codec::CONNECT_MAX_BYTES)).is_err());
}

#[test]
fn whoever_may_not_send_keeps_what_it_has() {
    let mut server = state();
    let id = server.open("tcp", "a:1").unwrap();
    sent(&mut server);
    receive(&mut server, id, Kind::Pause, b"");
    let much = vec![1; SEND_BUFFERED_MAX_BYTES + 1];
    assert_eq!(write(&mut server, id, &much), Ok(SEND_BUFFERED_MAX_BYTES));
    assert_eq!(write(&mut server, id, b"x"), Ok(0), "there is no room");
    assert!(sent(&mut server).is_empty());
    receive(&mut server, id, Kind::Resume, b"");
    assert_eq!(sent(&mut server), [format!("{id} data of {SEND_BUFFERED_MAX_BYTES}")]);
    assert_eq!(write(&mut server, id, b"x"), Ok(1));
}

#[test]
fn connections_take_turns() {
    let mut server = state();
    let ids: Vec<i64> = (0..3).map(|_| server.open("tcp", "a:1").unwrap()).collect();
    sent(&mut server);
    let mut order = Vec::new();
    for _ in 0..6 {
        // All of them always have more to say than one message.
        for id in &ids {
            write(&mut server, *id, &[1; SEND_BUFFERED_MAX_BYTES]).unwrap();
        }
        if let Poll::Ready(Some(Outgoing::Message(message))) = server.poll_outgoing(&mut cx()) {
            order.push(codec::parse(&message).unwrap().0);
        }
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_reader_that_does_not_read_pauses_its_connection_only() {
    let mut server = state();
    let (slow, quick) = (server.open("tcp", "a:1").unwrap(), server.open("tcp", "a:1").unwrap());
    sent(&mut server);
    let piece = vec![1; 64 * 1024];
    while server.connections[&slow].received.len() <= PAUSE_BYTES - piece.len() {
        receive(&mut server, slow, Kind::Data, &piece);
    }
    assert!(sent(&mut server).is_empty());
    receive(&mut server, slow, Kind::Data, b"x");
    receive(&mut server, slow, Kind::Data, b"x");
    assert_eq!(sent(&mut server), [format!("{slow} Pause")], "told once");
    receive(&mut server, quick, Kind::Data, b"quick");
    assert_eq!(read(&mut server, quick, 8), "quick");
    while server.connections[&slow].received.len() - piece.len() >= RESUME_BYTES {
        read(&mut server, slow, piece.len());
    }
    assert!(sent(&mut server).is_empty());
    read(&mut server, slow, piece.len());
    assert_eq!(sent(&mut server), [format!("{slow} Resume")]);
    // A peer that does not pause loses it, and the other lives.
    while server.connections[&slow].end.is_none() {
        receive(&mut server, slow, Kind::Data, &piece);
        assert!(server.received_bytes <= RECEIVED_MAX_BYTES + piece.len());
    }
    assert_eq!(
        sent(&mut server),
        [format!("{slow} Pause"), format!("{slow} error more came than anybody reads")]
    );
    assert_eq!(server.received_bytes, 0);
    receive(&mut server, quick, Kind::Data, b"quick");
    assert_eq!(read(&mut server, quick, 8), "quick");
}

#[test]
fn all_connections_together_are_bounded() {
    let mut server = state();
    let ids: Vec<i64> = (0..40).map(|_| server.open("tcp", "a:1").unwrap()).collect();
    sent(&mut server);
    let piece = vec![1; 64 * 1024];
    let mut paused = 0;
    for _ in 0..200 {
        for id in &ids {
            receive(&mut server, *id, Kind::Data, &piece);
            assert!(server.received_bytes <= SESSION_RECEIVED_MAX_BYTES + piece.len());
        }
        paused += sent(&mut server).iter().filter(|text| text.ends_with("Pause")).count();
    }
    assert!(paused >= ids.len() - 4, "{paused}");
    let held: usize = server.connections.values().map(|connection| connection.received.len()).sum();
    assert_eq!(held, server.received_bytes);
}

#[test]
fn what_the_agents_list_lacks_twice_is_over() {
    let mut server = state();
    let (kept, lost) = (server.open("tcp", "a:1").unwrap(), server.open("tcp", "a:1").unwrap());
    sent(&mut server);
    for (listed, wants) in [
        // Made before the agent knew of them.
        (&[][..], "nothing yet"),
        (&[kept, lost], "nothing yet"),
        (&[kept], "nothing yet"),
        (&[kept], "error sync from client"),
    ] {
        let ids = codec::connections(listed.iter().copied());
        receive(&mut server, 0, Kind::SyncConnections, &ids);
        assert_eq!(read(&mut server, lost, 8), wants, "{listed:?}");
        assert_eq!(read(&mut server, kept, 8), "nothing yet");
    }
    assert!(sent(&mut server).is_empty());
    assert!(server.receive(b"\x02\x00\x10abc").is_err());
}

#[test]
fn an_agent_pings_and_lists_in_time() {
    let mut agent = state();
    accepted(&mut agent, 6);
    accepted(&mut agent, 2);
    for ticks in 1..=25 {
        let now = Mono(0) + PING_EVERY * ticks;
        agent.tick(now);
        let wants = match ticks {
            12 | 24 => &["ping", "0 sync [2, 6]"][..],
            _ => &["ping"],
        };
        assert_eq!(sent(&mut agent), wants, "{ticks}");
    }
}

#[test]
fn silence_ends_a_session() {
    let mut state = state();
    let at = |secs| Mono(0) + Duration::from_secs(secs);
    assert_eq!(state.silent_until(at(59)), Some(at(60)));
    assert_eq!(state.silent_until(at(60)), None);
    state.heard(at(50));
    assert_eq!(state.silent_until(at(60)), Some(at(110)));
}

#[test]
fn who_does_not_take_answers_is_not_listened_to() {
    let mut state = state();
    while state.poll_room(&mut cx()).is_ready() {
        receive(&mut state, 5, Kind::Data, b"x");
    }
    assert_eq!(state.control.len(), CONTROL_MAX);
    assert!(state.open("tcp", "a:1").is_err());
    let _ = state.poll_outgoing(&mut cx());
    assert!(state.poll_room(&mut cx()).is_ready());
}

#[test]
fn numbers_that_come_and_go_leave_nothing() {
    let mut agent = state();
    for _ in 0..1000 {
        accepted(&mut agent, 4);
        write(&mut agent, 4, b"x").unwrap();
        receive(&mut agent, 4, Kind::Error, b"EOF");
        agent.close(4, codec::EOF);
    }
    assert!(agent.connections.is_empty() && agent.ready.is_empty() && agent.control.is_empty());
}
