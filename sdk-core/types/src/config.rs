//! What a site owner or operator sets. Defaults live here and nowhere else.

use serde::{Deserialize, Serialize};

/// Caps on what the node may take of a device (`data-max-resources="cpu:20,memory:1024,storage:5000"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ResourceLimits {
    /// Per cent of all processors of the device together, 1 to 100.
    pub cpu: u8,
    /// Memory for models and their caches, in MiB.
    pub memory: u32,
    /// Models kept on the device, in MiB.
    pub storage: u32,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self {
            cpu: 100,
            memory: 1024,
            storage: 5000,
        }
    }
}

/// A part of KwaaiNet that a site may ask for (`data-services`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Service {
    /// A model that answers on this device.
    Compute,
    /// Models kept on this device.
    Storage,
    /// Identity and private data.
    Identity,
    /// Energy and carbon figures.
    Carbon,
}

/// A policy pack (`data-privacy-compliant`). It can only tighten behaviour; it is not a badge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum PolicyPack {
    /// EU 2016/679.
    Gdpr,
    /// California Consumer Privacy Act.
    Ccpa,
    /// 45 CFR 160 and 164: health data never leaves the device.
    Hipaa,
}

/// How keys and values of a conversation are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum KvFormat {
    /// 16-bit floats, as llama.cpp does by default.
    #[default]
    F16,
    /// Bytes with a factor for every head of every position: about half the memory, less exact.
    Q8,
}

/// Everything a node is configured with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct NodeConfig {
    /// What the site asks for.
    pub services: Vec<Service>,
    /// Packs that tighten behaviour.
    pub privacy_compliance: Vec<PolicyPack>,
    /// Caps.
    pub max_resources: ResourceLimits,
    /// Site and platform shares, in per cent, of the site-attributed part of rewards. Kept for the
    /// economy to come; nothing is earned in this version.
    pub reward_split: (u8, u8),
    /// Id of the model that answers when a request names none.
    pub model: Option<String>,
    /// Longest prompt plus answer, in tokens.
    pub context_length: u32,
    /// How conversations are remembered.
    pub kv_cache: KvFormat,
    /// Addresses of peers that those who help others call first. Without any, nobody is asked to help.
    pub bootstrap: Vec<String>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            services: vec![Service::Compute],
            privacy_compliance: Vec::new(),
            max_resources: ResourceLimits::default(),
            reward_split: (70, 30),
            model: None,
            context_length: 2048,
            kv_cache: KvFormat::default(),
            bootstrap: Vec::new(),
        }
    }
}

impl NodeConfig {
    /// Checks every value's range.
    ///
    /// # Errors
    /// [`crate::ErrorCode::BadRequest`] naming the value and its range.
    pub fn check(&self) -> Result<(), crate::ErrorBody> {
        let bad = |message: String| Err(crate::ErrorBody::new(crate::ErrorCode::BadRequest, message));
        let ResourceLimits {
            cpu,
            memory,
            storage: _,
        } = self.max_resources;
        if !(1..=100).contains(&cpu) {
            return bad(format!(
                "cpu:{cpu} is out of range: use 1 to 100 (per cent of all processors)"
            ));
        }
        if memory < 64 {
            return bad(format!(
                "memory:{memory} is too little for any model: use at least 64 (MiB)"
            ));
        }
        if u16::from(self.reward_split.0) + u16::from(self.reward_split.1) != 100 {
            let (site, platform) = self.reward_split;
            return bad(format!("reward split {site}/{platform} does not add up to 100"));
        }
        if self.bootstrap.len() > crate::MOST_BOOTSTRAP {
            return bad(format!(
                "{} peers to call first are too many: name {} at most",
                self.bootstrap.len(),
                crate::MOST_BOOTSTRAP
            ));
        }
        if !(64..=131_072).contains(&self.context_length) {
            return bad(format!(
                "a context of {} tokens is out of range: use 64 to 131072",
                self.context_length
            ));
        }
        Ok(())
    }
}
