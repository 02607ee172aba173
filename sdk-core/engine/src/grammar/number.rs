//! Numbers in a range, as digits.

use super::expr::Expr;

/// The largest magnitude that is written: 16 digits, as in llama.cpp, and an `f64` still tells neighbours apart below 2^53.
pub(super) const LARGEST: i64 = 9_007_199_254_740_991;
/// Digits behind the point.
const DECIMALS: u32 = 15;

fn digit(low: u8, high: u8) -> Expr {
    Expr::Class(vec![(u32::from(b'0' + low), u32::from(b'0' + high))])
}

fn any_digits(count: usize) -> Expr {
    Expr::Repeat(Box::new(digit(0, 9)), count as u32, Some(count as u32))
}

/// Whole numbers from `low` to `high`, both within [`LARGEST`]; no choice is empty when `low` is not above `high`.
pub(super) fn whole(low: i64, high: i64) -> Expr {
    let mut ways = Vec::new();
    if low < 0 {
        let positive = natural(high.min(-1).unsigned_abs(), low.unsigned_abs());
        ways.push(Expr::Sequence(vec![Expr::literal("-"), positive]));
    }
    if high >= 0 {
        ways.push(natural(low.max(0).unsigned_abs(), high.unsigned_abs()));
    }
    Expr::Choice(ways)
}

/// Numbers from `low` to `high`, whole or with decimals.
pub(super) fn real(low: i64, high: i64) -> Expr {
    let decimals = || {
        let digits = Expr::Repeat(Box::new(digit(0, 9)), 1, Some(DECIMALS));
        Expr::Sequence(vec![Expr::literal("."), digits])
    };
    let mut ways = vec![whole(low, high)];
    // The whole part of k.d is k, and k.d lies between k and k + 1, on either side of zero.
    if high > 0 {
        let wholes = natural(low.max(0).unsigned_abs(), high.unsigned_abs() - 1);
        ways.push(Expr::Sequence(vec![wholes, decimals()]));
    }
    if low < 0 {
        let wholes = natural(high.min(0).unsigned_abs(), low.unsigned_abs() - 1);
        ways.push(Expr::Sequence(vec![Expr::literal("-"), wholes, decimals()]));
    }
    // Nothing is between equal bounds.
    if low == high {
        ways.truncate(1);
    }
    Expr::Choice(ways)
}

/// Natural numbers of a range, one choice for each count of digits.
fn natural(low: u64, high: u64) -> Expr {
    let mut ways = Vec::new();
    let mut from = low;
    while from <= high {
        let digits = from.to_string().len();
        let last = 10_u64.saturating_pow(digits as u32).saturating_sub(1).min(high);
        ways.push(same_length(
            from.to_string().as_bytes(),
            last.to_string().as_bytes(),
        ));
        from = last.saturating_add(1);
    }
    Expr::Choice(ways)
}

fn same_length(low: &[u8], high: &[u8]) -> Expr {
    let (Some((first, low_rest)), Some((last, high_rest))) = (low.split_first(), high.split_first()) else {
        return Expr::literal("");
    };
    let (first, last) = (first - b'0', last - b'0');
    let count = low_rest.len();
    if low_rest.iter().all(|byte| *byte == b'0') && high_rest.iter().all(|byte| *byte == b'9') {
        return Expr::Sequence(vec![digit(first, last), any_digits(count)]);
    }
    if first == last {
        return Expr::Sequence(vec![digit(first, first), same_length(low_rest, high_rest)]);
    }
    let mut ways = vec![
        Expr::Sequence(vec![
            digit(first, first),
            same_length(low_rest, &vec![b'9'; count]),
        ]),
        Expr::Sequence(vec![
            digit(last, last),
            same_length(&vec![b'0'; count], high_rest),
        ]),
    ];
    if last - first > 1 {
        ways.push(Expr::Sequence(vec![
            digit(first + 1, last - 1),
            any_digits(count),
        ]));
    }
    Expr::Choice(ways)
}
