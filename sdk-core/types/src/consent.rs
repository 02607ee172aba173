//! Consent as a type: what a visitor or operator agreed to, and the permits that follow from it.
//!
//! The engine, the store and the network take `&Permit<_>`. A permit has no public constructor; it comes
//! only from a [`ConsentGrant`] that names the purpose and has not expired, so code that computes, stores or
//! connects without consent does not compile.
//!
//! ```compile_fail
//! use kwaainet_types::{Permit, RunAi};
//! let forged: Permit<RunAi> = Permit { .. }; // private fields
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// What an agreement may be about. Each is asked for, given and withdrawn on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Purpose {
    /// Fetch a model and run it on this device for its user.
    RunAi,
    /// Keep the model on this device, so that it is fetched once.
    KeepModel,
    /// Compute, relay or store for other people.
    HelpOthers,
    /// Identity and private data.
    Identity,
    /// Usage figures that leave the device.
    Analytics,
    /// Measure and report energy.
    Carbon,
    /// Earn rewards.
    Rewards,
}

/// A consent record as it travels and is kept: plain data, worth nothing until accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ConsentRecord {
    /// Id of the receipt that the visitor can keep.
    pub receipt_id: String,
    /// What was agreed to. An empty list records a refusal.
    pub purposes: Vec<Purpose>,
    /// SHA-256 (hex) of the exact words and figures that were shown.
    pub notice_digest: String,
    /// Language of the notice, as a BCP 47 tag.
    pub language: String,
    /// When, in Unix milliseconds.
    pub granted_at_ms: u64,
    /// Until when, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// Why a record grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsentError {
    /// Nobody agreed to this purpose.
    #[error("consent for {0:?} was not given")]
    NotGiven(Purpose),
    /// The agreement is over.
    #[error("consent has expired: ask again")]
    Expired,
    /// The record contradicts itself or its notice cannot be told.
    #[error("this is not a valid consent record: {0}")]
    Invalid(&'static str),
}

/// A year: consent is asked again after at most that (CNIL and EDPB guidance is 6 to 13 months).
pub const LONGEST_CONSENT_MS: u64 = 365 * 24 * 3600 * 1000;

/// An accepted agreement. Only the panel's port, or an operator's own configuration, leads here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentGrant {
    record: ConsentRecord,
}

impl ConsentGrant {
    /// Accepts a record that arrived from the consent panel on our origin.
    ///
    /// # Errors
    /// [`ConsentError::Invalid`] or [`ConsentError::Expired`].
    pub fn accept(record: ConsentRecord, now_unix_ms: u64) -> Result<Self, ConsentError> {
        let is_digest = |s: &str| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digest(&record.notice_digest) {
            return Err(ConsentError::Invalid(
                "the digest of the notice is not 64 hexadecimal digits",
            ));
        }
        if record.receipt_id.is_empty() || record.receipt_id.len() > 64 {
            return Err(ConsentError::Invalid(
                "the receipt id must have 1 to 64 characters",
            ));
        }
        let length = record.expires_at_ms.checked_sub(record.granted_at_ms);
        if length.is_none_or(|length| length == 0 || length > LONGEST_CONSENT_MS) {
            return Err(ConsentError::Invalid("it must end after it began, within a year"));
        }
        if now_unix_ms >= record.expires_at_ms {
            return Err(ConsentError::Expired);
        }
        Ok(Self { record })
    }

    /// The grant of somebody who runs this program on their own machine: running it is the agreement.
    pub fn of_operator(now_unix_ms: u64) -> Self {
        Self {
            record: ConsentRecord {
                receipt_id: "operator".to_owned(),
                purposes: vec![Purpose::RunAi, Purpose::KeepModel],
                notice_digest: "0".repeat(64),
                language: "en".to_owned(),
                granted_at_ms: now_unix_ms,
                expires_at_ms: now_unix_ms.saturating_add(LONGEST_CONSENT_MS),
            },
        }
    }

    /// The grant of somebody who runs a peer of the network on their own machine.
    pub fn of_peer_operator(now_unix_ms: u64) -> Self {
        let mut grant = Self::of_operator(now_unix_ms);
        grant.record.purposes.push(Purpose::HelpOthers);
        grant
    }

    /// The permit for one purpose.
    ///
    /// # Errors
    /// [`ConsentError::NotGiven`] or [`ConsentError::Expired`].
    pub fn permit<P: PermitFor>(&self, now_unix_ms: u64) -> Result<Permit<P>, ConsentError> {
        if !self.record.purposes.contains(&P::PURPOSE) {
            return Err(ConsentError::NotGiven(P::PURPOSE));
        }
        if now_unix_ms >= self.record.expires_at_ms {
            return Err(ConsentError::Expired);
        }
        Ok(Permit {
            receipt_id: self.record.receipt_id.clone(),
            purpose: PhantomData,
        })
    }

    /// The record behind this grant.
    pub fn record(&self) -> &ConsentRecord {
        &self.record
    }
}

/// Leave to do one kind of thing. Cannot be made, cloned or deserialised outside this file.
pub struct Permit<P: PermitFor> {
    receipt_id: String,
    purpose: PhantomData<fn() -> P>,
}

impl<P: PermitFor> Permit<P> {
    /// The consent receipt that this permit rests on.
    pub fn receipt_id(&self) -> &str {
        &self.receipt_id
    }
}

impl<P: PermitFor> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit<{:?}>({})", P::PURPOSE, self.receipt_id)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A purpose at the type level.
pub trait PermitFor: sealed::Sealed {
    /// The purpose.
    const PURPOSE: Purpose;
}

macro_rules! permit_for {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl PermitFor for $name {
            const PURPOSE: Purpose = Purpose::$name;
        }
    )*};
}

permit_for!(
    /// May fetch models and compute for the user of this device.
    RunAi,
    /// May keep models on this device.
    KeepModel,
    /// May connect to peers and work for them.
    HelpOthers
);

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ConsentRecord {
        ConsentRecord {
            receipt_id: "r1".into(),
            purposes: vec![Purpose::RunAi],
            notice_digest: "ab".repeat(32),
            language: "en".into(),
            granted_at_ms: 1_000,
            expires_at_ms: 2_000,
        }
    }

    #[test]
    fn only_the_named_purposes_are_permitted() {
        let grant = ConsentGrant::accept(record(), 1_500).unwrap();
        assert_eq!(grant.permit::<RunAi>(1_500).unwrap().receipt_id(), "r1");
        assert_eq!(
            grant.permit::<KeepModel>(1_500).unwrap_err(),
            ConsentError::NotGiven(Purpose::KeepModel)
        );
    }

    #[test]
    fn a_grant_ends() {
        assert_eq!(
            ConsentGrant::accept(record(), 2_000).unwrap_err(),
            ConsentError::Expired
        );
        let grant = ConsentGrant::accept(record(), 1_500).unwrap();
        assert_eq!(grant.permit::<RunAi>(2_000).unwrap_err(), ConsentError::Expired);
    }

    #[test]
    fn nonsense_is_refused() {
        let bad_digest = ConsentRecord {
            notice_digest: "none".into(),
            ..record()
        };
        let backwards = ConsentRecord {
            expires_at_ms: 10,
            ..record()
        };
        let forever = ConsentRecord {
            expires_at_ms: u64::MAX,
            ..record()
        };
        for bad in [bad_digest, backwards, forever] {
            assert!(matches!(
                ConsentGrant::accept(bad, 1_500),
                Err(ConsentError::Invalid(_))
            ));
        }
    }
}
