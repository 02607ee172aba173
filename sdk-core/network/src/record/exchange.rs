//! `/kwaainet/records/1`, by which records are given to those who keep them, and asked for.
//!
//! A message is a byte that says what it is, and:
//! - `1` store: the key (32 bytes), the record; answered by `1` (taken) or by `2` and the reason in UTF-8;
//! - `2` find: the key, how many at most (1 byte); answered by `3` and for each record its length (2 bytes, big-endian)
//!   and the record.
//!
//! libp2p's own routing table would return one record for each peer that keeps some; a model has many providers.

use super::envelope::LONGEST_RECORD;
use super::store::RETURNED;
use crate::{Protocol, RecordKey};

/// A reason that a person reads.
const LONGEST_REASON: usize = 200;

/// The protocol. An answer with as many of the longest records as a store returns fits.
pub const RECORDS: Protocol = Protocol {
    name: "/kwaainet/records/1",
    longest: 1 + RETURNED * (2 + LONGEST_RECORD),
};

/// One message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module says what they are")]
pub enum RecordsMessage {
    Store { key: RecordKey, record: Vec<u8> },
    Find { key: RecordKey, limit: u8 },
    Taken,
    Refused(String),
    Found(Vec<Vec<u8>>),
}

impl RecordsMessage {
    /// The bytes; what would be too long is left out.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Store { key, record } => [&[1], &key.0[..], record].concat(),
            Self::Find { key, limit } => [&[2], &key.0[..], &[*limit]].concat(),
            Self::Taken => vec![1],
            Self::Refused(reason) => {
                let mut bytes = vec![2];
                for letter in reason.chars() {
                    if bytes.len() + letter.len_utf8() > 1 + LONGEST_REASON {
                        break;
                    }
                    bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
                }
                bytes
            }
            Self::Found(records) => {
                let mut bytes = vec![3];
                let sound = records.iter().filter(|record| record.len() <= LONGEST_RECORD);
                for record in sound.take(RETURNED) {
                    bytes.extend((record.len() as u16).to_be_bytes());
                    bytes.extend(record);
                }
                bytes
            }
        }
    }

    /// Reads what a peer asks.
    pub fn request(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let key = RecordKey(*key);
        match (kind, rest) {
            (1, record) if record.len() <= LONGEST_RECORD => Some(Self::Store {
                key,
                record: record.to_vec(),
            }),
            (2, [limit]) => Some(Self::Find { key, limit: *limit }),
            _ => None,
        }
    }

    /// Reads what a peer answers.
    pub fn answer(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (1, []) => Some(Self::Taken),
            (2, reason) if reason.len() <= LONGEST_REASON => {
                let reason = std::str::from_utf8(reason).ok()?;
                Some(Self::Refused(
                    reason.chars().filter(|c| !c.is_control()).collect(),
                ))
            }
            (3, mut rest) => {
                let mut records = Vec::new();
                while let Some((len, behind)) = rest.split_first_chunk::<2>() {
                    let len = usize::from(u16::from_be_bytes(*len));
                    if len > LONGEST_RECORD || records.len() == RETURNED {
                        return None;
                    }
                    records.push(behind.get(..len)?.to_vec());
                    rest = behind.get(len..)?;
                }
                rest.is_empty().then_some(Self::Found(records))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive() {
        let key = RecordKey([7; 32]);
        for request in [
            RecordsMessage::Store {
                key,
                record: vec![1, 2, 3],
            },
            RecordsMessage::Find { key, limit: 20 },
        ] {
            assert_eq!(RecordsMessage::request(&request.encode()), Some(request));
        }
        for answer in [
            RecordsMessage::Taken,
            RecordsMessage::Refused("no room".into()),
            RecordsMessage::Refused("ä".repeat(LONGEST_REASON / 2)),
            RecordsMessage::Found(vec![]),
            RecordsMessage::Found(vec![vec![], vec![1; LONGEST_RECORD]]),
        ] {
            assert_eq!(RecordsMessage::answer(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn what_is_too_long_or_too_short_is_no_message() {
        let key = RecordKey([7; 32]);
        let long = RecordsMessage::Store {
            key,
            record: vec![0; LONGEST_RECORD + 1],
        };
        assert_eq!(RecordsMessage::request(&long.encode()), None);
        let whole = RecordsMessage::Found(vec![vec![1; 10], vec![2; 10]]).encode();
        for end in [0, 2, 5, 12, 14, whole.len() - 1] {
            assert_eq!(RecordsMessage::answer(&whole[..end]), None, "{end}");
        }
        let many = RecordsMessage::Found(vec![vec![1]; 100]).encode();
        assert!(
            matches!(RecordsMessage::answer(&many), Some(RecordsMessage::Found(records)) if records.len() == RETURNED)
        );
        assert_eq!(RecordsMessage::answer(&[3; 1 + (RETURNED + 1) * 3 * 257]), None);
        // A reason cannot move the cursor of the terminal that it is shown on.
        let reason = RecordsMessage::answer(b"\x02no\x1b[2J").unwrap();
        assert_eq!(reason, RecordsMessage::Refused("no[2J".into()));
    }
}
