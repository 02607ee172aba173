//! `kwaainet-testkit`
