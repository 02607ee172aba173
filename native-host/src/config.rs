//! The configuration file: the weakest of flags > environment > file > defaults.

use std::path::{Path, PathBuf};

use kwaainet_types::KvFormat;
use serde::Deserialize;

use crate::HostError;

/// What `config.toml` may say. Every key can also be a flag or a `KWAAINET_…` variable.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FileConfig {
    /// URL or file of the signed catalogue.
    pub catalogue: Option<String>,
    /// Ed25519 key (hex) that signs it.
    pub catalogue_key: Option<String>,
    /// Model used when a command names none.
    pub model: Option<String>,
    /// Where models are kept.
    pub data_dir: Option<PathBuf>,
    /// Threads that compute.
    pub threads: Option<usize>,
    /// Longest prompt plus answer, in tokens.
    pub context: Option<u32>,
    /// How conversations are remembered: `f16` or `q8`.
    pub kv_cache: Option<KvFormat>,
    /// Caps.
    pub limits: Limits,
    /// For `kwaainet serve`.
    pub serve: Serve,
}

/// Caps on what the node may take.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Per cent of all processors.
    pub cpu: Option<u8>,
    /// Memory for models, in MiB.
    pub memory: Option<u32>,
    /// Models kept on disk, in MiB.
    pub storage: Option<u32>,
}

/// What the server needs to know.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Serve {
    /// Address to listen on.
    pub host: Option<String>,
    /// Port to listen on.
    pub port: Option<u16>,
    /// Key that clients must send.
    pub api_key: Option<String>,
    /// Origins of web pages that may call.
    pub allow_origin: Vec<String>,
    /// Answers to make at the same time.
    pub parallel: Option<usize>,
}

impl FileConfig {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// [`HostError::Config`] with line and reason.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HostError> {
        toml::from_str(text).map_err(|error| HostError::Config {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })
    }

    /// Reads `named`, or the usual file if there is one; also says which file was used.
    ///
    /// # Errors
    /// [`HostError::Config`] when the file is wrong, or was named and is not there.
    pub fn read(named: Option<&Path>) -> Result<(Self, Option<PathBuf>), HostError> {
        let Some(path) = named.map(Path::to_owned).or_else(usual_file) else {
            return Ok((Self::default(), None));
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok((Self::parse(&text, &path)?, Some(path))),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok((Self::default(), None))
            }
            Err(error) => Err(HostError::Config {
                path,
                reason: format!("cannot be read: {error}"),
            }),
        }
    }
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// A folder of the XDG Base Directory Specification: relative values must be ignored.
fn xdg(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// `$XDG_CONFIG_HOME/kwaainet/config.toml`, or what stands for it on this system.
pub fn usual_file() -> Option<PathBuf> {
    let base = if cfg!(windows) {
        std::env::var_os("APPDATA").map(PathBuf::from)
    } else {
        xdg("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))
    };
    Some(base?.join("kwaainet").join("config.toml"))
}

/// `$XDG_DATA_HOME/kwaainet`, or what stands for it on this system.
pub fn usual_data_dir() -> PathBuf {
    let base = if cfg!(windows) {
        std::env::var_os("LOCALAPPDATA").map(PathBuf::from)
    } else {
        xdg("XDG_DATA_HOME").or_else(|| Some(home()?.join(".local/share")))
    };
    base.unwrap_or_else(std::env::temp_dir).join("kwaainet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_guide_is_understood() {
        let guide = include_str!("../../docs/guide-operators.md");
        let example = guide
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let config = FileConfig::parse(example, Path::new("config.toml")).unwrap();
        assert_eq!(config.limits.cpu, Some(50));
        assert_eq!(config.serve.port, Some(11_435));
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = FileConfig::parse("model = \"x\"\nthreds = 4\n", Path::new("c.toml")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("c.toml") && text.contains("threds") && text.contains("line 2"),
            "{text}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
