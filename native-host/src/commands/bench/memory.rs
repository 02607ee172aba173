//! How fast this machine reads as much as decoding reads for each token: what bounds it.

use std::sync::atomic::{AtomicU64, Ordering};

use kwaainet_platform::Parallel;

/// The best of so many readings counts; others use the machine too.
const READINGS: usize = 5;
/// Places to read from at the same time. A processor fetches ahead for each of several streams, so that one alone does
/// not get all that memory gives; kernels read several rows at once.
const STREAMS: [usize; 3] = [1, 4, 8];
/// Numbers that are read before the next stream's turn: four cache lines.
const LINE: usize = 32;
/// Pieces per thread, so that one that is held up does not hold up all.
const PIECES: usize = 8;

/// Bytes per second that these threads read together, of `bytes` bytes over and over: a small model stays in the
/// processor's cache from token to token, and is measured by that. `None` if there is no memory for it.
pub(super) fn bandwidth(bytes: u64, parallel: &dyn Parallel, now_ms: &dyn Fn() -> f64) -> Option<f64> {
    let len = usize::try_from(bytes / 8).ok()?;
    let mut numbers: Vec<u64> = Vec::new();
    numbers.try_reserve_exact(len).ok()?;
    // Not zeros: pages that were never written are all the same one.
    numbers.extend(0..len as u64);
    let pieces = parallel.width().saturating_mul(PIECES).max(1);
    let piece_len = len.div_ceil(pieces);
    let total = AtomicU64::new(0);
    let mut best = f64::INFINITY;
    for _ in 0..READINGS {
        for streams in STREAMS {
            let read = |piece: usize| {
                let from = piece.saturating_mul(piece_len).min(len);
                let to = from.saturating_add(piece_len).min(len);
                let sum = sum(numbers.get(from..to).unwrap_or_default(), streams);
                total.fetch_add(sum, Ordering::Relaxed);
            };
            let begun = now_ms();
            parallel.run(pieces, &read);
            best = best.min(now_ms() - begun);
        }
    }
    std::hint::black_box(total.into_inner());
    (best > 0.0).then(|| (8 * len) as f64 / best * 1000.0)
}

/// Reads numbers from so many places at the same time.
fn sum(numbers: &[u64], streams: usize) -> u64 {
    let len = numbers.len().div_ceil(streams.max(1)).max(1);
    let streams: Vec<&[[u64; LINE]]> = numbers.chunks(len).map(|part| part.as_chunks().0).collect();
    // Several sums, or each addition would wait for the one before.
    let mut sums = [0_u64; LINE];
    for at in 0..len / LINE {
        for line in streams.iter().filter_map(|stream| stream.get(at)) {
            for (sum, number) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*number);
            }
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kwaainet_platform::Sequential;

    use super::*;

    #[test]
    fn bytes_are_counted_by_the_clock() {
        // Each look at the clock is 64 ms later: 16 MiB in 64 ms.
        let time = Mutex::new(0.0);
        let now = || {
            let mut time = time.lock().unwrap();
            *time += 64.0;
            *time
        };
        let found = bandwidth(1 << 24, &Sequential, &now).unwrap();
        assert!((found - f64::from(1 << 24) / 0.064).abs() < 1.0);
    }

    #[test]
    fn every_number_is_read_from_however_many_places() {
        let numbers: Vec<u64> = (0..8 * LINE as u64 * 5).collect();
        for streams in STREAMS {
            assert_eq!(sum(&numbers, streams), numbers.iter().sum::<u64>());
        }
    }
}
