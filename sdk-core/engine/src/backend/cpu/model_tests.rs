//! A whole model on the best instruction set of this machine. Beside the kernels, because these tests also run where the
//! crate's other tests do not: in V8, and on an emulated AArch64.

use std::sync::Arc;

use kwaainet_testkit::block_on;
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_types::{ConsentGrant, RunAi};

use crate::{LoadOptions, LoadedModel, Session};

#[test]
fn a_model_says_the_same_in_prefill_and_decode() {
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    for format in ["Q4_0", "Q8_0", "Q4_K", "F16"] {
        let mut model = TinyModel::new("llama", format);
        model.layers = 2;
        let (file, mut told) = (model.bytes(), |_, _| {});
        let loading = LoadedModel::load(&permit, &file, LoadOptions::default(), &mut told);
        let model = Arc::new(block_on(loading).unwrap());
        let mut session = Session::new(Arc::clone(&model)).unwrap();
        let mut told: Vec<u32> = (3..12).collect();
        session.begin(&told).unwrap();
        while session.prefill_step(&permit, 128).unwrap() > 0 {}
        for _ in 0..8 {
            let (likeliest, _) = session
                .logits()
                .iter()
                .enumerate()
                .max_by(|(_, a), (_, b)| a.total_cmp(b))
                .unwrap();
            told.push(likeliest as u32);
            session.decode(&permit, likeliest as u32).unwrap();
        }
        assert!(session.logits().iter().all(|logit| logit.is_finite()), "{format}");
        assert!(session.logits().iter().any(|logit| *logit != session.logits()[0]));
        let mut again = Session::new(model).unwrap();
        again.begin(&told).unwrap();
        while again.prefill_step(&permit, 128).unwrap() > 0 {}
        assert_eq!(session.logits(), again.logits(), "{format}");
    }
}
