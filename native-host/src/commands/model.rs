//! `kwaainet model`: what is on this machine, and what could be.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::executor::block_on;
use kwaainet_network::{Address, PeerId};
use kwaainet_node::manifest::{ManifestOptions, of_file};
use kwaainet_p2p::Setup;
use kwaainet_platform::BlobInfo;
use kwaainet_types::{Chunk, ErrorCode, ModelSource, ModelStatus, Progress, Stage};
use serde_json::{Value, json};

use super::{Context, peer};
use crate::cli::{Manifest, ModelCommand};
use crate::generator::Generator as _;
use crate::host::{Host, id_of_file};
use crate::platform::{LocalFile, Node, open_node};
use crate::ui::{ProgressView, bytes, count};
use crate::{HostError, exit};

pub(super) fn run(context: &Context, command: ModelCommand) -> Result<u8, HostError> {
    match command {
        ModelCommand::Pull {
            id,
            bootstrap,
            private,
        } => pull(context, &id, &bootstrap, private.psk.as_deref()),
        ModelCommand::List => list(context),
        ModelCommand::Rm { ids } => rm(context, &ids),
        ModelCommand::Verify { ids } => verify(context, ids),
        ModelCommand::Manifest(args) => manifest(context, args),
    }
}

fn pull(context: &Context, id: &str, bootstrap: &[String], psk: Option<&Path>) -> Result<u8, HostError> {
    let known = peer::known(bootstrap)?;
    let cancel = context.interrupt.begin();
    let host = Host::open(&context.settings, None)?;
    let joined = if known.is_empty() {
        None
    } else {
        Some(join(context, &host, known, psk)?)
    };
    let progress = ProgressView::new(context.output);
    let brought = Mutex::new((0, 0));
    let listen = |chunk: Chunk| {
        if let Chunk::Progress { progress: told } = chunk {
            if told.stage == Stage::Fetch {
                *brought.lock().unwrap_or_else(PoisonError::into_inner) = (told.from_peers, told.peers);
            }
            progress.show(&told);
        }
    };
    let pulled = host.pull(id, &listen, &cancel);
    progress.clear();
    if let Some(node) = joined {
        host.core().set_network(None);
        node.runtime.shutdown_timeout(Duration::from_secs(1));
    }
    let source = match pulled {
        Err(error) if error.code() == ErrorCode::Cancelled && !context.output.json => {
            context
                .output
                .note("Stopped. What has arrived is kept: the same command goes on from there.");
            return Ok(exit::INTERRUPTED);
        }
        other => other?,
    };
    let path = context.settings.models_dir().join(format!("{id}.gguf"));
    let (from_peers, peers) = *brought.lock().unwrap_or_else(PoisonError::into_inner);
    if context.output.json {
        context.output.json(&json!({
            "id": id, "path": path, "source": source, "from_peers": from_peers, "peers": peers,
        }))?;
        return Ok(exit::OK);
    }
    let how = match (source, peers) {
        (ModelSource::Network, 0) => "fetched and verified".to_owned(),
        (ModelSource::Network, peers) => format!(
            "fetched and verified, {} of it from {}",
            bytes(from_peers),
            count(peers as usize)
        ),
        _ => "already here".to_owned(),
    };
    context
        .output
        .line(&format!("{id}: {how} ({})", path.display()))?;
    Ok(exit::OK)
}

/// Connects to peers as nobody in particular: this machine's own key may be in use by `kwaainet peer`.
fn join(
    context: &Context,
    host: &Host,
    known: Vec<(PeerId, Address)>,
    psk: Option<&Path>,
) -> Result<Node, HostError> {
    let node = open_node(None, &Setup::default(), psk)?;
    host.core().grant_peer_operator();
    host.core()
        .set_network(Some((Arc::new(node.network.clone()), node.keypair.clone())));
    let asked = known.len();
    let reached = node.runtime.block_on(node.network.bootstrap(known));
    if reached == 0 {
        context.output.note(&format!(
            "None of {asked} known peers answers; the catalogue's servers are asked alone."
        ));
    }
    Ok(node)
}

/// Model files on this machine.
fn stored(host: &Host) -> Result<Vec<(String, u64)>, HostError> {
    let blobs = block_on(host.platform().store.list())?;
    let model = |BlobInfo { name, size }: BlobInfo| Some((name.strip_suffix(".gguf")?.to_owned(), size));
    Ok(blobs.into_iter().filter_map(model).collect())
}

fn list(context: &Context) -> Result<u8, HostError> {
    let host = Host::open(&context.settings, None)?;
    let known = host.models()?;
    let others: Vec<(String, u64)> = stored(&host)?
        .into_iter()
        .filter(|(id, _)| !known.iter().any(|status| status.id == *id))
        .collect();
    if context.output.json {
        let known = known.iter().map(status_json);
        let others = others
            .iter()
            .map(|(id, size)| json!({ "id": id, "stored_bytes": size, "in_catalogue": false }));
        context.output.json(&known.chain(others).collect::<Vec<_>>())?;
        return Ok(exit::OK);
    }
    if known.is_empty() && others.is_empty() {
        context.output.note(if context.settings.catalogue.is_none() {
            "No models, and no catalogue to fetch them from: pass --catalogue with the URL or file of a models.json."
        } else {
            "The catalogue has no models."
        });
        return Ok(exit::OK);
    }
    let width = known
        .iter()
        .map(|status| status.id.len())
        .chain(others.iter().map(|(id, _)| id.len()));
    let width = width.max().unwrap_or(0).max(2);
    context.output.line(&format!(
        "{:width$}  {:>9}  {:8}  {:12}  LICENCE",
        "ID", "SIZE", "FORMAT", "HERE"
    ))?;
    for status in &known {
        context.output.line(&format!(
            "{:width$}  {:>9}  {:8}  {:12}  {}",
            status.id,
            bytes(status.bytes),
            status.quantisation,
            here(status),
            status.licence
        ))?;
    }
    for (id, size) in &others {
        context.output.line(&format!(
            "{id:width$}  {:>9}  {:8}  {:12}  (not in this catalogue)",
            bytes(*size),
            "",
            "unverified"
        ))?;
    }
    Ok(exit::OK)
}

fn here(status: &ModelStatus) -> String {
    match (status.stored_bytes, status.bytes) {
        (0, _) => "-".to_owned(),
        (stored, all) if stored >= all => "yes".to_owned(),
        (stored, all) => format!("{} %", stored.saturating_mul(100) / all.max(1)),
    }
}

fn status_json(status: &ModelStatus) -> Value {
    json!({
        "id": status.id, "name": status.name, "bytes": status.bytes, "stored_bytes": status.stored_bytes,
        "licence": status.licence, "quantisation": status.quantisation, "context_length": status.context_length,
        "in_catalogue": true,
    })
}

fn rm(context: &Context, ids: &[String]) -> Result<u8, HostError> {
    let host = Host::open(&context.settings, None)?;
    let here = stored(&host)?;
    // All or nothing for misspelt names: nobody wants half of it done.
    for id in ids {
        if !here.iter().any(|(stored, _)| stored == id) {
            let known: Vec<&str> = here.iter().map(|(id, _)| id.as_str()).collect();
            let known = if known.is_empty() {
                "none is".to_owned()
            } else {
                format!("here are {}", known.join(", "))
            };
            return Err(HostError::node(
                ErrorCode::ModelNotFound,
                format!("the model {id:?} is not on this machine: {known}"),
            ));
        }
    }
    for id in ids {
        block_on(host.core().delete_model(id))?;
        let size = here
            .iter()
            .find(|(stored, _)| stored == id)
            .map_or(0, |(_, size)| *size);
        if context.output.json {
            context.output.json(&json!({ "id": id, "deleted_bytes": size }))?;
        } else {
            context
                .output
                .line(&format!("{id}: deleted, {} freed", bytes(size)))?;
        }
    }
    Ok(exit::OK)
}

fn verify(context: &Context, ids: Vec<String>) -> Result<u8, HostError> {
    let cancel = context.interrupt.begin();
    let host = Host::open(&context.settings, None)?;
    let known = host.models()?;
    let ids = if ids.is_empty() {
        known
            .iter()
            .filter(|status| status.stored_bytes > 0)
            .map(|status| status.id.clone())
            .collect()
    } else {
        ids
    };
    if ids.is_empty() {
        context
            .output
            .note("There is no model of the catalogue on this machine.");
    }
    let mut broken = 0_usize;
    for id in &ids {
        let status = known.iter().find(|status| status.id == *id);
        let complete = status.is_some_and(|status| status.stored_bytes >= status.bytes);
        let bad = block_on(host.core().verify_model(&host.permit()?, id, &cancel))?;
        if context.output.json {
            context
                .output
                .json(&json!({ "id": id, "ok": bad.is_empty(), "complete": complete, "bad_chunks": bad }))?;
        } else if !bad.is_empty() {
            let count = bad.len();
            context.output.line(&format!(
                "{id}: {count} wrong chunk(s) of 1 MiB, thrown away; `kwaainet model pull {id}` fetches them again"
            ))?;
        } else if complete {
            context.output.line(&format!("{id}: every byte is as signed"))?;
        } else {
            context.output.line(&format!(
                "{id}: what is here is as signed, but it is not complete"
            ))?;
        }
        broken = broken.saturating_add(bad.len());
    }
    Ok(if broken == 0 { exit::OK } else { exit::INTEGRITY })
}

fn manifest(context: &Context, args: Manifest) -> Result<u8, HostError> {
    let file = LocalFile::open(&args.file)?;
    let options = ManifestOptions {
        id: args.id.unwrap_or_else(|| id_of_file(&args.file)),
        name: args.name,
        licence: args.licence,
        sources: args.sources,
        smallest_tier: None,
    };
    let view = ProgressView::new(context.output);
    let model = options.id.clone();
    let show = |done: u64, total: u64| {
        view.show(&Progress {
            model: model.clone(),
            stage: Stage::Load,
            done,
            total,
            from_peers: 0,
            peers: 0,
            bytes_per_second: None,
        });
    };
    let entry = block_on(of_file(&file, options, &show));
    view.clear();
    let entry = entry?;
    // JSON either way: it is a file for `kwaainet catalogue sign`.
    let text = serde_json::to_string_pretty(&entry).map_err(std::io::Error::from)?;
    context.output.line(&text)?;
    if entry.licence == "unknown" {
        context
            .output
            .note("The file names no licence: pass --licence, so that people know what they may do.");
    }
    if entry.sources.is_empty() {
        context
            .output
            .note("No --source is given: the entry says what the file is, and not where to fetch it.");
    }
    Ok(exit::OK)
}
