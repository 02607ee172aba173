//! Writes numbers in every format of ggml, rounding to the nearest: good enough for tests, no match for ggml's search
//! for the best scales. Layouts are those of `ggml-common.h`.

/// IEEE binary16 bits of the nearest half.
pub fn f16_bits(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    if magnitude < 2.0_f32.powi(-14) {
        return sign | (magnitude * 2.0_f32.powi(24)).round_ties_even() as u16;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0xfff + ((bits >> 13) & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

/// The value of binary16 bits.
pub fn f16_value(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => mantissa * 2.0_f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2.0_f32.powi(exponent - 25),
    }
}

/// Name, ggml id, numbers and bytes per block of every format that is written here.
pub const FORMATS: [(&str, u32, usize, usize); 13] = [
    ("F32", 0, 1, 4),
    ("F16", 1, 1, 2),
    ("Q4_0", 2, 32, 18),
    ("Q4_1", 3, 32, 20),
    ("Q5_0", 6, 32, 22),
    ("Q5_1", 7, 32, 24),
    ("Q8_0", 8, 32, 34),
    ("Q2_K", 10, 256, 84),
    ("Q3_K", 11, 256, 110),
    ("Q4_K", 12, 256, 144),
    ("Q5_K", 13, 256, 176),
    ("Q6_K", 14, 256, 210),
    ("BF16", 30, 1, 2),
];

/// Numbers as the bytes of a format. Their count must be a multiple of its block length.
pub fn quantise(format: &str, numbers: &[f32]) -> Vec<u8> {
    let (_, _, block, _) = FORMATS
        .into_iter()
        .find(|(name, ..)| *name == format)
        .unwrap_or_else(|| panic!("{format} is not a format of ggml"));
    assert!(numbers.len().is_multiple_of(block), "whole blocks");
    let mut out = Vec::new();
    for x in numbers.chunks(block) {
        match format {
            "F32" => out.extend(x[0].to_le_bytes()),
            "F16" => out.extend(f16_bits(x[0]).to_le_bytes()),
            "BF16" => out.extend(
                ((x[0].to_bits() + 0x7fff + ((x[0].to_bits() >> 16) & 1)) >> 16).to_le_bytes()[..2].iter(),
            ),
            "Q4_0" | "Q5_0" => symmetric(x, format == "Q5_0", &mut out),
            "Q4_1" | "Q5_1" => with_minimum(x, format == "Q5_1", &mut out),
            "Q8_0" => {
                let scale = put_half(&mut out, largest(x) / 127.0);
                out.extend(x.iter().map(|x| rounded(x / scale, -127, 127) as u8));
            }
            "Q2_K" => q2_k(x, &mut out),
            "Q3_K" => q3_k(x, &mut out),
            "Q4_K" | "Q5_K" => q45_k(x, format == "Q5_K", &mut out),
            _ => q6_k(x, &mut out),
        }
    }
    out
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// Rounds and limits; a division by a scale of zero gives zero.
fn rounded(x: f32, low: i32, high: i32) -> i32 {
    if x.is_finite() {
        (x.round() as i32).clamp(low, high)
    } else {
        0
    }
}

/// Writes a half, and returns what will be read back.
fn put_half(out: &mut Vec<u8>, value: f32) -> f32 {
    let bits = f16_bits(value);
    out.extend(bits.to_le_bytes());
    f16_value(bits)
}

/// High bits (if there are five), then nibbles: the first 16 numbers in the low halves.
fn put_32(q: &[u32], five: bool, out: &mut Vec<u8>) {
    if five {
        let high = q
            .iter()
            .enumerate()
            .fold(0, |bits, (at, q)| bits | ((q >> 4) << at));
        out.extend(high.to_le_bytes());
    }
    out.extend((0..16).map(|at| ((q[at] & 15) | ((q[at + 16] & 15) << 4)) as u8));
}

fn symmetric(x: &[f32], five: bool, out: &mut Vec<u8>) {
    let half = if five { 16 } else { 8 };
    let extreme = x
        .iter()
        .fold(0.0_f32, |a, b| if b.abs() > a.abs() { *b } else { a });
    let scale = put_half(out, extreme / -(half as f32));
    let q: Vec<u32> = x
        .iter()
        .map(|x| (rounded(x / scale, -half, half - 1) + half) as u32)
        .collect();
    put_32(&q, five, out);
}

fn with_minimum(x: &[f32], five: bool, out: &mut Vec<u8>) {
    let top = if five { 31 } else { 15 };
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = put_half(out, (high - low) / top as f32);
    let low = put_half(out, low);
    let q: Vec<u32> = x
        .iter()
        .map(|x| rounded((x - low) / scale, 0, top) as u32)
        .collect();
    put_32(&q, five, out);
}

/// Scale and minimum (as a positive number) of a run whose numbers go from 0 to `top`.
fn range(x: &[f32], top: f32) -> (f32, f32) {
    let low = x.iter().copied().fold(0.0, f32::min);
    let high = x.iter().copied().fold(0.0, f32::max);
    ((high - low) / top, -low)
}

/// Scales as integers up to `top`, and what they are multiples of.
fn in_steps(scales: &[f32], top: f32) -> (f32, Vec<u32>) {
    let step = f16_value(f16_bits(largest(scales) / top));
    (
        step,
        scales
            .iter()
            .map(|s| rounded(s / step, 0, top as i32) as u32)
            .collect(),
    )
}

fn q2_k(x: &[f32], out: &mut Vec<u8>) {
    let ranges: Vec<_> = x.chunks(16).map(|x| range(x, 3.0)).collect();
    let (step, scales) = in_steps(&ranges.iter().map(|r| r.0).collect::<Vec<_>>(), 15.0);
    let (min_step, mins) = in_steps(&ranges.iter().map(|r| r.1).collect::<Vec<_>>(), 15.0);
    out.extend(
        scales
            .iter()
            .zip(&mins)
            .map(|(scale, min)| (scale | (min << 4)) as u8),
    );
    let q: Vec<u32> = (0..256)
        .map(|at| {
            let (scale, min) = (step * scales[at / 16] as f32, min_step * mins[at / 16] as f32);
            rounded((x[at] + min) / scale, 0, 3) as u32
        })
        .collect();
    put_pairs(&q, out);
    put_half(out, step);
    put_half(out, min_step);
}

/// Two bits of each number: four groups of 32 share 32 bytes.
fn put_pairs(q: &[u32], out: &mut Vec<u8>) {
    for side in q.chunks(128) {
        out.extend((0..32).map(|at| {
            (0..4).fold(0, |bits, group| {
                bits | ((side[group * 32 + at] & 3) << (2 * group))
            }) as u8
        }));
    }
}

fn q3_k(x: &[f32], out: &mut Vec<u8>) {
    let scales: Vec<f32> = x.chunks(16).map(|x| largest(x) / 4.0).collect();
    let (step, scales) = in_steps(&scales, 31.0);
    let q: Vec<u32> = (0..256)
        .map(|at| (rounded(x[at] / (step * scales[at / 16] as f32), -4, 3) + 4) as u32)
        .collect();
    out.extend(
        (0..32).map(|at| (0..8).fold(0, |bits, group| bits | ((q[group * 32 + at] >> 2) << group)) as u8),
    );
    put_pairs(&q, out);
    let biased: Vec<u32> = scales.iter().map(|scale| scale + 32).collect();
    out.extend((0..8).map(|at| ((biased[at] & 15) | ((biased[at + 8] & 15) << 4)) as u8));
    out.extend(
        (0..4).map(|at| (0..4).fold(0, |bits, row| bits | ((biased[4 * row + at] >> 4) << (2 * row))) as u8),
    );
    put_half(out, step);
}

fn q45_k(x: &[f32], five: bool, out: &mut Vec<u8>) {
    let top = if five { 31 } else { 15 };
    let ranges: Vec<_> = x.chunks(32).map(|x| range(x, top as f32)).collect();
    let (step, scales) = in_steps(&ranges.iter().map(|r| r.0).collect::<Vec<_>>(), 63.0);
    let (min_step, mins) = in_steps(&ranges.iter().map(|r| r.1).collect::<Vec<_>>(), 63.0);
    put_half(out, step);
    put_half(out, min_step);
    out.extend((0..4).map(|at| (scales[at] | ((scales[at + 4] >> 4) << 6)) as u8));
    out.extend((0..4).map(|at| (mins[at] | ((mins[at + 4] >> 4) << 6)) as u8));
    out.extend((4..8).map(|at| ((scales[at] & 15) | ((mins[at] & 15) << 4)) as u8));
    let q: Vec<u32> = (0..256)
        .map(|at| {
            let (scale, min) = (step * scales[at / 32] as f32, min_step * mins[at / 32] as f32);
            rounded((x[at] + min) / scale, 0, top) as u32
        })
        .collect();
    if five {
        out.extend(
            (0..32).map(|at| (0..8).fold(0, |bits, group| bits | ((q[group * 32 + at] >> 4) << group)) as u8),
        );
    }
    for pair in q.chunks(64) {
        out.extend((0..32).map(|at| ((pair[at] & 15) | ((pair[at + 32] & 15) << 4)) as u8));
    }
}

fn q6_k(x: &[f32], out: &mut Vec<u8>) {
    let scales: Vec<f32> = x.chunks(16).map(|x| largest(x) / 31.0).collect();
    let (step, scales) = in_steps(&scales, 127.0);
    let q: Vec<u32> = (0..256)
        .map(|at| (rounded(x[at] / (step * scales[at / 16] as f32), -32, 31) + 32) as u32)
        .collect();
    for side in q.chunks(128) {
        out.extend((0..64).map(|at| ((side[at] & 15) | ((side[at + 64] & 15) << 4)) as u8));
    }
    for side in q.chunks(128) {
        out.extend(
            (0..32)
                .map(|at| (0..4).fold(0, |bits, row| bits | ((side[32 * row + at] >> 4) << (2 * row))) as u8),
        );
    }
    out.extend(scales.iter().map(|scale| *scale as u8));
    put_half(out, step);
}
