//! `kwaainet catalogue`: a deployment's own models.json.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use ed25519_dalek::SigningKey;
use kwaainet_node::catalogue;
use kwaainet_platform::Random as _;
use kwaainet_types::{Catalogue, ErrorCode, ModelEntry, SignedCatalogue};
use serde_json::json;

use super::Context;
use crate::cli::CatalogueCommand;
use crate::platform::SystemRandom;
use crate::{HostError, exit};

pub(super) fn run(context: &Context, command: CatalogueCommand) -> Result<u8, HostError> {
    match command {
        CatalogueCommand::Keygen { out } => keygen(context, &out)?,
        CatalogueCommand::Verify { file } => verify(context, &file)?,
        CatalogueCommand::Sign {
            key,
            out,
            edition,
            gateways,
            entries,
        } => {
            let mut models: Vec<ModelEntry> = Vec::new();
            for path in &entries {
                models.push(read_json(path, "a catalogue entry (kwaainet model manifest)")?);
            }
            let edition = match (edition, &out) {
                (Some(edition), _) => edition,
                (None, Some(out)) if out.exists() => last_edition(out)?.saturating_add(1),
                (None, _) => 1,
            };
            let catalogue = Catalogue {
                version: 1,
                edition,
                gateways,
                models,
            };
            sign(context, &catalogue, &key, out.as_deref())?;
        }
    }
    Ok(exit::OK)
}

fn read(path: &Path) -> Result<String, HostError> {
    std::fs::read_to_string(path).map_err(|error| HostError::file(path, error))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, HostError> {
    serde_json::from_str(&read(path)?).map_err(|error| {
        HostError::node(
            ErrorCode::CatalogueInvalid,
            format!("{} is not {what}: {error}", path.display()),
        )
    })
}

fn last_edition(path: &Path) -> Result<u64, HostError> {
    let signed: SignedCatalogue = read_json(path, "a signed catalogue")?;
    let catalogue: Catalogue = serde_json::from_str(&signed.catalogue).map_err(|error| {
        HostError::node(
            ErrorCode::CatalogueInvalid,
            format!("{}: {error}", path.display()),
        )
    })?;
    Ok(catalogue.edition)
}

fn keygen(context: &Context, out: &Path) -> Result<(), HostError> {
    let mut secret = [0; 32];
    SystemRandom.fill(&mut secret);
    let mut options = OpenOptions::new();
    // Never replaces a key: what was signed with it could not be renewed.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => HostError::Usage(format!(
            "{} exists already: a key is never replaced",
            out.display()
        )),
        _ => HostError::file(out, error),
    })?;
    writeln!(file, "{}", hex::encode(secret)).map_err(|error| HostError::file(out, error))?;
    let key = hex::encode(SigningKey::from_bytes(&secret).verifying_key().to_bytes());
    if context.output.json {
        return context.output.json(&json!({ "key": key }));
    }
    context.output.line(&key)?;
    context.output.note(&format!(
        "The secret key is in {}: keep it off servers and out of repositories. The line above is the public key.",
        out.display()
    ));
    Ok(())
}

fn sign(context: &Context, catalogue: &Catalogue, key: &Path, out: Option<&Path>) -> Result<(), HostError> {
    let mut secret = [0; 32];
    hex::decode_to_slice(read(key)?.trim(), &mut secret).map_err(|_| {
        HostError::Usage(format!(
            "{} is not a secret key made by `kwaainet catalogue keygen`",
            key.display()
        ))
    })?;
    let signed = catalogue::sign(catalogue, &secret)?;
    let text = serde_json::to_string(&signed).map_err(std::io::Error::from)?;
    let Some(out) = out else {
        return context.output.line(&text);
    };
    // A web server may be handing the file out: replace it at once.
    let temporary = out.with_extension("json.tmp");
    std::fs::write(&temporary, text + "\n")
        .and_then(|()| std::fs::rename(&temporary, out))
        .map_err(|error| HostError::file(out, error))?;
    let summary =
        json!({ "key": signed.key, "edition": catalogue.edition, "models": catalogue.models.len() });
    if context.output.json {
        return context.output.json(&summary);
    }
    context.output.note(&format!(
        "{}: edition {}, {} models, key {}",
        out.display(),
        catalogue.edition,
        catalogue.models.len(),
        signed.key
    ));
    Ok(())
}

fn verify(context: &Context, path: &Path) -> Result<(), HostError> {
    let signed: SignedCatalogue = read_json(path, "a signed catalogue")?;
    let mut own = [0; 32];
    let key = match context.settings.catalogue_key {
        Some(key) => key,
        None => {
            hex::decode_to_slice(&signed.key, &mut own).map_err(|_| {
                HostError::node(
                    ErrorCode::CatalogueInvalid,
                    "its key is not 64 hexadecimal digits",
                )
            })?;
            own
        }
    };
    let catalogue = catalogue::verify(&signed, &key)?;
    let ids: Vec<&str> = catalogue.models.iter().map(|model| model.id.as_str()).collect();
    if context.output.json {
        return context
            .output
            .json(&json!({ "key": signed.key, "edition": catalogue.edition, "models": ids }));
    }
    context.output.line(&format!(
        "key      {}\nedition  {}\nmodels   {}",
        signed.key,
        catalogue.edition,
        ids.join(", ")
    ))
}
