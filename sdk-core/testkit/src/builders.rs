//! Valid values to start a test from.

use kwaainet_types::{ChatMessage, ChatRequest, ConsentRecord, HostReport, Purpose, Role, Tier};

/// A consent record for these purposes, given at `now_ms` for 30 days.
pub fn consent_record(purposes: &[Purpose], now_ms: u64) -> ConsentRecord {
    ConsentRecord {
        receipt_id: "test-receipt".to_owned(),
        purposes: purposes.to_vec(),
        notice_digest: "ab".repeat(32),
        language: "en".to_owned(),
        granted_at_ms: now_ms,
        expires_at_ms: now_ms + 30 * 24 * 3600 * 1000,
    }
}

/// A request with one message of the user's.
pub fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::new(Role::User, text)])
}

/// A host with one processor and nothing missing.
pub fn host_report() -> HostReport {
    HostReport {
        host: "test".to_owned(),
        backend: "fake".to_owned(),
        threads: 1,
        processors: 1,
        storage: "memory".to_owned(),
        tier: Tier::T1,
        missing: Vec::new(),
    }
}
