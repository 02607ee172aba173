//! `kwaainet serve`: OpenAI's HTTP for programs of this machine.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::Context;
use super::run::progress_only;
use crate::cli::Serve;
use crate::generator::Generator as _;
use crate::host::Host;
use crate::server::{App, Guard, Server};
use crate::ui::ProgressView;
use crate::{HostError, exit};

/// Next to the port that Ollama made usual for this kind of server.
pub(super) const PORT: u16 = 11_435;
/// Answers at the same time: from here on, each further one gains little on two processors.
const PARALLEL: usize = 4;
/// More caches than that are a mistake.
const MOST_PARALLEL: usize = 64;

pub(super) fn run(context: &Context, args: Serve) -> Result<u8, HostError> {
    let configured = context.settings.serve.clone();
    let host_name = args
        .host
        .or(configured.host)
        .unwrap_or_else(|| "127.0.0.1".to_owned());
    let api_key = args.api_key.or(configured.api_key).filter(|key| !key.is_empty());
    let origins = if args.allow_origin.is_empty() {
        configured.allow_origin
    } else {
        args.allow_origin
    };
    for origin in &origins {
        check_origin(origin)?;
    }
    let parallel = args.parallel.or(configured.parallel).unwrap_or(PARALLEL);
    if !(1..=MOST_PARALLEL).contains(&parallel) {
        return Err(HostError::Usage(format!("parallel: use 1 to {MOST_PARALLEL}")));
    }
    let cancel = context.interrupt.begin();
    // The address first: finding it taken after minutes of loading would be annoying.
    let server = Server::bind(&host_name, args.port.or(configured.port).unwrap_or(PORT))?;
    let loopback = server.address().ip().is_loopback();
    if !loopback {
        warn(server.address(), api_key.is_some());
    }
    let named = args.model.model.as_deref().or(context.settings.model.as_deref());
    let (host, model) = match named {
        Some(named) => Host::open_with_model(&context.settings, Some(named))?,
        None => first_of_catalogue(context)?,
    };
    host.core().set_answers_at_once(parallel);
    let progress = ProgressView::new(context.output);
    let loaded = host.load(&model, &progress_only(&progress), &cancel);
    progress.clear();
    loaded?;
    let url = format!("http://{}/v1", server.address());
    if context.output.json {
        context
            .output
            .json(&json!({ "url": url, "model": model, "port": server.address().port() }))?;
    } else {
        context
            .output
            .line(&format!("Serving {model} at {url} (Ctrl-C stops)"))?;
    }
    let platform = host.platform();
    let app = App {
        model,
        clock: Arc::clone(&platform.clock),
        random: Arc::clone(&platform.random),
        guard: Guard {
            origins,
            api_key,
            loopback,
        },
        generator: Arc::new(host),
    };
    server.run(app, &cancel)?;
    context.output.note("Stopped.");
    // Ctrl-C and SIGTERM are how a server is meant to end.
    Ok(exit::OK)
}

fn first_of_catalogue(context: &Context) -> Result<(Host, String), HostError> {
    let host = Host::open(&context.settings, None)?;
    let first = host.models()?.into_iter().next().map(|status| status.id);
    match first {
        Some(id) => Ok((host, id)),
        // Says what to do.
        None => context.settings.model(None).map(|id| (host, id)),
    }
}

fn check_origin(origin: &str) -> Result<(), HostError> {
    let authority = origin.split_once("://").map(|(_, rest)| rest);
    if origin == "*" || authority.is_some_and(|rest| !rest.is_empty() && !rest.contains('/')) {
        return Ok(());
    }
    Err(HostError::Usage(format!(
        "--allow-origin {origin}: an origin is scheme and host without a path, such as https://example.org"
    )))
}

/// Printed even when notes are off.
fn warn(address: std::net::SocketAddr, has_key: bool) {
    let key = if has_key {
        "They need the API key; it travels unencrypted."
    } else {
        "No --api-key is set: everybody who reaches it can use this machine."
    };
    drop(writeln!(
        std::io::stderr().lock(),
        "WARNING: {address} can be reached from other machines, without encryption. {key}\n\
         WARNING: leave out --host to serve this machine only."
    ));
}
