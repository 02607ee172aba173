//! `kwaainet perplexity`: exp of the mean negative log-likelihood of a text's tokens.
//!
//! The text is cut into windows of at most the context (or `--window`). Each begins with the model's token for the
//! beginning of a text, if it wants one, and every token behind a window's first is scored with what precedes it
//! in the window.

use std::sync::Arc;

use kwaainet_engine::Session;
use kwaainet_engine::tokenizer::EncodeOptions;
use serde_json::json;

use super::run::progress_only;
use super::{Context, per_second, read_input};
use crate::cli::Perplexity;
use crate::host::Host;
use crate::ui::ProgressView;
use crate::{HostError, exit};

pub(super) fn run(context: &Context, args: &Perplexity) -> Result<u8, HostError> {
    let cancel = context.interrupt.begin();
    let text = read_input()?;
    let host = Host::open(&context.settings, None)?;
    let clock = &host.platform().clock;
    let progress = ProgressView::new(context.output);
    let (_, file) = host.file(args.model.model.as_deref(), &progress_only(&progress), &cancel)?;
    progress.clear();
    let begun = clock.monotonic_ms();
    let model = Arc::new(host.engine(&*file)?);
    let load_ms = clock.monotonic_ms() - begun;
    let permit = host.permit()?;
    let tokenizer = model.tokenizer();
    let plain = EncodeOptions {
        add_special: false,
        parse_special: false,
    };
    let tokens = tokenizer
        .encode(&text, plain)
        .map_err(kwaainet_engine::EngineError::from)?;
    let bos: Vec<u32> = tokenizer
        .bos()
        .filter(|_| tokenizer.adds_bos())
        .into_iter()
        .collect();
    let window = args
        .window
        .map_or(usize::MAX, |window| window as usize)
        .min(model.context_length());
    let body = window.saturating_sub(bos.len()).max(1);
    let mut session = Session::new(Arc::clone(&model))?;
    let begun = clock.monotonic_ms();
    let (mut sum, mut scored) = (0.0_f64, 0_u32);
    for piece in tokens.chunks(body) {
        if cancel.is_cancelled() {
            return Ok(exit::INTERRUPTED);
        }
        let sequence: Vec<u32> = bos.iter().chain(piece).copied().collect();
        if sequence.len() < 2 {
            continue;
        }
        for score in session.score(&permit, &sequence)? {
            sum -= f64::from(score);
            scored = scored.saturating_add(1);
        }
    }
    let ms = clock.monotonic_ms() - begun;
    if scored == 0 {
        return Err(HostError::Usage(
            "the text is too short: at least two tokens are needed".to_owned(),
        ));
    }
    let nll = sum / f64::from(scored);
    if context.output.json {
        context.output.json(&json!({
            "perplexity": nll.exp(), "nll": nll, "tokens": tokens.len(), "scored_tokens": scored, "window": window,
            "timings": { "load_ms": load_ms, "score_ms": ms, "tokens_per_second": per_second(scored, ms) },
        }))?;
    } else {
        context.output.line(&format!("{:.4}", nll.exp()))?;
        context.output.aside(&format!(
            "[{scored} tokens scored in windows of {window}, {:.1} tokens/s]",
            per_second(scored, ms)
        ));
    }
    Ok(exit::OK)
}
