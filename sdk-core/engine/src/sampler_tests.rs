//! Tests of the sampler.

use super::*;

fn sampler(options: SamplerOptions) -> Sampler {
    Sampler::new(options).unwrap()
}

/// Everything on, nothing filtered.
fn open() -> SamplerOptions {
    SamplerOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..SamplerOptions::default()
    }
}

/// Logits of a vocabulary as large as Gemma's.
fn many(seed: u64) -> Vec<f32> {
    (0..262_144)
        .map(|i| (unit(seed, i) * 24.0 - 12.0) as f32)
        .collect()
}

/// What a sampler keeps, the slow way: sort everything.
fn reference(logits: &[f32], options: &SamplerOptions) -> Vec<u32> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if options.top_k > 0 {
        ids.truncate(options.top_k as usize);
    }
    let best = f64::from(logits[ids[0]]);
    let weight = |id: &usize| (f64::from(logits[*id]) - best).exp();
    let total: f64 = ids.iter().map(weight).sum();
    let mut sum = 0.0;
    let inside = ids.iter().take_while(|id| {
        let more = sum < f64::from(options.top_p) * total;
        sum += weight(id);
        more
    });
    let mut kept: Vec<usize> = if options.top_p < 1.0 {
        inside.copied().collect()
    } else {
        ids.clone()
    };
    kept.retain(|id| weight(id) >= f64::from(options.min_p));
    kept.into_iter().map(|id| id as u32).collect()
}

#[test]
fn keeps_what_sorting_everything_would_keep() {
    let logits = many(3);
    for (top_k, top_p, min_p) in [
        (40, 1.0, 0.0),
        (40, 0.5, 0.0),
        (40, 0.95, 0.3),
        (0, 0.001, 0.0),
        (0, 0.3, 0.0),
        (0, 0.9, 0.0),
        (0, 0.9, 0.2),
        (0, 1.0, 0.1),
        (5000, 0.2, 0.0),
        (1, 0.9, 0.9),
    ] {
        let options = SamplerOptions {
            top_k,
            top_p,
            min_p,
            ..open()
        };
        let mut sampler = sampler(options.clone());
        sampler.adjust(&logits, &[]);
        let best = best_of(&sampler.logits).unwrap();
        let mut kept: Vec<u32> = sampler.keep(best).iter().map(|candidate| candidate.id).collect();
        let mut expected = reference(&logits, &options);
        kept.sort_unstable();
        expected.sort_unstable();
        assert_eq!(kept, expected, "top_k {top_k} top_p {top_p} min_p {min_p}");
    }
}

#[test]
fn frequencies_follow_the_softmax() {
    let logits = [0.0, 1.0, 2.0, f32::INFINITY, f32::NAN];
    let mut sampler = sampler(SamplerOptions {
        temperature: 2.0,
        ..open()
    });
    let mut counts = [0u32; 5];
    for position in 0..100_000 {
        counts[sampler.sample(&logits, &[], position).unwrap() as usize] += 1;
    }
    let weights = [1.0, 0.5f64.exp(), 1f64.exp()];
    let total: f64 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let expected = 100_000.0 * weight / total;
        // Five standard deviations of a binomial count are under 800 here.
        assert!((f64::from(*count) - expected).abs() < 800.0, "{counts:?}");
    }
    assert_eq!(counts[3..], [0, 0]);
}

#[test]
fn the_draw_depends_on_seed_and_position_only() {
    let logits = many(1);
    let options = SamplerOptions { seed: 7, ..open() };
    let mut first = sampler(options.clone());
    let answer: Vec<_> = (0..20).map(|n| first.sample(&logits, &[], n)).collect();
    let mut resumed = sampler(options);
    let rest: Vec<_> = (12..20).map(|n| resumed.sample(&logits, &[1, 2, 3], n)).collect();
    assert_eq!(answer[12..], rest);
    let mut other = sampler(SamplerOptions { seed: 8, ..open() });
    let others: Vec<_> = (0..20).map(|n| other.sample(&logits, &[], n)).collect();
    assert_ne!(answer, others);
}

#[test]
fn greedy_takes_the_first_of_equals() {
    let mut sampler = sampler(SamplerOptions::greedy());
    assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, -1.0], &[], 0), Some(1));
    assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY], &[], 0), None);
    assert_eq!(sampler.sample(&[], &[], 0), None);
}

#[test]
fn penalties_follow_llama_cpp() {
    let mut sampler = sampler(SamplerOptions {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        penalty_last_n: 4,
        ..SamplerOptions::greedy()
    });
    sampler.adjust(&[4.0, 4.0, -1.0, 4.0], &[3, 1, 1, 2, 9]);
    // 3 is too old, 9 does not exist.
    assert_eq!(
        sampler.logits,
        [4.0, 4.0 / 2.0 - 2.0 * 0.25 - 0.5, -2.0 - 0.25 - 0.5, 4.0]
    );
}

#[test]
fn a_bias_forces_and_forbids() {
    let mut sampler = sampler(SamplerOptions {
        logit_bias: vec![(0, -100.0), (2, 100.0), (99, 5.0)],
        ..SamplerOptions::greedy()
    });
    assert_eq!(sampler.sample(&[5.0, 4.0, 1.0], &[], 0), Some(2));
}

#[test]
fn values_out_of_range_are_named() {
    for (options, name) in [
        (
            SamplerOptions {
                temperature: -0.1,
                ..open()
            },
            "temperature",
        ),
        (
            SamplerOptions {
                temperature: f32::NAN,
                ..open()
            },
            "temperature",
        ),
        (SamplerOptions { top_p: 0.0, ..open() }, "top_p"),
        (SamplerOptions { top_p: 1.1, ..open() }, "top_p"),
        (SamplerOptions { min_p: 2.0, ..open() }, "min_p"),
        (
            SamplerOptions {
                repetition_penalty: 0.0,
                ..open()
            },
            "repetition_penalty",
        ),
        (
            SamplerOptions {
                presence_penalty: 3.0,
                ..open()
            },
            "presence_penalty",
        ),
        (
            SamplerOptions {
                frequency_penalty: f32::INFINITY,
                ..open()
            },
            "frequency_penalty",
        ),
        (
            SamplerOptions {
                logit_bias: vec![(1, 101.0)],
                ..open()
            },
            "logit_bias",
        ),
        (
            SamplerOptions {
                logit_bias: vec![(1, 1.0); 2000],
                ..open()
            },
            "logit_bias",
        ),
    ] {
        let error = Sampler::new(options).unwrap_err();
        assert_eq!(error.name, name);
        assert!(error.to_string().starts_with(name));
    }
}
