//! Chat templates: the Jinja program in a model file that writes a conversation the way the model was trained on.
//!
//! A template is foreign code. It ends quickly, in little memory and with a named error, whatever it does:
//! - minijinja's fuel pays for every instruction and for every byte and list slot *before* it is allocated;
//! - its recursion limit bounds macros and recursive loops;
//! - `source.rs` bounds what fuel does not see: the size of the source and of one expression (both are walked
//!   recursively), and passes every value that gets a name through a function that bounds its size and nesting
//!   (values are dropped and written recursively, and a list may hold the same text a million times);
//! - `functions.rs` replaces the functions and methods that could allocate before they pay.

mod functions;
mod source;

use kwaainet_types::{ChatMessage, ToolOptions};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};

use crate::gguf::{Metadata, OptionalKey};
use crate::tokenizer::Tokenizer;
use crate::tools::{Shown, ToolFormat, show};

/// For models that bring no template. Most models of all kinds have seen this format (ChatML, OpenAI 2023).
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Real templates use under a tenth of this for their preamble.
const FUEL: u64 = 200_000;
/// A real template spends 50 to 300 instructions on a message.
const FUEL_PER_MESSAGE: u64 = 2_000;
/// One fuel pays for 64 bytes, so each byte of the conversation may be handled 16 times.
const BYTES_PER_FUEL: u64 = 4;
/// Deepest nesting of loops and macros while they run. Real templates reach 10.
const DEEPEST_CALL: usize = 40;
/// Text that one variable may hold, besides twice the conversation.
const KEPT_BYTES: usize = 64 << 10;

/// Why a template gave no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is beyond reason.
    #[error("it has {bytes} bytes; at most {limit} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The source is built to exhaust a parser.
    #[error("line {line} is too complex: {what}")]
    TooComplex {
        /// The line.
        line: usize,
        /// What there is too much of.
        what: &'static str,
    },
    /// It is not valid Jinja.
    #[error("syntax error in line {line}: {problem}")]
    Syntax {
        /// The line.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It ran for too long or allocated too much.
    #[error("it loops or allocates without end (stopped in line {line})")]
    OutOfFuel {
        /// Where it was stopped.
        line: usize,
    },
    /// It refused the conversation by itself.
    #[error("it refuses this conversation: {0}")]
    Raised(String),
    /// Anything else that it did wrong.
    #[error("it fails in line {line}: {problem}")]
    Failed {
        /// The line.
        line: usize,
        /// What happened.
        problem: String,
    },
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// End with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// The time, for templates that tell the model the date. Unix milliseconds.
    pub now_unix_ms: u64,
}

/// A checked chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
    note: Option<&'static str>,
    tool_format: ToolFormat,
}

impl ChatTemplate {
    /// The template of a model file, or ChatML if it has none.
    ///
    /// # Errors
    /// [`TemplateError`] when the template is not valid or too large.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.text(id)).unwrap_or_default();
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        match metadata.str("tokenizer.chat_template").optional() {
            Ok(Some(source)) => Self::new(source, bos, eos),
            _ => Ok(Self::chatml(bos, eos)),
        }
    }

    /// A template from its source and the texts of the model's two border tokens.
    ///
    /// # Errors
    /// As [`Self::from_metadata`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let template = Self {
            source: source::prepare(source)?,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            note: None,
            tool_format: ToolFormat::of_template(source),
        };
        template
            .environment(0, 0)
            .template_from_named_str("chat_template", &template.source)
            .map_err(TemplateError::from)?;
        Ok(template)
    }

    /// The template of models that bring none.
    pub fn chatml(bos: &str, eos: &str) -> Self {
        Self {
            source: CHATML.to_owned(),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            note: Some("the model file has no chat template; ChatML is used, and answers may be worse"),
            tool_format: ToolFormat::Generic,
        }
    }

    /// How it writes calls of tools.
    pub fn tool_format(&self) -> ToolFormat {
        self.tool_format
    }

    /// What a person should know about this template.
    pub fn note(&self) -> Option<&'static str> {
        self.note
    }

    /// Writes a conversation.
    ///
    /// # Errors
    /// [`TemplateError`] when the template refuses it, fails, or does not end.
    pub fn render(&self, messages: &[ChatMessage], options: RenderOptions) -> Result<String, TemplateError> {
        self.render_with_tools(messages, &ToolOptions::default(), options)
    }

    /// Writes a conversation of which tools are a part.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_with_tools(
        &self,
        messages: &[ChatMessage],
        tools: &ToolOptions,
        options: RenderOptions,
    ) -> Result<String, TemplateError> {
        let count = (messages.len() + tools.shown().len()) as u64;
        let Shown {
            messages,
            tools,
            bytes,
        } = show(self.tool_format, messages, tools);
        let fuel = FUEL + count * FUEL_PER_MESSAGE + bytes as u64 / BYTES_PER_FUEL;
        let mut environment = self.environment(options.now_unix_ms, KEPT_BYTES + 2 * bytes);
        environment.set_fuel(Some(fuel));
        let mut context = vec![
            ("messages", Value::from(messages)),
            (
                "add_generation_prompt",
                Value::from(options.add_generation_prompt),
            ),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        // Some templates ask whether there are any by whether the variable is defined.
        context.extend(tools.map(|tools| ("tools", tools)));
        environment
            .template_from_named_str("chat_template", &self.source)
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(TemplateError::from)
    }

    fn environment(&self, now_unix_ms: u64, kept_bytes: usize) -> Environment<'_> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(DEEPEST_CALL);
        // What Hugging Face's transformers sets.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        functions::install(&mut environment, now_unix_ms, kept_bytes);
        environment
    }
}

impl From<minijinja::Error> for TemplateError {
    fn from(error: minijinja::Error) -> Self {
        // The innermost error says what happened, the outer ones say where.
        let mut innermost: &minijinja::Error = &error;
        while let Some(source) = std::error::Error::source(innermost)
            && let Some(source) = source.downcast_ref::<minijinja::Error>()
        {
            innermost = source;
        }
        let line = innermost.line().or(error.line()).unwrap_or(0);
        let problem = innermost
            .detail()
            .map_or_else(|| innermost.kind().to_string(), str::to_owned);
        if let Some(message) = problem.strip_prefix(functions::RAISED) {
            return Self::Raised(message.to_owned());
        }
        match innermost.kind() {
            ErrorKind::OutOfFuel => Self::OutOfFuel { line },
            ErrorKind::SyntaxError => Self::Syntax { line, problem },
            kind => Self::Failed {
                line,
                problem: format!("{kind}: {problem}"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
