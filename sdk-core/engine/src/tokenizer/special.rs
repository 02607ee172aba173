//! Tokens that are more than text: finding them in a text, and knowing which of them end an answer.

use std::ops::Range;

use super::table::StringTable;
use super::{Kind, NONE};

/// Longer ones are plain text, so that looking for them stays cheap on any text; real ones have under 50 bytes.
const LONGEST_SPECIAL: usize = 256;

/// A stretch of a text: plain, or one special token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32),
}

/// The special tokens of a vocabulary, ready to be found.
#[derive(Debug, Default)]
pub(super) struct Specials {
    /// Sorted by text.
    sorted: Vec<u32>,
    first_bytes: Vec<bool>,
    /// Phi-3's special tokens take the spaces behind them along.
    strip_right: Vec<u32>,
}

impl Specials {
    pub(super) fn new(table: &StringTable, kinds: &[Kind], strip_right: Vec<u32>) -> Self {
        let mut sorted: Vec<u32> = (0u32..)
            .zip(kinds)
            .filter(|(_, kind)| kind.is_special())
            .map(|(id, _)| id)
            .filter(|id| {
                table
                    .get(*id)
                    .is_some_and(|text| (1..=LONGEST_SPECIAL).contains(&text.len()))
            })
            .collect();
        sorted.sort_by(|a, b| table.get(*a).cmp(&table.get(*b)));
        let mut first_bytes = vec![false; 256];
        for id in &sorted {
            let first = table.get(*id).and_then(|text| text.first());
            if let Some(flag) = first.and_then(|byte| first_bytes.get_mut(usize::from(*byte))) {
                *flag = true;
            }
        }
        Self {
            sorted,
            first_bytes,
            strip_right,
        }
    }

    /// Cuts a text at its special tokens: the longest tokens claim their places first, as in llama.cpp.
    ///
    /// Without `parse_control`, control and unknown tokens are plain text and only user-defined ones count.
    pub(super) fn partition(
        &self,
        table: &StringTable,
        kinds: &[Kind],
        text: &str,
        parse_control: bool,
    ) -> Vec<Fragment> {
        let counts = |id: u32| {
            let kind = kinds.get(id as usize).copied().unwrap_or(Kind::Normal);
            kind == Kind::UserDefined || (parse_control && kind.is_special())
        };
        let (places, lengths) = self.places(table, text.as_bytes(), &counts);
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for len in lengths.into_iter().rev() {
            let mut finer = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => {
                        let first = places.partition_point(|place| *place < range.start);
                        let inside = places.get(first..).unwrap_or_default();
                        self.cut(table, text, range, inside, len, &counts, &mut finer);
                    }
                    token @ Fragment::Token(_) => finer.push(token),
                }
            }
            fragments = finer;
        }
        fragments
    }

    /// Where any special token begins, and the lengths of those that occur, both ascending.
    fn places(
        &self,
        table: &StringTable,
        text: &[u8],
        counts: &impl Fn(u32) -> bool,
    ) -> (Vec<usize>, Vec<usize>) {
        let mut places = Vec::new();
        let mut lengths = std::collections::BTreeSet::new();
        for (place, byte) in text.iter().enumerate() {
            if !self.first_bytes.get(usize::from(*byte)).is_some_and(|flag| *flag) {
                continue;
            }
            let rest = text.get(place..).unwrap_or_default();
            let mut found = false;
            // Narrow the sorted list byte by byte, as one would walk down a trie.
            let mut candidates = self.sorted.as_slice();
            for (depth, byte) in rest.iter().enumerate() {
                let at_depth = |id: &u32| table.get(*id).and_then(|text| text.get(depth)).copied();
                let low = candidates.partition_point(|id| at_depth(id) < Some(*byte));
                let high = candidates.partition_point(|id| at_depth(id) <= Some(*byte));
                candidates = candidates.get(low..high).unwrap_or_default();
                let Some(first) = candidates.first() else { break };
                if table.get(*first).is_some_and(|text| text.len() == depth + 1) && counts(*first) {
                    found = true;
                    lengths.insert(depth + 1);
                }
            }
            if found {
                places.push(place);
            }
        }
        (places, lengths.into_iter().collect())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct would only rename the arguments"
    )]
    fn cut(
        &self,
        table: &StringTable,
        text: &str,
        range: Range<usize>,
        places: &[usize],
        len: usize,
        counts: &impl Fn(u32) -> bool,
        into: &mut Vec<Fragment>,
    ) {
        let mut start = range.start;
        for &place in places.iter().take_while(|place| **place + len <= range.end) {
            if place < start {
                continue;
            }
            let candidate = text
                .as_bytes()
                .get(place..place + len)
                .and_then(|text| table.find(text));
            let Some(id) = candidate.filter(|id| counts(*id)) else {
                continue;
            };
            if start < place {
                into.push(Fragment::Text(start..place));
            }
            into.push(Fragment::Token(id));
            start = place + len;
            if self.strip_right.binary_search(&id).is_ok() {
                let rest = text.as_bytes().get(start..range.end).unwrap_or_default();
                // C's isspace, which llama.cpp uses: space and \t \n \v \f \r.
                start += rest
                    .iter()
                    .take_while(|byte| matches!(byte, b' ' | 9..=13))
                    .count();
            }
        }
        if start < range.end {
            into.push(Fragment::Text(start..range.end));
        }
    }
}

/// Tokens that end a turn, by their text (llama.cpp knows no better way either; its issue 9606).
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// Tokens between files of a repository end an answer too.
const FILE_TEXTS: &[&str] = &[
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];
/// Of these, in this order, the first that exists ends a turn of a chat.
const TURN_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// Looked like control tokens to whoever trained the model, whatever the file says.
const CONTROL_TEXTS: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// What the file says about its end tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    /// End of message, and the tokens between files of a repository.
    pub(super) others: Vec<u32>,
}

/// Finds the tokens that end an answer, and corrects kinds as llama.cpp does. Returns them sorted, and the
/// token that ends a turn.
pub(super) fn end_tokens(table: &StringTable, kinds: &mut [Kind], ends: &Ends) -> (Vec<u32>, Option<u32>) {
    let vocabulary = kinds.len();
    let find = |text: &str| {
        table
            .find(text.as_bytes())
            .filter(|id| (*id as usize) < vocabulary)
    };
    let mut set_kind = |id: u32, kind: Kind| {
        if let Some(place) = kinds.get_mut(id as usize) {
            *place = kind;
        }
    };
    let mut found = std::collections::BTreeSet::new();
    for id in END_TEXTS.iter().chain(FILE_TEXTS).filter_map(|text| find(text)) {
        found.insert(id);
        set_kind(id, Kind::Control);
    }
    for id in CONTROL_TEXTS.iter().filter_map(|text| find(text)) {
        set_kind(id, Kind::Control);
    }
    // gpt-oss: these are shown.
    for text in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
        set_kind(find(text).unwrap_or(NONE), Kind::UserDefined);
    }
    let turn = ends.eot.or_else(|| TURN_TEXTS.iter().find_map(|text| find(text)));
    found.extend([ends.eos, turn].into_iter().flatten());
    found.extend(&ends.others);

    // gpt-oss and solar-open: a turn goes on after <|end|> where <|return|> or <|flush|> exists.
    let has = |text: &str| find(text).is_some_and(|id| found.contains(&id));
    let call = has("<|call|>") || has("<|calls|>");
    let goes_on = call && (has("<|return|>") || has("<|flush|>"));
    let tool_response = has("<|tool_response>");
    if goes_on && let Some(id) = find("<|end|>").filter(|id| found.contains(id)) {
        found.remove(&id);
        set_kind(id, Kind::UserDefined);
    }
    if tool_response && let Some(id) = find("</s>").filter(|id| found.contains(id)) {
        found.remove(&id);
        set_kind(id, Kind::Normal);
    }
    (found.into_iter().collect(), turn)
}
