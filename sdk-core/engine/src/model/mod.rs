//! From a model file to weights in memory.

mod config;
mod info;
mod load;
mod rope;
mod tensors;

pub(crate) use config::{Activation, Config, RopeKind};
pub use info::{ModelInfo, check_runnable};
#[cfg(feature = "candle")]
pub(crate) use load::read_weights;
pub use load::{LoadOptions, LoadedModel, MemoryPlan, Progress};
pub(crate) use rope::{Rope, RopeFactors};
pub(crate) use tensors::{Part, Role, TensorMap, Use};
