//! A model that is cut into spans of layers computes what it computes whole.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::sync::Arc;

use kwaainet_engine::gguf::Gguf;
use kwaainet_engine::{
    BlockInput, BlockSession, EngineError, LoadOptions, LoadedModel, ModelBlocks, Session, Wanted,
};
use kwaainet_platform::{BoxFuture, ReadAt, StoreError, boxed};
use kwaainet_testkit::block_on;
use kwaainet_testkit::tiny_gguf::{ARCHITECTURES, TinyModel};
use kwaainet_types::{ConsentGrant, Permit, RunAi};

fn permit() -> Permit<RunAi> {
    ConsentGrant::of_operator(0).permit(0).unwrap()
}

fn load(file: &dyn ReadAt, layers: Range<usize>) -> Result<Arc<ModelBlocks>, EngineError> {
    let options = LoadOptions {
        context_length: 200,
        ..LoadOptions::default()
    };
    block_on(ModelBlocks::load(
        &permit(),
        file,
        layers,
        options,
        &mut |_, _| {},
    ))
    .map(Arc::new)
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|at| 3 + (at as u32 * 37 + 11) % 250).collect()
}

/// Through all spans, one after the other.
fn through(spans: &mut [BlockSession], tokens: &[u32], wanted: Wanted) -> Vec<f32> {
    let last = spans.len() - 1;
    let mut passed = Vec::new();
    for (at, span) in spans.iter_mut().enumerate() {
        let input = if at == 0 {
            BlockInput::Tokens(tokens)
        } else {
            BlockInput::Hidden(&passed)
        };
        let wanted = if at == last { wanted } else { Wanted::All };
        passed = span.forward(&permit(), input, wanted).unwrap();
    }
    passed
}

#[test]
fn spans_of_every_architecture_give_the_logits_of_the_whole_to_the_bit() {
    let prompt = tokens(150);
    for architecture in ARCHITECTURES {
        let mut model = TinyModel::new(architecture, "Q8_0");
        // Of gemma3's layers every sixth is global.
        model.layers = if architecture == "gemma3" { 8 } else { 4 };
        let layers = model.layers;
        let file = model.bytes();
        let whole = block_on(LoadedModel::load(
            &permit(),
            &file,
            LoadOptions::default(),
            &mut |_, _| {},
        ));
        let mut whole = Session::new(Arc::new(whole.unwrap())).unwrap();
        whole.begin(&prompt).unwrap();
        whole.prefill_step(&permit(), prompt.len()).unwrap();
        for cuts in [vec![], vec![1], vec![layers - 1], vec![1, 2, layers - 1]] {
            let starts = std::iter::once(0).chain(cuts.clone());
            let ends = cuts.iter().copied().chain([layers]);
            let mut spans: Vec<BlockSession> = starts
                .zip(ends)
                .map(|(start, end)| BlockSession::new(load(&file, start..end).unwrap()).unwrap())
                .collect();
            let logits = through(&mut spans, &prompt, Wanted::Last);
            assert_eq!(logits, whole.logits(), "{architecture} cut at {cuts:?}");
            // On, back, and on another way, as with a guess that was wrong.
            let mut after = Session::new(Arc::clone(whole.model())).unwrap();
            after.begin(&prompt).unwrap();
            after.prefill_step(&permit(), prompt.len()).unwrap();
            through(&mut spans, &[9, 8, 7], Wanted::None);
            for span in &mut spans {
                assert_eq!(span.position(), 153);
                span.rewind(150).unwrap();
            }
            for token in [5, 6] {
                after.decode(&permit(), token).unwrap();
                let logits = through(&mut spans, &[token], Wanted::All);
                assert_eq!(logits, after.logits(), "{architecture} cut at {cuts:?}");
            }
        }
    }
}

/// A file of which only some bytes are there, as a peer keeps it.
struct Partial {
    bytes: Vec<u8>,
    present: Vec<Range<u64>>,
}

impl ReadAt for Partial {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        let end = offset + into.len() as u64;
        assert!(
            self.present
                .iter()
                .any(|there| there.start <= offset && end <= there.end),
            "{offset}..{end} is not among {:?}",
            self.present
        );
        into.copy_from_slice(self.bytes.get(offset as usize..end as usize).unwrap());
        boxed(async { Ok(()) })
    }
}

#[test]
fn a_span_reads_only_its_own_tensors_and_takes_only_their_memory() {
    let mut model = TinyModel::new("llama", "Q8_0");
    model.layers = 4;
    let bytes = model.bytes();
    let gguf = block_on(Gguf::read(&bytes)).unwrap();
    let own = |tensor: &&kwaainet_engine::gguf::TensorInfo| {
        tensor.name.starts_with("blk.1.") || tensor.name.starts_with("blk.2.")
    };
    let span = |tensor: &kwaainet_engine::gguf::TensorInfo| tensor.offset..tensor.offset + tensor.bytes;
    let mut present: Vec<Range<u64>> = gguf.tensors.iter().filter(own).map(span).collect();
    // The step in which the header is read.
    present.push(0..256 << 10);
    let middle = load(
        &Partial {
            bytes: bytes.clone(),
            present,
        },
        1..3,
    )
    .unwrap();
    let whole = load(&bytes, 0..4).unwrap();
    let layer = load(&bytes, 1..2).unwrap().memory_plan();
    assert_eq!(middle.memory_plan().weights, 2 * layer.weights);
    assert_eq!(middle.memory_plan().kv_cache * 2, whole.memory_plan().kv_cache);
    assert!(
        whole.memory_plan().weights > 4 * layer.weights,
        "tables come on top"
    );
    assert_eq!(
        (middle.layers(), middle.is_first(), middle.is_last()),
        (1..3, false, false)
    );
}

#[test]
fn layers_that_are_not_there_and_input_that_does_not_fit_are_refused_and_change_nothing() {
    let mut model = TinyModel::new("qwen3", "Q8_0");
    model.layers = 3;
    let file = model.bytes();
    for layers in [0..0, 2..2, 0..4, 3..4, Range { start: 2, end: 1 }] {
        let error = load(&file, layers.clone()).unwrap_err();
        assert_eq!(
            error,
            EngineError::NoSuchLayers {
                wanted: layers,
                layers: 3
            }
        );
    }
    let mut front = BlockSession::new(load(&file, 0..1).unwrap()).unwrap();
    let mut back = BlockSession::new(load(&file, 1..3).unwrap()).unwrap();
    let hidden = front
        .forward(&permit(), BlockInput::Tokens(&[4, 5]), Wanted::All)
        .unwrap();
    let width = front.blocks().width();
    assert_eq!(hidden.len(), 2 * width);
    let good = back
        .forward(&permit(), BlockInput::Hidden(&hidden), Wanted::Last)
        .unwrap();
    assert_eq!(good.len(), back.blocks().vocabulary());
    back.rewind(0).unwrap();

    let nothing: &[f32] = &[];
    let mut poisoned = hidden.clone();
    poisoned[width] = f32::NAN;
    let much = vec![0.0; 201 * width];
    for (wrong, told) in [
        (
            BlockInput::Tokens(&[4, 5]),
            "layers 1..3 begin with what the layers before them put out",
        ),
        (BlockInput::Hidden(nothing), "no token"),
        (BlockInput::Hidden(&hidden[1..]), "no whole tokens of"),
        (BlockInput::Hidden(&poisoned), "the input of these layers"),
        (BlockInput::Hidden(&much), "the context holds 200"),
    ] {
        let error = back
            .forward(&permit(), wrong, Wanted::Last)
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(back.position(), 0);
    }
    assert_eq!(
        back.forward(&permit(), BlockInput::Hidden(&hidden), Wanted::Last)
            .unwrap(),
        good
    );
    for wrong in [BlockInput::Hidden(&hidden), BlockInput::Tokens(&[1 << 30])] {
        front.forward(&permit(), wrong, Wanted::All).unwrap_err();
    }
    assert_eq!(front.position(), 2);
    front.rewind(3).unwrap_err();
}

#[test]
fn numbers_that_overflow_are_reported_and_the_session_begins_anew() {
    let mut file = TinyModel::new("llama", "F32").build();
    for value in file.tensor_mut("blk.6.ffn_norm.weight").data.chunks_mut(4) {
        value.copy_from_slice(&1e38_f32.to_le_bytes());
    }
    let mut back = BlockSession::new(load(&file.bytes(), 6..7).unwrap()).unwrap();
    let ones = vec![1.0; 3 * back.blocks().width()];
    let error = back
        .forward(&permit(), BlockInput::Hidden(&ones), Wanted::Last)
        .unwrap_err();
    assert!(
        matches!(&error, EngineError::NotFinite { what } if what.contains("computed")),
        "{error}"
    );
    assert_eq!(back.position(), 0);
    // Finite, but not their squares, which norms sum up: nothing but zeros would come out.
    let huge = vec![1e30; back.blocks().width()];
    let error = back
        .forward(&permit(), BlockInput::Hidden(&huge), Wanted::Last)
        .unwrap_err();
    assert!(
        matches!(&error, EngineError::NotFinite { what } if what.contains("input")),
        "{error}"
    );
}
