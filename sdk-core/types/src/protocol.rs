//! The only types that cross between page and node. tsify writes their TypeScript.
//!
//! Every message is an [`Envelope`] `{v, id, kind, body}`. A command is answered by any number of chunks and
//! then one reply or one error with the same id; events carry id 0. What a port may ask depends on who holds
//! its other end ([`Origin`]), never on what a message claims.

use serde::{Deserialize, Serialize};

use crate::{
    ChatDelta, ChatDone, ChatRequest, ConsentRecord, ErrorBody, ModelEntry, NetworkStatus, NodeConfig,
    Purpose, Tier,
};

/// Version of the protocol; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// Commands that one port may have in flight; one more is answered with `busy`.
pub const MOST_IN_FLIGHT: usize = 64;

/// Largest message accepted, in bytes of its JSON.
pub const MOST_MESSAGE_BYTES: usize = 16 << 20;

/// Who holds the other end of a port. Set by the host when the port is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Origin {
    /// The website's page, or anything that can pose as it.
    Site,
    /// Our own consent panel or assistant, on our origin.
    Panel,
    /// Whoever started the program.
    Operator,
}

/// What may be asked of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Command {
    /// Sets or changes the configuration. A site may only lower the caps a visitor has agreed to.
    Configure {
        /// The configuration.
        config: NodeConfig,
    },
    /// Records what the visitor decided. Panel and operator only.
    Grant {
        /// The decision.
        record: ConsentRecord,
    },
    /// Ends all consent and deletes everything that was kept. Panel and operator only.
    Withdraw,
    /// What the visitor agreed to.
    Consent,
    /// What this device and host can do, and why not more.
    Capabilities,
    /// The models of the catalogue and which of them are on this device.
    Models,
    /// Fetches (if need be) and loads a model. Progress comes as chunks.
    LoadModel {
        /// Model id; the configured one when absent.
        model: Option<String>,
    },
    /// Deletes a model from this device. Panel and operator only.
    DeleteModel {
        /// Model id.
        model: String,
    },
    /// Answers a conversation. Loads the model first if need be; deltas come as chunks.
    Chat {
        /// The request.
        request: ChatRequest,
        /// Tokens that an interrupted answer had already delivered; the answer goes on after them.
        #[serde(default)]
        resume: Vec<u32>,
    },
    /// The node among others.
    Network,
    /// Joins the network of peers, and answers when somebody is connected. Needs consent to help others.
    JoinNetwork {
        /// Addresses of peers to call, beside those of the configuration.
        #[serde(default)]
        peers: Vec<String>,
    },
    /// Leaves it, until asked to join again.
    LeaveNetwork,
}

/// Final answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// To `consent`.
    Consent {
        /// The record in force, if any.
        record: Option<ConsentRecord>,
    },
    /// To `capabilities`.
    Capabilities {
        /// The report.
        capabilities: Capabilities,
    },
    /// To `models`.
    Models {
        /// Each model and its state on this device.
        models: Vec<ModelStatus>,
    },
    /// To `loadModel`.
    Loaded {
        /// Model id.
        model: String,
        /// Where its bytes came from this time.
        source: ModelSource,
    },
    /// To `chat`.
    Chat {
        /// The end of the answer.
        done: ChatDone,
    },
    /// To `network` and `joinNetwork`.
    Network {
        /// Who is connected.
        network: NetworkStatus,
    },
}

/// Pieces before the final answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Chunk {
    /// Of a model being fetched or loaded.
    Progress {
        /// How far.
        progress: Progress,
    },
    /// Of an answer.
    Delta {
        /// The piece.
        delta: ChatDelta,
    },
}

/// Things that happen without being asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Event {
    /// Consent was given, changed or withdrawn. Sites learn the purposes, nothing else.
    ConsentChanged {
        /// Purposes in force.
        purposes: Vec<Purpose>,
    },
    /// A model's state on this device changed.
    ModelChanged {
        /// The model.
        status: ModelStatus,
    },
    /// A model is being fetched or loaded, whoever asked for it.
    Progress {
        /// How far.
        progress: Progress,
    },
    /// Peers came or went, or something was said to them. At most once a second.
    NetworkChanged {
        /// Who is connected; without addresses.
        network: NetworkStatus,
    },
    /// Something that a developer should know.
    Warning {
        /// What, and what to do.
        message: String,
    },
}

/// The envelope of every message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub v: u32,
    /// Correlates a command with its chunks and its end; 0 where there is none.
    pub id: u32,
    /// Kind and body.
    #[serde(flatten)]
    pub message: Message,
}

/// What is in an envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Message {
    /// Page to node: are you there?
    Hello,
    /// Node to page: I am.
    Welcome(Welcome),
    /// Page to node.
    Command(Command),
    /// Page to node: stop the command with this envelope's id.
    Cancel,
    /// Node to page.
    Chunk(Chunk),
    /// Node to page: the command succeeded.
    Reply(Reply),
    /// Node to page: the command failed.
    Error(ErrorBody),
    /// Node to page.
    Event(Event),
    /// Either way: still alive?
    Ping,
    /// The answer to a ping.
    Pong,
}

/// The node's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Welcome {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Version of the node.
    pub version: String,
    /// Changes with every start, so that the page notices that a node died.
    pub epoch: String,
}

/// How far a fetch or load has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Progress {
    /// Model id.
    pub model: String,
    /// What is being done.
    pub stage: Stage,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Of the bytes that this fetch has brought, those that came from peers.
    pub from_peers: u64,
    /// Peers that they came from.
    pub peers: u32,
    /// Bytes per second over the last seconds; absent until it is known.
    pub bytes_per_second: Option<f64>,
}

/// What is being done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Stage {
    /// Bytes arrive and are verified.
    Fetch,
    /// Weights are read into memory.
    Load,
    /// A connection broke; it goes on by itself.
    Retry,
}

/// Where a model's bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum ModelSource {
    /// It was in memory.
    Memory,
    /// It was on this device.
    Device,
    /// Some or all came over the network.
    Network,
}

/// A model and its state on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ModelStatus {
    /// Model id.
    pub id: String,
    /// Name shown to people.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// SPDX id or name.
    pub licence: String,
    /// Quantisation.
    pub quantisation: String,
    /// Longest context.
    pub context_length: u32,
    /// Verified bytes on this device.
    pub stored_bytes: u64,
    /// In memory and ready.
    pub loaded: bool,
}

impl ModelStatus {
    /// The status of a model of which nothing is here yet.
    pub fn of(entry: &ModelEntry) -> Self {
        Self {
            id: entry.id.clone(),
            name: entry.name.clone(),
            bytes: entry.bytes,
            licence: entry.licence.clone(),
            quantisation: entry.quantisation.clone(),
            context_length: entry.context_length,
            stored_bytes: 0,
            loaded: false,
        }
    }
}

/// What the host found out about itself; the node adds the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct HostReport {
    /// `worker`, `service-worker`, `page` or `native`.
    pub host: String,
    /// What computes, e.g. `wasm simd128`.
    pub backend: String,
    /// Threads in use.
    pub threads: u32,
    /// Logical processors of the device.
    pub processors: u32,
    /// `opfs-sync`, `opfs`, `indexeddb`, `files` or `memory`.
    pub storage: String,
    /// Highest tier reached.
    pub tier: Tier,
    /// Each rung of the ladder that was missing, and what was done instead.
    pub missing: Vec<Missing>,
}

/// Something that the device or browser does not offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Missing {
    /// What is missing, e.g. `crossOriginIsolated`.
    pub what: String,
    /// What happens instead.
    pub instead: String,
}

/// The capability report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Capabilities {
    /// What the host found.
    pub host: HostReport,
    /// Caps in force.
    pub limits: crate::ResourceLimits,
    /// Purposes that the visitor agreed to.
    pub purposes: Vec<Purpose>,
    /// Architectures that can be run.
    pub architectures: Vec<String>,
    /// Quantisations that can be run.
    pub quantisations: Vec<String>,
}
