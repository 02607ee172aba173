//! The node on this machine, and its answers for commands and server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use kwaainet_engine::LoadedModel;
use kwaainet_node::{Cancel, Deployment, InferenceRequest, KwaaiNetCore};
use kwaainet_platform::{Clock, Parallel, Platform, ReadAt, Sequential};
use kwaainet_types::{
    ChatDone, ChatRequest, Chunk, ErrorBody, ErrorCode, HostReport, ModelSource, ModelStatus, Permit, RunAi,
    SignedCatalogue, Stop, Tier,
};

use crate::generator::{Generator, Job, Prompt};
use crate::platform::{
    FileBlobStore, LocalFile, SystemClock, SystemHttp, SystemRandom, ThreadPool, file_url,
};
use crate::settings::Settings;
use crate::{HostError, machine};

/// Where pieces and progress go.
pub type Listener<'a> = &'a (dyn Fn(Chunk) + Send + Sync);

/// The node with everything it borrows.
#[derive(Debug, Clone)]
pub struct Host {
    core: Arc<KwaaiNetCore>,
    platform: Platform,
    settings: Settings,
}

/// What `--model` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// An id of the catalogue.
    Id(String),
    /// A file of the operator's own.
    File(PathBuf),
}

impl Named {
    /// A path if it looks like one or is one.
    pub fn parse(text: &str) -> Self {
        let path = Path::new(text);
        let is_path = text.contains(std::path::is_separator)
            || path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
            || path.is_file();
        if is_path {
            Self::File(path.to_owned())
        } else {
            Self::Id(text.to_owned())
        }
    }
}

/// A model id made from a file's name.
pub fn id_of_file(path: &Path) -> String {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let id: String = stem.chars().map(fits).take(96).collect();
    match id.trim_start_matches('.') {
        "" => "model".to_owned(),
        id => id.to_owned(),
    }
}

fn read_catalogue(path: &Path) -> Result<SignedCatalogue, HostError> {
    let text = std::fs::read_to_string(path).map_err(|error| HostError::file(path, error))?;
    serde_json::from_str(&text).map_err(|error| {
        HostError::node(
            ErrorCode::CatalogueInvalid,
            format!(
                "{} is not a signed catalogue (models.json): {error}",
                path.display()
            ),
        )
    })
}

fn deployment(settings: &Settings) -> Result<(Deployment, Option<PathBuf>), HostError> {
    let Some(catalogue) = &settings.catalogue else {
        return Ok((Deployment::default(), None));
    };
    if catalogue.starts_with("http://") || catalogue.starts_with("https://") {
        if settings.catalogue_key.is_none() {
            return Err(HostError::Usage(
                "a catalogue from the network must be checked: pass --catalogue-key with the key of whoever \
                 publishes it"
                    .to_owned(),
            ));
        }
        let deployment = Deployment {
            catalogue_url: Some(catalogue.clone()),
            catalogue_key: settings.catalogue_key,
            catalogue: None,
        };
        return Ok((deployment, None));
    }
    let path = Path::new(catalogue);
    let signed = read_catalogue(path)?;
    let path = path
        .canonicalize()
        .map_err(|error| HostError::file(path, error))?;
    // The operator chose a file on their own disk; without a key to compare with, its own one is as good.
    let mut own = [0; 32];
    let key = match settings.catalogue_key {
        Some(key) => Some(key),
        None => hex::decode_to_slice(&signed.key, &mut own).is_ok().then_some(own),
    };
    let deployment = Deployment {
        catalogue_url: Some(file_url(&path)),
        catalogue_key: key,
        catalogue: Some(signed),
    };
    Ok((deployment, path.parent().map(Path::to_owned)))
}

fn report(settings: &Settings) -> HostReport {
    HostReport {
        host: "native".to_owned(),
        backend: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        threads: u32::try_from(settings.threads).unwrap_or(u32::MAX),
        processors: u32::try_from(machine::processors()).unwrap_or(u32::MAX),
        storage: "files".to_owned(),
        tier: if settings.threads > 1 { Tier::T2 } else { Tier::T1 },
        missing: Vec::new(),
    }
}

impl Host {
    /// Builds the node. Running this program is the operator's consent to run models and keep them.
    ///
    /// # Errors
    /// [`HostError`] when the settings cannot be put into force.
    pub fn open(settings: &Settings, model: Option<&str>) -> Result<Self, HostError> {
        let (deployment, files) = deployment(settings)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let mut http = SystemHttp::new(Arc::clone(&clock));
        if let Some(dir) = files {
            http = http.with_files_below(&dir);
        }
        let parallel: Arc<dyn Parallel> = match settings.threads {
            1 => Arc::new(Sequential),
            threads => Arc::new(ThreadPool::new(threads)?),
        };
        let platform = Platform {
            clock,
            random: Arc::new(SystemRandom),
            store: Arc::new(FileBlobStore::new(settings.models_dir())),
            http: Arc::new(http),
            parallel,
            processors: machine::processors(),
        };
        let core = KwaaiNetCore::new(platform.clone(), report(settings), deployment);
        core.grant_operator();
        block_on(core.initialize(settings.node_config(model)))?;
        let settings = settings.clone();
        Ok(Self {
            core,
            platform,
            settings,
        })
    }

    /// A node that has the model that `--model` names, be it a file; also returns the model's id.
    ///
    /// # Errors
    /// [`HostError`] when there is no such file, or it is not a model that can run.
    pub fn open_with_model(settings: &Settings, flag: Option<&str>) -> Result<(Self, String), HostError> {
        match Named::parse(&settings.model(flag)?) {
            Named::Id(id) => {
                if settings.catalogue.is_none() {
                    return Err(no_catalogue(&id));
                }
                Ok((Self::open(settings, Some(&id))?, id))
            }
            Named::File(path) => {
                let file = Arc::new(LocalFile::open(&path)?);
                let id = id_of_file(&path);
                let host = Self::open(settings, Some(&id))?;
                block_on(host.core.add_local_model(&id, file))
                    .map_err(|error| in_file(&path, error.into()))?;
                Ok((host, id))
            }
        }
    }

    /// The node.
    pub fn core(&self) -> &KwaaiNetCore {
        &self.core
    }

    /// What the node borrows.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The operator's leave to compute.
    ///
    /// # Errors
    /// After a year without restart.
    pub fn permit(&self) -> Result<Permit<RunAi>, HostError> {
        Ok(self.core.permit()?)
    }

    /// Fetches a model and keeps it.
    ///
    /// # Errors
    /// As the node says.
    pub fn pull(&self, id: &str, on: Listener<'_>, cancel: &Cancel) -> Result<ModelSource, HostError> {
        if self.settings.catalogue.is_none() {
            return Err(no_catalogue(id));
        }
        let keep = self.core.permit()?;
        Ok(block_on(self.core.pull_model(
            &self.permit()?,
            &keep,
            id,
            &on,
            cancel,
        ))?)
    }

    /// Loads a model, so that the first answer does not wait for it.
    ///
    /// # Errors
    /// As the node says.
    pub fn load(&self, id: &str, on: Listener<'_>, cancel: &Cancel) -> Result<(), HostError> {
        block_on(self.core.load_model_with(&self.permit()?, Some(id), &on, cancel))?;
        Ok(())
    }

    /// The file of a model, fetched if need be.
    ///
    /// # Errors
    /// As the node says.
    pub fn file(
        &self,
        flag: Option<&str>,
        on: Listener<'_>,
        cancel: &Cancel,
    ) -> Result<(String, Arc<dyn ReadAt>), HostError> {
        match Named::parse(&self.settings.model(flag)?) {
            Named::File(path) => Ok((id_of_file(&path), Arc::new(LocalFile::open(&path)?))),
            Named::Id(id) => {
                self.pull(&id, on, cancel)?;
                let path = self.settings.models_dir().join(format!("{id}.gguf"));
                Ok((id, Arc::new(LocalFile::open(&path)?)))
            }
        }
    }

    /// Reads a model for a command that works with the engine itself (bench, perplexity).
    ///
    /// # Errors
    /// As the engine says.
    pub fn engine(&self, file: &dyn ReadAt) -> Result<LoadedModel, HostError> {
        let options = kwaainet_engine::LoadOptions {
            context_length: self.settings.context,
            kv_format: self.settings.kv_cache,
            parallel: Arc::clone(&self.platform.parallel),
            memory_limit: Some(u64::from(self.settings.limits.memory) << 20),
        };
        let mut ignore = |_: u64, _: u64| {};
        Ok(block_on(LoadedModel::load(
            &self.permit()?,
            file,
            options,
            &mut ignore,
        ))?)
    }
}

/// Says which file an error is about.
fn in_file(path: &Path, error: ErrorBody) -> HostError {
    HostError::Node(ErrorBody {
        message: format!("{}: {}", path.display(), error.message),
        ..error
    })
}

fn no_catalogue(id: &str) -> HostError {
    HostError::node(
        ErrorCode::ModelNotFound,
        format!(
            "{id:?} is not a .gguf file, and no catalogue of models is configured to look it up in: pass --catalogue \
             with the URL or file of a models.json, set it in the configuration file, or name a file"
        ),
    )
}

impl Generator for Host {
    fn models(&self) -> Result<Vec<ModelStatus>, ErrorBody> {
        Ok(block_on(self.core.models())?)
    }

    fn generate(&self, job: Job, cancel: &Cancel, on: Listener<'_>) -> Result<ChatDone, ErrorBody> {
        let (messages, raw) = match job.prompt {
            Prompt::Chat(messages) => (messages, None),
            Prompt::Raw(text) => (Vec::new(), Some(text)),
        };
        let chat = ChatRequest {
            model: job.model,
            sampling: job.sampling,
            max_tokens: job.max_tokens,
            stop: (!job.stops.is_empty()).then_some(Stop::Many(job.stops)),
            response_format: job.format,
            tools: job.tools,
            ..ChatRequest::new(messages)
        };
        let request = InferenceRequest {
            chat,
            raw,
            resume: Vec::new(),
        };
        let permit = self.core.permit()?;
        Ok(block_on(self.core.run_inference_with(&permit, request, &on, cancel))?.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_model_means() {
        assert_eq!(Named::parse("smollm2-135m"), Named::Id("smollm2-135m".to_owned()));
        for path in ["./x", "x.gguf", "X.GGUF", "/models/x"] {
            assert_eq!(Named::parse(path), Named::File(PathBuf::from(path)), "{path}");
        }
        assert_eq!(
            id_of_file(Path::new("/m/SmolLM2 135M-Q4_1.gguf")),
            "smollm2-135m-q4_1"
        );
        assert_eq!(id_of_file(Path::new(".gguf")), "gguf");
        assert_eq!(id_of_file(Path::new("模型.gguf")), "--");
    }
}
