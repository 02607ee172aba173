//! What holds for this run, after flags, environment, file and defaults.

use std::path::PathBuf;

use kwaainet_types::{KvFormat, NodeConfig, ResourceLimits};

use crate::HostError;
use crate::cli::Global;
use crate::config::{FileConfig, Serve, usual_data_dir};
use crate::machine;

/// Models kept on a disk of one's own: room for a dozen large ones.
const STORAGE_MIB: u32 = 102_400;
/// More threads than that help no machine that we know.
const MOST_THREADS: usize = 256;

/// The settings of one run of the program.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the configuration came from.
    pub config_file: Option<PathBuf>,
    /// Folder of everything that is kept.
    pub data_dir: PathBuf,
    /// URL or file of the catalogue.
    pub catalogue: Option<String>,
    /// The key that signs it.
    pub catalogue_key: Option<[u8; 32]>,
    /// The model of the configuration file; flags and environment are the commands' own.
    pub model: Option<String>,
    /// Threads that compute.
    pub threads: usize,
    /// Caps.
    pub limits: ResourceLimits,
    /// Longest prompt plus answer.
    pub context: u32,
    /// How conversations are remembered.
    pub kv_cache: KvFormat,
    /// JSON on standard output.
    pub json: bool,
    /// No progress, no notes.
    pub quiet: bool,
    /// For the server.
    pub serve: Serve,
}

impl Settings {
    /// Puts the sources together, the stronger first.
    ///
    /// # Errors
    /// [`HostError::Usage`] or [`HostError::Config`] naming the value.
    pub fn resolve(global: &Global) -> Result<Self, HostError> {
        let (file, config_file) = FileConfig::read(global.config.as_deref())?;
        let key = global.catalogue_key.clone().or(file.catalogue_key);
        let threads = global.threads.or(file.threads);
        if threads.is_some_and(|threads| !(1..=MOST_THREADS).contains(&threads)) {
            return Err(HostError::Usage(format!("threads: use 1 to {MOST_THREADS}")));
        }
        let settings = Self {
            config_file,
            data_dir: global
                .data_dir
                .clone()
                .or(file.data_dir)
                .unwrap_or_else(usual_data_dir),
            catalogue: global.catalogue.clone().or(file.catalogue),
            catalogue_key: key.as_deref().map(parse_key).transpose()?,
            model: file.model,
            threads: threads.unwrap_or_else(machine::default_threads),
            limits: ResourceLimits {
                cpu: global.cpu.or(file.limits.cpu).unwrap_or(100),
                memory: global
                    .memory
                    .or(file.limits.memory)
                    .unwrap_or_else(machine::default_memory_mib),
                storage: global.storage.or(file.limits.storage).unwrap_or(STORAGE_MIB),
            },
            context: global
                .context
                .or(file.context)
                .unwrap_or(NodeConfig::default().context_length),
            kv_cache: global.kv_cache.or(file.kv_cache).unwrap_or_default(),
            json: global.json,
            quiet: global.quiet,
            serve: file.serve,
        };
        settings.node_config(None).check()?;
        Ok(settings)
    }

    /// The node's configuration.
    pub fn node_config(&self, model: Option<&str>) -> NodeConfig {
        NodeConfig {
            max_resources: self.limits,
            context_length: self.context,
            kv_cache: self.kv_cache,
            model: model.map(str::to_owned),
            ..NodeConfig::default()
        }
    }

    /// Where model files and their journals are.
    pub fn models_dir(&self) -> PathBuf {
        self.data_dir.join("models")
    }

    /// The model that a command is about.
    ///
    /// # Errors
    /// [`HostError::Usage`] when neither flag nor configuration names one.
    pub fn model(&self, flag: Option<&str>) -> Result<String, HostError> {
        flag.map(str::to_owned)
            .or_else(|| self.model.clone())
            .filter(|model| !model.is_empty())
            .ok_or_else(|| {
                HostError::Usage(
                    "no model: pass --model with an id of the catalogue or the path of a .gguf file, \
                     or set `model` in the configuration file"
                        .to_owned(),
                )
            })
    }
}

fn parse_key(text: &str) -> Result<[u8; 32], HostError> {
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key).map_err(|_| {
        HostError::Usage(format!(
            "catalogue key: expected 64 hexadecimal digits (an Ed25519 public key), got {} characters",
            text.trim().len()
        ))
    })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = std::env::temp_dir().join(format!("kwaainet-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = dir.join("config.toml");
        std::fs::write(
            &config,
            "threads = 3\nmodel = \"m\"\n[limits]\ncpu = 40\nmemory = 777\n",
        )
        .unwrap();
        let global = Global {
            config: Some(config),
            cpu: Some(20),
            ..Global::default()
        };
        let settings = Settings::resolve(&global).unwrap();
        assert_eq!(settings.limits.cpu, 20);
        assert_eq!(settings.limits.memory, 777);
        assert_eq!(settings.limits.storage, STORAGE_MIB);
        assert_eq!(settings.threads, 3);
        assert_eq!(settings.model(None).unwrap(), "m");
        assert_eq!(settings.model(Some("n")).unwrap(), "n");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn values_out_of_range_are_wrong_usage() {
        let with = |change: fn(&mut Global)| {
            let mut global = Global::default();
            change(&mut global);
            Settings::resolve(&global).unwrap_err().exit_code()
        };
        assert_eq!(with(|global| global.cpu = Some(0)), 2);
        assert_eq!(with(|global| global.threads = Some(0)), 2);
        assert_eq!(with(|global| global.catalogue_key = Some("xyz".into())), 2);
        assert_eq!(with(|global| global.config = Some("/no/such/file".into())), 2);
    }
}
