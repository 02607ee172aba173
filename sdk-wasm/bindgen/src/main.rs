//! `kwaainet-bindgen <in.wasm> <out-dir> [--names]`: writes `kwaainet.js`, `kwaainet.d.ts` and `kwaainet_bg.wasm`.
//! With `--names` functions keep their names, for profiles and stack traces.
//!
//! The generator is a library here, so `Cargo.lock` keeps it and the `wasm-bindgen` crate equal and nobody has
//! to install a tool. Target `web` without a default path: an ES module that names no URL, so esbuild can put
//! it into one classic script, which is what a service worker needs.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (input, out, names) = match *arguments.as_slice() {
        [input, out] => (input, out, false),
        [input, out, "--names"] => (input, out, true),
        _ => {
            eprintln!("usage: kwaainet-bindgen <in.wasm> <out-dir> [--names]");
            return ExitCode::from(2);
        }
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen
        .input_path(input)
        .out_name("kwaainet")
        .web(true)
        .map(|bindgen| bindgen.typescript(true).omit_default_module_path(true))
        .and_then(|bindgen| {
            bindgen.remove_name_section(!names).remove_producers_section(true);
            bindgen.generate(out)
        });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{input}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
