//! How weights lie in memory: panels of 16 rows, bits split into planes.
//!
//! A panel holds, for every group of 32 columns, one plane for each width of bits that the format is made of: nibbles,
//! pairs, single bits, or whole bytes. A plane's vector holds four columns of each of the 16 rows, which is what one dot
//! instruction eats. The scales of the panel follow. No format takes more bits than in the file, except for the
//! sub-scales of K-quants, which are unpacked (0.125 to 0.25 bits per weight).
//!
//! Chunk `c` of a group is its columns `4c` to `4c + 3`. Where a chunk's bits are:
//! - nibbles: vector `c % 4`, low half for `c < 4`, else high half;
//! - pairs: vector `c % 2`, shifted by `2 * (c / 2)`;
//! - singles: the only vector, bit `c`;
//! - bytes: vector `c`.

use super::simd::PANEL;
use crate::gguf::DType;

/// Columns in a group.
pub(super) const GROUP: usize = 32;
/// Groups in a super-block of a K-quant.
pub(super) const SUPER_GROUPS: usize = 8;
/// Bytes of a plane's vector: four columns of each row.
pub(super) const VECTOR: usize = 4 * PANEL;

/// What the scales of a format are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scales {
    /// f16 scale per group.
    Plain,
    /// f16 scale and f16 minimum per group.
    Min,
    /// Per super-block f16 scale and minimum, per group u8 scale and u8 minimum (`Q4_K`, `Q5_K`).
    SuperMin,
    /// Per super-block f16 scale, per half group i8 scale (`Q3_K`, `Q6_K`).
    SuperHalf,
    /// Per super-block f16 scale and minimum, per half group 4-bit scale and minimum in a byte (`Q2_K`).
    SuperHalfMin,
}

impl Scales {
    pub(super) const fn is_super(self) -> bool {
        matches!(self, Self::SuperMin | Self::SuperHalf | Self::SuperHalfMin)
    }

    pub(super) const fn halves(self) -> bool {
        matches!(self, Self::SuperHalf | Self::SuperHalfMin)
    }

    pub(super) const fn has_min(self) -> bool {
        matches!(self, Self::Min | Self::SuperMin | Self::SuperHalfMin)
    }

    /// Bytes for one group, or for one super-block.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Plain => 2 * PANEL,
            Self::Min => 4 * PANEL,
            Self::SuperMin => 4 * PANEL + 2 * SUPER_GROUPS * PANEL,
            Self::SuperHalf => 2 * PANEL + 2 * SUPER_GROUPS * PANEL,
            Self::SuperHalfMin => 4 * PANEL + 2 * SUPER_GROUPS * PANEL,
        }
    }
}

/// A quantised format in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) nibbles: bool,
    pub(super) pairs: bool,
    pub(super) singles: bool,
    pub(super) bytes: bool,
    /// Subtracted from the unsigned number to get the weight.
    pub(super) offset: i32,
    pub(super) scales: Scales,
}

impl Planes {
    const fn new(bits: u32, offset: i32, scales: Scales) -> Self {
        Self {
            nibbles: matches!(bits, 4..=6),
            pairs: matches!(bits, 2 | 3 | 6),
            singles: matches!(bits, 3 | 5),
            bytes: bits == 8,
            offset,
            scales,
        }
    }

    /// The planes of a quantised format; `None` for floats.
    pub(super) const fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::Q4_0 => Self::new(4, 8, Scales::Plain),
            DType::Q4_1 => Self::new(4, 0, Scales::Min),
            DType::Q5_0 => Self::new(5, 16, Scales::Plain),
            DType::Q5_1 => Self::new(5, 0, Scales::Min),
            DType::Q8_0 => Self::new(8, 0, Scales::Plain),
            DType::Q2K => Self::new(2, 0, Scales::SuperHalfMin),
            DType::Q3K => Self::new(3, 4, Scales::SuperHalf),
            DType::Q4K => Self::new(4, 0, Scales::SuperMin),
            DType::Q5K => Self::new(5, 0, Scales::SuperMin),
            DType::Q6K => Self::new(6, 32, Scales::SuperHalf),
            DType::F32 | DType::F16 | DType::Bf16 => return None,
        })
    }

    /// First byte of the pairs within a group.
    pub(super) const fn pairs_at(self) -> usize {
        if self.nibbles { 4 * VECTOR } else { 0 }
    }

    /// First byte of the singles within a group.
    pub(super) const fn singles_at(self) -> usize {
        self.pairs_at() + if self.pairs { 2 * VECTOR } else { 0 }
    }

    /// Bytes of all planes of a group.
    pub(super) const fn group_bytes(self) -> usize {
        if self.bytes {
            return 8 * VECTOR;
        }
        self.singles_at() + if self.singles { VECTOR } else { 0 }
    }

    /// Where a panel of `columns` keeps its scales.
    pub(super) const fn scales_at(self, columns: usize) -> usize {
        columns / GROUP * self.group_bytes()
    }
}

/// Bytes of a panel of 16 rows; a multiple of [`VECTOR`], so that loads are aligned.
pub(super) const fn panel_bytes(dtype: DType, columns: usize) -> usize {
    let bytes = match Planes::of(dtype) {
        Some(planes) => {
            let groups = columns / GROUP;
            let units = if planes.scales.is_super() {
                groups / SUPER_GROUPS
            } else {
                groups
            };
            planes.scales_at(columns) + units * planes.scales.bytes()
        }
        None => columns * PANEL * dtype.block_bytes(),
    };
    bytes.next_multiple_of(VECTOR)
}
