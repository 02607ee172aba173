//! `kwaainet doctor`: what this machine offers, what is missing, how to mend it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::config::usual_file;
use crate::generator::Generator as _;
use crate::host::Host;
use crate::platform::free_space;
use crate::ui::bytes;
use crate::{HostError, exit, machine};

/// Less than that is not enough for a small model and its context.
const LITTLE_MEMORY: u64 = 1 << 30;
/// Less than that is not enough for a few small models.
const LITTLE_DISK: u64 = 2 << 30;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Works, but worse than it could.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            mend: None,
        }
    }

    fn mend(self, status: Status, mend: impl Into<String>) -> Self {
        Self {
            status,
            mend: Some(mend.into()),
            ..self
        }
    }
}

pub(super) fn run(context: &Context) -> Result<u8, HostError> {
    let checks = [
        processor(context),
        memory(context),
        data_dir(context),
        disk(context),
        config(context),
        catalogue(context),
        port(context),
    ];
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    if context.output.json {
        context.output.json(&json!({
            "ok": !failed, "version": env!("CARGO_PKG_VERSION"), "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH, "instructions": instructions(), "threads": context.settings.threads,
            "processors": machine::processors(), "limits": context.settings.limits, "checks": checks,
        }))?;
    } else {
        for check in &checks {
            let mark = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            context
                .output
                .line(&format!("{mark}  {:9}  {}", check.name, check.found))?;
            if let Some(mend) = &check.mend {
                context.output.line(&format!("{:17}-> {mend}", ""))?;
            }
        }
    }
    Ok(if failed { exit::FAILURE } else { exit::OK })
}

fn instructions() -> serde_json::Map<String, serde_json::Value> {
    let found = machine::instructions().into_iter();
    found.map(|(name, has)| (name.to_owned(), has.into())).collect()
}

fn processor(context: &Context) -> Check {
    let name = machine::processor_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let list = |wanted: bool| {
        let names = machine::instructions()
            .into_iter()
            .filter(|(_, has)| *has == wanted);
        names.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    let check = Check::ok(
        "processor",
        format!(
            "{name}; {} processors, {} threads compute, {} % of all at most; {}",
            machine::processors(),
            context.settings.threads,
            context.settings.limits.cpu,
            list(true)
        ),
    );
    // What the kernels cannot do without: half-precision scales, wide integer products, fused multiply-add.
    let needed = ["avx2", "fma", "f16c", "neon"];
    let slow = machine::instructions()
        .into_iter()
        .any(|(name, has)| needed.contains(&name) && !has);
    if slow {
        return check.mend(
            Status::Warn,
            format!("no {}: models run several times more slowly. In a virtual machine, pass the host's processor through", list(false)),
        );
    }
    if context.settings.threads > machine::processors() {
        return check.mend(Status::Warn, "more threads than processors: lower --threads");
    }
    check
}

fn memory(context: &Context) -> Check {
    let limit = u64::from(context.settings.limits.memory) << 20;
    let Some(memory) = machine::memory() else {
        return Check::ok("memory", format!("models may take {}", bytes(limit)));
    };
    let check = Check::ok(
        "memory",
        format!(
            "{} installed, {} available; models may take {}",
            bytes(memory.total),
            bytes(memory.available),
            bytes(limit)
        ),
    );
    if memory.available < LITTLE_MEMORY {
        check.mend(Status::Warn, "close other programs, or choose a smaller model")
    } else if limit > memory.total {
        check.mend(
            Status::Warn,
            "the cap is above what is installed: lower --memory, or large models will swap",
        )
    } else {
        check
    }
}

fn data_dir(context: &Context) -> Check {
    let dir = context.settings.models_dir();
    let found = dir.display().to_string();
    match try_writing(&dir) {
        Ok(()) => Check::ok("models", found),
        Err(error) => Check::ok("models", format!("{found} cannot be written: {error}")).mend(
            Status::Fail,
            "make the folder writable, or choose another one with --data-dir",
        ),
    }
}

/// Writes a file where models would go, and leaves no new folder behind.
fn try_writing(dir: &Path) -> std::io::Result<()> {
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let probe = existing.join(format!(".kwaainet-doctor-{}", std::process::id()));
    std::fs::File::create_new(&probe)?.write_all(b"x")?;
    std::fs::remove_file(probe)
}

fn disk(context: &Context) -> Check {
    let cap = u64::from(context.settings.limits.storage) << 20;
    match free_space(&context.settings.models_dir()) {
        None => Check::ok("disk", format!("models may take {}", bytes(cap))),
        Some(free) => {
            let check = Check::ok(
                "disk",
                format!("{} free; models may take {}", bytes(free), bytes(cap)),
            );
            if free < LITTLE_DISK {
                return check.mend(
                    Status::Warn,
                    "free some space, or keep models on another disk with --data-dir",
                );
            }
            check
        }
    }
}

fn config(context: &Context) -> Check {
    match &context.settings.config_file {
        Some(path) => Check::ok("config", path.display().to_string()),
        None => {
            let usual =
                usual_file().map_or_else(String::new, |path| format!(" ({} would be read)", path.display()));
            Check::ok(
                "config",
                format!("none; flags, environment and defaults hold{usual}"),
            )
        }
    }
}

fn catalogue(context: &Context) -> Check {
    let Some(source) = &context.settings.catalogue else {
        return Check::ok("catalogue", "none: models are named by the path of a .gguf file").mend(
            Status::Warn,
            "pass --catalogue and --catalogue-key, or set them in the configuration file, to name models by id",
        );
    };
    let listed = Host::open(&context.settings, None).and_then(|host| Ok(host.models()?));
    match listed {
        Ok(models) => {
            let here = models
                .iter()
                .filter(|model| model.stored_bytes >= model.bytes)
                .count();
            Check::ok(
                "catalogue",
                format!(
                    "{source}: signature good, {} models, {here} of them here",
                    models.len()
                ),
            )
        }
        Err(error) => Check::ok("catalogue", format!("{source}: {error}")).mend(
            Status::Fail,
            "check the connection (HTTPS_PROXY is honoured), the address and the key of the catalogue",
        ),
    }
}

fn port(context: &Context) -> Check {
    let port = context.settings.serve.port.unwrap_or(super::serve::PORT);
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Check::ok("serve", format!("port {port} is free")),
        Err(error) => Check::ok("serve", format!("port {port}: {error}")).mend(
            Status::Warn,
            "a server may be running already; another port can be chosen with --port",
        ),
    }
}
