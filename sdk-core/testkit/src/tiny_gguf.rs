//! Tiny GGUF files with random weights: every architecture, every format, both kinds of vocabulary.
//!
//! For unit tests, the oracle (llama.cpp loads them too) and fuzzing. Bytes are written here and nowhere else, without
//! a line of the engine, so that a reader and a writer cannot be wrong in the same way.

mod quantise;

pub use quantise::{FORMATS, f16_bits, f16_value, quantise};

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Unsigned 32-bit integer.
    U32(u32),
    /// 32-bit float.
    F32(f32),
    /// Boolean.
    Bool(bool),
    /// Text.
    Text(String),
    /// Array of texts.
    Texts(Vec<String>),
    /// Array of 32-bit floats.
    F32s(Vec<f32>),
    /// Array of signed 32-bit integers.
    I32s(Vec<i32>),
    /// Anything: type id and bytes.
    Raw(u32, Vec<u8>),
}

/// A tensor of a file to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor {
    /// Name.
    pub name: String,
    /// Sizes, the length of a row first.
    pub shape: Vec<u64>,
    /// ggml's id of the format.
    pub format: u32,
    /// Content.
    pub data: Vec<u8>,
}

/// A file to be written; every field may lie.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFile {
    /// Version of the format.
    pub version: u32,
    /// Keys and values, in order.
    pub metadata: Vec<(String, GgufValue)>,
    /// Tensors, in order.
    pub tensors: Vec<GgufTensor>,
    /// Alignment of the data.
    pub alignment: usize,
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_array(out: &mut Vec<u8>, kind: u32, len: usize) {
    out.extend(kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

impl GgufValue {
    fn put(&self, out: &mut Vec<u8>) {
        let kind: u32 = match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::F32s(_) | Self::I32s(_) => 9,
            Self::Raw(kind, _) => *kind,
        };
        out.extend(kind.to_le_bytes());
        match self {
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::Text(value) => put_text(out, value),
            Self::Texts(values) => {
                put_array(out, 8, values.len());
                values.iter().for_each(|value| put_text(out, value));
            }
            Self::F32s(values) => {
                put_array(out, 6, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::I32s(values) => {
                put_array(out, 5, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Raw(_, bytes) => out.extend(bytes),
        }
    }
}

impl GgufFile {
    /// Sets or replaces a key.
    pub fn set(&mut self, key: &str, value: GgufValue) {
        self.metadata.retain(|(existing, _)| existing != key);
        self.metadata.push((key.to_owned(), value));
    }

    /// Removes a key.
    pub fn unset(&mut self, key: &str) {
        self.metadata.retain(|(existing, _)| existing != key);
    }

    /// The tensor of that name.
    pub fn tensor_mut(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .expect("a tensor of that name")
    }

    /// The header alone; what follows it is the data, aligned.
    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            value.put(&mut out);
        }
        let mut offset = 0_usize;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(tensor.format.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(self.alignment);
        }
        out
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        // As llama.cpp writes it: the last tensor is padded too.
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out
    }
}

/// The architectures that are written here.
pub const ARCHITECTURES: [&str; 6] = ["llama", "mistral3", "phi3", "qwen2", "qwen3", "gemma3"];

/// A random model; change what a test is about, and [`build`](Self::build).
#[derive(Debug, Clone)]
pub struct TinyModel {
    /// One of [`ARCHITECTURES`].
    pub architecture: &'static str,
    /// Format of the matrices, by name; vectors are F32.
    pub format: &'static str,
    /// Format of the embedding table.
    pub embedding_format: &'static str,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Length of a head.
    pub head_len: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Context length.
    pub context: u32,
    /// Sliding window of gemma3, and of phi3, where nobody heeds it.
    pub window: u32,
    /// Whether the embedding table is the output head too.
    pub tied: bool,
    /// A vocabulary of pieces with scores (SPM) instead of merges (BPE).
    pub spm: bool,
    /// Factors of rope's frequencies, as Llama 3 has them.
    pub rope_factors: bool,
    /// Scaling of rope,
    pub rope_scale: Option<f32>,
    /// of this type: `linear` or `yarn`.
    pub rope_scaling: &'static str,
    /// Factors for contexts up to `original_context` and beyond it (LongRoPE), for phi3.
    pub long_rope: bool,
    /// The context length before it was stretched.
    pub original_context: Option<u32>,
    /// How many elements of a head are rotated.
    pub rope_len: usize,
    /// Seed of the weights.
    pub seed: u64,
}

impl TinyModel {
    /// 7 layers of width 256: a multiple of every block length, and one global layer of gemma3 among local ones.
    pub fn new(architecture: &'static str, format: &'static str) -> Self {
        Self {
            architecture,
            format,
            embedding_format: format,
            layers: 7,
            width: 256,
            heads: 4,
            kv_heads: 2,
            head_len: 64,
            feed_forward: 512,
            context: 256,
            window: 24,
            tied: architecture.starts_with("qwen") || architecture == "gemma3",
            spm: matches!(architecture, "phi3" | "gemma3"),
            rope_factors: false,
            rope_scale: None,
            rope_scaling: "linear",
            long_rope: false,
            original_context: None,
            rope_len: 64,
            seed: 1,
        }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        self.build().bytes()
    }

    /// The file, to be tampered with or written.
    pub fn build(&self) -> GgufFile {
        let mut file = GgufFile {
            version: 3,
            metadata: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
        };
        self.describe(&mut file);
        let vocabulary = if self.spm {
            spm_vocabulary(&mut file)
        } else {
            bpe_vocabulary(self, &mut file)
        };
        self.weights(&mut file, vocabulary);
        file
    }

    fn describe(&self, file: &mut GgufFile) {
        let text = |text: &str| GgufValue::Text(text.to_owned());
        file.set("general.architecture", text(self.architecture));
        file.set("general.name", text("tiny"));
        let key = |suffix: &str| format!("{}.{suffix}", self.architecture);
        let number = |number: usize| GgufValue::U32(number as u32);
        file.set(&key("block_count"), number(self.layers));
        file.set(&key("context_length"), GgufValue::U32(self.context));
        file.set(&key("embedding_length"), number(self.width));
        file.set(&key("feed_forward_length"), number(self.feed_forward));
        file.set(&key("attention.head_count"), number(self.heads));
        file.set(&key("attention.head_count_kv"), number(self.kv_heads));
        file.set(&key("attention.key_length"), number(self.head_len));
        file.set(&key("attention.value_length"), number(self.head_len));
        file.set(&key("rope.dimension_count"), number(self.rope_len));
        file.set(&key("attention.layer_norm_rms_epsilon"), GgufValue::F32(1e-5));
        file.set(
            &key("rope.freq_base"),
            GgufValue::F32(if self.architecture == "gemma3" { 1e6 } else { 1e5 }),
        );
        if matches!(self.architecture, "phi3" | "gemma3") {
            file.set(&key("attention.sliding_window"), GgufValue::U32(self.window));
        }
        if let Some(factor) = self.rope_scale {
            file.set(&key("rope.scaling.type"), text(self.rope_scaling));
            file.set(&key("rope.scaling.factor"), GgufValue::F32(factor));
        }
        if let Some(context) = self.original_context {
            file.set(
                &key("rope.scaling.original_context_length"),
                GgufValue::U32(context),
            );
        }
        if self.long_rope {
            file.set(&key("rope.scaling.attn_factor"), GgufValue::F32(1.19));
        }
        if self.architecture == "mistral3" && self.rope_scaling == "yarn" {
            file.set(&key("rope.scaling.yarn_beta_fast"), GgufValue::F32(16.0));
            file.set(&key("rope.scaling.yarn_log_multiplier"), GgufValue::F32(0.5));
            file.set(&key("attention.temperature_scale"), GgufValue::F32(0.1));
        }
    }

    fn weights(&self, file: &mut GgufFile, vocabulary: usize) {
        let mut random = Noise(self.seed);
        let (width, ff) = (self.width, self.feed_forward);
        let (q, kv) = (self.heads * self.head_len, self.kv_heads * self.head_len);
        let mut matrix =
            |file: &mut GgufFile, name: String, format: &str, rows: usize, columns: usize, gain: f32| {
                let scale = gain / (columns as f32).sqrt();
                let numbers: Vec<f32> = (0..rows * columns).map(|_| random.number() * scale).collect();
                push(file, name, format, vec![columns as u64, rows as u64], &numbers);
            };
        matrix(
            file,
            "token_embd.weight".into(),
            self.embedding_format,
            vocabulary,
            width,
            // gemma3 multiplies embeddings by the root of the width, and its head is the same table: with more, every
            // token would predict itself.
            if self.architecture == "gemma3" { 0.7 } else { 8.0 },
        );
        if !self.tied {
            matrix(file, "output.weight".into(), self.format, vocabulary, width, 4.0);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            if self.architecture == "phi3" {
                matrix(file, name("attn_qkv"), self.format, q + 2 * kv, width, 1.5);
                matrix(file, name("ffn_up"), self.format, 2 * ff, width, 1.2);
            } else {
                matrix(file, name("attn_q"), self.format, q, width, 2.0);
                matrix(file, name("attn_k"), self.format, kv, width, 2.0);
                matrix(file, name("attn_v"), self.format, kv, width, 1.0);
                matrix(file, name("ffn_gate"), self.format, ff, width, 1.5);
                matrix(file, name("ffn_up"), self.format, ff, width, 1.0);
            }
            matrix(file, name("attn_output"), self.format, width, q, 1.0);
            matrix(file, name("ffn_down"), self.format, width, ff, 1.0);
        }
        let mut random = Noise(self.seed ^ 0x5eed);
        let mut vector = |file: &mut GgufFile, name: String, len: usize, mean: f32| {
            let numbers: Vec<f32> = (0..len).map(|_| mean + 0.2 * random.number()).collect();
            push(file, name, "F32", vec![len as u64], &numbers);
        };
        vector(file, "output_norm.weight".into(), width, 1.0);
        if self.rope_factors {
            vector(file, "rope_freqs.weight".into(), self.rope_len / 2, 2.0);
        }
        if self.long_rope {
            vector(file, "rope_factors_short.weight".into(), self.rope_len / 2, 1.0);
            vector(file, "rope_factors_long.weight".into(), self.rope_len / 2, 4.0);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            vector(file, name("attn_norm.weight"), width, 1.0);
            vector(file, name("ffn_norm.weight"), width, 1.0);
            if self.architecture == "qwen2" {
                vector(file, name("attn_q.bias"), q, 0.0);
                vector(file, name("attn_k.bias"), kv, 0.0);
                vector(file, name("attn_v.bias"), kv, 0.0);
            }
            if matches!(self.architecture, "qwen3" | "gemma3") {
                vector(file, name("attn_q_norm.weight"), self.head_len, 1.0);
                vector(file, name("attn_k_norm.weight"), self.head_len, 1.0);
            }
            if self.architecture == "gemma3" {
                vector(file, name("post_attention_norm.weight"), width, 1.0);
                vector(file, name("post_ffw_norm.weight"), width, 1.0);
            }
        }
    }
}

fn push(file: &mut GgufFile, name: String, format: &str, shape: Vec<u64>, numbers: &[f32]) {
    let (_, id, ..) = FORMATS
        .into_iter()
        .find(|(known, ..)| *known == format)
        .expect("a known format");
    file.tensors.push(GgufTensor {
        name,
        shape,
        format: id,
        data: quantise(format, numbers),
    });
}

/// SplitMix64 (Steele et al. 2014), summed to something like a normal distribution.
#[derive(Debug, Clone)]
pub struct Noise(pub u64);

impl Noise {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number around zero with variance 1.
    pub fn number(&mut self) -> f32 {
        // Four uniform numbers of variance 1/12.
        let sum: f32 = (0..4)
            .map(|_| (self.bits() >> 40) as f32 / (1 << 24) as f32 - 0.5)
            .sum();
        sum * 3.0_f32.sqrt()
    }
}

/// GPT-2's printable stand-ins for bytes.
fn byte_letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + rank).expect("below the surrogates")
}

fn bpe_vocabulary(model: &TinyModel, file: &mut GgufFile) -> usize {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .map(String::from)
        .to_vec();
    let mut kinds = vec![3; tokens.len()];
    tokens.extend((0..=255).map(|byte| byte_letter(byte).to_string()));
    let merges = [
        "t h", "i n", "e r", "a n", "Ġ t", "Ġ a", "o n", "r e", "h e", "Ġt he", "e n", "in g", "an d",
        "Ġa nd", "o u", "l l", "Ġ w", "Ġ s", "o r", "Ġt o",
    ];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    kinds.resize(tokens.len(), 1);
    let count = tokens.len();
    file.set("tokenizer.ggml.model", GgufValue::Text("gpt2".into()));
    let pre = match model.architecture {
        "llama" => "smollm",
        "mistral3" => "tekken",
        _ => "qwen2",
    };
    file.set("tokenizer.ggml.pre", GgufValue::Text(pre.into()));
    file.set("tokenizer.ggml.tokens", GgufValue::Texts(tokens));
    file.set("tokenizer.ggml.token_type", GgufValue::I32s(kinds));
    file.set(
        "tokenizer.ggml.merges",
        GgufValue::Texts(merges.map(String::from).to_vec()),
    );
    file.set("tokenizer.ggml.bos_token_id", GgufValue::U32(1));
    file.set("tokenizer.ggml.eos_token_id", GgufValue::U32(2));
    file.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(false));
    count
}

fn spm_vocabulary(file: &mut GgufFile) -> usize {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    let mut kinds = vec![2, 3, 3];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    kinds.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    let pieces = [
        "▁t", "he", "▁the", "in", "er", "▁a", "an", "nd", "▁and", "ing", "▁w", "or", "ou", "▁", "e", "t",
        "a", "o", "i", "n", "s", "h", "r", "d", "l", "u", "w",
    ];
    for (rank, piece) in pieces.iter().enumerate() {
        tokens.push((*piece).to_owned());
        kinds.push(1);
        scores.push(-(rank as f32));
    }
    let count = tokens.len();
    file.set("tokenizer.ggml.model", GgufValue::Text("llama".into()));
    file.set("tokenizer.ggml.pre", GgufValue::Text("default".into()));
    file.set("tokenizer.ggml.tokens", GgufValue::Texts(tokens));
    file.set("tokenizer.ggml.scores", GgufValue::F32s(scores));
    file.set("tokenizer.ggml.token_type", GgufValue::I32s(kinds));
    file.set("tokenizer.ggml.bos_token_id", GgufValue::U32(1));
    file.set("tokenizer.ggml.eos_token_id", GgufValue::U32(2));
    file.set("tokenizer.ggml.unknown_token_id", GgufValue::U32(0));
    file.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(true));
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_a_round_trip() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(f16_bits(f16_value(bits)), bits);
        }
    }

    #[test]
    fn the_alphabet_of_bytes_is_gpt2s() {
        assert_eq!(byte_letter(b' '), 'Ġ');
        assert_eq!(byte_letter(b'\n'), 'Ċ');
        let letters: std::collections::BTreeSet<char> = (0..=255).map(byte_letter).collect();
        assert_eq!(letters.len(), 256);
    }

    #[test]
    fn blocks_have_ggmls_sizes() {
        let numbers: Vec<f32> = (0..512).map(|n| (n as f32 * 0.37).sin()).collect();
        for (name, _, len, bytes) in FORMATS {
            assert_eq!(quantise(name, &numbers).len(), 512 / len * bytes, "{name}");
        }
    }
}
