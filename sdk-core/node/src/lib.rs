//! The hub: one node that owns consent, models, the engine and the caps, and answers commands.
//!
//! It must not know a runtime, a browser or an operating system; adapters drive its futures and lend it a
//! [`Platform`](kwaainet_platform::Platform). Its entry type is [`KwaaiNetCore`]; [`serve_port`] connects it to a page.
//!
//! ```
//! use kwaainet_node::{Deployment, KwaaiNetCore};
//! use kwaainet_types::{ErrorCode, HostReport, RunAi, Tier};
//! let host = HostReport {
//!     host: "native".into(), backend: "cpu".into(), threads: 1, processors: 1,
//!     storage: "memory".into(), tier: Tier::T1, missing: vec![],
//! };
//! let node = KwaaiNetCore::new(kwaainet_platform::Platform::in_memory(), host, Deployment::default());
//! // Nobody has agreed to anything, so there is no permit to compute with.
//! assert_eq!(node.permit::<RunAi>().unwrap_err().code(), ErrorCode::ConsentRequired);
//! ```

mod activity;
mod batch;
mod calls;
mod cancel;
mod candle_engine;
pub mod catalogue;
mod chat;
pub mod cid;
mod consent;
mod core;
mod dispatch;
pub mod engine;
mod error;
mod events;
mod load;
pub mod manifest;
mod model_store;
mod models;
mod policy;
mod ready;
mod resources;
mod serve_port;
mod sharing;
mod trusted;
mod turn;

pub use cancel::Cancel;
pub use candle_engine::{CandelEngine, CandleEngine};
pub use core::{
    ContributionMetrics, Deployment, InferenceRequest, InferenceResponse, KwaaiNetCore, ModelHandle, Outlet,
};
pub use error::NodeError;
pub use events::Events;
pub use model_store::{ModelStore, Shelf};
pub use resources::ResourceManager;
pub use serve_port::{not_an_envelope, serve_port};
pub use sharing::{NetworkHost, PeerAddr};
