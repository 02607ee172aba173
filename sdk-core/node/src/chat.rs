//! From a conversation to an answer.

use kwaainet_engine::{Grammar, SamplerOptions, ToolStream, check_tools};
use kwaainet_types::{
    ChatDelta, ChatDone, Chunk, FinishReason, Permit, PrivacyMode, Receipt, ResponseFormat, RunAi, Service,
};

use crate::NodeError;
use crate::calls::{Calling, Ending};
use crate::cancel::{Cancel, Stop};
use crate::core::{InferenceRequest, InferenceResponse, KwaaiNetCore, Outlet, lock};
use crate::engine::{Run, RunOptions, RunStep};
use crate::ready::{Asker, Ready};

/// Pieces are sent at least so far apart: a screen draws no faster, and each costs a message.
const INTERVAL_MS: f64 = 16.0;
/// A slice of a prompt takes about so long: a cancel is heard within 50 ms even when one takes twice as long, and the
/// processor cap does not come in bursts.
const SLICE_MS: f64 = 25.0;
/// A service worker also answers the page's own requests.
const SLICE_OF_SERVICE_WORKER_MS: f64 = 10.0;
/// In tokens' work. A slice may be a part of the layers, so it may be as small as that.
const SMALLEST_SLICE: usize = 1;
/// As much as a slow phone reads in a slice.
const FIRST_SLICE: usize = 4;
const LARGEST_SLICE: usize = 512;
/// JavaScript holds whole numbers up to 2^53.
const LARGEST_SEED: u64 = (1 << 53) - 1;

pub(crate) async fn answer(
    core: &KwaaiNetCore,
    permit: &Permit<RunAi>,
    request: InferenceRequest,
    out: &dyn Outlet,
    cancel: &Cancel,
) -> Result<InferenceResponse, NodeError> {
    if request.raw.is_none() {
        request.chat.check()?;
    }
    if !core.config().services.contains(&Service::Compute) {
        return Err(NodeError::NotAllowed(
            "this site's configuration does not ask for compute: add it to the services",
        ));
    }
    let seed = request
        .chat
        .sampling
        .seed
        .unwrap_or_else(|| core.platform.random.next_u64() & LARGEST_SEED);
    // Checked before anything is fetched for it.
    let sampler = SamplerOptions::from_request(&request.chat.sampling, seed)
        .map_err(|error| NodeError::BadRequest(error.to_string()))?;
    let grammar = request.chat.response_format.as_ref().map_or(Ok(None), grammar)?;
    check_tools(&request.chat.tools)?;
    let _working = core.activity.begin();
    let stop = Stop::new(cancel, &core.consent);
    let id = core.model_id(request.chat.model.as_deref(), &stop).await?;
    let asker = Asker {
        permit,
        stop: &stop,
        out,
    };
    let ready = core.ready(asker, &id).await?;
    generate(
        core,
        permit,
        &request,
        Choice { sampler, grammar },
        ready,
        out,
        &stop,
    )
    .await
}

/// How tokens are chosen.
struct Choice {
    sampler: SamplerOptions,
    grammar: Option<Grammar>,
}

fn grammar(format: &ResponseFormat) -> Result<Option<Grammar>, NodeError> {
    let grammar = match format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => Grammar::from_json_schema(r#"{"type":"object"}"#),
        ResponseFormat::JsonSchema { schema } => Grammar::from_json_schema(schema),
        ResponseFormat::Grammar { grammar } => Grammar::from_gbnf(grammar),
    };
    let grammar = grammar.map_err(|error| NodeError::BadRequest(format!("response_format: {error}")))?;
    Ok(Some(grammar))
}

async fn generate(
    core: &KwaaiNetCore,
    permit: &Permit<RunAi>,
    request: &InferenceRequest,
    choice: Choice,
    ready: Ready,
    out: &dyn Outlet,
    stop: &Stop,
) -> Result<InferenceResponse, NodeError> {
    let model = &ready.model;
    let resources = &core.resource_manager;
    let Choice { sampler, grammar } = choice;
    let seed = sampler.seed;
    let busy = resources.begin();
    let chat = &request.chat;
    let prompt = match &request.raw {
        Some(text) => model.text(text),
        None => model.conversation(&chat.messages, &chat.tools, core.platform.clock.unix_ms()),
    };
    resources.end(&busy);
    let prompt = prompt?;
    let context = model.context_length();
    let room = context.saturating_sub(prompt.len());
    if room == 0 || request.resume.len() > room {
        return Err(NodeError::PromptTooLong {
            prompt: prompt.len().saturating_add(request.resume.len()),
            context,
        });
    }
    let most = chat.max_tokens.map_or(room, |most| room.min(most as usize));
    let calling = match &request.raw {
        Some(_) => Calling::default(),
        None => Calling::new(&chat.tools, model.as_ref())?,
    };
    let run = model.start(
        permit,
        &prompt,
        RunOptions {
            sampler,
            max_tokens: most,
            stops: chat.stops(),
            resume: request.resume.clone(),
            guesses: chat.guesses.map(|guesses| guesses as usize),
            grammar: calling.grammar.or(grammar),
            marks: calling.marks,
        },
    )?;
    let mut stream = calling.stream;
    if let Some(stream) = &mut stream {
        // What this gives was delivered before.
        stream.push(&run.resumed_text());
    }
    let mut answer = Answer {
        core,
        out,
        run,
        stream,
        text: String::new(),
        tokens: Vec::new(),
        unsent: ChatDelta::default(),
        sent_at: None,
        began_at: core.platform.clock.monotonic_ms(),
        first_at: None,
        last_at: None,
        slice: FIRST_SLICE,
        slice_ms: if core.host.host == "service-worker" {
            SLICE_OF_SERVICE_WORKER_MS
        } else {
            SLICE_MS
        },
    };
    let (reason, tail) = answer.finish(permit, stop).await?;
    let Ending {
        reason,
        text: tail,
        calls: tool_calls,
    } = Ending::new(answer.stream.take(), reason, tail, core.platform.random.as_ref());
    let receipt = Receipt {
        model: ready.id.clone(),
        privacy: PrivacyMode::Device,
        backend: backend(core),
        prompt_tokens: narrow(prompt.len()),
        reused_tokens: narrow(answer.run.reused_tokens()),
        completion_tokens: narrow(answer.tokens.len()),
        prefill_ms: answer
            .first_at
            .or(answer.last_at)
            .map_or(0.0, |at| at - answer.began_at),
        decode_ms: match (answer.first_at, answer.last_at) {
            (Some(first), Some(last)) => last - first,
            _ => 0.0,
        },
        bytes_sent: 0,
        seed,
    };
    {
        let mut metrics = lock(&core.metrics);
        metrics.answers = metrics.answers.saturating_add(1);
        metrics.prompt_tokens = metrics.prompt_tokens.saturating_add(prompt.len() as u64);
        metrics.completion_tokens = metrics
            .completion_tokens
            .saturating_add(answer.tokens.len() as u64);
    }
    answer.text.push_str(&tail);
    drop(ready.turn);
    Ok(InferenceResponse {
        text: answer.text,
        tokens: answer.tokens,
        done: ChatDone {
            text: tail,
            finish_reason: reason,
            tool_calls,
            receipt,
        },
    })
}

struct Answer<'a> {
    core: &'a KwaaiNetCore,
    out: &'a dyn Outlet,
    run: Box<dyn Run>,
    /// Keeps calls out of the text, where there can be some.
    stream: Option<ToolStream>,
    text: String,
    tokens: Vec<u32>,
    unsent: ChatDelta,
    sent_at: Option<f64>,
    began_at: f64,
    first_at: Option<f64>,
    last_at: Option<f64>,
    /// Tokens of the prompt to read in the next step.
    slice: usize,
    slice_ms: f64,
}

impl Answer<'_> {
    /// Steps until the answer is over; between steps others get their turn, and the processor cap is kept.
    async fn finish(
        &mut self,
        permit: &Permit<RunAi>,
        stop: &Stop,
    ) -> Result<(FinishReason, String), NodeError> {
        let resources = &self.core.resource_manager;
        loop {
            if let Err(error) = resources.wait(stop).await {
                self.send();
                // Before the first token there is nothing to return.
                return match error {
                    NodeError::Cancelled if !self.tokens.is_empty() => {
                        Ok((FinishReason::Cancelled, String::new()))
                    }
                    other => Err(other),
                };
            }
            let before = self.core.platform.clock.monotonic_ms();
            let step = resources.step(self.first_at.is_some(), || {
                let step = self.run.step(permit, self.slice);
                (step, self.run.evaluated_in_step())
            });
            match step? {
                RunStep::Prefilled => {
                    let took = self.core.platform.clock.monotonic_ms() - before;
                    self.slice = next_slice(self.slice, took, self.slice_ms);
                }
                RunStep::Token { id, text } => {
                    let text = match &mut self.stream {
                        Some(stream) => stream.push(&text),
                        None => text,
                    };
                    let now = self.core.platform.clock.monotonic_ms();
                    self.first_at.get_or_insert(now);
                    self.last_at = Some(now);
                    self.tokens.push(id);
                    self.text.push_str(&text);
                    self.unsent.tokens.push(id);
                    self.unsent.text.push_str(&text);
                    if self.sent_at.is_none_or(|sent| now - sent >= INTERVAL_MS) {
                        self.sent_at = Some(now);
                        self.send();
                    }
                }
                RunStep::Finished { reason, text } => {
                    self.send();
                    return Ok((reason, text));
                }
            }
        }
    }

    fn send(&mut self) {
        let delta = std::mem::take(&mut self.unsent);
        if !delta.tokens.is_empty() {
            self.out.chunk(Chunk::Delta { delta });
        }
    }
}

/// How much of the prompt to read next, so that a slice takes about `aim_ms`.
fn next_slice(slice: usize, took_ms: f64, aim_ms: f64) -> usize {
    let ideal = slice as f64 * aim_ms / took_ms.max(0.1);
    // Never more than double, as the first slice after a pause is slow or fast by chance.
    (ideal as usize)
        .min(slice.saturating_mul(2))
        .clamp(SMALLEST_SLICE, LARGEST_SLICE)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn backend(core: &KwaaiNetCore) -> String {
    let threads = core.resource_manager.threads();
    let plural = if threads == 1 { "" } else { "s" };
    format!("{}, {threads} thread{plural}", core.host.backend)
}
