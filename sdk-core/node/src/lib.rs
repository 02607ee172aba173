//! `kwaainet-node`
mod cancel;
pub mod catalogue;
pub mod cid;
mod consent;
mod error;
mod events;
mod model_store;
mod resources;
mod turn;
pub use cancel::Cancel;
pub use error::NodeError;
pub use events::Events;
pub use model_store::{ModelStore, Shelf};
pub use resources::ResourceManager;
