//! How much memory a visitor's device needs while a model that it does not keep arrives: counted by an allocator.

#![expect(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator that counts; tests fail by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kwaainet_node::KwaaiNetCore;
use kwaainet_platform::{
    BoxFuture, ByteStream, HttpClient, HttpError, HttpRequest, HttpResponse, ManualClock, Platform, boxed,
};
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_testkit::{CatalogueBuilder, Yielding, block_on, consent_record, host_report};
use kwaainet_types::{Chunk, Command, Origin, Purpose, RunAi};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator, with the same arguments; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Serves one file, a piece at a time, without copies of its own.
struct OneFile(Arc<Vec<u8>>);

impl HttpClient for OneFile {
    fn get(&self, _: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(async {
            Ok(HttpResponse {
                status: 200,
                content_length: None,
                body: Box::new(Body(Arc::clone(&self.0), 0)),
            })
        })
    }
}

struct Body(Arc<Vec<u8>>, usize);

impl ByteStream for Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        let rest = self.0.get(self.1..).unwrap_or_default();
        let piece = rest.iter().copied().take(64 << 10).collect::<Vec<u8>>();
        self.1 += piece.len();
        boxed(async { (!piece.is_empty()).then_some(Ok(piece)) })
    }
}

/// The most memory that is in use while the model arrives and is loaded, and what is in use afterwards, both as shares of
/// the file.
fn shares(purposes: &[Purpose]) -> (f64, f64) {
    let mut model = TinyModel::new("llama", "Q8_0");
    model.layers = 56;
    let file = Arc::new(model.bytes());
    let builder = CatalogueBuilder::default().model("m", &file, &["https://models.example/m.gguf"]);
    let platform = Platform {
        http: Arc::new(Yielding(Arc::new(OneFile(Arc::clone(&file))))),
        clock: Arc::new(Yielding(Arc::new(ManualClock::default()))),
        ..Platform::in_memory()
    };
    let node = KwaaiNetCore::new(platform, host_report(), builder.deployment());
    let record = consent_record(purposes, 0);
    let grant = Command::Grant { record };
    let never = kwaainet_node::Cancel::new();
    block_on(node.dispatch(Origin::Panel, grant, &|_: Chunk| {}, &never)).unwrap();
    let permit = node.permit::<RunAi>().unwrap();
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    block_on(node.load_model(&permit, "m")).unwrap();
    let share = |bytes: &AtomicUsize| {
        let bytes = bytes.load(Ordering::Relaxed).saturating_sub(before);
        bytes as f64 / file.len() as f64
    };
    (share(&MOST), share(&NOW))
}

#[test]
fn a_model_that_is_not_kept_is_in_memory_once_while_it_arrives() {
    let (most, after) = shares(&[Purpose::RunAi]);
    println!("{most:.2} of the file while it was loaded, {after:.2} afterwards");
    assert!(after > 0.9, "the weights themselves were not counted");
    assert!(most < 1.25, "{most:.2} of the file");
}
