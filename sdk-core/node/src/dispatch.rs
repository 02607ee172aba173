//! The one place where commands meet the parts, and where it is decided who may ask for what.

use kwaainet_types::{Capabilities, Command, ErrorBody, Origin, Reply};

use crate::cancel::{Cancel, Stop};
use crate::core::{InferenceRequest, KwaaiNetCore, Outlet};
use crate::{NodeError, chat};

/// Architectures that the engine runs; `kwaainet_engine` refuses every other one by name.
const ARCHITECTURES: [&str; 6] = ["llama", "mistral3", "phi3", "qwen2", "qwen3", "gemma3"];
/// Formats of weights that the engine runs.
const QUANTISATIONS: [&str; 13] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
];

impl KwaaiNetCore {
    /// Answers one command. What may be asked depends on who asks, never on what the command claims.
    ///
    /// # Errors
    /// [`ErrorBody`] with a code and what to do about it.
    pub async fn dispatch(
        &self,
        origin: Origin,
        command: Command,
        out: &dyn Outlet,
        cancel: &Cancel,
    ) -> Result<Reply, ErrorBody> {
        Ok(self.answer(origin, command, out, cancel).await?)
    }

    async fn answer(
        &self,
        origin: Origin,
        command: Command,
        out: &dyn Outlet,
        cancel: &Cancel,
    ) -> Result<Reply, NodeError> {
        self.start().await?;
        match command {
            Command::Configure { config } => self.configure(origin, config).map(|()| Reply::Done),
            Command::Grant { record } => {
                ours_only(
                    origin,
                    "only the consent panel can record what the visitor decided",
                )?;
                self.grant(record).await.map(|()| Reply::Done)
            }
            Command::Withdraw => {
                ours_only(
                    origin,
                    "only the consent panel can withdraw consent: open it with consent.ask()",
                )?;
                self.withdraw().await.map(|()| Reply::Done)
            }
            Command::Consent => Ok(Reply::Consent {
                record: self.consent.record(),
            }),
            Command::Capabilities => Ok(Reply::Capabilities {
                capabilities: self.capabilities(),
            }),
            Command::Models => Ok(Reply::Models {
                models: self.models().await?,
            }),
            Command::LoadModel { model } => {
                let permit = self.permit()?;
                let handle = self
                    .load_model_with(&permit, model.as_deref(), out, cancel)
                    .await?;
                Ok(Reply::Loaded {
                    model: handle.id,
                    source: handle.source,
                })
            }
            Command::DeleteModel { model } => {
                ours_only(origin, "only the visitor can delete a model from their device")?;
                self.delete_model(&model).await.map(|()| Reply::Done)
            }
            Command::Chat { request, resume } => {
                let permit = self.permit()?;
                let request = InferenceRequest {
                    resume,
                    ..request.into()
                };
                let response = chat::answer(self, &permit, request, out, cancel).await?;
                Ok(Reply::Chat { done: response.done })
            }
            Command::Network => Ok(self.network_reply(origin)),
            Command::JoinNetwork { peers } => {
                let stop = Stop::new(cancel, &self.consent);
                stop.race(self.ask_to_join(peers)).await??;
                Ok(self.network_reply(origin))
            }
            Command::LeaveNetwork => {
                self.leave_network();
                Ok(Reply::Done)
            }
            _ => Err(NodeError::Unsupported(
                "this node does not know that command: reload the page to get the same version on both sides"
                    .to_owned(),
            )),
        }
    }

    fn network_reply(&self, origin: Origin) -> Reply {
        Reply::Network {
            network: self.network_status(origin),
        }
    }

    /// What this device and host can do.
    pub fn capabilities(&self) -> Capabilities {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Capabilities {
            host: self.host.clone(),
            limits: self.resource_manager.limits(),
            purposes: self.purposes(),
            architectures: owned(&ARCHITECTURES),
            quantisations: owned(&QUANTISATIONS),
        }
    }
}

fn ours_only(origin: Origin, message: &'static str) -> Result<(), NodeError> {
    match origin {
        Origin::Panel | Origin::Operator => Ok(()),
        Origin::Site => Err(NodeError::NotAllowed(message)),
    }
}
