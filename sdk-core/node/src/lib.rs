//! `kwaainet-node`
