//! Pumps envelopes between one port and the node: greeting, version, ping, cancel by id, a bound on what is in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use kwaainet_platform::{BoxFuture, MaybeSend, MaybeSync, boxed};
use kwaainet_types::{
    Chunk, Command, Envelope, ErrorBody, ErrorCode, Event, MOST_IN_FLIGHT, Message, Origin, PROTOCOL_VERSION,
    Welcome,
};

use crate::cancel::Cancel;
use crate::core::KwaaiNetCore;

enum Next {
    Incoming(Option<Envelope>),
    Answered(u32),
    Happened(Option<Event>),
}

/// Serves one port until `incoming` ends, then stops whatever it had asked for.
///
/// Runs no task of its own: the adapter drives the returned future.
pub async fn serve_port(
    core: Arc<KwaaiNetCore>,
    origin: Origin,
    epoch: String,
    incoming: impl Stream<Item = Envelope> + MaybeSend,
    outgoing: impl Fn(Envelope) + MaybeSend + MaybeSync,
) {
    let outgoing = &outgoing;
    let core = &core;
    let mut incoming = std::pin::pin!(incoming);
    let mut events = core.events();
    let mut running: FuturesUnordered<BoxFuture<'_, u32>> = FuturesUnordered::new();
    let mut in_flight: BTreeMap<u32, Cancel> = BTreeMap::new();
    loop {
        let next = {
            let answered = std::pin::pin!(answered(&mut running));
            match select(incoming.next(), select(answered, events.next())).await {
                Either::Left((envelope, _)) => Next::Incoming(envelope),
                Either::Right((Either::Left((id, _)), _)) => Next::Answered(id),
                Either::Right((Either::Right((event, _)), _)) => Next::Happened(event),
            }
        };
        match next {
            Next::Incoming(None) | Next::Happened(None) => break,
            Next::Incoming(Some(envelope)) => {
                let Envelope { v, id, message } = envelope;
                if v != PROTOCOL_VERSION {
                    outgoing(error(id, wrong_version(v)));
                    continue;
                }
                match message {
                    Message::Hello => outgoing(envelope_of(id, Message::Welcome(welcome(&epoch)))),
                    Message::Ping => outgoing(envelope_of(id, Message::Pong)),
                    Message::Pong => {}
                    Message::Cancel => {
                        if let Some(cancel) = in_flight.get(&id) {
                            cancel.cancel();
                        }
                    }
                    Message::Command(command) => match admit(id, &in_flight) {
                        Err(refusal) => outgoing(error(id, refusal)),
                        Ok(cancel) => {
                            in_flight.insert(id, cancel.clone());
                            running.push(boxed(run(core, origin, id, command, cancel, outgoing)));
                        }
                    },
                    _ => outgoing(error(
                        id,
                        ErrorBody::new(ErrorCode::BadRequest, "only the node sends messages of this kind"),
                    )),
                }
            }
            Next::Answered(id) => {
                in_flight.remove(&id);
            }
            Next::Happened(Some(event)) => outgoing(envelope_of(0, Message::Event(event))),
        }
    }
    for cancel in in_flight.values() {
        cancel.cancel();
    }
}

/// The id of the next command that is done with; never resolves while there is none.
async fn answered(running: &mut FuturesUnordered<BoxFuture<'_, u32>>) -> u32 {
    match running.next().await {
        Some(id) => id,
        None => std::future::pending().await,
    }
}

/// The answer to something that is not an envelope; `id` is 0 unless it could be told.
pub fn not_an_envelope(id: u32, reason: &str) -> Envelope {
    error(
        id,
        ErrorBody::new(
            ErrorCode::BadRequest,
            format!("this is not a message of protocol {PROTOCOL_VERSION}: {reason}"),
        ),
    )
}

fn admit(id: u32, in_flight: &BTreeMap<u32, Cancel>) -> Result<Cancel, ErrorBody> {
    if id == 0 {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            "a command needs an id other than 0, or its answer could not be told apart",
        ));
    }
    if in_flight.contains_key(&id) {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!("a command with the id {id} is in flight already: use another id"),
        ));
    }
    if in_flight.len() >= MOST_IN_FLIGHT {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            format!(
                "{MOST_IN_FLIGHT} commands are in flight already: send it again when one has been answered"
            ),
        ));
    }
    Ok(Cancel::new())
}

async fn run(
    core: &KwaaiNetCore,
    origin: Origin,
    id: u32,
    command: Command,
    cancel: Cancel,
    outgoing: &(impl Fn(Envelope) + MaybeSend + MaybeSync),
) -> u32 {
    let out = |chunk: Chunk| outgoing(envelope_of(id, Message::Chunk(chunk)));
    let answer = core.dispatch(origin, command, &out, &cancel).await;
    outgoing(match answer {
        Ok(reply) => envelope_of(id, Message::Reply(reply)),
        Err(body) => error(id, body),
    });
    id
}

fn envelope_of(id: u32, message: Message) -> Envelope {
    Envelope {
        v: PROTOCOL_VERSION,
        id,
        message,
    }
}

fn error(id: u32, body: ErrorBody) -> Envelope {
    envelope_of(id, Message::Error(body))
}

fn wrong_version(v: u32) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::VersionMismatch,
        format!("the page speaks protocol {v}, the node {PROTOCOL_VERSION}: reload the page"),
    )
}

fn welcome(epoch: &str) -> Welcome {
    Welcome {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: epoch.to_owned(),
    }
}
