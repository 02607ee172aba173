//! Nothing is computed without leave to run it.
use kwaainet_engine::Session;

fn step(session: &mut Session) {
    let _ = session.decode(1);
    let _ = session.prefill_step((), 8);
}

fn main() {
    let _ = step;
}
