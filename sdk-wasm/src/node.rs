//! Starts a node in this worker and connects it to ports.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use js_sys::Function;
use kwaainet_browser::{BrowserClock, BrowserRandom, spawn};
use kwaainet_node::{Deployment, KwaaiNetCore, serve_port};
use kwaainet_platform::Platform;
use kwaainet_types::{HostReport, Origin, Tier};
use serde::Deserialize;
use tsify::Tsify;
use wasm_bindgen::prelude::*;

use crate::platform::blob_store;
use crate::platform::http::BrowserHttp;
use crate::platform::network::WorkerNetwork;
use crate::port::{Attached, PortLike, listen, write};
use crate::threads;

/// How a node is to be started.
#[derive(Deserialize, Tsify)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StartOptions {
    /// What the host found out. Storage, threads and tier are corrected to what was really reached.
    host_report: HostReport,
    /// Where models come from.
    deployment: DeploymentOptions,
    /// Best store to use: `opfs-sync` (dedicated workers), `indexeddb`, or `memory`.
    storage: String,
    /// Threads to compute with, at most; more than one only in the build with threads.
    threads: u32,
    /// Script of a pool thread.
    pool_url: Option<String>,
}

/// Where models come from.
#[derive(Deserialize, Tsify)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeploymentOptions {
    /// Absolute URL of `models.json`.
    catalogue_url: Option<String>,
    /// Ed25519 public key that it must be signed with, as 64 hexadecimal digits.
    catalogue_key: Option<String>,
}

/// A node that runs in this worker.
#[wasm_bindgen]
pub struct NodeHandle {
    core: Arc<KwaaiNetCore>,
    epoch: String,
    ports: Rc<RefCell<Vec<Attached>>>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// Starts the node. To be called once in a worker, after its user agreed.
///
/// `start_network` starts a worker with libp2p in it, for those who agree to help others.
///
/// # Errors
/// A sentence, where the options make no sense.
#[wasm_bindgen]
pub async fn start_node(
    #[wasm_bindgen(unchecked_param_type = "StartOptions")] options: JsValue,
    #[wasm_bindgen(
        unchecked_optional_param_type = "(seed: Uint8Array, known: string[]) => { port: MessagePort; end: () => void }"
    )]
    start_network: Option<Function>,
) -> Result<NodeHandle, JsError> {
    let options: StartOptions = serde_wasm_bindgen::from_value(options)
        .map_err(|error| JsError::new(&format!("start_node: {error}")))?;
    let mut report = options.host_report;
    let chosen = blob_store::choose(&options.storage).await;
    report.storage = chosen.name.to_owned();
    report.missing.extend(chosen.missing);
    let pool = threads::start(options.threads, options.pool_url.as_deref()).await;
    report.missing.extend(pool.missing);
    let width = pool.parallel.width();
    report.threads = u32::try_from(width).unwrap_or(u32::MAX);
    report.tier = if width > 1 { Tier::T2 } else { Tier::T1 };
    // The node adds the number of threads.
    report.backend = if cfg!(target_feature = "relaxed-simd") {
        "wasm relaxed-simd".to_owned()
    } else {
        "wasm simd128".to_owned()
    };
    let no_channel = |_| JsError::new("this worker has no MessageChannel");
    let platform = Platform {
        clock: shared(BrowserClock::new().map_err(no_channel)?),
        random: Arc::new(BrowserRandom),
        store: chosen.store,
        http: shared(BrowserHttp::new().map_err(no_channel)?),
        parallel: pool.parallel,
        processors: report.processors.max(1) as usize,
    };
    let epoch = format!("{:016x}", platform.random.next_u64());
    let deployment = Deployment {
        catalogue_url: options.deployment.catalogue_url,
        catalogue_key: options.deployment.catalogue_key.as_deref().map(key).transpose()?,
        catalogue: None,
    };
    let core = KwaaiNetCore::new(platform, report, deployment);
    let network = WorkerNetwork(start_network);
    spawn({
        let core = Arc::clone(&core);
        async move { core.take_part(&network).await }
    });
    Ok(NodeHandle {
        core,
        epoch,
        ports: Rc::default(),
    })
}

/// The core asks for an `Arc`; in a browser it never leaves its thread.
fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}

fn key(hex: &str) -> Result<[u8; 32], JsError> {
    let mut key = [0; 32];
    hex::decode_to_slice(hex, &mut key).map_err(|error| {
        JsError::new(&format!(
            "the catalogue's key is not 64 hexadecimal digits: {error}"
        ))
    })?;
    Ok(key)
}

#[wasm_bindgen]
impl NodeHandle {
    /// Changes with every start.
    #[wasm_bindgen(getter)]
    pub fn epoch(&self) -> String {
        self.epoch.clone()
    }

    /// Serves a port, whose other end `origin` holds, until it is closed or detached.
    ///
    /// # Errors
    /// When there is no such origin.
    pub fn attach(
        &self,
        port: PortLike,
        #[wasm_bindgen(unchecked_param_type = "Origin")] origin: JsValue,
    ) -> Result<(), JsError> {
        let origin: Origin = serde_wasm_bindgen::from_value(origin)
            .map_err(|error| JsError::new(&format!("attach: {error}")))?;
        let ports = Rc::downgrade(&self.ports);
        let (attached, incoming) = listen(port.clone(), move |port| {
            if let Some(ports) = ports.upgrade() {
                remove(&ports, port.clone());
            }
        });
        self.ports.borrow_mut().push(attached);
        let outgoing = move |envelope| write(&port, &envelope);
        spawn(serve_port(
            Arc::clone(&self.core),
            origin,
            self.epoch.clone(),
            incoming,
            outgoing,
        ));
        Ok(())
    }

    /// Stops serving a port; what it had in flight is cancelled.
    pub fn detach(&self, port: PortLike) {
        remove(&self.ports, port);
    }
}

/// Not at once: this may be called by the very listener that it drops.
fn remove(ports: &Rc<RefCell<Vec<Attached>>>, port: PortLike) {
    let ports = Rc::clone(ports);
    spawn(async move { ports.borrow_mut().retain(|attached| attached.port != port) });
}
