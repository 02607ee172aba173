//! What must not compile: computing, keeping or connecting without a permit, and a permit out of nothing.
//!
//! Regenerate the expected messages with `TRYBUILD=overwrite cargo test -p kwaainet-node --test compile_fail`.

#[test]
fn without_consent_there_is_no_call_to_make() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
