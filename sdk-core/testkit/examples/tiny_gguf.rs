//! Writes tiny random models of every architecture, for programs that are not Rust:
//! `cargo run -p kwaainet-testkit --example tiny_gguf -- folder [architecture] [format]`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a tool for tests, not part of the library"
)]

use kwaainet_testkit::tiny_gguf::{ARCHITECTURES, FORMATS, TinyModel};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().expect("the folder to write to");
    let wanted = |at: usize, name: &str| args.get(at).is_none_or(|wanted| wanted == name);
    for architecture in ARCHITECTURES {
        for (format, ..) in FORMATS {
            if wanted(1, architecture) && wanted(2, format) {
                let mut model = TinyModel::new(architecture, format);
                model.rope_factors = architecture == "llama";
                let path = format!("{folder}/{architecture}-{}.gguf", format.to_lowercase());
                std::fs::write(&path, model.bytes()).expect("a folder that can be written to");
                println!("{path}");
            }
        }
    }
}
