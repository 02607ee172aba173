//! Our engine alone with the same exports as `../candle`: what it weighs without a node, a store and a consent panel.

mod file;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use js_sys::Function;
use kwaainet_engine::{LoadOptions, LoadedModel, Sampler, SamplerOptions, Session};
use kwaainet_types::{ConsentGrant, Permit, RunAi};
use wasm_bindgen::prelude::*;

use self::file::File;

/// A model, and what it has read.
#[wasm_bindgen]
pub struct Model {
    session: Session,
    sampler: Sampler,
    permit: Permit<RunAi>,
}

#[wasm_bindgen]
impl Model {
    /// # Errors
    /// What the engine says.
    #[wasm_bindgen(constructor)]
    pub fn load(read: Function, size: f64) -> Result<Model, JsError> {
        let file = File {
            read,
            size: size as u64,
        };
        let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0)?;
        let mut told = |_, _| {};
        let model = {
            let loading = pin!(LoadedModel::load(
                &permit,
                &file,
                LoadOptions::default(),
                &mut told
            ));
            // The file never makes it wait.
            match loading.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(model) => model?,
                Poll::Pending => return Err(JsError::new("the file is not there at once")),
            }
        };
        Ok(Self {
            session: Session::new(Arc::new(model))?,
            sampler: Sampler::new(SamplerOptions::greedy())?,
            permit,
        })
    }

    /// Reads a prompt from the beginning, and returns the most likely next token.
    ///
    /// # Errors
    /// What the engine says.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<u32, JsError> {
        self.session.begin(tokens)?;
        while self.session.prefill_step(&self.permit, tokens.len())? > 0 {}
        Ok(self.next())
    }

    /// Reads one token more.
    ///
    /// # Errors
    /// What the engine says.
    pub fn decode(&mut self, token: u32) -> Result<u32, JsError> {
        self.session.decode(&self.permit, token)?;
        Ok(self.next())
    }

    fn next(&mut self) -> u32 {
        let position = self.session.tokens().len() as u64;
        self.sampler
            .sample(self.session.logits(), &[], position)
            .unwrap_or(0)
    }
}
