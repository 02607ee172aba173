//! The other side of tests/interop/envelope.test.mjs: signed envelopes as lines of hexadecimal digits.
//!
//! Reads from standard input, and answers each line with one of its own:
//! `seal SEED SEQUENCE ADDRESS…` with a signed peer record, `open ENVELOPE` with `PEER SEQUENCE ADDRESS…`,
//! `sign SEED SEQUENCE EXPIRES BODY` with a record of ours, `check RECORD NOW` with `PEER SEQUENCE EXPIRES BODY`.
//! What is refused is answered with `error: ` and the reason.

use std::error::Error;
use std::io::{BufRead, stdin};

use kwaainet_network::Keypair;
use kwaainet_network::record::{PeerRecord, Signed, open};

fn main() -> Result<(), Box<dyn Error>> {
    for line in stdin().lock().lines() {
        match answer(&line?) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error: {error}"),
        }
    }
    Ok(())
}

fn answer(line: &str) -> Result<String, Box<dyn Error>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["seal", seed, sequence, addresses @ ..] => {
            let addresses: Vec<Vec<u8>> = addresses
                .iter()
                .map(|address| bytes(address))
                .collect::<Result<_, _>>()?;
            Ok(hex(&PeerRecord::sign(
                &keypair(seed)?,
                sequence.parse()?,
                &addresses,
            )?))
        }
        ["open", envelope] => {
            let record = PeerRecord::open(&bytes(envelope)?)?;
            let addresses: Vec<String> = record.addresses.iter().map(|address| hex(address)).collect();
            Ok(format!(
                "{} {} {}",
                record.peer,
                record.sequence,
                addresses.join(" ")
            ))
        }
        ["sign", seed, sequence, expires, body] => {
            let signed = Signed::sign(
                &keypair(seed)?,
                sequence.parse()?,
                expires.parse()?,
                &bytes(body)?,
            )?;
            Ok(hex(&signed.into_bytes()))
        }
        ["check", record, now] => {
            let record = open(&bytes(record)?, now.parse()?)?;
            let (peer, body) = (record.peer, hex(&record.body));
            Ok(format!("{peer} {} {} {body}", record.sequence, record.expires_ms))
        }
        _ => Err("expected seal, open, sign or check".into()),
    }
}

fn keypair(seed: &str) -> Result<Keypair, Box<dyn Error>> {
    let seed = bytes(seed)?.try_into().map_err(|_| "a seed has 32 bytes")?;
    Ok(Keypair::from_seed(seed))
}

fn bytes(hex: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .ok_or("no hexadecimal digits")?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Ok(high << 4 | low),
        _ => Err("half a byte".into()),
    });
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
