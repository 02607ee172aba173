//! What every home of a blob store must do: memory, files, OPFS, IndexedDB.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::future::join;
use kwaainet_platform::{Blob, BlobStore, StoreError};

/// Panics with the name of the rule that a store breaks. Deletes everything in the stores that `make` returns.
///
/// `make` may return the same store again or a new one; what was flushed must be there in either case only if it is the
/// same.
pub async fn blob_store_suite(make: impl AsyncFn() -> Arc<dyn BlobStore>) {
    let store = make().await;
    empty(&*store).await;
    names(&*store).await;
    missing(&*store).await;
    round_trip(&*store).await;
    gaps_and_sizes(&*store).await;
    bounds(&*store).await;
    two_handles(&*store).await;
    listing(&*store).await;
    large(&*store).await;
    rewriting(&*store).await;
    listing_meanwhile(&*store).await;
    empty(&*store).await;
    assert_eq!(
        store.list().await.unwrap(),
        Vec::new(),
        "an emptied store has no blobs"
    );
}

async fn empty(store: &dyn BlobStore) {
    for blob in store.list().await.unwrap() {
        store.delete(&blob.name).await.unwrap();
    }
}

async fn open(store: &dyn BlobStore, name: &str) -> Arc<dyn Blob> {
    store.open(name, true).await.unwrap()
}

async fn read(blob: &dyn Blob) -> Vec<u8> {
    let mut bytes = vec![0; blob.size() as usize];
    blob.read_at(0, &mut bytes).await.unwrap();
    bytes
}

async fn names(store: &dyn BlobStore) {
    let long = "x".repeat(121);
    for bad in [
        "",
        ".hidden",
        "../up",
        "a/b",
        "a\\b",
        "UPPER",
        "ünï",
        "a b",
        "a\0",
        long.as_str(),
    ] {
        let opened = store.open(bad, true).await;
        assert!(
            matches!(opened, Err(StoreError::Invalid(_))),
            "the name {bad:?} must be refused"
        );
        let deleted = store.delete(bad).await;
        assert!(
            matches!(deleted, Err(StoreError::Invalid(_))),
            "the name {bad:?} must be refused"
        );
    }
    let longest = "y".repeat(120);
    for good in ["a", "smollm2-135m-instruct-q4_1.gguf", "0.9_x-", longest.as_str()] {
        drop(open(store, good).await);
        store.delete(good).await.unwrap();
    }
}

async fn missing(store: &dyn BlobStore) {
    let opened = store.open("nothing", false).await;
    assert!(
        matches!(opened, Err(StoreError::NotFound(_))),
        "what is not there is not found"
    );
    assert!(
        store.list().await.unwrap().is_empty(),
        "looking for a blob must not create it"
    );
    store
        .delete("nothing")
        .await
        .expect("deleting what is not there is fine");
}

async fn round_trip(store: &dyn BlobStore) {
    let blob = open(store, "round").await;
    assert_eq!(blob.size(), 0, "a new blob is empty");
    blob.write_at(0, b"hello ").await.unwrap();
    blob.write_at(6, b"world").await.unwrap();
    blob.write_at(0, b"J").await.unwrap();
    blob.flush().await.unwrap();
    assert_eq!(read(&*blob).await, b"Jello world");
    drop(blob);
    let again = store.open("round", false).await.unwrap();
    assert_eq!(
        read(&*again).await,
        b"Jello world",
        "what was flushed is there when it is opened again"
    );
    let mut middle = [0; 3];
    again.read_at(6, &mut middle).await.unwrap();
    assert_eq!(&middle, b"wor");
    again
        .read_at(11, &mut [])
        .await
        .expect("reading nothing at the end is fine");
}

async fn gaps_and_sizes(store: &dyn BlobStore) {
    let blob = open(store, "gap").await;
    blob.write_at(5, b"x").await.unwrap();
    assert_eq!(read(&*blob).await, b"\0\0\0\0\0x", "a gap reads as zeros");
    blob.set_size(2).await.unwrap();
    assert_eq!(blob.size(), 2, "a blob can be cut");
    blob.set_size(4).await.unwrap();
    assert_eq!(
        read(&*blob).await,
        b"\0\0\0\0",
        "what was cut off does not come back"
    );
}

async fn bounds(store: &dyn BlobStore) {
    let blob = open(store, "bounds").await;
    blob.write_at(0, b"abc").await.unwrap();
    for (offset, len) in [(0, 4), (3, 1), (4, 1), (u64::MAX, 1), (u64::MAX - 1, 4)] {
        let mut bytes = vec![0; len];
        let result = blob.read_at(offset, &mut bytes).await;
        assert!(
            matches!(result, Err(StoreError::Invalid(_))),
            "reading {len} bytes at {offset} of 3 must be refused, got {result:?}"
        );
    }
}

async fn two_handles(store: &dyn BlobStore) {
    let first = open(store, "twice").await;
    first.write_at(0, b"one").await.unwrap();
    // The node opens a journal again and again while the file is open.
    let second = open(store, "twice").await;
    second.write_at(3, b"two").await.unwrap();
    second.flush().await.unwrap();
    drop(second);
    first.flush().await.unwrap();
    assert_eq!(
        read(&*first).await,
        b"onetwo",
        "two handles of one store see the same bytes"
    );
}

async fn listing(store: &dyn BlobStore) {
    empty(store).await;
    for (name, size) in [("b", 2), ("a", 1), ("c.journal", 3)] {
        let blob = open(store, name).await;
        blob.write_at(0, &vec![1; size]).await.unwrap();
        blob.flush().await.unwrap();
    }
    let list = store.list().await.unwrap();
    let listed: Vec<(&str, u64)> = list.iter().map(|blob| (blob.name.as_str(), blob.size)).collect();
    assert_eq!(
        listed,
        [("a", 1), ("b", 2), ("c.journal", 3)],
        "blobs are listed by name, with sizes"
    );
    store.delete("b").await.unwrap();
    assert_eq!(store.list().await.unwrap().len(), 2);
    let fresh = open(store, "b").await;
    assert_eq!(fresh.size(), 0, "a deleted blob does not come back");
    let room = store.room().await.unwrap();
    assert!(room.available > 0, "there is some room in a test");
}

async fn large(store: &dyn BlobStore) {
    const MIB: usize = 1 << 20;
    let blob = open(store, "large").await;
    let piece =
        |number: usize| -> Vec<u8> { (0..MIB).map(|i| (i * 31 + number * 7 + (i >> 9)) as u8).collect() };
    // Out of order, as a download with a bad chunk is.
    for number in [0, 2, 3, 1] {
        blob.write_at((number * MIB) as u64, &piece(number))
            .await
            .unwrap();
        blob.flush().await.unwrap();
    }
    drop(blob);
    let blob = store.open("large", false).await.unwrap();
    assert_eq!(blob.size(), 4 * MIB as u64);
    let mut bytes = vec![0; MIB];
    for number in 0..4 {
        blob.read_at((number * MIB) as u64, &mut bytes).await.unwrap();
        assert!(bytes == piece(number), "megabyte {number} came back changed");
    }
    let mut across = [0; 2];
    blob.read_at(MIB as u64 - 1, &mut across).await.unwrap();
    assert_eq!(
        across,
        [piece(0)[MIB - 1], piece(1)[0]],
        "a read may cross what was written in pieces"
    );
}

async fn rewriting(store: &dyn BlobStore) {
    for text in ["a long record", "short"] {
        let blob = open(store, "record.json").await;
        blob.write_at(0, text.as_bytes()).await.unwrap();
        blob.set_size(text.len() as u64).await.unwrap();
        blob.flush().await.unwrap();
        drop(blob);
        let blob = store.open("record.json", false).await.unwrap();
        assert_eq!(
            read(&*blob).await,
            text.as_bytes(),
            "a record can be replaced by a shorter one"
        );
    }
}

async fn listing_meanwhile(store: &dyn BlobStore) {
    let changed = Cell::new(false);
    let change = async {
        for round in 0..40 {
            let blob = open(store, "comes-and-goes").await;
            blob.write_at(0, b"replaced").await.unwrap();
            blob.flush().await.unwrap();
            drop(blob);
            if round % 4 == 3 {
                store.delete("comes-and-goes").await.unwrap();
            }
        }
        changed.set(true);
    };
    let list = async {
        while !changed.get() {
            let list = store.list().await.expect("a list while a blob is replaced");
            assert!(
                list.iter().any(|blob| blob.name == "record.json"),
                "what nobody touches stays listed"
            );
            give_way().await;
        }
    };
    join(change, list).await;
}

/// Lets the other half of a `join` go on, also beside a store that never waits.
async fn give_way() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
