#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kwaainet_fuzz::records::port(data));
