//! A weight matrix in panels: built from the file's bytes as they stream in, read by the kernels.

use super::blocks;
use super::half::{bf16_to_f32, f16_is_finite, f16_to_f32};
use super::layout::{GROUP, Planes, SUPER_GROUPS, Scales, VECTOR, panel_bytes};
use super::simd::PANEL;
use crate::error::EngineError;
use crate::gguf::DType;

/// A cache line, so that every vector load is aligned.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u8; VECTOR]);

/// A matrix of `rows` x `columns` weights.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    dtype: DType,
    rows: usize,
    columns: usize,
    lines: Vec<Line>,
    /// Rows that have been filled in.
    filled: usize,
}

/// Bytes that a matrix of this shape takes in memory.
pub(crate) fn packed_bytes(dtype: DType, rows: usize, columns: usize) -> u64 {
    (rows.div_ceil(PANEL) as u64).saturating_mul(panel_bytes(dtype, columns) as u64)
}

impl PackedMatrix {
    /// An empty matrix; fill it with [`Self::push_row`].
    pub(crate) fn new(dtype: DType, rows: usize, columns: usize) -> Result<Self, EngineError> {
        let bytes = packed_bytes(dtype, rows, columns);
        let too_large = EngineError::OutOfMemory {
            needed: bytes,
            limit: usize::MAX as u64,
        };
        let count = usize::try_from(bytes / VECTOR as u64).map_err(|_| too_large.clone())?;
        let mut lines = Vec::new();
        // A browser may well refuse: that is an answer, not an abort.
        lines.try_reserve_exact(count).map_err(|_| too_large)?;
        lines.resize(count, Line([0; VECTOR]));
        Ok(Self {
            dtype,
            rows,
            columns,
            lines,
            filled: 0,
        })
    }

    pub(crate) const fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) const fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes of a row in the file.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.columns / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// Whether every row is there.
    pub(crate) const fn is_complete(&self) -> bool {
        self.filled == self.rows
    }

    /// The bytes of a panel.
    pub(super) fn panel(&self, index: usize) -> &[u8] {
        let lines = panel_bytes(self.dtype, self.columns) / VECTOR;
        let from = index.saturating_mul(lines);
        let lines = self
            .lines
            .get(from..from.saturating_add(lines))
            .unwrap_or_default();
        as_bytes(lines)
    }

    /// The bytes of a panel and of all behind it.
    pub(super) fn panels_from(&self, index: usize) -> &[u8] {
        let from = index.saturating_mul(self.panel_bytes() / VECTOR);
        as_bytes(self.lines.get(from..).unwrap_or_default())
    }

    /// From one panel to the next.
    pub(super) fn panel_bytes(&self) -> usize {
        panel_bytes(self.dtype, self.columns)
    }

    fn panel_mut(&mut self, index: usize) -> &mut [Line] {
        let lines = panel_bytes(self.dtype, self.columns) / VECTOR;
        let from = index.saturating_mul(lines);
        self.lines
            .get_mut(from..from.saturating_add(lines))
            .unwrap_or_default()
    }

    /// Adds the next row, as it is in the file. `name` is for errors.
    pub(crate) fn push_row(&mut self, bytes: &[u8], name: &str) -> Result<(), EngineError> {
        if bytes.len() != self.row_bytes() || self.filled >= self.rows {
            return Err(EngineError::WrongOrder(
                "a row of a wrong length was pushed into a matrix",
            ));
        }
        let (panel, lane) = (self.filled / PANEL, self.filled % PANEL);
        let (dtype, columns) = (self.dtype, self.columns);
        let lines = self.panel_mut(panel);
        let sound = match Planes::of(dtype) {
            Some(planes) => pack_quantised(dtype, planes, columns, lines, lane, bytes),
            None => pack_floats(dtype, lines, lane, bytes),
        };
        if !sound {
            return Err(EngineError::NotFinite {
                what: format!("row {} of tensor {name:?}", self.filled),
            });
        }
        self.filled += 1;
        Ok(())
    }

    /// One row as floats, times `factor`: the embedding of a token, without ever expanding the table.
    pub(crate) fn row(&self, row: usize, factor: f32, out: &mut [f32]) {
        let (panel, lane) = (self.panel(row / PANEL), row % PANEL);
        match Planes::of(self.dtype) {
            Some(planes) => {
                for (group, out) in out.chunks_mut(GROUP).enumerate() {
                    let scales = scales_of(planes, self.columns, panel, group, lane);
                    let scales = scales
                        .iter()
                        .flat_map(|pair| std::iter::repeat_n(pair, GROUP / 2));
                    let quants = quants_of(planes, panel, group, lane);
                    for ((to, quant), (scale, min)) in out.iter_mut().zip(quants).zip(scales) {
                        *to = (scale * quant as f32 - min) * factor;
                    }
                }
            }
            None => {
                for (column, to) in out.iter_mut().enumerate() {
                    *to = float_at(self.dtype, panel, column * PANEL + lane) * factor;
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "a view of plain bytes as plain bytes")]
fn as_bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: `Line` is 64 bytes without padding (its size equals its alignment), and u8 has no invalid values.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

fn float_at(dtype: DType, panel: &[u8], index: usize) -> f32 {
    match dtype {
        DType::F32 => f32::from_le_bytes(at(panel, 4 * index)),
        DType::F16 => f16_to_f32(u16::from_le_bytes(at(panel, 2 * index))),
        _ => bf16_to_f32(u16::from_le_bytes(at(panel, 2 * index))),
    }
}

/// Scale and minimum of both halves of a group.
fn scales_of(planes: Planes, columns: usize, panel: &[u8], group: usize, lane: usize) -> [(f32, f32); 2] {
    let base = planes.scales_at(columns);
    let f16 = |offset: usize| f16_to_f32(u16::from_le_bytes(at(panel, offset + 2 * lane)));
    let u8 = |offset: usize| at::<1>(panel, offset + lane)[0];
    match planes.scales {
        Scales::Plain => [(f16(base + group * 2 * PANEL), 0.0); 2],
        Scales::Min => {
            let from = base + group * 4 * PANEL;
            // Here the minimum is added, in K-quants it is subtracted.
            [(f16(from), -f16(from + 2 * PANEL)); 2]
        }
        scales => {
            let from = base + group / SUPER_GROUPS * scales.bytes();
            let within = group % SUPER_GROUPS;
            let subs = from + if scales.has_min() { 4 * PANEL } else { 2 * PANEL } + within * 2 * PANEL;
            match scales {
                Scales::SuperMin => {
                    let scale = f16(from) * f32::from(u8(subs));
                    [(scale, f16(from + 2 * PANEL) * f32::from(u8(subs + PANEL))); 2]
                }
                Scales::SuperHalf => [0, 1].map(|side| {
                    let scale = f32::from(u8(subs + side * PANEL).cast_signed());
                    (f16(from) * scale, 0.0)
                }),
                _ => [0, 1].map(|side| {
                    let both = u8(subs + side * PANEL);
                    (
                        f16(from) * f32::from(both & 15),
                        f16(from + 2 * PANEL) * f32::from(both >> 4),
                    )
                }),
            }
        }
    }
}

/// The weights of a row within a group, before scaling.
fn quants_of(planes: Planes, panel: &[u8], group: usize, lane: usize) -> [i32; GROUP] {
    let base = group * planes.group_bytes();
    std::array::from_fn(|column| {
        let (chunk, within) = (column / 4, lane * 4 + column % 4);
        let byte = |offset: usize| at::<1>(panel, base + offset + within)[0];
        if planes.bytes {
            return i32::from(byte(chunk * VECTOR).cast_signed());
        }
        let mut quant = 0;
        if planes.nibbles {
            quant |= (byte(chunk % 4 * VECTOR) >> (4 * (chunk / 4))) & 15;
        }
        if planes.pairs {
            let pair = (byte(planes.pairs_at() + chunk % 2 * VECTOR) >> (2 * (chunk / 2))) & 3;
            quant |= if planes.nibbles { pair << 4 } else { pair };
        }
        if planes.singles {
            let single = (byte(planes.singles_at()) >> chunk) & 1;
            quant |= single << if planes.nibbles { 4 } else { 2 };
        }
        i32::from(quant) - planes.offset
    })
}

/// A place in a panel: line and byte within it.
fn put<const N: usize>(lines: &mut [Line], offset: usize, bytes: [u8; N]) {
    let within = lines
        .get_mut(offset / VECTOR)
        .and_then(|line| line.0.get_mut(offset % VECTOR..)?.first_chunk_mut::<N>());
    if let Some(to) = within {
        *to = bytes;
    }
}

fn pack_floats(dtype: DType, lines: &mut [Line], lane: usize, bytes: &[u8]) -> bool {
    let mut sound = true;
    if dtype == DType::F32 {
        for (column, number) in bytes.as_chunks::<4>().0.iter().enumerate() {
            sound &= f32::from_le_bytes(*number).is_finite();
            put(lines, 4 * (column * PANEL + lane), *number);
        }
        return sound;
    }
    for (column, number) in bytes.as_chunks::<2>().0.iter().enumerate() {
        let bits = u16::from_le_bytes(*number);
        sound &= if dtype == DType::F16 {
            f16_is_finite(bits)
        } else {
            bits & 0x7f80 != 0x7f80
        };
        put(lines, 2 * (column * PANEL + lane), *number);
    }
    sound
}

fn pack_quantised(
    dtype: DType,
    planes: Planes,
    columns: usize,
    lines: &mut [Line],
    lane: usize,
    bytes: &[u8],
) -> bool {
    let groups_per_block = dtype.block_len() / GROUP;
    let mut sound = true;
    for (index, block) in bytes.chunks_exact(dtype.block_bytes()).enumerate() {
        for within in 0..groups_per_block {
            let (quants, scales) = blocks::group(dtype, block, within);
            sound &= f16_is_finite(scales.scale) && f16_is_finite(scales.min);
            let group = index * groups_per_block + within;
            put_quants(planes, lines, group * planes.group_bytes() + lane * 4, &quants);
            put_scales(planes, columns, lines, group, lane, scales);
        }
    }
    sound
}

fn put_quants(planes: Planes, lines: &mut [Line], base: usize, quants: &blocks::Quants) {
    let chunk = |index: usize| u32::from_le_bytes(at(quants, 4 * index));
    if planes.bytes {
        for index in 0..8 {
            put(lines, base + index * VECTOR, chunk(index).to_le_bytes());
        }
        return;
    }
    if planes.nibbles {
        for index in 0..4 {
            let both = (chunk(index) & 0x0f0f_0f0f) | ((chunk(index + 4) & 0x0f0f_0f0f) << 4);
            put(lines, base + index * VECTOR, both.to_le_bytes());
        }
    }
    if planes.pairs {
        let from = if planes.nibbles { 4 } else { 0 };
        for vector in 0..2 {
            let bits = (0..4).fold(0, |bits, step| {
                bits | (((chunk(vector + 2 * step) >> from) & 0x0303_0303) << (2 * step))
            });
            put(
                lines,
                base + planes.pairs_at() + vector * VECTOR,
                bits.to_le_bytes(),
            );
        }
    }
    if planes.singles {
        let from = if planes.nibbles { 4 } else { 2 };
        let bits = (0..8).fold(0, |bits, index| {
            bits | (((chunk(index) >> from) & 0x0101_0101) << index)
        });
        put(lines, base + planes.singles_at(), bits.to_le_bytes());
    }
}

fn put_scales(
    planes: Planes,
    columns: usize,
    lines: &mut [Line],
    group: usize,
    lane: usize,
    scales: blocks::GroupScales,
) {
    let base = planes.scales_at(columns);
    let kind = planes.scales;
    let from = if kind.is_super() {
        base + group / SUPER_GROUPS * kind.bytes()
    } else {
        base + group * kind.bytes()
    };
    put(lines, from + 2 * lane, scales.scale.to_le_bytes());
    if kind.has_min() {
        put(lines, from + 2 * PANEL + 2 * lane, scales.min.to_le_bytes());
    }
    if kind.is_super() {
        let subs = from + if kind.has_min() { 4 * PANEL } else { 2 * PANEL };
        let subs = subs + group % SUPER_GROUPS * 2 * PANEL + lane;
        put(lines, subs, [scales.sub[0]]);
        put(lines, subs + PANEL, [scales.sub[1]]);
    }
}
