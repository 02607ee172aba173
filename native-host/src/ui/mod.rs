//! What a person sees: progress on standard error, results on standard output, Ctrl-C.

mod interrupt;
mod output;
mod progress;

pub use interrupt::Interrupt;
pub(crate) use output::stderr_is_terminal;
pub use output::{Output, bytes, count};
pub use progress::ProgressView;
