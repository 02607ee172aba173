//! The `kwaainet` program.

use std::process::ExitCode;

use clap::Parser as _;
use kwaainet::cli::Cli;
use kwaainet::ui::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output {
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    match kwaainet::commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if !error.is_closed_pipe() {
                output.error(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}
