//! Attention against its formula, over caches of both kinds, however it is cut.

use kwaainet_platform::{Parallel, Sequential};
use kwaainet_testkit::tiny_gguf::{f16_bits, f16_value};

use super::attention::{AttentionScratch, Heads, Sequence, attend};
use super::isa::Isa;
use super::kv_cache::KvCache;
use super::tests::{Backwards, noise};
use crate::backend::KvFormat;

struct Attention {
    heads: Heads,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    tokens: usize,
}

impl Attention {
    fn new(queries: usize, kv: usize, len: usize, tokens: usize, window: Option<usize>) -> Self {
        Self {
            heads: Heads {
                queries,
                kv,
                len,
                scale: 0.3,
                window,
            },
            queries: noise(1, tokens * queries * len),
            keys: noise(2, tokens * kv * len),
            values: noise(3, tokens * kv * len),
            tokens,
        }
    }

    /// In blocks of the given sizes, repeated.
    fn run(&self, isa: Isa, parallel: &dyn Parallel, blocks: &[usize]) -> Vec<f32> {
        self.run_with(KvFormat::F16, isa, parallel, blocks)
    }

    fn run_with(&self, format: KvFormat, isa: Isa, parallel: &dyn Parallel, blocks: &[usize]) -> Vec<f32> {
        let Heads { queries, kv, len, .. } = self.heads;
        let mut cache = KvCache::new(format, self.tokens, kv, len);
        let mut scratch = AttentionScratch::new(self.tokens, queries, len, parallel.width()).unwrap();
        let mut out = vec![0.0; self.tokens * queries * len];
        let mut first = 0;
        for block in blocks.iter().cycle() {
            let count = (*block).min(self.tokens - first);
            if count == 0 {
                break;
            }
            let of = |x: &[f32], heads: usize| x[first * heads * len..][..count * heads * len].to_vec();
            assert!(cache.reserve(first + count));
            cache.store(first, &of(&self.keys, kv), &of(&self.values, kv));
            let part = &mut out[first * queries * len..];
            attend(
                isa,
                parallel,
                self.heads,
                &[Sequence {
                    cache: &cache,
                    first,
                    tokens: count,
                }],
                &of(&self.queries, queries),
                &mut scratch,
                part,
            );
            first += count;
        }
        out
    }

    fn expected(&self) -> Vec<f64> {
        let half = |x: &[f32]| x.iter().map(|x| f64::from(f16_value(f16_bits(*x)))).collect();
        self.expected_of(half)
    }

    /// With what the cache makes of the keys and values of a head.
    fn expected_of(&self, stored: impl Fn(&[f32]) -> Vec<f64>) -> Vec<f64> {
        let Heads {
            queries,
            kv,
            len,
            scale,
            window,
        } = self.heads;
        let keys: Vec<f64> = self.keys.chunks(len).flat_map(&stored).collect();
        let values: Vec<f64> = self.values.chunks(len).flat_map(&stored).collect();
        let mut out = vec![0.0; self.tokens * queries * len];
        for token in 0..self.tokens {
            for head in 0..queries {
                let of = token * queries * len + head * len;
                let kv_head = head / (queries / kv);
                let from = window.map_or(0, |window| (token + 1).saturating_sub(window));
                let at = |position: usize| (position * kv + kv_head) * len;
                let score = |position: usize| -> f64 {
                    let key = &keys[at(position)..][..len];
                    let query = &self.queries[of..][..len];
                    let dot: f64 = key.iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum();
                    (dot * f64::from(scale)).exp()
                };
                let weights: Vec<f64> = (from..=token).map(score).collect();
                let sum: f64 = weights.iter().sum();
                for (position, weight) in (from..=token).zip(weights) {
                    for element in 0..len {
                        out[of + element] += weight / sum * values[at(position) + element];
                    }
                }
            }
        }
        out
    }
}

#[test]
fn attention_is_its_formula_however_it_is_cut() {
    for (queries, kv, len, tokens, window) in [
        (9, 3, 64, 75, None),
        (4, 1, 24, 50, Some(11)),
        (2, 2, 6, 33, Some(1)),
        (4, 2, 32, 70, Some(40)),
        (16, 2, 16, 20, None),
        // Long enough for threads to share out spans.
        (9, 3, 64, 300, None),
        (4, 1, 256, 200, Some(130)),
    ] {
        let case = Attention::new(queries, kv, len, tokens, window);
        let expected = case.expected();
        for isa in Isa::available() {
            let whole = case.run(isa, &Sequential, &[tokens]);
            for (got, expected) in whole.iter().zip(&expected) {
                assert!(
                    (f64::from(*got) - expected).abs() < 3e-5,
                    "{} {queries}/{kv}",
                    isa.name()
                );
            }
            for blocks in [&[1][..], &[7, 1, 20], &[16]] {
                assert_eq!(
                    whole,
                    case.run(isa, &Sequential, blocks),
                    "{} {blocks:?}",
                    isa.name()
                );
            }
            for blocks in [&[tokens][..], &[100, 1, 1, 5], &[tokens - 1, 1]] {
                assert_eq!(
                    whole,
                    case.run(isa, &Backwards::default(), blocks),
                    "{} {blocks:?} on threads",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn a_cache_of_bytes_rounds_every_head_by_its_largest_number() {
    let bytes = |x: &[f32]| -> Vec<f64> {
        let scale = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())) / 127.0;
        x.iter().map(|x| f64::from((x / scale).round() * scale)).collect()
    };
    for (queries, kv, len, tokens) in [(9, 3, 64, 150), (4, 1, 24, 50)] {
        let case = Attention::new(queries, kv, len, tokens, None);
        let expected = case.expected_of(bytes);
        for isa in Isa::available() {
            let whole = case.run_with(KvFormat::Q8, isa, &Sequential, &[tokens]);
            for (got, expected) in whole.iter().zip(&expected) {
                // A number between two bytes may go either way.
                assert!((f64::from(*got) - expected).abs() < 2e-3, "{}", isa.name());
            }
            let pieces = case.run_with(KvFormat::Q8, isa, &Backwards::default(), &[7, 1, 20]);
            assert_eq!(whole, pieces, "{}", isa.name());
        }
    }
    assert!(
        KvCache::bytes(KvFormat::Q8, 2048, 3, 64) * 100 < KvCache::bytes(KvFormat::F16, 2048, 3, 64) * 54
    );
}

#[test]
fn sequences_side_by_side_are_as_if_alone() {
    let cases: Vec<Attention> = [90, 7, 200]
        .into_iter()
        .map(|tokens| Attention::new(6, 2, 32, tokens, None))
        .collect();
    for isa in Isa::available() {
        let mut expected = Vec::new();
        let mut caches = Vec::new();
        let mut queries = Vec::new();
        for case in &cases {
            let alone = case.run(isa, &Sequential, &[case.tokens]);
            let last = (case.tokens - 1) * 6 * 32;
            expected.extend_from_slice(&alone[last..]);
            queries.extend_from_slice(&case.queries[last..]);
            let mut cache = KvCache::new(KvFormat::F16, case.tokens, 2, 32);
            assert!(cache.reserve(case.tokens));
            cache.store(0, &case.keys, &case.values);
            caches.push(cache);
        }
        let sequences: Vec<Sequence<'_>> = caches
            .iter()
            .zip(&cases)
            .map(|(cache, case)| Sequence {
                cache,
                first: case.tokens - 1,
                tokens: 1,
            })
            .collect();
        for parallel in [&Sequential as &dyn Parallel, &Backwards::default()] {
            let mut scratch = AttentionScratch::new(256, 6, 32, parallel.width()).unwrap();
            let mut out = vec![0.0; queries.len()];
            let heads = cases[0].heads;
            attend(isa, parallel, heads, &sequences, &queries, &mut scratch, &mut out);
            assert_eq!(out, expected, "{}", isa.name());
        }
    }
}

#[test]
fn memory_is_taken_as_a_sequence_grows_and_what_it_holds_stays() {
    for format in [KvFormat::F16, KvFormat::Q8] {
        let mut cache = KvCache::new(format, 200, 2, 32);
        let isa = Isa::detect();
        let keys: Vec<f32> = (0..64 * 2 * 32).map(|at| (at % 127) as f32).collect();
        assert!(cache.reserve(64));
        assert!(cache.store(0, &keys, &keys));
        let read = |cache: &KvCache| {
            let mut out = vec![0.0; 64 * 32];
            cache.unpack_keys(isa, 1, 0, 64, &mut out);
            out
        };
        let before = read(&cache);
        assert!(before.iter().any(|key| *key > 100.0));
        let taken = cache.taken();
        assert!(cache.reserve(64) && cache.reserve(1));
        assert_eq!(cache.taken(), taken);
        assert!(cache.reserve(65));
        assert_eq!(cache.taken(), 2 * taken);
        assert_eq!(read(&cache), before);
        assert!(cache.reserve(200));
        assert_eq!(cache.taken(), KvCache::bytes(format, 200, 2, 32));
        cache.clear();
        assert_eq!(cache.taken(), 0);
    }
}
