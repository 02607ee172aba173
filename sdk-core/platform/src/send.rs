//! `Send` natively, nothing in a browser, where a value from JavaScript never leaves its thread.
//!
//! One of the three core files that may name a target (the idea is matrix-rust-sdk's `SendOutsideWasm`).

use std::pin::Pin;

#[cfg(not(target_family = "wasm"))]
mod imp {
    /// `Send` natively; every type in a browser.
    pub trait MaybeSend: Send {}
    impl<T: Send + ?Sized> MaybeSend for T {}
    /// `Sync` natively; every type in a browser.
    pub trait MaybeSync: Sync {}
    impl<T: Sync + ?Sized> MaybeSync for T {}

    /// A boxed future that may cross threads natively.
    pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
}

#[cfg(target_family = "wasm")]
mod imp {
    /// `Send` natively; every type in a browser.
    pub trait MaybeSend {}
    impl<T: ?Sized> MaybeSend for T {}
    /// `Sync` natively; every type in a browser.
    pub trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}

    /// A boxed future that may cross threads natively.
    pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;
}

pub use imp::{BoxFuture, MaybeSend, MaybeSync};

/// Boxes a future for a capability method.
pub fn boxed<'a, T>(future: impl Future<Output = T> + MaybeSend + 'a) -> BoxFuture<'a, T> {
    Box::pin(future) as Pin<Box<_>>
}
