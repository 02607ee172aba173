//! A whole world for one node: clock, disk, network, and model files that judge as real ones.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kwaainet_node::{Cancel, Deployment, KwaaiNetCore, Outlet};
use kwaainet_platform::{
    BlobStore, BoxFuture, ByteStream, HttpClient, HttpError, HttpRequest, HttpResponse, ManualClock,
    MemoryBlobStore, MemoryHttp, Platform, boxed,
};
use kwaainet_testkit::{Yielding, block_on, consent_record, host_report};
use kwaainet_types::{Chunk, Command, ErrorBody, Origin, Purpose, Reply};

use crate::fake_engine::FakeEngine;

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const ALL: &[Purpose] = &[Purpose::RunAi, Purpose::KeepModel];

pub(crate) struct Home {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) disk: MemoryBlobStore,
    pub(crate) http: MemoryHttp,
    pub(crate) engine: FakeEngine,
    pub(crate) platform: Platform,
    pub(crate) deployment: Deployment,
}

/// Collects what a command gives out.
#[derive(Default)]
pub(crate) struct Collected(pub(crate) Mutex<Vec<Chunk>>);

impl Outlet for Collected {
    fn chunk(&self, chunk: Chunk) {
        self.0.lock().unwrap().push(chunk);
    }
}

impl Collected {
    pub(crate) fn text(&self) -> String {
        let chunks = self.0.lock().unwrap();
        chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Delta { delta } => Some(delta.text.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn tokens(&self) -> Vec<u32> {
        let chunks = self.0.lock().unwrap();
        chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Delta { delta } => Some(delta.tokens.clone()),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

impl Home {
    pub(crate) fn new(deployment: Deployment) -> Self {
        Self::with_disk(deployment, MemoryBlobStore::default())
    }

    pub(crate) fn with_disk(deployment: Deployment, disk: MemoryBlobStore) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let http = MemoryHttp::default();
        let platform = Platform {
            clock: Arc::clone(&clock) as _,
            store: Arc::new(disk.clone()),
            http: Arc::new(http.clone()),
            ..Platform::in_memory()
        };
        Self {
            engine: FakeEngine::new(Arc::clone(&clock)),
            clock,
            disk,
            http,
            platform,
            deployment,
        }
    }

    /// Starts a node; the ones before it are taken to be dead.
    pub(crate) fn node(&self) -> Arc<KwaaiNetCore> {
        KwaaiNetCore::with_engine(
            self.platform.clone(),
            host_report(),
            self.deployment.clone(),
            Arc::new(self.engine.clone()),
        )
    }

    /// A node whose visitor agreed to these purposes.
    pub(crate) fn agreed(&self, purposes: &[Purpose]) -> Arc<KwaaiNetCore> {
        let node = self.node();
        let record = consent_record(purposes, NOW);
        assert_eq!(
            tell(&node, Origin::Panel, Command::Grant { record }),
            Ok(Reply::Done)
        );
        node
    }

    pub(crate) fn blobs(&self) -> Vec<String> {
        let list = block_on(self.disk.list()).unwrap();
        list.into_iter().map(|blob| blob.name).collect()
    }

    pub(crate) fn blob(&self, name: &str) -> Vec<u8> {
        let blob = block_on(self.disk.open(name, false)).unwrap();
        let mut bytes = vec![0; blob.size() as usize];
        block_on(blob.read_at(0, &mut bytes)).unwrap();
        bytes
    }

    /// Bytes asked of each URL so far.
    pub(crate) fn asked(&self, url: &str, whole: u64) -> u64 {
        let requests = self.http.requests();
        requests
            .iter()
            .filter(|request| request.url == url)
            .map(|request| request.range.map_or(whole, |(_, len)| len))
            .sum()
    }

    pub(crate) fn replace_store(&mut self, store: impl BlobStore + 'static) {
        self.platform.store = Arc::new(store);
    }

    /// Every capability lets go of the thread at every call.
    pub(crate) fn yielding(mut self) -> Self {
        self.platform.clock = Arc::new(Yielding(Arc::clone(&self.clock)));
        self.platform.store = Arc::new(Yielding(self.disk.clone()));
        self.platform.http = Arc::new(Yielding(Arc::clone(&self.platform.http)));
        self
    }

    /// Each piece of a download takes 20 ms.
    pub(crate) fn slow(mut self) -> Self {
        self.platform.http = Arc::new(Slow(self.http.clone(), Arc::clone(&self.clock)));
        self
    }

    pub(crate) fn replace_http(&mut self, http: impl HttpClient + 'static) {
        self.platform.http = Arc::new(http);
    }
}

struct Slow(MemoryHttp, Arc<ManualClock>);

impl HttpClient for Slow {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(async move {
            let mut response = self.0.get(request).await?;
            response.body = Box::new(SlowBody(response.body, Arc::clone(&self.1)));
            Ok(response)
        })
    }
}

struct SlowBody(Box<dyn ByteStream>, Arc<ManualClock>);

impl ByteStream for SlowBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        self.1.advance(Duration::from_millis(20));
        self.0.next()
    }
}

/// Sends a command and drops what it gives out.
pub(crate) fn tell(node: &KwaaiNetCore, origin: Origin, command: Command) -> Result<Reply, ErrorBody> {
    block_on(node.dispatch(origin, command, &|_: Chunk| {}, &Cancel::new()))
}

pub(crate) fn load(node: &KwaaiNetCore, model: &str) -> Result<Reply, ErrorBody> {
    let model = Some(model.to_owned());
    tell(node, Origin::Site, Command::LoadModel { model })
}

/// A GGUF of one llama layer that the engine would accept, of a little more than so many MiB; `flavour` makes its
/// weights differ.
pub(crate) fn model_file(mib: usize, flavour: u8) -> Vec<u8> {
    gguf("llama", mib, flavour)
}

pub(crate) fn gguf(architecture: &str, mib: usize, flavour: u8) -> Vec<u8> {
    const WIDTH: u64 = 64;
    let rows = (mib * MIB) as u64 / (WIDTH * 4);
    let tensors: [(&str, Vec<u64>); 11] = [
        ("token_embd.weight", vec![WIDTH, rows]),
        ("output_norm.weight", vec![WIDTH]),
        ("blk.0.attn_norm.weight", vec![WIDTH]),
        ("blk.0.attn_q.weight", vec![WIDTH, WIDTH]),
        ("blk.0.attn_k.weight", vec![WIDTH, WIDTH]),
        ("blk.0.attn_v.weight", vec![WIDTH, WIDTH]),
        ("blk.0.attn_output.weight", vec![WIDTH, WIDTH]),
        ("blk.0.ffn_norm.weight", vec![WIDTH]),
        ("blk.0.ffn_gate.weight", vec![WIDTH, WIDTH]),
        ("blk.0.ffn_up.weight", vec![WIDTH, WIDTH]),
        ("blk.0.ffn_down.weight", vec![WIDTH, WIDTH]),
    ];
    let numbers = [
        ("block_count", 1_u32),
        ("embedding_length", WIDTH as u32),
        ("attention.head_count", 2),
        ("feed_forward_length", WIDTH as u32),
        ("context_length", 512),
    ];
    let mut file = b"GGUF".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, architecture);
    text(
        &mut file,
        &format!("{architecture}.attention.layer_norm_rms_epsilon"),
    );
    file.extend(6_u32.to_le_bytes());
    file.extend(1e-5_f32.to_le_bytes());
    for (key, number) in numbers {
        text(&mut file, &format!("{architecture}.{key}"));
        file.extend(4_u32.to_le_bytes());
        file.extend(number.to_le_bytes());
    }
    let mut offset = 0_u64;
    for (name, shape) in &tensors {
        text(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        for size in shape {
            file.extend(size.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        file.extend(offset.to_le_bytes());
        offset += (shape.iter().product::<u64>() * 4).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    let data = file.len();
    file.resize(data + offset as usize, 0);
    for (at, byte) in file[data..].iter_mut().enumerate() {
        *byte = (at * 7 + (at >> 10)) as u8 ^ flavour;
    }
    file
}
