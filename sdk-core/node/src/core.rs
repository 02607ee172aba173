//! The node itself: what it is made of, and the specification's methods.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::lock::Mutex as AsyncMutex;
use kwaainet_platform::{MaybeSend, MaybeSync, Platform, ReadAt};
use kwaainet_types::{
    ChatDone, ChatRequest, Chunk, ConsentGrant, Event, HostReport, KvFormat, ModelEntry, ModelSource,
    NodeConfig, Permit, PermitFor, Purpose, ResourceLimits, RunAi, SignedCatalogue,
};

use crate::activity::Activity;
use crate::cancel::Cancel;
use crate::candle_engine::CandleEngine;
use crate::consent::{self, ConsentKeeper, Restored};
use crate::engine::{InferenceEngine, RunnableModel};
use crate::events::{EventBus, Events};
use crate::model_store::ModelStore;
use crate::resources::{ResourceManager, SharedResources};
use crate::sharing::{Member, Participation};
use crate::trusted::Trusted;
use crate::turn::Turns;
use crate::{NodeError, chat};

/// Answers that may wait for the engine, of all ports together.
const MOST_WAITING: usize = 256;

/// Where this deployment's models come from. Set by who serves the node, never by a website.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// URL of `models.json`; relative sources are relative to it.
    pub catalogue_url: Option<String>,
    /// The Ed25519 public key that signs it.
    pub catalogue_key: Option<[u8; 32]>,
    /// The catalogue itself, where it is not fetched.
    pub catalogue: Option<SignedCatalogue>,
}

/// Where the pieces of an answer go.
pub trait Outlet: MaybeSend + MaybeSync {
    /// Takes the next piece.
    fn chunk(&self, chunk: Chunk);
}

impl<F: Fn(Chunk) + MaybeSend + MaybeSync> Outlet for F {
    fn chunk(&self, chunk: Chunk) {
        self(chunk);
    }
}

/// A model that is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelHandle {
    /// Its id.
    pub id: String,
    /// Where its bytes came from this time.
    pub source: ModelSource,
    /// Longest prompt plus answer, in tokens.
    pub context_length: usize,
}

/// Something to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceRequest {
    /// The conversation and how to answer it.
    pub chat: ChatRequest,
    /// A text to be continued as it is, instead of the conversation: no chat template.
    pub raw: Option<String>,
    /// Tokens that an interrupted answer had already delivered.
    pub resume: Vec<u32>,
}

impl From<ChatRequest> for InferenceRequest {
    fn from(chat: ChatRequest) -> Self {
        Self {
            chat,
            raw: None,
            resume: Vec::new(),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceResponse {
    /// All of its text that is new (what `resume` stands for is not repeated).
    pub text: String,
    /// All new tokens.
    pub tokens: Vec<u32>,
    /// Why it ended and what it took.
    pub done: ChatDone,
}

/// What this device has done since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ContributionMetrics {
    /// Answers that were finished.
    pub answers: u64,
    /// Tokens of prompts that were read.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub completion_tokens: u64,
    /// Milliseconds of processor time.
    pub compute_ms: f64,
    /// Of these tokens, for other people. This version lends models and computes nothing for others, so it is always 0.
    pub tokens_for_others: u64,
}

/// A model in memory.
pub(crate) struct Loaded {
    pub(crate) id: String,
    pub(crate) model: Arc<dyn RunnableModel>,
    pub(crate) context_length: u32,
    pub(crate) kv_format: KvFormat,
}

#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) config: NodeConfig,
    /// The caps that the visitor agreed to; a site cannot raise them.
    pub(crate) ceiling: Option<ResourceLimits>,
}

/// A model given to the node as a file.
#[derive(Clone)]
pub(crate) struct LocalModel {
    pub(crate) entry: ModelEntry,
    pub(crate) file: Arc<dyn ReadAt>,
}

/// The node: one per browser partition or process.
pub struct KwaaiNetCore {
    pub(crate) platform: Platform,
    pub(crate) host: HostReport,
    pub(crate) deployment: Deployment,
    pub(crate) inference_engine: Arc<dyn InferenceEngine>,
    pub(crate) model_manager: ModelStore,
    pub(crate) resource_manager: SharedResources,
    pub(crate) consent: Arc<ConsentKeeper>,
    pub(crate) events: EventBus,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) catalogue: AsyncMutex<Option<Arc<Trusted>>>,
    pub(crate) local_models: Mutex<BTreeMap<String, LocalModel>>,
    /// The last one was used last.
    pub(crate) loaded: Mutex<Vec<Loaded>>,
    pub(crate) turns: Turns,
    answers_at_once: AtomicUsize,
    pub(crate) activity: Activity,
    pub(crate) metrics: Mutex<ContributionMetrics>,
    /// One change of consent at a time.
    pub(crate) consent_change: AsyncMutex<()>,
    pub(crate) member: Mutex<Option<Member>>,
    pub(crate) participation: Mutex<Participation>,
    started: AsyncMutex<bool>,
}

impl std::fmt::Debug for KwaaiNetCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KwaaiNetCore")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resource_manager(platform: &Platform) -> SharedResources {
    let limits = Settings::default().config.max_resources;
    Arc::new(ResourceManager::new(platform.clone(), limits))
}

impl KwaaiNetCore {
    /// A node on this host. It does nothing until it is asked, and computes nothing without consent.
    pub fn new(platform: Platform, host: HostReport, deployment: Deployment) -> Arc<Self> {
        let resource_manager = resource_manager(&platform);
        let engine = Arc::new(CandleEngine::new(resource_manager.parallel()));
        Self::assemble(platform, host, deployment, engine, resource_manager)
    }

    /// A node with another engine.
    pub fn with_engine(
        platform: Platform,
        host: HostReport,
        deployment: Deployment,
        inference_engine: Arc<dyn InferenceEngine>,
    ) -> Arc<Self> {
        let resource_manager = resource_manager(&platform);
        Self::assemble(platform, host, deployment, inference_engine, resource_manager)
    }

    fn assemble(
        platform: Platform,
        host: HostReport,
        deployment: Deployment,
        inference_engine: Arc<dyn InferenceEngine>,
        resource_manager: SharedResources,
    ) -> Arc<Self> {
        Arc::new(Self {
            model_manager: ModelStore::new(platform.clone(), Arc::clone(&resource_manager)),
            consent: Arc::new(ConsentKeeper::new(platform.clone())),
            platform,
            host,
            deployment,
            inference_engine,
            resource_manager,
            events: EventBus::default(),
            settings: Mutex::default(),
            catalogue: AsyncMutex::new(None),
            local_models: Mutex::default(),
            loaded: Mutex::default(),
            turns: Turns::new(MOST_WAITING),
            answers_at_once: AtomicUsize::new(1),
            activity: Activity::default(),
            metrics: Mutex::default(),
            consent_change: AsyncMutex::new(()),
            member: Mutex::default(),
            participation: Mutex::default(),
            started: AsyncMutex::new(false),
        })
    }

    /// Lets models that are loaded from now on make several answers at the same time, each on a thread of its own; fewer
    /// where memory does not allow as many caches. They share each pass over the weights, so together they are made faster
    /// than one after the other, and each slower than alone.
    pub fn set_answers_at_once(&self, answers: usize) {
        self.answers_at_once.store(answers.max(1), Ordering::Relaxed);
    }

    pub(crate) fn answers_at_once(&self) -> usize {
        self.answers_at_once.load(Ordering::Relaxed)
    }

    /// Sets the configuration, as the operator.
    ///
    /// # Errors
    /// [`NodeError::BadRequest`] naming the value that is out of range.
    pub async fn initialize(&self, config: NodeConfig) -> Result<(), NodeError> {
        self.start().await?;
        self.configure(kwaainet_types::Origin::Operator, config)
    }

    /// Puts consent that was kept in force again. Called by everything that needs it; harmless to call again.
    ///
    /// # Errors
    /// [`NodeError::Store`] when the host's storage fails.
    pub async fn start(&self) -> Result<(), NodeError> {
        let mut started = self.started.lock().await;
        if *started {
            return Ok(());
        }
        let store = &*self.platform.store;
        match consent::restore(store, self.platform.clock.unix_ms()).await? {
            Restored::Nothing => {}
            Restored::Grant(grant, limits) => {
                self.consent.set(grant);
                if let Some(limits) = limits {
                    self.set_ceiling(limits);
                }
            }
            // Nothing may be kept without consent in force.
            Restored::Over => self.model_manager.delete_everything().await?,
        }
        *started = true;
        Ok(())
    }

    /// Whoever runs this program on their own machine has agreed by running it. Nothing is written down.
    pub fn grant_operator(&self) {
        self.consent
            .set(ConsentGrant::of_operator(self.platform.clock.unix_ms()));
    }

    /// Whoever runs a peer on their own machine has agreed to help others, too.
    pub fn grant_peer_operator(&self) {
        self.consent
            .set(ConsentGrant::of_peer_operator(self.platform.clock.unix_ms()));
    }

    /// The permit for one purpose, from the consent in force.
    ///
    /// # Errors
    /// [`NodeError::Consent`] when nobody agreed, or no longer.
    pub fn permit<P: PermitFor>(&self) -> Result<Permit<P>, NodeError> {
        self.consent.permit()
    }

    /// Purposes that the visitor agreed to.
    pub fn purposes(&self) -> Vec<Purpose> {
        self.consent.purposes()
    }

    /// Fetches (if need be) and loads a model.
    ///
    /// # Errors
    /// [`NodeError`]: no such model, no room, no network, a model that cannot run here.
    pub async fn load_model(&self, permit: &Permit<RunAi>, id: &str) -> Result<ModelHandle, NodeError> {
        self.load_model_with(permit, Some(id), &|_: Chunk| {}, &Cancel::new())
            .await
    }

    /// Answers, and returns when the answer is complete.
    ///
    /// # Errors
    /// [`NodeError`]; see [`Self::load_model`], and a conversation that is longer than the context.
    pub async fn run_inference(
        &self,
        permit: &Permit<RunAi>,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, NodeError> {
        self.run_inference_with(permit, request, &|_: Chunk| {}, &Cancel::new())
            .await
    }

    /// Answers, giving out pieces as they come.
    ///
    /// Cancelled while generating, it returns what there is with the reason `cancelled`.
    ///
    /// # Errors
    /// As [`Self::run_inference`]; [`NodeError::Cancelled`] when nothing was generated yet.
    pub async fn run_inference_with(
        &self,
        permit: &Permit<RunAi>,
        request: InferenceRequest,
        out: &dyn Outlet,
        cancel: &Cancel,
    ) -> Result<InferenceResponse, NodeError> {
        chat::answer(self, permit, request, out, cancel).await
    }

    /// What this device has done since the node started.
    pub fn contribute_compute(&self) -> ContributionMetrics {
        let mut metrics = *lock(&self.metrics);
        metrics.compute_ms = self.resource_manager.busy_ms();
        metrics
    }

    /// Everything that happens from now on.
    pub fn events(&self) -> Events {
        self.events.listen()
    }

    pub(crate) fn announce(&self, event: &Event) {
        self.events.announce(event);
    }

    pub(crate) fn config(&self) -> NodeConfig {
        lock(&self.settings).config.clone()
    }
}
