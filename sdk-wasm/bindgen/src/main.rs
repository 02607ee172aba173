//! `kwaainet-bindgen <in.wasm> <out-dir>`: writes `kwaainet.js`, `kwaainet.d.ts` and `kwaainet_bg.wasm`.
//!
//! The generator is a library here, so `Cargo.lock` keeps it and the `wasm-bindgen` crate equal and nobody has
//! to install a tool. Target `web` without a default path: an ES module that names no URL, so esbuild can put
//! it into one classic script, which is what a service worker needs.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, out] = arguments.as_slice() else {
        eprintln!("usage: kwaainet-bindgen <in.wasm> <out-dir>");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen
        .input_path(input)
        .out_name("kwaainet")
        .web(true)
        .map(|bindgen| bindgen.typescript(true).omit_default_module_path(true))
        .and_then(|bindgen| {
            bindgen.remove_name_section(true).remove_producers_section(true);
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
