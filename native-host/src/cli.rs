//! The words of the command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueHint};
use kwaainet_types::KvFormat;

const AFTER_HELP: &str = "\
Examples:
  kwaainet run --model ./smollm2.gguf \"Why is the sky blue?\"
  kwaainet chat --model smollm2-135m-instruct
  kwaainet serve --model smollm2-135m-instruct --port 11435
  kwaainet doctor

Settings come from flags, then KWAAINET_… variables, then the configuration file.

Exit codes:
  0 it worked              4 network or address not usable
  1 it failed              5 bytes or signature wrong
  2 wrong usage            6 not enough memory or storage
  3 model not found or     130 stopped with Ctrl-C
    not supported";

/// Private AI on your own machine.
#[derive(Debug, Parser)]
#[command(name = "kwaainet", version, about, after_help = AFTER_HELP, max_term_width = 100)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Global {
    /// Print machine-readable JSON on standard output (and errors as JSON on standard error)
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no notes, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Configuration file [default: kwaainet/config.toml in the folder for configuration]
    #[arg(long, global = true, env = "KWAAINET_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where models are kept [default: kwaainet in the folder for data]
    #[arg(long, global = true, env = "KWAAINET_DATA_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// URL or file of the signed catalogue of models (models.json)
    #[arg(long, global = true, env = "KWAAINET_CATALOGUE", value_name = "URL|FILE")]
    pub catalogue: Option<String>,
    /// Ed25519 key that the catalogue must be signed with, 64 hexadecimal digits
    #[arg(long, global = true, env = "KWAAINET_CATALOGUE_KEY", value_name = "HEX")]
    pub catalogue_key: Option<String>,
    /// Threads that compute [default: physical processor cores]
    #[arg(long, global = true, env = "KWAAINET_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Cap on processor time, in per cent of all processors together, 1 to 100
    #[arg(long, global = true, env = "KWAAINET_CPU", value_name = "PER CENT")]
    pub cpu: Option<u8>,
    /// Cap on memory for models, in MiB [default: four fifths of this machine's]
    #[arg(long, global = true, env = "KWAAINET_MEMORY", value_name = "MIB")]
    pub memory: Option<u32>,
    /// Cap on models kept on disk, in MiB [default: 102400]
    #[arg(long, global = true, env = "KWAAINET_STORAGE", value_name = "MIB")]
    pub storage: Option<u32>,
    /// Longest prompt plus answer, in tokens [default: 2048]
    #[arg(long, global = true, env = "KWAAINET_CONTEXT", value_name = "TOKENS")]
    pub context: Option<u32>,
    /// How a conversation is remembered: as 16-bit floats, or less exactly as bytes in half the memory [default: f16]
    #[arg(long, global = true, env = "KWAAINET_KV_CACHE", value_name = "FORMAT", hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["f16", "q8"]).map(|format| kv_format(&format)))]
    pub kv_cache: Option<KvFormat>,
}

/// Which model.
#[derive(Debug, Clone, Default, Args)]
pub struct Model {
    /// Id in the catalogue, or path of a .gguf file
    #[arg(long, short, env = "KWAAINET_MODEL", value_name = "ID|PATH.GGUF", value_hint = ValueHint::FilePath)]
    pub model: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch, list, remove and check models; describe a file of your own
    #[command(subcommand)]
    Model(ModelCommand),
    /// Answer one prompt
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Talk with a model
    Chat(Chat),
    /// Serve models over HTTP in OpenAI's shape, to programs of this machine
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Be a peer of the network: route, keep the address book, relay if you say so
    #[command(after_help = PEER_HELP)]
    Peer(Peer),
    /// Who the peer that runs on this machine is connected to
    Peers(Peers),
    /// Round trips to a peer
    Ping(Ping),
    /// Measure how fast a model runs here
    Bench(Bench),
    /// What this machine offers, what is missing, how to mend it
    Doctor,
    /// Token ids of the text on standard input
    Tokenize(Tokenize),
    /// How surprised a model is by the text on standard input
    Perplexity(Perplexity),
    /// Make and sign a catalogue of models (models.json)
    #[command(subcommand)]
    Catalogue(CatalogueCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  kwaainet completions bash > ~/.local/share/bash-completion/completions/kwaainet"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `kwaainet model …`
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Fetch a model and keep it; continues where an interrupted fetch stopped
    Pull {
        /// Id in the catalogue
        #[arg(value_name = "ID")]
        id: String,
        /// A peer that is known already, with its id: it and the peers that it leads to are asked first, and see this
        /// machine's address and which model it fetches; may be repeated
        #[arg(
            long,
            env = "KWAAINET_BOOTSTRAP",
            value_name = "MULTIADDR",
            value_delimiter = ','
        )]
        bootstrap: Vec<String>,
        /// The private network of those peers.
        #[command(flatten)]
        private: Private,
    },
    /// Models of the catalogue, and which of them are here
    #[command(alias = "ls")]
    List,
    /// Delete models from this machine
    #[command(alias = "remove")]
    Rm {
        /// Ids of the models
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Check every byte of the models that are here against the signed catalogue
    Verify {
        /// Ids of the models [default: all that are here]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Print the catalogue entry of a .gguf file of your own
    #[command(after_help = MANIFEST_HELP)]
    Manifest(Manifest),
}

const MANIFEST_HELP: &str = "\
Example:
  kwaainet model manifest my.gguf --licence Apache-2.0 --source models/my.gguf > my.entry.json
  kwaainet catalogue sign --key secret.key --out models.json my.entry.json";

/// `kwaainet model manifest`
#[derive(Debug, Args)]
pub struct Manifest {
    /// The model file
    #[arg(value_name = "FILE.GGUF", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Id that requests will name [default: made from the file's name]
    #[arg(long)]
    pub id: Option<String>,
    /// Name shown to people [default: the name in the file]
    #[arg(long)]
    pub name: Option<String>,
    /// SPDX id of the licence [default: the licence in the file]
    #[arg(long)]
    pub licence: Option<String>,
    /// Where to fetch it: an https URL, or a path relative to models.json. May be repeated
    #[arg(long = "source", value_name = "URL")]
    pub sources: Vec<String>,
}

/// How tokens are chosen.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Most tokens to generate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token; higher is more varied
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Penalty on tokens that were used; 1 is none
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub seed: Option<u64>,
    /// End the answer at this text. May be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

const RUN_HELP: &str = "\
Examples:
  kwaainet run --model ./model.gguf \"Write a haiku about rain\"
  git diff | kwaainet run --model ./model.gguf --system \"Write a commit message\" -
  kwaainet run --model ./model.gguf --raw --temperature 0 --max-tokens 16 --json \"The sky is\"

JSON: text, token_ids, prompt_tokens, completion_tokens, finish_reason, timings.";

/// `kwaainet run`
#[derive(Debug, Args)]
pub struct Run {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Sampling.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Take the prompt as it is, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    pub raw: bool,
    /// Instructions before the prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Answer with JSON that is valid under this schema, which begins with {, or lies in this file
    #[arg(long, value_name = "SCHEMA|FILE", conflicts_with = "grammar")]
    pub json_schema: Option<String>,
    /// Answer with text that follows this GBNF grammar, which has a ::=, or lies in this file
    #[arg(long, value_name = "GRAMMAR|FILE")]
    pub grammar: Option<String>,
    /// The prompt; - or nothing reads standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
}

/// `kwaainet chat`
#[derive(Debug, Args)]
pub struct Chat {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Sampling.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

const SERVE_HELP: &str = "\
Routes:
  GET  /health                 GET  /v1/models, /v1/models/{id}
  POST /v1/chat/completions    POST /v1/completions

Example:
  kwaainet serve --model ./model.gguf --port 11435
  curl http://127.0.0.1:11435/v1/chat/completions -H 'content-type: application/json' \\
       -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'";

/// `kwaainet serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Port to listen on; 0 takes a free one [default: 11435]
    #[arg(long, env = "KWAAINET_PORT", value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on; other machines can only connect to another one than this [default: 127.0.0.1]
    #[arg(long, env = "KWAAINET_HOST", value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Clients must send this as "Authorization: Bearer …"
    #[arg(long, env = "KWAAINET_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// A web page's origin that may call, such as https://example.org. May be repeated
    #[arg(
        long,
        env = "KWAAINET_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<String>,
    /// Answers to make at the same time, as far as memory allows; others wait [default: 4]
    #[arg(long, env = "KWAAINET_PARALLEL", value_name = "N")]
    pub parallel: Option<usize>,
}

/// A network that not everybody may join.
#[derive(Debug, Args)]
pub struct Private {
    /// Key of a private network (a swarm.key, as Kubo and js-libp2p write it): only peers that have it, too, are spoken
    /// with. QUIC cannot do that and is off then; TCP and WebSocket remain
    #[arg(long, env = "KWAAINET_PSK", value_name = "FILE")]
    pub psk: Option<PathBuf>,
}

const PEER_HELP: &str = "\
Examples:
  kwaainet peer --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/tcp/4002/ws
  kwaainet peer --listen /ip4/0.0.0.0/udp/4003/webrtc-direct
  kwaainet peer --relay --bootstrap /dns4/relay.example.org/tcp/4001/p2p/12D3KooW…
  kwaainet peer --hidden --bootstrap /dns4/relay.example.org/tcp/4001/p2p/12D3KooW…
  kwaainet peer --psk swarm.key --allow 12D3KooW… --listen /ip4/0.0.0.0/tcp/4001

It lends the models of its catalogue that are here, and computes nothing for others. It keeps its key in the folder for data (peer.key): whoever has
that file can pretend to be this peer.";

/// `kwaainet peer`
#[derive(Debug, Args)]
pub struct Peer {
    /// Address to listen at; may be repeated [default: /ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1, /ip4/127.0.0.1/tcp/0/ws]
    #[arg(
        long,
        env = "KWAAINET_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,
    /// A peer that is known already, with its id; may be repeated
    #[arg(
        long,
        env = "KWAAINET_BOOTSTRAP",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    pub bootstrap: Vec<String>,
    /// Let others be reached through this peer. It sees how much they say to whom, not what
    #[arg(long, env = "KWAAINET_RELAY")]
    pub relay: bool,
    /// Address of a proxy in front of this peer, as browsers need for wss: what comes from it comes from many, so that limits
    /// of one address are the proxy's to keep; may be repeated
    #[arg(long, env = "KWAAINET_PROXY", value_name = "IP", value_delimiter = ',')]
    pub proxy: Vec<std::net::IpAddr>,
    /// Call others, and be called, only through the peers of --bootstrap, which must be relays: nobody else sees the address
    /// of this machine. They see with whom it talks and how much, not what
    #[arg(long, env = "KWAAINET_HIDDEN", requires = "bootstrap", conflicts_with_all = ["listen", "relay"])]
    pub hidden: bool,
    /// Connect with this peer and those of --bootstrap only (an id as `kwaainet peer` prints it); may be repeated
    #[arg(long, env = "KWAAINET_ALLOW", value_name = "PEER", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// The private network.
    #[command(flatten)]
    pub private: Private,
    /// Megabytes per second that are lent to others at most
    #[arg(long, env = "KWAAINET_UPLOAD", value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    pub upload: Option<u32>,
    /// Port of 127.0.0.1 for `kwaainet peers` and /metrics; 0 takes a free one [default: 11436]
    #[arg(long, env = "KWAAINET_CONTROL", value_name = "PORT")]
    pub control: Option<u16>,
    /// Answer whatever is sent on the protocol of the tests
    #[arg(long, hide = true)]
    pub echo: bool,
}

/// `kwaainet peers`
#[derive(Debug, Args)]
pub struct Peers {
    /// Port that `kwaainet peer` was given as --control [default: 11436]
    #[arg(long, env = "KWAAINET_CONTROL", value_name = "PORT")]
    pub control: Option<u16>,
}

/// `kwaainet ping`
#[derive(Debug, Args)]
pub struct Ping {
    /// The peer's address, with its id
    #[arg(value_name = "MULTIADDR")]
    pub address: String,
    /// How many round trips
    #[arg(long, short, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// The private network.
    #[command(flatten)]
    pub private: Private,
}

/// `kwaainet bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub decode_tokens: u32,
    /// How often; medians are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// Also measure so many answers at the same time, as the server makes them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: u32,
}

/// `kwaainet tokenize`
#[derive(Debug, Args)]
pub struct Tokenize {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Begin with the model's token for the beginning of a text, if it wants one
    #[arg(long)]
    pub bos: bool,
    /// Read words like <|im_start|> as plain text, not as special tokens
    #[arg(long)]
    pub no_special: bool,
}

/// `kwaainet perplexity`
#[derive(Debug, Args)]
pub struct Perplexity {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Tokens of one window of the text [default: the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub window: Option<u32>,
}

/// `kwaainet catalogue …`
#[derive(Debug, Subcommand)]
pub enum CatalogueCommand {
    /// Make a key pair; the secret goes to a file, the public key is printed
    Keygen {
        /// File for the secret key; must not exist yet
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
    },
    /// Sign entries made by `kwaainet model manifest` as a catalogue
    Sign {
        /// File with the secret key
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
        /// Where to write the signed catalogue [default: standard output]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Rises with every edition [default: one more than the edition in --out, or 1]
        #[arg(long)]
        edition: Option<u64>,
        /// IPFS trustless gateway to try, such as https://ipfs.example/ipfs/. May be repeated
        #[arg(long = "gateway", value_name = "URL")]
        gateways: Vec<String>,
        /// Entries, one in each file
        #[arg(value_name = "ENTRY.JSON", required = true, value_hint = ValueHint::FilePath)]
        entries: Vec<PathBuf>,
    },
    /// Check a signed catalogue and print its key
    Verify {
        /// The catalogue
        #[arg(value_name = "MODELS.JSON", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

fn kv_format(name: &str) -> KvFormat {
    match name {
        "q8" => KvFormat::Q8,
        _ => KvFormat::F16,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
