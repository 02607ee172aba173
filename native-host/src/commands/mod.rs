//! What each command does.

mod bench;
mod catalogue;
mod chat;
mod doctor;
mod model;
mod peer;
mod perplexity;
mod run;
mod serve;
mod tokenize;

use std::io::{IsTerminal as _, Read as _};

use clap::CommandFactory as _;
use kwaainet_types::SamplingOptions;

use crate::cli::{Cli, Command, Sampling};
use crate::settings::Settings;
use crate::ui::{Interrupt, Output};
use crate::{HostError, exit};

/// Largest text that is read from standard input.
const MOST_INPUT: u64 = 64 << 20;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    pub(crate) interrupt: Interrupt,
}

/// Does what the command line says; the number is the exit code.
///
/// # Errors
/// [`HostError`], whose exit code the program ends with.
pub fn run(cli: Cli) -> Result<u8, HostError> {
    if let Command::Completions { shell } = cli.command {
        return completions(shell);
    }
    let settings = Settings::resolve(&cli.global)?;
    let context = Context {
        output: Output {
            json: settings.json,
            quiet: settings.quiet,
        },
        settings,
        interrupt: Interrupt::install()?,
    };
    match cli.command {
        Command::Model(command) => model::run(&context, command),
        Command::Run(args) => run::run(&context, args),
        Command::Chat(args) => chat::run(&context, args),
        Command::Serve(args) => serve::run(&context, args),
        Command::Peer(args) => peer::run(&context, &args),
        Command::Peers(args) => peer::peers(&context, &args),
        Command::Ping(args) => peer::ping(&context, &args),
        Command::Bench(args) => bench::run(&context, &args),
        Command::Doctor => doctor::run(&context),
        Command::Tokenize(args) => tokenize::run(&context, &args),
        Command::Perplexity(args) => perplexity::run(&context, &args),
        Command::Catalogue(command) => catalogue::run(&context, command),
        Command::Completions { .. } => Ok(exit::OK),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<u8, HostError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kwaainet", &mut script);
    let output = Output {
        json: false,
        quiet: false,
    };
    output.text(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

/// The text on standard input.
fn read_input() -> Result<String, HostError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(HostError::Usage(
            "there is no text on standard input: pipe one in, as in `kwaainet … < text`".to_owned(),
        ));
    }
    let mut bytes = Vec::new();
    stdin.lock().take(MOST_INPUT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_INPUT {
        return Err(HostError::Usage(format!(
            "standard input has more than {MOST_INPUT} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        HostError::Usage(format!(
            "standard input is not UTF-8 text (first wrong byte: {at})"
        ))
    })
}

fn sampling(args: &Sampling) -> SamplingOptions {
    SamplingOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        presence_penalty: None,
        frequency_penalty: None,
        seed: args.seed,
    }
}

/// How many of something happened in each second.
fn per_second(count: u32, ms: f64) -> f64 {
    if ms > 0.0 {
        f64::from(count) * 1000.0 / ms
    } else {
        0.0
    }
}

/// A model's speech on the way to standard output: it stops the model when nobody reads any more.
#[derive(Debug)]
pub(crate) struct Speech<'a> {
    context: &'a Context,
    cancel: &'a kwaainet_node::Cancel,
    /// Whether pieces are shown as they come.
    live: bool,
    said: std::sync::Mutex<Said>,
}

#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    broken: Option<HostError>,
}

impl<'a> Speech<'a> {
    pub(crate) fn new(context: &'a Context, cancel: &'a kwaainet_node::Cancel, live: bool) -> Self {
        Self {
            context,
            cancel,
            live,
            said: std::sync::Mutex::default(),
        }
    }

    pub(crate) fn hear(&self, text: &str, tokens: &[u32]) {
        let mut said = self
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        said.text.push_str(text);
        said.tokens.extend_from_slice(tokens);
        if self.live
            && let Err(error) = self.context.output.speech(text)
        {
            said.broken = Some(error);
            self.cancel.cancel();
        }
    }

    /// Everything that was said, unless it could not be written.
    pub(crate) fn end(self) -> Result<Said, HostError> {
        let mut said = self
            .said
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match said.broken.take() {
            Some(error) => Err(error),
            None => Ok(said),
        }
    }
}
