//! The caps are changed while an answer is made.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use kwaainet_node::{Cancel, Deployment, KwaaiNetCore};
use kwaainet_platform::{BoxFuture, Clock, ManualClock, Platform};
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_testkit::{NewThreads, ask, block_on, host_report};
use kwaainet_types::{Chunk, Command, NodeConfig, Origin, Reply, ResourceLimits};

/// Time passes whenever somebody looks, so that every token is told by itself.
#[derive(Default)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn monotonic_ms(&self) -> f64 {
        self.0.advance(Duration::from_millis(20));
        self.0.monotonic_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.0.sleep(duration)
    }
}

#[test]
fn a_cap_changed_while_an_answer_is_made_changes_the_threads_and_not_the_answer() {
    let two = Arc::new(NewThreads::new(2));
    let platform = Platform {
        parallel: Arc::<NewThreads>::clone(&two),
        processors: 2,
        clock: Arc::new(Ticking::default()),
        ..Platform::in_memory()
    };
    let node = KwaaiNetCore::new(platform, host_report(), Deployment::default());
    node.grant_operator();
    let file = Arc::new(TinyModel::new("llama", "Q8_0").bytes());
    block_on(node.add_local_model("tiny", file)).unwrap();
    let cap = |cpu| {
        let config = NodeConfig {
            max_resources: ResourceLimits {
                cpu,
                ..ResourceLimits::default()
            },
            ..NodeConfig::default()
        };
        let command = Command::Configure { config };
        let done = node
            .dispatch(Origin::Panel, command, &|_: Chunk| {}, &Cancel::new())
            .now_or_never();
        assert!(matches!(done, Some(Ok(_))), "{done:?}");
    };
    // Tokens, and how many computations had been shared when each of them came.
    let answer = |caps: &[u8]| {
        let told = Mutex::new(Vec::new());
        let mut request = ask("a tale of two cities");
        request.sampling.temperature = Some(1.5);
        request.sampling.seed = Some(3);
        request.max_tokens = Some(40);
        let outlet = |chunk: Chunk| {
            let Chunk::Delta { delta } = chunk else { return };
            let mut told = told.lock().unwrap();
            for token in delta.tokens {
                told.push((token, two.computations()));
                if let Some(cpu) = caps.get(told.len() / 8) {
                    cap(*cpu);
                }
            }
        };
        let command = Command::Chat {
            request,
            resume: vec![],
        };
        match block_on(node.dispatch(Origin::Site, command, &outlet, &Cancel::new())) {
            Ok(Reply::Chat { .. }) => told.into_inner().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let tokens = |told: &[(u32, usize)]| told.iter().map(|(token, _)| *token).collect::<Vec<_>>();
    let calm = answer(&[100]);
    assert!(calm.len() > 30, "{calm:?}");
    let changed = answer(&[100, 20, 100, 20, 100]);
    assert_eq!(tokens(&changed), tokens(&calm));
    let shared = |from: usize, to: usize| changed.get(to).unwrap().1 - changed.get(from).unwrap().1;
    assert!(shared(1, 7) > 0 && shared(17, 23) > 0, "{changed:?}");
    assert_eq!((shared(9, 15), shared(25, 29)), (0, 0), "{changed:?}");
}
