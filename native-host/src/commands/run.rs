//! `kwaainet run`: one prompt, one answer.

use std::path::Path;

use kwaainet_types::{ChatDone, ChatMessage, Chunk, FinishReason, ResponseFormat, Role, ToolOptions};
use serde_json::{Value, json};

use super::{Context, Speech, per_second, read_input, sampling};
use crate::cli::Run;
use crate::generator::{Generator as _, Job, Prompt};
use crate::host::Host;
use crate::ui::ProgressView;
use crate::{HostError, exit};

pub(super) fn run(context: &Context, args: Run) -> Result<u8, HostError> {
    let text = match args.prompt.as_deref() {
        None | Some("-") => read_input()?,
        Some(text) => text.to_owned(),
    };
    let prompt = if args.raw {
        Prompt::Raw(text)
    } else {
        let system = args.system.map(|text| ChatMessage::new(Role::System, text));
        let user = ChatMessage::new(Role::User, text);
        Prompt::Chat(system.into_iter().chain([user]).collect())
    };
    // Before minutes of loading.
    let format = match (&args.json_schema, &args.grammar) {
        (Some(schema), _) => Some(ResponseFormat::JsonSchema {
            schema: text_or_file(schema, schema.trim_start().starts_with('{'))?,
        }),
        (None, Some(grammar)) => Some(ResponseFormat::Grammar {
            grammar: text_or_file(grammar, grammar.contains("::="))?,
        }),
        (None, None) => None,
    };
    let cancel = context.interrupt.begin();
    let (host, id) = Host::open_with_model(&context.settings, args.model.model.as_deref())?;
    let clock = &host.platform().clock;
    let progress = ProgressView::new(context.output);
    let begun = clock.monotonic_ms();
    let loaded = host.load(&id, &progress_only(&progress), &cancel);
    progress.clear();
    loaded?;
    let load_ms = clock.monotonic_ms() - begun;
    let speech = Speech::new(context, &cancel, !context.output.json);
    let job = Job {
        model: Some(id),
        prompt,
        sampling: sampling(&args.sampling),
        max_tokens: args.sampling.max_tokens,
        stops: args.sampling.stop,
        format,
        tools: ToolOptions::default(),
    };
    let outcome = host.generate(job, &cancel, &|chunk| {
        if let Chunk::Delta { delta } = chunk {
            speech.hear(&delta.text, &delta.tokens);
        }
    });
    context.interrupt.end();
    if let Ok(done) = &outcome {
        speech.hear(&done.text, &[]);
    }
    let said = speech.end()?;
    let done = outcome?;
    if context.output.json {
        context.output.json(&json!({
            "text": said.text,
            "token_ids": said.tokens,
            "prompt_tokens": done.receipt.prompt_tokens,
            "completion_tokens": done.receipt.completion_tokens,
            "finish_reason": done.finish_reason,
            "timings": timings(&done, load_ms),
        }))?;
    } else {
        if !said.text.ends_with('\n') {
            context.output.line("")?;
        }
        context.output.aside(&summary(&done));
    }
    Ok(match done.finish_reason {
        FinishReason::Cancelled => exit::INTERRUPTED,
        FinishReason::Stop | FinishReason::Length | FinishReason::ToolCalls => exit::OK,
    })
}

fn text_or_file(argument: &str, is_text: bool) -> Result<String, HostError> {
    if is_text {
        return Ok(argument.to_owned());
    }
    let path = Path::new(argument);
    std::fs::read_to_string(path).map_err(|error| HostError::file(path, error))
}

/// Shows progress and ignores everything else.
pub(super) fn progress_only(view: &ProgressView) -> impl Fn(Chunk) + Send + Sync {
    move |chunk| {
        if let Chunk::Progress { progress } = chunk {
            view.show(&progress);
        }
    }
}

fn timings(done: &ChatDone, load_ms: f64) -> Value {
    let receipt = &done.receipt;
    let read = receipt.prompt_tokens.saturating_sub(receipt.reused_tokens);
    json!({
        "load_ms": load_ms,
        "prefill_ms": receipt.prefill_ms,
        "decode_ms": receipt.decode_ms,
        "prefill_tokens_per_second": per_second(read, receipt.prefill_ms),
        "decode_tokens_per_second": per_second(receipt.completion_tokens.saturating_sub(1), receipt.decode_ms),
    })
}

/// A line about an answer, for a person.
pub(super) fn summary(done: &ChatDone) -> String {
    let receipt = &done.receipt;
    let speed = per_second(receipt.completion_tokens.saturating_sub(1), receipt.decode_ms);
    let ended = match done.finish_reason {
        FinishReason::Stop | FinishReason::ToolCalls => "",
        FinishReason::Length => ", cut off at the limit (--max-tokens, --context)",
        FinishReason::Cancelled => ", stopped",
    };
    format!(
        "[{} tokens at {speed:.1}/s, first after {:.2} s, seed {}, on this machine{ended}]",
        receipt.completion_tokens,
        receipt.prefill_ms / 1000.0,
        receipt.seed,
    )
}
