//! The envelope pump.

use std::sync::{Arc, Mutex};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::join;
use kwaainet_node::{KwaaiNetCore, serve_port};
use kwaainet_testkit::{CatalogueBuilder, ask, block_on, consent_record};
use kwaainet_types::{
    Command, Envelope, ErrorCode, Event, MOST_IN_FLIGHT, Message, Origin, PROTOCOL_VERSION, Purpose, Reply,
    Welcome,
};

use crate::home::{ALL, Home, NOW, model_file};

const URL: &str = "https://models.example/m.gguf";

fn home() -> Home {
    let file = model_file(1, 1);
    let home = Home::new(CatalogueBuilder::default().model("m", &file, &[URL]).deployment()).yielding();
    home.http.serve(URL, file);
    home
}

fn envelope(id: u32, message: Message) -> Envelope {
    Envelope {
        v: PROTOCOL_VERSION,
        id,
        message,
    }
}

fn question(number: u32, tokens: u32) -> Message {
    let mut request = ask(&format!("question {number}"));
    request.max_tokens = Some(tokens);
    Message::Command(Command::Chat {
        request,
        resume: vec![],
    })
}

/// Serves a port until `react` has hung up; returns everything that came out. `react` sees each message and may send.
fn serve(
    node: &Arc<KwaaiNetCore>,
    origin: Origin,
    first: Vec<Envelope>,
    mut react: impl FnMut(&Envelope, &mut Option<UnboundedSender<Envelope>>) + Send,
) -> Vec<Envelope> {
    let (sender, receiver) = unbounded();
    for envelope in first {
        sender.unbounded_send(envelope).unwrap();
    }
    let sender = Mutex::new(Some(sender));
    let out = Mutex::new(Vec::new());
    let react = Mutex::new(&mut react);
    block_on(serve_port(
        Arc::clone(node),
        origin,
        "e1".into(),
        receiver,
        |envelope: Envelope| {
            react.lock().unwrap()(&envelope, &mut sender.lock().unwrap());
            out.lock().unwrap().push(envelope);
        },
    ));
    out.into_inner().unwrap()
}

#[test]
fn greetings_pings_and_versions() {
    let node = home().node();
    let mut wrong = envelope(3, Message::Hello);
    wrong.v = 99;
    let first = vec![
        envelope(0, Message::Hello),
        envelope(9, Message::Ping),
        envelope(0, Message::Pong),
        wrong,
        envelope(4, Message::Reply(Reply::Done)),
        envelope(0, Message::Command(Command::Consent)),
        envelope(5, Message::Command(Command::Consent)),
    ];
    let out = serve(&node, Origin::Site, first, |envelope, sender| {
        if envelope.id == 5 {
            sender.take();
        }
    });
    let welcome = Welcome {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        epoch: "e1".into(),
    };
    assert_eq!(out[0], envelope(0, Message::Welcome(welcome)));
    assert_eq!(out[1], envelope(9, Message::Pong));
    let code = |at: usize| match &out[at].message {
        Message::Error(body) => (out[at].id, body.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(2), (3, ErrorCode::VersionMismatch));
    assert_eq!(code(3), (4, ErrorCode::BadRequest));
    assert_eq!(code(4), (0, ErrorCode::BadRequest));
    assert_eq!(
        out[5],
        envelope(5, Message::Reply(Reply::Consent { record: None }))
    );
}

#[test]
fn of_a_thousand_commands_at_once_each_is_answered_exactly_once() {
    let home = home();
    let node = home.agreed(ALL);
    let first = (1..=1000).map(|id| envelope(id, question(id, 2))).collect();
    let mut ends = 0;
    let out = serve(&node, Origin::Site, first, |envelope, sender| {
        if matches!(envelope.message, Message::Reply(_) | Message::Error(_)) {
            ends += 1;
            if ends == 1000 {
                sender.take();
            }
        }
    });
    let mut ids: Vec<u32> = out
        .iter()
        .filter(|envelope| matches!(envelope.message, Message::Reply(_) | Message::Error(_)))
        .map(|envelope| envelope.id)
        .collect();
    let replies = out
        .iter()
        .filter(|e| matches!(e.message, Message::Reply(_)))
        .count();
    let busy = out
        .iter()
        .filter(
            |e| matches!(&e.message, Message::Error(body) if body.code == ErrorCode::Busy && body.retryable),
        )
        .count();
    ids.sort_unstable();
    assert_eq!(ids, (1..=1000).collect::<Vec<u32>>());
    assert_eq!((replies, busy), (MOST_IN_FLIGHT, 1000 - MOST_IN_FLIGHT));
}

#[test]
fn chunks_come_before_the_reply_and_carry_its_id() {
    let home = home();
    let node = home.agreed(ALL);
    let out = serve(
        &node,
        Origin::Site,
        vec![envelope(7, question(1, 5))],
        |envelope, sender| {
            if matches!(envelope.message, Message::Reply(_) | Message::Error(_)) {
                sender.take();
            }
        },
    );
    let reply = out
        .iter()
        .position(|e| matches!(e.message, Message::Reply(_)))
        .unwrap();
    let chunks: Vec<usize> = (0..out.len())
        .filter(|at| matches!(out[*at].message, Message::Chunk(_)))
        .collect();
    assert!(chunks.len() >= 5 && chunks.iter().all(|at| *at < reply && out[*at].id == 7));
    assert!(
        out.iter()
            .any(|e| matches!(&e.message, Message::Event(Event::ModelChanged { status }) if status.loaded))
    );
}

#[test]
fn a_command_is_cancelled_by_its_id_and_the_others_go_on() {
    let home = home();
    let node = home.agreed(ALL);
    let first = vec![envelope(1, question(1, 400)), envelope(2, question(2, 3))];
    let mut deltas = 0;
    let mut ends = 0;
    let out = serve(&node, Origin::Site, first, |message, sender| {
        match &message.message {
            Message::Chunk(kwaainet_types::Chunk::Delta { .. }) if message.id == 1 => {
                deltas += 1;
                if deltas == 3 {
                    let sender = sender.as_ref().unwrap();
                    sender.unbounded_send(envelope(99, Message::Cancel)).unwrap();
                    sender.unbounded_send(envelope(1, Message::Cancel)).unwrap();
                }
            }
            Message::Reply(_) | Message::Error(_) => {
                ends += 1;
                if ends == 2 {
                    sender.take();
                }
            }
            _ => {}
        };
    });
    assert!(deltas < 20, "{deltas} pieces after the cancel");
    let replies: Vec<u32> = out
        .iter()
        .filter(|e| matches!(e.message, Message::Reply(Reply::Chat { .. })))
        .map(|e| e.id)
        .collect();
    assert_eq!(replies, [1, 2]);
}

#[test]
fn an_id_in_flight_cannot_be_used_again() {
    let home = home();
    let node = home.agreed(ALL);
    let first = vec![envelope(1, question(1, 3)), envelope(1, question(2, 3))];
    let out = serve(&node, Origin::Site, first, |envelope, sender| {
        if matches!(envelope.message, Message::Reply(_)) {
            sender.take();
        }
    });
    assert!(
        out.iter()
            .any(|e| matches!(&e.message, Message::Error(body) if body.code == ErrorCode::BadRequest))
    );
}

#[test]
fn a_port_that_closes_stops_what_it_asked_for_and_frees_the_engine() {
    let home = home();
    let node = home.agreed(ALL);
    let mut deltas = 0;
    serve(
        &node,
        Origin::Site,
        vec![envelope(1, question(1, 400))],
        |message, sender| {
            if matches!(
                message.message,
                Message::Chunk(kwaainet_types::Chunk::Delta { .. })
            ) {
                deltas += 1;
                if deltas == 3 {
                    sender.take();
                }
            }
        },
    );
    assert!(deltas < 10, "{deltas} pieces after the port closed");
    let out = serve(
        &node,
        Origin::Site,
        vec![envelope(2, question(2, 3))],
        |message, sender| {
            if matches!(message.message, Message::Reply(_) | Message::Error(_)) {
                sender.take();
            }
        },
    );
    assert!(out.iter().any(|e| matches!(e.message, Message::Reply(_))));
}

#[test]
fn what_a_port_may_ask_depends_on_who_holds_it() {
    let home = home();
    let node = home.node();
    let grant = || {
        let record = consent_record(&[Purpose::RunAi], NOW);
        vec![envelope(1, Message::Command(Command::Grant { record }))]
    };
    let stop = |message: &Envelope, sender: &mut Option<UnboundedSender<Envelope>>| {
        if message.id == 1 {
            sender.take();
        }
    };
    let out = serve(&node, Origin::Site, grant(), stop);
    assert!(matches!(&out[0].message, Message::Error(body) if body.code == ErrorCode::NotAllowed));
    let out = serve(&node, Origin::Panel, grant(), stop);
    assert!(out.iter().any(|e| e.message == Message::Reply(Reply::Done)));
}

#[test]
fn every_port_hears_what_happens() {
    let home = home();
    let node = home.node();
    let heard = Mutex::new(Vec::new());
    let (site, site_in) = unbounded();
    let (panel, panel_in) = unbounded();
    let record = consent_record(&[Purpose::RunAi], NOW);
    panel
        .unbounded_send(envelope(1, Message::Command(Command::Grant { record })))
        .unwrap();
    let ports = Mutex::new(Some((site, panel)));
    block_on(join(
        serve_port(
            Arc::clone(&node),
            Origin::Site,
            "e".into(),
            site_in,
            |message: Envelope| {
                heard.lock().unwrap().push(message);
                ports.lock().unwrap().take();
            },
        ),
        serve_port(
            Arc::clone(&node),
            Origin::Panel,
            "e".into(),
            panel_in,
            |_: Envelope| {},
        ),
    ));
    let purposes = vec![Purpose::RunAi];
    assert_eq!(
        heard.into_inner().unwrap(),
        [envelope(0, Message::Event(Event::ConsentChanged { purposes }))]
    );
}
