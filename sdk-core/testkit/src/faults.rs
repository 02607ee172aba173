//! Capabilities that fail, or that let go of the thread at every call.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use kwaainet_platform::{
    Blob, BlobInfo, BlobStore, BoxFuture, ByteStream, Clock, HttpClient, HttpError, HttpRequest,
    HttpResponse, ReadAt, StoreError, StoreRoom, boxed,
};

/// A store that refuses everything, as in a private window.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeniedStore;

fn denied<T>() -> Result<T, StoreError> {
    Err(StoreError::Denied("this is a private window".to_owned()))
}

impl BlobStore for DeniedStore {
    fn open<'a>(&'a self, _: &'a str, _: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>> {
        boxed(async { denied() })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>> {
        boxed(async { denied() })
    }

    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async { denied() })
    }

    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>> {
        boxed(async { denied() })
    }
}

/// Lets go of the thread once before every call, so that a future can be dropped at each of its await points.
#[derive(Debug, Clone)]
pub struct Yielding<T>(pub T);

#[derive(Default)]
struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls a future up to so many times; `None` if it was still not done, and is dropped.
pub fn poll_times<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

struct YieldingBlob(Arc<dyn Blob>);

impl ReadAt for YieldingBlob {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.read_at(offset, buf).await
        })
    }
}

impl Blob for YieldingBlob {
    fn write_at<'a>(&'a self, offset: u64, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            // Half of a write may reach the disk before a kill.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            self.0.write_at(offset, first).await?;
            YieldOnce::default().await;
            self.0.write_at(offset + first.len() as u64, second).await
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.flush().await
        })
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.set_size(size).await
        })
    }
}

impl<T: BlobStore> BlobStore for Yielding<T> {
    fn open<'a>(&'a self, name: &'a str, create: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            Ok(Arc::new(YieldingBlob(self.0.open(name, create).await?)) as Arc<dyn Blob>)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.list().await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.delete(name).await
        })
    }

    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.room().await
        })
    }
}

struct YieldingBody(Box<dyn ByteStream>);

impl ByteStream for YieldingBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        boxed(async move {
            YieldOnce::default().await;
            self.0.next().await
        })
    }
}

impl<T: HttpClient + ?Sized> HttpClient for Yielding<Arc<T>> {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(async move {
            YieldOnce::default().await;
            let mut response = self.0.get(request).await?;
            response.body = Box::new(YieldingBody(response.body));
            Ok(response)
        })
    }
}

impl<T: Clock> Clock for Yielding<Arc<T>> {
    fn monotonic_ms(&self) -> f64 {
        self.0.monotonic_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    fn cpu_ms(&self) -> Option<f64> {
        self.0.cpu_ms()
    }

    /// Lets everything that is ready go first: a timeout must not win against an answer that is there.
    fn sleep(&self, duration: std::time::Duration) -> BoxFuture<'_, ()> {
        boxed(async move {
            for _ in 0..8 {
                YieldOnce::default().await;
            }
            self.0.sleep(duration).await;
        })
    }
}
