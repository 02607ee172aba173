//! `kwaainet bench`: prefill and decode speed of a model on this machine.

use std::sync::Arc;

use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{LoadedModel, Sampler, SamplerOptions, Session};
use kwaainet_types::{ErrorCode, Permit, RunAi};
use serde_json::json;

mod memory;
mod together;

use super::run::progress_only;
use super::{Context, per_second};
use crate::cli::Bench;
use crate::host::Host;
use crate::ui::{ProgressView, bytes};
use crate::{HostError, exit, machine};

/// Repeated until there are enough tokens; what it says does not matter to the arithmetic.
const TEXT: &str =
    "The quick brown fox jumps over the lazy dog, and 42 engineers measure how long it takes. ";
/// Tokens of the prompt that are evaluated between two looks at Ctrl-C.
const SLICE: usize = 128;

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Times {
    prefill_ms: f64,
    decode_ms: f64,
}

pub(super) fn run(context: &Context, args: &Bench) -> Result<u8, HostError> {
    let cancel = context.interrupt.begin();
    let mut settings = context.settings.clone();
    settings.context = settings
        .context
        .max(args.prompt_tokens.saturating_add(args.decode_tokens));
    let host = Host::open(&settings, None)?;
    let clock = &host.platform().clock;
    let progress = ProgressView::new(context.output);
    let (id, file) = host.file(args.model.model.as_deref(), &progress_only(&progress), &cancel)?;
    progress.clear();
    let begun = clock.monotonic_ms();
    let model = Arc::new(host.engine(&*file)?);
    let load_ms = clock.monotonic_ms() - begun;
    let needed = args.prompt_tokens.saturating_add(args.decode_tokens) as usize;
    if needed > model.context_length() {
        return Err(HostError::node(
            ErrorCode::ContextTooLong,
            format!(
                "{needed} tokens do not fit into the model's context of {}",
                model.context_length()
            ),
        ));
    }
    let prompt = prompt(&model, args.prompt_tokens as usize)?;
    let permit = host.permit()?;
    let mut runs = Vec::new();
    for number in 1..=args.repeat {
        context.output.note(&format!("Run {number} of {}", args.repeat));
        let now = || clock.monotonic_ms();
        let Some(times) = measure(&model, &prompt, args.decode_tokens, &permit, &now, &cancel)? else {
            return Ok(exit::INTERRUPTED);
        };
        runs.push(times);
    }
    let prefill_ms = median(runs.iter().map(|run| run.prefill_ms).collect());
    let decode_ms = median(runs.iter().map(|run| run.decode_ms).collect());
    let prefill = per_second(args.prompt_tokens, prefill_ms);
    let decode = per_second(args.decode_tokens, decode_ms);
    // What comes below needs memory that answers do not.
    let peak_memory = machine::peak_memory();
    let now = || clock.monotonic_ms();
    let bandwidth = memory::bandwidth(model.decode_bytes(), &*host.platform().parallel, &now);
    // Of a decode, without the cache: the longer the context, the more comes on top.
    let share = bandwidth.map(|bandwidth| decode * model.decode_bytes() as f64 / bandwidth);
    let answers = args.parallel as usize;
    let together = if answers > 1 {
        let tokens = args.decode_tokens;
        let speed = together::decode(&model, &prompt, answers, tokens, &permit, &now, &cancel)?;
        if speed.is_none() {
            return Ok(exit::INTERRUPTED);
        }
        speed
    } else {
        None
    };
    if context.output.json {
        let each = |run: &Times| json!({ "prefill_ms": run.prefill_ms, "decode_ms": run.decode_ms });
        context.output.json(&json!({
            "model": id,
            "backend": model.backend(),
            "threads": settings.threads,
            "prompt_tokens": args.prompt_tokens,
            "decode_tokens": args.decode_tokens,
            "prefill_tokens_per_second": prefill,
            "decode_tokens_per_second": decode,
            "decode_bytes": model.decode_bytes(),
            "memory_bytes_per_second": bandwidth,
            "bandwidth_share": share,
            "parallel": args.parallel,
            "parallel_tokens_per_second": together,
            "load_ms": load_ms,
            "first_token_ms": prefill_ms,
            "peak_memory_bytes": peak_memory,
            "runs": runs.iter().map(each).collect::<Vec<_>>(),
        }))?;
        return Ok(exit::OK);
    }
    let memory = peak_memory.map_or_else(|| "unknown".to_owned(), bytes);
    context.output.text(&format!(
        "model        {id}\nbackend      {}, {} threads\nload         {:.0} ms\n\
         prefill      {prefill:.1} tokens/s ({} tokens)\ndecode       {decode:.1} tokens/s ({} tokens)\n\
         first token  {prefill_ms:.0} ms\npeak memory  {memory}\n",
        model.backend(),
        settings.threads,
        load_ms,
        args.prompt_tokens,
        args.decode_tokens,
    ))?;
    if let (Some(bandwidth), Some(share)) = (bandwidth, share) {
        context.output.text(&format!(
            "bandwidth    {:.0} % of {:.1} GB/s, at which the same threads only read; {} a token\n",
            100.0 * share,
            bandwidth / 1e9,
            bytes(model.decode_bytes()),
        ))?;
    }
    if let Some(together) = together {
        context.output.text(&format!(
            "{answers} answers    {together:.1} tokens/s together, {:.2} times one alone\n",
            together / decode,
        ))?;
    }
    Ok(exit::OK)
}

fn prompt(model: &LoadedModel, count: usize) -> Result<Vec<u32>, HostError> {
    let options = EncodeOptions {
        add_special: false,
        parse_special: false,
    };
    let tokens = model
        .tokenizer()
        .encode(TEXT, options)
        .map_err(kwaainet_engine::EngineError::from)?;
    let bos = model.tokenizer().bos().filter(|_| model.tokenizer().adds_bos());
    Ok(bos
        .into_iter()
        .chain(tokens.iter().copied().cycle())
        .take(count)
        .collect())
}

/// `None` when it was cancelled.
fn measure(
    model: &Arc<LoadedModel>,
    prompt: &[u32],
    decode: u32,
    permit: &Permit<RunAi>,
    now: &dyn Fn() -> f64,
    cancel: &kwaainet_node::Cancel,
) -> Result<Option<Times>, HostError> {
    // A session of its own: nothing is in its cache yet.
    let mut session = Session::new(Arc::clone(model))?;
    let mut sampler =
        Sampler::new(SamplerOptions::greedy()).map_err(|error| HostError::Failed(error.to_string()))?;
    let begun = now();
    session.begin(prompt)?;
    while session.prefill_step(permit, SLICE)? > 0 {
        if cancel.is_cancelled() {
            return Ok(None);
        }
    }
    let read = now();
    for _ in 0..decode {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let position = session.tokens().len() as u64;
        let token = sampler.sample(session.logits(), &[], position).unwrap_or(0);
        session.decode(permit, token)?;
    }
    Ok(Some(Times {
        prefill_ms: read - begun,
        decode_ms: now() - read,
    }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(0.0);
    let lower = values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0);
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
