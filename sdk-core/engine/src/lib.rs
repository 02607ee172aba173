//! `kwaainet-engine`
