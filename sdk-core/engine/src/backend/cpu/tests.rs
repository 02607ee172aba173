//! The kernels against plain arithmetic, for every instruction set of this machine and every format.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kwaainet_platform::{Parallel, Sequential};
use kwaainet_testkit::tiny_gguf::{Noise, f16_bits, f16_value, quantise};

use super::activations::{Activations, Rounding};
use super::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::isa::Isa;
use super::matmul::{Product, multiply};
use super::ops;
use super::packed::PackedMatrix;
use crate::backend::KvFormat;
use crate::error::EngineError;
use crate::gguf::DType;
use crate::model::{Activation, Rope, RopeKind};

/// Runs pieces backwards, and claims to be four: an order that depends on nothing would not notice.
#[derive(Debug, Default)]
pub(super) struct Backwards(AtomicUsize);

impl Parallel for Backwards {
    fn width(&self) -> usize {
        4
    }
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(count, Ordering::Relaxed);
        (0..count).rev().for_each(piece);
    }
}

pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..len).map(|_| noise.number()).collect()
}

fn matrix(dtype: DType, rows: usize, columns: usize, numbers: &[f32]) -> PackedMatrix {
    let mut matrix = PackedMatrix::new(dtype, rows, columns).unwrap();
    let bytes = quantise(dtype.name(), numbers);
    for row in bytes.chunks(matrix.row_bytes()) {
        matrix.push_row(row, "test").unwrap();
    }
    assert!(matrix.is_complete());
    matrix
}

fn product(isa: Isa, parallel: &dyn Parallel, weights: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let mut activations = Activations::default();
    activations.round(isa, Rounding::of(weights.dtype()), x, weights.columns());
    let mut out = vec![f32::NAN; x.len() / weights.columns() * weights.rows()];
    multiply(
        isa,
        parallel,
        &mut [Product {
            weights,
            activations: &activations,
            out: &mut out,
        }],
    );
    out
}

/// What ggml's rounding leaves of a vector.
fn rounded(rounding: Rounding, x: &[f32]) -> Vec<f64> {
    match rounding {
        Rounding::None => x.iter().map(|x| f64::from(*x)).collect(),
        Rounding::F16 => x.iter().map(|x| f64::from(f16_value(f16_bits(*x)))).collect(),
        Rounding::Bf16 => x
            .iter()
            .map(|x| f64::from(bf16_to_f32(f32_to_bf16(*x))))
            .collect(),
        Rounding::Blocks => x
            .chunks(32)
            .flat_map(|x| {
                let largest = x.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                let (inverse, scale) = (127.0 / largest, f64::from(f16_value(f16_bits(largest / 127.0))));
                x.iter()
                    .map(move |x| f64::from((x * inverse).round_ties_even()) * scale)
                    .collect::<Vec<_>>()
            })
            .collect(),
        Rounding::SuperBlocks => x
            .chunks(256)
            .flat_map(|x| {
                let largest = x
                    .iter()
                    .fold(0.0_f32, |a, b| if b.abs() > a.abs() { *b } else { a });
                let inverse = -127.0 / largest;
                x.iter()
                    .map(move |x| f64::from((x * inverse).round_ties_even()) * f64::from(1.0 / inverse))
                    .collect::<Vec<_>>()
            })
            .collect(),
    }
}

#[test]
fn every_format_is_read_as_gguf_py_reads_it() {
    // Random bits, dequantised by the Python package `gguf` (llama.cpp's own), which is nobody's work here.
    let fixture = include_str!("../../../tests/fixtures/blocks.txt");
    let hex = |text: &str| -> Vec<u8> {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        text.as_bytes()
            .chunks(2)
            .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
            .collect()
    };
    let mut seen = 0;
    for line in fixture.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let dtype = DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == parts[0])
            .unwrap();
        let expected: Vec<f32> = hex(parts[2])
            .as_chunks::<4>()
            .0
            .iter()
            .map(|f| f32::from_le_bytes(*f))
            .collect();
        let mut matrix = PackedMatrix::new(dtype, 18, 256).unwrap();
        let zero = vec![0; matrix.row_bytes()];
        for row in 0..18 {
            matrix.push_row(if row == 17 { &[] } else { &zero }, "test").ok();
            if row == 16 {
                matrix.push_row(&hex(parts[1]), "test").unwrap();
            }
        }
        let mut row = vec![0.0; 256];
        matrix.row(17, 1.0, &mut row);
        for (got, expected) in row.iter().zip(&expected) {
            assert!(
                (got - expected).abs() <= expected.abs() * 1e-6 + 1e-7,
                "{dtype}: {got} {expected}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, DType::ALL.len());
}

#[test]
fn products_are_those_of_plain_arithmetic() {
    for dtype in DType::ALL {
        for (case, (rows, tokens)) in [(16, 1), (40, 13), (5, 4), (33, 9), (1, 7)]
            .into_iter()
            .enumerate()
        {
            let columns = 256 * (1 + case % 3);
            let scale = [1.0, 1e-3, 300.0][case % 3];
            let numbers: Vec<f32> = noise(case as u64, rows * columns)
                .iter()
                .map(|x| x * scale)
                .collect();
            let weights = matrix(dtype, rows, columns, &numbers);
            let mut x = noise(77 + case as u64, tokens * columns);
            x[3] = 40.0;
            x[columns - 5] = -90.0;
            x[32..64].fill(0.0);
            check_products(dtype, &weights, &x);
        }
    }
}

/// Sums that are kept in few bits for a while must not overflow: all weights and all activations as large as they get.
#[test]
fn the_largest_sums_are_exact() {
    let columns = 512;
    for dtype in DType::ALL {
        for sign in [1.0, -1.0] {
            // The first of each block has the other sign, so that the others get the largest number without sign.
            let numbers: Vec<f32> = (0..18 * columns)
                .map(|at| if at % 32 == 0 { -sign } else { sign })
                .collect();
            let weights = matrix(dtype, 18, columns, &numbers);
            for tokens in [1, 4, 13] {
                check_products(dtype, &weights, &vec![1.0; tokens * columns]);
                check_products(dtype, &weights, &vec![-1.0; tokens * columns]);
                let mixed: Vec<f32> = (0..tokens * columns)
                    .map(|at| if at % 3 == 0 { -9.0 } else { 9.0 })
                    .collect();
                check_products(dtype, &weights, &mixed);
            }
        }
    }
}

/// Compares every instruction set's products with plain arithmetic on the same rounded numbers.
fn check_products(dtype: DType, weights: &PackedMatrix, x: &[f32]) {
    let (rows, columns) = (weights.rows(), weights.columns());
    let tokens = x.len() / columns;
    let mut row = vec![0.0; columns];
    let mut expected = vec![(0.0, 0.0); rows * tokens];
    for r in 0..rows {
        weights.row(r, 1.0, &mut row);
        for (token, x) in x.chunks(columns).enumerate() {
            let x = rounded(Rounding::of(dtype), x);
            let terms = row
                .iter()
                .zip(x)
                .map(|(w, x)| f64::from(*w) * if x.is_nan() { 0.0 } else { x });
            expected[token * rows + r] = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
        }
    }
    // f16 sums of `Q8_1` cost up to 2^-11 of the minimum's share.
    let share = if matches!(dtype, DType::Q4_1 | DType::Q5_1) {
        1e-3
    } else {
        2e-6
    };
    for isa in Isa::available() {
        for (got, (sum, size)) in product(isa, &Sequential, weights, x).iter().zip(&expected) {
            assert!(
                (f64::from(*got) - sum).abs() <= share * size + 1e-12,
                "{dtype} {} {rows}x{columns} {tokens}: {got} instead of {sum} (terms of {size})",
                isa.name()
            );
        }
    }
}

#[test]
fn a_result_does_not_depend_on_what_is_computed_beside_it() {
    for dtype in DType::ALL {
        let (rows, columns, tokens) = (200, 512, 23);
        let weights = matrix(dtype, rows, columns, &noise(5, rows * columns));
        let x = noise(6, tokens * columns);
        for isa in Isa::available() {
            let together = product(isa, &Sequential, &weights, &x);
            let backwards = Backwards::default();
            assert_eq!(
                together,
                product(isa, &backwards, &weights, &x),
                "{dtype} {}",
                isa.name()
            );
            assert!(backwards.0.into_inner() > 1, "the work was divided");
            for (token, x) in x.chunks(columns).enumerate() {
                let alone = product(isa, &Sequential, &weights, x);
                assert_eq!(
                    alone,
                    together[token * rows..][..rows],
                    "{dtype} {} {token}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn quantising_activations_rounds_as_ggml_does() {
    // 0.5 and 1.5 units: ties go to the even number; zeros stay zeros.
    let mut x = vec![0.0_f32; 32];
    x[..4].copy_from_slice(&[127.0, 0.5, 1.5, -2.5]);
    let mut activations = Activations::default();
    for isa in Isa::available() {
        activations.round(isa, Rounding::Blocks, &x, 32);
        assert_eq!(activations.scales[0], 1.0);
        assert_eq!(activations.half_sums[..2], [127 + 2 - 2, 0], "{}", isa.name());
        activations.round(isa, Rounding::Blocks, &[0.0; 32], 32);
        assert_eq!((activations.scales[0], activations.half_sums[0]), (0.0, 0));
    }
}

#[test]
fn what_is_not_a_number_stays_visible() {
    for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4K, DType::F16, DType::F32] {
        let weights = matrix(dtype, 16, 256, &noise(1, 16 * 256));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = noise(2, 256);
            x[100] = bad;
            for isa in Isa::available() {
                // An f16 holds no infinity here: it is clamped, as large as it was.
                let clamped = dtype == DType::F16 && bad.is_infinite();
                let sound = product(isa, &Sequential, &weights, &x)
                    .iter()
                    .all(|y| y.is_finite());
                assert_eq!(sound, clamped, "{dtype} {bad} {}", isa.name());
            }
        }
    }
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let mut matrix = PackedMatrix::new(DType::Q4_0, 16, 32).unwrap();
    let mut row = quantise("Q4_0", &noise(1, 32));
    row[..2].copy_from_slice(&0x7e00_u16.to_le_bytes());
    let error = matrix.push_row(&row, "blk.0.attn_q.weight").unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { what } if what.contains("blk.0.attn_q.weight")));
    for (dtype, bytes) in [
        (DType::F32, f32::NAN.to_le_bytes().to_vec()),
        (DType::F16, 0xfc00_u16.to_le_bytes().to_vec()),
        (DType::Bf16, 0x7f80_u16.to_le_bytes().to_vec()),
    ] {
        let mut matrix = PackedMatrix::new(dtype, 1, 1).unwrap();
        assert!(
            matches!(matrix.push_row(&bytes, "x"), Err(EngineError::NotFinite { .. })),
            "{dtype}"
        );
    }
}

#[test]
fn halves_are_exact() {
    for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
        assert_eq!(f16_to_f32(bits), f16_value(bits));
        assert_eq!(f32_to_f16(f16_value(bits)), bits);
    }
    for value in noise(3, 20_000) {
        for value in [value, value * 1e-6, value * 1e4] {
            let expected = f16_bits(value);
            assert_eq!(
                f32_to_f16(value),
                if expected & 0x7fff == 0x7c00 {
                    expected - 1
                } else {
                    expected
                }
            );
        }
    }
    assert_eq!(f32_to_f16(1e9), 0x7bff);
    assert!(f32_to_f16(f32::NAN) & 0x7fff > 0x7c00);
}

#[test]
fn exp_is_exp() {
    let mut worst = 0.0_f64;
    for step in 0..350_000 {
        let x = -87.0 + step as f32 * 0.0005;
        let exact = f64::from(x).exp();
        worst = worst.max((f64::from(ops::exp(x)) - exact).abs() / exact);
    }
    assert!(worst < 2e-7, "{worst}");
    assert!(ops::exp(f32::NAN).is_nan());
    assert!(ops::exp(f32::NEG_INFINITY) > 0.0 && ops::exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn gates_and_norms_are_their_formulas() {
    for isa in Isa::available() {
        let (gate, up) = (noise(8, 100), noise(9, 100));
        let mut silu = gate.clone();
        ops::gate(isa, Activation::Silu, &mut silu, &up);
        let mut gelu = gate.clone();
        ops::gate(isa, Activation::GeluTanh, &mut gelu, &up);
        for (at, x) in gate.iter().map(|x| f64::from(*x)).enumerate() {
            let up = f64::from(up[at]);
            assert!((f64::from(silu[at]) - x / (1.0 + (-x).exp()) * up).abs() < 1e-5);
            let tanh = ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh();
            assert!((f64::from(gelu[at]) - 0.5 * x * (1.0 + tanh) * up).abs() < 1e-5);
        }
        let (x, weights) = (noise(10, 3 * 50), noise(11, 50));
        let mut out = vec![0.0; x.len()];
        ops::rms_norm(isa, &x, &weights, 1e-5, &mut out);
        let mut in_place = x.clone();
        ops::rms_norm_in_place(isa, &mut in_place, &weights, 1e-5);
        assert_eq!(out, in_place);
        for (x, out) in x.chunks(50).zip(out.chunks(50)) {
            let mean: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 50.0;
            for ((x, out), weight) in x.iter().zip(out).zip(&weights) {
                let expected = f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*weight);
                assert!((f64::from(*out) - expected).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn rotation_turns_pairs_by_position() {
    let mut rotation = ops::Rotation::default();
    let rope = Rope {
        frequencies: vec![1.0, 0.25],
        magnitude: 2.0,
    };
    rotation.prepare(&rope, 3, 2);
    // One head of six, of which four are rotated; two tokens.
    let x: Vec<f32> = (1..=12).map(|n| n as f32).collect();
    for (kind, pairs) in [
        (RopeKind::Adjacent, [(0, 1), (2, 3)]),
        (RopeKind::Halves, [(0, 2), (1, 3)]),
    ] {
        let mut turned = x.clone();
        rotation.apply(kind, &mut turned, 6, 1);
        for token in 0..2 {
            for (pair, (a, b)) in pairs.into_iter().enumerate() {
                let angle = (3 + token) as f32 * [1.0, 0.25][pair];
                let (a, b) = (token * 6 + a, token * 6 + b);
                assert!(
                    (turned[a] - 2.0 * (x[a] * angle.cos() - x[b] * angle.sin())).abs() < 1e-5,
                    "{kind:?}"
                );
                assert!(
                    (turned[b] - 2.0 * (x[a] * angle.sin() + x[b] * angle.cos())).abs() < 1e-5,
                    "{kind:?}"
                );
            }
            assert_eq!(turned[token * 6 + 4..][..2], x[token * 6 + 4..][..2]);
        }
    }
}

#[test]
fn instruction_sets_agree() {
    let sets = Isa::available();
    println!(
        "instruction sets here: {:?}",
        sets.iter().map(|isa| isa.name()).collect::<Vec<_>>()
    );
    let plainest = sets[0];
    let cpu = super::Cpu::with_isa(plainest, Arc::new(Sequential));
    assert_eq!(
        crate::backend::Backend::name(&cpu),
        format!("cpu ({})", plainest.name())
    );
    let x = noise(4, 512 * 5);
    for dtype in DType::ALL {
        let weights = matrix(dtype, 48, 512, &noise(3, 48 * 512));
        let expected = product(plainest, &Sequential, &weights, &x);
        for isa in &sets {
            for (a, b) in product(*isa, &Sequential, &weights, &x).iter().zip(&expected) {
                assert!((a - b).abs() < 2e-3, "{dtype} {}: {a} {b}", isa.name());
            }
        }
    }
}

#[test]
fn absurd_sizes_are_an_answer_and_no_overflow() {
    use crate::backend::{Backend, Shape};
    let shape = Shape {
        layers: 1024,
        width: 1 << 18,
        heads: 1 << 18,
        kv_heads: 1 << 18,
        head_len: 1024,
        feed_forward: 1 << 18,
        vocabulary: 1 << 21,
        attention_scale: 1.0,
        rope: RopeKind::Halves,
        context: 1 << 21,
        kv_format: KvFormat::F16,
        block: 128,
        dtypes: DType::ALL.to_vec(),
    };
    let cpu = super::Cpu::new(Arc::new(Sequential));
    let (cache, scratch) = cpu.session_bytes(&shape);
    // Keys and values, 1024 layers, 2^28 numbers of 2 bytes per position.
    assert_eq!(cache, 2 * 1024 * (1 << 28) * 2 * (1 << 21));
    assert!(scratch > 1 << 38);
    assert!(matches!(
        cpu.workspace(&shape),
        Err(EngineError::OutOfMemory { .. })
    ));
    let mut full = super::kv_cache::KvCache::new(KvFormat::F16, 1 << 21, 1 << 30, 1 << 16);
    assert!(!full.reserve(1));
    assert!(matches!(
        PackedMatrix::new(DType::F32, usize::MAX >> 4, 1 << 18),
        Err(EngineError::OutOfMemory { .. })
    ));
}
