//! Blobs as files in one folder.
//!
//! Model files (`*.gguf`) are written in place, because they are large and grow by verified chunks. Everything else
//! is a small record (journal, consent) and is replaced as a whole at `flush`, so that a kill at any moment leaves
//! the old record or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kwaainet_platform::{
    Blob, BlobInfo, BlobStore, BoxFuture, ReadAt, StoreError, StoreRoom, check_blob_name,
};

use super::record::{Record, temporary};

/// Files in one folder, made when the first blob is.
#[derive(Debug, Clone)]
pub struct FileBlobStore {
    dir: PathBuf,
    /// What is open: handles of one store share a blob, while a lock keeps other processes away.
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<String, Weak<FileBlob>>,
    records: BTreeMap<String, Weak<Record>>,
}

impl FileBlobStore {
    /// Keeps blobs in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            open: Arc::default(),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn open_now(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        check_blob_name(name)?;
        let path = self.dir.join(name);
        if create {
            fs::create_dir_all(&self.dir).map_err(|error| explain(error, &self.dir, 0))?;
        }
        let mut open = lock(&self.open);
        if name.ends_with(".gguf") {
            if let Some(blob) = open.files.get(name).and_then(Weak::upgrade) {
                return Ok(blob);
            }
            let blob = Arc::new(FileBlob::open(name, path, create)?);
            open.files.insert(name.to_owned(), Arc::downgrade(&blob));
            Ok(blob)
        } else {
            if let Some(record) = open.records.get(name).and_then(Weak::upgrade) {
                return Ok(record);
            }
            let record = Arc::new(Record::open(name, path, create)?);
            open.records.insert(name.to_owned(), Arc::downgrade(&record));
            Ok(record)
        }
    }

    fn list_now(&self) -> Result<Vec<BlobInfo>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| explain(error, &self.dir, 0))?,
        };
        let mut blobs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| explain(error, &self.dir, 0))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // A file may vanish while we look: another process deleted it.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() && check_blob_name(&name).is_ok() {
                let size = metadata.len();
                blobs.push(BlobInfo { name, size });
            }
        }
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(blobs)
    }

    fn delete_now(&self, name: &str) -> Result<(), StoreError> {
        check_blob_name(name)?;
        let path = self.dir.join(name);
        let mut open = lock(&self.open);
        if let Some(record) = open.records.remove(name).and_then(|record| record.upgrade()) {
            record.forget();
        }
        // Not while another process reads it.
        if let Some(blob) = open.files.remove(name).and_then(|blob| blob.upgrade()) {
            blob.lock_for_writing()?;
        } else if name.ends_with(".gguf") {
            match FileBlob::open(name, path.clone(), false) {
                Ok(blob) => blob.lock_for_writing()?,
                Err(StoreError::NotFound(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for path in [temporary(&path), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(explain(error, &path, 0));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl BlobStore for FileBlobStore {
    fn open<'a>(&'a self, name: &'a str, create: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>> {
        Box::pin(async move { self.open_now(name, create) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>> {
        Box::pin(async { self.list_now() })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.delete_now(name) })
    }

    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>> {
        Box::pin(async {
            Ok(StoreRoom {
                used: self.list_now()?.iter().map(|blob| blob.size).sum(),
                available: free_space(&self.dir).unwrap_or(u64::MAX),
                persistent: true,
            })
        })
    }
}

/// Bytes that may still be written where `path` lies or will lie; `None` where the system does not tell.
pub fn free_space(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    #[cfg(unix)]
    {
        let there = if existing.as_os_str().is_empty() {
            Path::new(".")
        } else {
            existing
        };
        let stat = rustix::fs::statvfs(there).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = existing;
        None
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn explain(error: io::Error, path: &Path, needed: u64) -> StoreError {
    let name = || {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound(name()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full {
                needed,
                available: free_space(path).unwrap_or(0),
            }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Denied(format!("{}: {error}", path.display()))
        }
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}

pub(super) fn outside(offset: u64, len: usize, size: u64) -> StoreError {
    StoreError::Invalid(format!(
        "bytes {offset} to {} were asked of a blob of {size}",
        offset.saturating_add(len as u64)
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Shared,
    Exclusive,
}

/// A large file, written in place. Readers share it; a writer has it alone.
#[derive(Debug)]
struct FileBlob {
    name: String,
    path: PathBuf,
    file: File,
    lock: Mutex<Lock>,
}

impl FileBlob {
    fn open(name: &str, path: PathBuf, create: bool) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create);
        let file = match options.open(&path) {
            // A folder of models that somebody else keeps for all users of the machine.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !create => File::open(&path),
            other => other,
        }
        .map_err(|error| explain(error, &path, 0))?;
        let blob = Self {
            name: name.to_owned(),
            path,
            file,
            lock: Mutex::new(Lock::Shared),
        };
        blob.outcome(blob.file.try_lock_shared())?;
        Ok(blob)
    }

    fn outcome(&self, locked: Result<(), TryLockError>) -> Result<(), StoreError> {
        match locked {
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(self.name.clone())),
            // Some network file systems have no locks; better to work unlocked there than not at all.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    fn lock_for_writing(&self) -> Result<(), StoreError> {
        let mut state = lock(&self.lock);
        if *state == Lock::Exclusive {
            return Ok(());
        }
        let outcome = self.outcome(self.file.try_lock());
        if outcome.is_ok() {
            *state = Lock::Exclusive;
        } else {
            // flock(2): a conversion that fails has given up the lock that was held.
            self.outcome(self.file.try_lock_shared())?;
        }
        outcome
    }

    fn read_now(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset);
        #[cfg(windows)]
        let read = windows::read_exact_at(&self.file, buf, offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => outside(offset, buf.len(), self.size()),
            _ => explain(error, &self.path, 0),
        })
    }

    fn write_now(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.lock_for_writing()?;
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset);
        #[cfg(windows)]
        let written = windows::write_all_at(&self.file, bytes, offset);
        written.map_err(|error| explain(error, &self.path, bytes.len() as u64))
    }
}

#[cfg(windows)]
mod windows {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt as _;

    pub(super) fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let count = file.seek_read(buf, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = buf.get_mut(count..).unwrap_or_default();
            offset += count as u64;
        }
        Ok(())
    }

    pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = file.seek_write(bytes, offset)?;
            bytes = bytes.get(count..).unwrap_or_default();
            offset += count as u64;
        }
        Ok(())
    }
}

impl ReadAt for FileBlob {
    fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.read_now(offset, buf) })
    }
}

impl Blob for FileBlob {
    fn write_at<'a>(&'a self, offset: u64, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.write_now(offset, bytes) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            // Nothing was written by a reader, and a read-only file cannot be synced everywhere.
            if *lock(&self.lock) == Lock::Shared {
                return Ok(());
            }
            self.file
                .sync_data()
                .map_err(|error| explain(error, &self.path, 0))
        })
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.lock_for_writing()?;
            self.file
                .set_len(size)
                .map_err(|error| explain(error, &self.path, size))
        })
    }
}

/// A file on disk that is only read: what `--model path.gguf` names.
#[derive(Debug)]
pub struct LocalFile(FileBlob);

impl LocalFile {
    /// Opens it.
    ///
    /// # Errors
    /// [`StoreError`] when it is not there, not readable, or being written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(name.clone()),
            _ => explain(error, path, 0),
        })?;
        if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(StoreError::Invalid(format!("{name} is not a file")));
        }
        let blob = FileBlob {
            name,
            path: path.to_owned(),
            file,
            lock: Mutex::new(Lock::Shared),
        };
        blob.outcome(blob.file.try_lock_shared())?;
        Ok(Self(blob))
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("kwaainet-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&dir));
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn it_is_a_blob_store_like_the_others() {
        let dir = Dir::new("suite");
        let number = std::sync::atomic::AtomicU32::new(0);
        block_on(kwaainet_testkit::blob_store_suite(async || {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(FileBlobStore::new(dir.0.join(number.to_string()))) as Arc<dyn BlobStore>
        }));
    }

    #[test]
    fn looking_makes_no_folder() {
        let dir = Dir::new("looking");
        let store = FileBlobStore::new(&dir.0);
        assert!(block_on(store.list()).unwrap().is_empty());
        assert!(matches!(
            block_on(store.open("a.gguf", false)),
            Err(StoreError::NotFound(_))
        ));
        assert!(block_on(store.room()).unwrap().available > 0);
        assert!(!dir.0.exists());
    }

    #[test]
    fn readers_share_a_model_and_a_writer_has_it_alone() {
        let dir = Dir::new("locks");
        // Two stores stand for two processes: flock belongs to the open file, not to the process.
        let (here, there) = (FileBlobStore::new(&dir.0), FileBlobStore::new(&dir.0));
        let writer = block_on(here.open("m.gguf", true)).unwrap();
        block_on(writer.write_at(0, b"abc")).unwrap();
        assert_eq!(
            block_on(there.open("m.gguf", false)).err(),
            Some(StoreError::InUse("m.gguf".to_owned()))
        );
        drop(writer);
        let first = block_on(here.open("m.gguf", false)).unwrap();
        let second = block_on(there.open("m.gguf", false)).unwrap();
        let in_use = Err(StoreError::InUse("m.gguf".to_owned()));
        assert_eq!(block_on(second.write_at(0, b"x")), in_use);
        assert_eq!(block_on(there.delete("m.gguf")), in_use);
        let mut bytes = [0; 3];
        block_on(second.read_at(0, &mut bytes)).unwrap();
        assert_eq!(&bytes, b"abc");
        drop(first);
        // The refused conversion must not have lost the reader's own lock.
        block_on(second.write_at(0, b"x")).unwrap();
        drop(second);
        block_on(there.delete("m.gguf")).unwrap();
        assert!(block_on(there.list()).unwrap().is_empty());
    }

    #[test]
    fn a_record_on_disk_is_the_old_one_until_it_is_flushed() {
        let dir = Dir::new("records");
        let store = FileBlobStore::new(&dir.0);
        let record = block_on(store.open("m.journal", true)).unwrap();
        block_on(record.write_at(0, b"first")).unwrap();
        block_on(record.flush()).unwrap();
        block_on(record.set_size(0)).unwrap();
        block_on(record.write_at(0, b"second, longer")).unwrap();
        assert_eq!(fs::read(dir.0.join("m.journal")).unwrap(), b"first");
        block_on(record.flush()).unwrap();
        assert_eq!(fs::read(dir.0.join("m.journal")).unwrap(), b"second, longer");
        assert!(!temporary(&dir.0.join("m.journal")).exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_the_system_forbids_is_denied_with_the_path() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = Dir::new("denied");
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.0.join("file"), b"").unwrap();
        // A folder below a file cannot be made, whoever asks (root may do nearly everything else).
        let store = FileBlobStore::new(dir.0.join("file/models"));
        assert!(block_on(store.open("m.gguf", true)).is_err());
        fs::set_permissions(dir.0.join("file"), fs::Permissions::from_mode(0o444)).unwrap();
        let error = explain(io::ErrorKind::PermissionDenied.into(), &dir.0.join("file"), 0);
        assert!(matches!(error, StoreError::Denied(text) if text.contains("file")));
    }
}
