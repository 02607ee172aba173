//! A permit has private fields and no constructor.
use kwaainet_types::{Permit, RunAi};

fn main() {
    let _: Permit<RunAi> = Permit {
        receipt_id: String::new(),
        purpose: std::marker::PhantomData,
    };
}
