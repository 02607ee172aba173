//! `kwaainet tokenize`: the token ids of a text. Reads the header of the model file only.

use futures::executor::block_on;
use kwaainet_engine::EngineError;
use kwaainet_engine::gguf::Gguf;
use kwaainet_engine::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::json;

use super::run::progress_only;
use super::{Context, read_input};
use crate::cli::Tokenize;
use crate::host::Host;
use crate::ui::ProgressView;
use crate::{HostError, exit};

pub(super) fn run(context: &Context, args: &Tokenize) -> Result<u8, HostError> {
    let cancel = context.interrupt.begin();
    let text = read_input()?;
    let host = Host::open(&context.settings, None)?;
    let progress = ProgressView::new(context.output);
    let (_, file) = host.file(args.model.model.as_deref(), &progress_only(&progress), &cancel)?;
    progress.clear();
    let gguf = block_on(Gguf::read(&*file)).map_err(EngineError::from)?;
    let tokenizer = Tokenizer::from_metadata(&gguf.metadata).map_err(EngineError::from)?;
    let options = EncodeOptions {
        add_special: args.bos,
        parse_special: !args.no_special,
    };
    let ids = tokenizer.encode(&text, options).map_err(EngineError::from)?;
    if context.output.json {
        context.output.json(&json!({ "token_ids": ids }))?;
    } else {
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        context.output.line(&words.join(" "))?;
    }
    Ok(exit::OK)
}
