//! Which instructions this machine has, and the one place where a kernel is compiled for each set of them.

use super::simd::Simd;

/// An instruction set that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Whatever the target has by default. (Not built where SIMD is the floor: kernels are most of what a browser loads.)
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Portable,
    /// AVX2, FMA, F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON, which all of AArch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with byte dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// WebAssembly SIMD, relaxed or not.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    /// Relaxed, with products of four bytes at once, of which one is without sign.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    UnsignedQuads,
    /// Relaxed, with products of four bytes at once, all signed.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    SignedQuads,
}

impl Isa {
    /// The best set of this machine.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    pub(crate) fn detect() -> Self {
        super::wasm_dot::probe().unwrap_or(Self::Simd128)
    }

    /// The best set of this machine.
    #[cfg(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        not(target_feature = "relaxed-simd")
    ))]
    pub(crate) fn detect() -> Self {
        Self::Simd128
    }

    /// The best set of this machine.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pub(crate) fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }

    /// Every set that this machine can run, best last; tests compare them.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pub(crate) fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut, reason = "the others have the portable set only")
        )]
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                sets.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    sets.push(Self::Avx512);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            sets.push(Self::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                sets.push(Self::NeonDot);
            }
        }
        sets
    }

    /// The set that every machine has, and the best of this one.
    #[cfg(all(test, target_arch = "wasm32", target_feature = "simd128"))]
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Self::Simd128, Self::detect()];
        sets.dedup();
        sets
    }

    /// Tokens that are computed together.
    pub(crate) const fn tile(self) -> usize {
        match self {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Portable => super::portable::Portable::TILE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => super::x86::Avx2::TILE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => super::x86::Avx512::TILE,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => super::neon::Neon::<super::neon::Halves>::TILE,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => super::neon::Neon::<super::neon::DotProd>::TILE,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => super::wasm::Simd128::<super::wasm_dot::Plain>::TILE,
            // The same activations serve all of them.
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::UnsignedQuads | Self::SignedQuads => Self::Simd128.tile(),
        }
    }

    /// Bytes of an activation, see [`Simd::Element`].
    pub(crate) const fn element_bytes(self) -> usize {
        match self {
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            _ => size_of::<<super::wasm_dot::Plain as super::wasm::Dot>::Element>(),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            _ => 1,
        }
    }

    /// Its name, for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => "neon-dotprod",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => <super::wasm_dot::Plain as super::wasm::Dot>::NAME,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::UnsignedQuads => <super::wasm_dot::UnsignedQuads as super::wasm_dot::Reach>::NAME,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::SignedQuads => <super::wasm_dot::SignedQuads as super::wasm_dot::Reach>::NAME,
        }
    }
}

/// Defines a function that runs `body::<S>` compiled for the given [`Isa`].
///
/// `body` must be `#[inline(always)]`, so that its vector operations end up in a function that has the instructions.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $(<$bounded:ident: $bound:path, const $constant:ident: usize>)?
        ($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[expect(clippy::too_many_arguments, clippy::allow_attributes, reason = "a kernel takes what it takes")]
        #[allow(unfulfilled_lint_expectations, reason = "some kernels take few")]
        $vis unsafe fn $name $(<$bounded: $bound, const $constant: usize>)? (isa: $crate::backend::cpu::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            unsafe fn avx512 $(<$bounded: $bound, const $constant: usize>)? ($($arg: $type),*) {
                // SAFETY: the features are those of `Avx512`; the rest is the caller's promise.
                unsafe { $body::<$crate::backend::cpu::x86::Avx512 $(, $bounded, $constant)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2 $(<$bounded: $bound, const $constant: usize>)? ($($arg: $type),*) {
                // SAFETY: the features are those of `Avx2`; the rest is the caller's promise.
                unsafe { $body::<$crate::backend::cpu::x86::Avx2 $(, $bounded, $constant)?>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            unsafe fn neon_dot $(<$bounded: $bound, const $constant: usize>)? ($($arg: $type),*) {
                use $crate::backend::cpu::neon::{DotProd, Neon};
                // SAFETY: the features are those of `DotProd`; the rest is the caller's promise.
                unsafe { $body::<Neon<DotProd> $(, $bounded, $constant)?>($($arg),*) }
            }
            match isa {
                // SAFETY: `Isa::detect` found the features; the rest is the caller's promise.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::isa::Isa::Avx512 => unsafe { avx512 $(::<$bounded, $constant>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::cpu::isa::Isa::Avx2 => unsafe { avx2 $(::<$bounded, $constant>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                $crate::backend::cpu::isa::Isa::NeonDot => unsafe { neon_dot $(::<$bounded, $constant>)? ($($arg),*) },
                // SAFETY: every build for AArch64 has NEON; the rest is the caller's promise.
                #[cfg(target_arch = "aarch64")]
                $crate::backend::cpu::isa::Isa::Neon => unsafe {
                    use $crate::backend::cpu::neon::{Halves, Neon};
                    $body::<Neon<Halves> $(, $bounded, $constant)?>($($arg),*)
                },
                // SAFETY: the whole build has the feature.
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                $crate::backend::cpu::isa::Isa::Simd128 => unsafe {
                    use $crate::backend::cpu::{wasm::Simd128, wasm_dot::Plain};
                    $body::<Simd128<Plain> $(, $bounded, $constant)?>($($arg),*)
                },
                // SAFETY: as above.
                #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
                $crate::backend::cpu::isa::Isa::UnsignedQuads => unsafe {
                    use $crate::backend::cpu::{wasm::Simd128, wasm_dot::{Relaxed, UnsignedQuads}};
                    $body::<Simd128<Relaxed<UnsignedQuads>> $(, $bounded, $constant)?>($($arg),*)
                },
                // SAFETY: as above.
                #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
                $crate::backend::cpu::isa::Isa::SignedQuads => unsafe {
                    use $crate::backend::cpu::{wasm::Simd128, wasm_dot::{Relaxed, SignedQuads}};
                    $body::<Simd128<Relaxed<SignedQuads>> $(, $bounded, $constant)?>($($arg),*)
                },
                // SAFETY: needs nothing; the rest is the caller's promise.
                #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
                $crate::backend::cpu::isa::Isa::Portable => unsafe {
                    $body::<$crate::backend::cpu::portable::Portable $(, $bounded, $constant)?>($($arg),*)
                },
            }
        }
    };
}
pub(super) use for_each_isa;
