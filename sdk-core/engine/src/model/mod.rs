//! From a model file to weights in memory.

mod blocks;
mod config;
mod info;
mod load;
mod rope;
mod tensors;
mod weights;

pub use blocks::ModelBlocks;
pub(crate) use config::{Activation, Config, RopeKind};
pub use info::{ModelInfo, check_runnable};
pub use load::{LoadOptions, LoadedModel, MemoryPlan, Progress};
pub(crate) use rope::{Rope, RopeFactors};
pub(crate) use tensors::{Part, Role, TensorMap, Use};
#[cfg(feature = "candle")]
pub(crate) use weights::read_weights;
