//! Whole models with candle's products instead of ours: `cargo test -p kwaainet-engine --features candle`.

#![cfg(feature = "candle")]
#![expect(clippy::unwrap_used, reason = "tests")]

use kwaainet_engine::candle_reference::logits_of_both;
use kwaainet_testkit::block_on;
use kwaainet_testkit::tiny_gguf::{FORMATS, TinyModel};
use kwaainet_types::{ConsentGrant, RunAi};

#[test]
fn logits_agree_with_candles_in_every_format() {
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    let tokens: Vec<u32> = (0..40).map(|at| 3 + (at * 37 + 11) % 250).collect();
    for architecture in ["llama", "qwen3"] {
        for (format, ..) in FORMATS {
            let mut model = TinyModel::new(architecture, format);
            // Rounding of activations is chaotic in depth: a flipped last bit is amplified from layer to layer.
            model.layers = 2;
            let (ours, candle) = block_on(logits_of_both(&permit, &model.bytes(), &tokens)).unwrap();
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosine = dot(&ours, &candle) / (dot(&ours, &ours) * dot(&candle, &candle)).sqrt();
            assert!(cosine > 0.998, "{architecture} {format}: {cosine}");
        }
    }
}
