//! A place on the device ends with the permit that opened it.
use kwaainet_node::{KwaaiNetCore, Shelf};
use kwaainet_types::KeepModel;

fn shelf(node: &KwaaiNetCore) -> Shelf<'static> {
    let permit = node.permit::<KeepModel>().unwrap();
    Shelf::on_device(&permit)
}

fn main() {
    let _ = shelf;
}
