//! Runs language models from GGUF files: in a browser, natively, on one thread or several.
//!
//! It knows numbers and text, and nothing of networks, storage, consent panels or clocks: a model comes from a
//! [`ReadAt`](kwaainet_platform::ReadAt), spare processors from [`Parallel`](kwaainet_platform::Parallel), and leave to
//! compute from a [`Permit`](kwaainet_types::Permit).
//!
//! ```
//! use kwaainet_engine::gguf::{Gguf, GgufError};
//! // A header can be judged from its first bytes, long before the tensors are there.
//! let error = Gguf::parse(b"PK\x03\x04....", 1 << 20).unwrap_err();
//! assert!(matches!(error, GgufError::WrongMagic { .. }));
//! ```

mod backend;
mod block_session;
#[cfg(feature = "candle")]
pub mod candle_reference;
mod chat_template;
mod constraint;
mod draft;
mod error;
mod executor;
mod generation;
pub mod gguf;
mod grammar;
mod model;
mod sampler;
mod session;
mod text;
pub mod tokenizer;
mod tools;

pub use backend::KvFormat;
pub use block_session::{BlockInput, BlockSession, Wanted};
pub use chat_template::{ChatTemplate, RenderOptions, TemplateError};
pub use error::EngineError;
pub use generation::{Generation, GenerationOptions, Step, Usage};
pub use grammar::{Grammar, GrammarError};
pub use model::{LoadOptions, LoadedModel, MemoryPlan, ModelBlocks, ModelInfo, Progress, check_runnable};
pub use sampler::{OptionsError, Sampler, SamplerOptions};
pub use session::{Choose, Session};
pub use text::TextStream;
pub use tools::{ToolFormat, ToolStream, check_tools};
