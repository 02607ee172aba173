//! `kwaainet chat`: a conversation in the terminal. Nothing of it is written to disk.

use std::io::{BufRead as _, IsTerminal as _};

use kwaainet_types::{ChatMessage, Chunk, ErrorCode, FinishReason, Role, ToolOptions};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;

use super::run::{progress_only, summary};
use super::{Context, Speech, sampling};
use crate::cli::Chat;
use crate::generator::{Generator as _, Job, Prompt};
use crate::host::Host;
use crate::ui::ProgressView;
use crate::{HostError, exit};

const HELP: &str = "\
/new            forget the conversation and begin another one
/system TEXT    instructions before the conversation (begins another one)
/retry          answer the last question again
/quit           end (Ctrl-D does it too)
Ctrl-C stops an answer. Nothing of the conversation is written to disk.";

/// Where lines come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

impl Input {
    fn new() -> Result<Self, HostError> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let editor = DefaultEditor::new()
            .map_err(|error| HostError::Failed(format!("this terminal cannot be used: {error}")))?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// The next line; `None` when there are no more.
    fn line(&mut self) -> Result<Option<String>, HostError> {
        match self {
            Self::Pipe => {
                let mut line = String::new();
                let count = std::io::stdin().lock().read_line(&mut line)?;
                Ok((count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
            }
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    // Only a convenience: recall with the arrow keys.
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(ReadlineError::Io(error)) => Err(error.into()),
                Err(error) => Err(HostError::Failed(error.to_string())),
            },
        }
    }
}

pub(super) fn run(context: &Context, args: Chat) -> Result<u8, HostError> {
    let cancel = context.interrupt.begin();
    let (host, id) = Host::open_with_model(&context.settings, args.model.model.as_deref())?;
    let progress = ProgressView::new(context.output);
    let loaded = host.load(&id, &progress_only(&progress), &cancel);
    progress.clear();
    loaded?;
    context.interrupt.end();
    let mut input = Input::new()?;
    context.output.aside(&format!(
        "{id} runs on this machine; nothing leaves it. /help lists commands."
    ));
    let mut system = args.system.clone();
    let begin = |system: &Option<String>| -> Vec<ChatMessage> {
        system
            .iter()
            .map(|text| ChatMessage::new(Role::System, text))
            .collect()
    };
    let mut messages = begin(&system);
    while let Some(line) = input.line()? {
        let line = line.trim();
        match line
            .split_once(' ')
            .map_or((line, ""), |(word, rest)| (word, rest.trim()))
        {
            ("", _) => continue,
            ("/quit" | "/exit" | "/bye", _) => break,
            ("/help" | "/?", _) => {
                context.output.aside(HELP);
                continue;
            }
            ("/new" | "/clear", _) => {
                messages = begin(&system);
                continue;
            }
            ("/system", text) => {
                system = (!text.is_empty()).then(|| text.to_owned());
                messages = begin(&system);
                continue;
            }
            ("/retry", _) => {
                if messages.last().is_some_and(|last| last.role == Role::Assistant) {
                    messages.pop();
                }
                if messages.last().is_none_or(|last| last.role != Role::User) {
                    context.output.aside("there is no question yet");
                    continue;
                }
            }
            (word, _)
                if word.starts_with('/') && !word.contains(|c: char| !c.is_alphabetic() && c != '/') =>
            {
                context
                    .output
                    .aside(&format!("there is no {word}; /help lists commands"));
                continue;
            }
            _ => messages.push(ChatMessage::new(Role::User, line)),
        }
        answer(context, &host, &id, &args, &mut messages)?;
    }
    Ok(exit::OK)
}

fn answer(
    context: &Context,
    host: &Host,
    id: &str,
    args: &Chat,
    messages: &mut Vec<ChatMessage>,
) -> Result<(), HostError> {
    let cancel = context.interrupt.begin();
    let speech = Speech::new(context, &cancel, !context.output.json);
    let job = Job {
        model: Some(id.to_owned()),
        prompt: Prompt::Chat(messages.clone()),
        sampling: sampling(&args.sampling),
        max_tokens: args.sampling.max_tokens,
        format: None,
        tools: ToolOptions::default(),
        stops: args.sampling.stop.clone(),
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
    let done = match outcome {
        Ok(done) => done,
        // These end the answer and not the conversation.
        Err(error) if matches!(error.code, ErrorCode::Cancelled | ErrorCode::ContextTooLong) => {
            messages.pop();
            let hint = match error.code {
                ErrorCode::ContextTooLong => {
                    ": /new begins another conversation, --context makes room for longer ones"
                }
                _ => "",
            };
            context.output.note(&format!("{}{hint}", error.message));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // What was said before Ctrl-C was said.
    messages.push(ChatMessage::new(Role::Assistant, &said.text));
    if context.output.json {
        return context.output.json(&json!({
            "text": said.text, "finish_reason": done.finish_reason,
            "prompt_tokens": done.receipt.prompt_tokens, "completion_tokens": done.receipt.completion_tokens,
        }));
    }
    if !said.text.ends_with('\n') {
        context.output.line("")?;
    }
    if done.finish_reason != FinishReason::Stop {
        context.output.aside(&summary(&done));
    }
    Ok(())
}
