//! Where a peer says that it can be reached: libp2p's signed peer record (RFC 0003,
//! <https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md>). Addresses that a stranger tells us are
//! taken from nowhere else, so that nobody can send us, and everybody else, to a victim's address.

use super::RecordError;
use super::envelope::{seal, unseal};
use crate::protobuf::{Fields, Message, once};
use crate::{Keypair, PeerId};

const DOMAIN: &str = "libp2p-peer-record";
/// The multicodec `libp2p-peer-record`, 0x0301.
const PAYLOAD_TYPE: &[u8] = &[0x03, 0x01];
/// Addresses in a record.
const ADDRESSES: usize = 16;
/// The longest binary multiaddr, in bytes.
const LONGEST_ADDRESS: usize = 256;

/// Addresses of a peer, signed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    /// Whose addresses these are: the peer that signed.
    pub peer: PeerId,
    /// The higher, the newer, among the records of this peer.
    pub sequence: u64,
    /// Binary multiaddrs, which only a transport can read; at most 16 of at most 256 bytes.
    pub addresses: Vec<Vec<u8>>,
}

impl PeerRecord {
    /// Signs the addresses of the peer whose key this is: `peer_id = 1, seq = 2, addresses = 3 {multiaddr = 1}`.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if they are too many or too long; [`RecordError::TooLong`].
    pub fn sign(keypair: &Keypair, sequence: u64, addresses: &[Vec<u8>]) -> Result<Vec<u8>, RecordError> {
        check_count(addresses.len())?;
        let mut payload = Message::default()
            .bytes(1, &keypair.peer_id().to_bytes())
            .number(2, sequence);
        for address in addresses {
            check_address(address)?;
            payload = payload.item(3, &Message::default().bytes(1, address).done());
        }
        seal(keypair, DOMAIN, PAYLOAD_TYPE, &payload.done())
    }

    /// Checks an envelope with a peer record in it. A peer record has no end: whoever keeps one keeps the newest.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong with it.
    pub fn open(bytes: &[u8]) -> Result<Self, RecordError> {
        let (signer, payload) = unseal(bytes, DOMAIN, PAYLOAD_TYPE, "peer record")?;
        let (mut peer, mut sequence, mut addresses) = (None, None, vec![]);
        let mut fields = Fields::of(payload);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => once(&mut peer, value.bytes()?)?,
                2 => once(&mut sequence, value.number()?)?,
                3 => {
                    check_count(addresses.len() + 1)?;
                    addresses.push(read_address(value.bytes()?)?);
                }
                _ => {}
            }
        }
        let claimed = peer
            .and_then(|peer| PeerId::from_bytes(peer).ok())
            .ok_or(RecordError::Malformed("no id of an Ed25519 peer"))?;
        if claimed != signer {
            return Err(RecordError::NotTheSigner { claimed, signer });
        }
        Ok(Self {
            peer: signer,
            sequence: sequence.unwrap_or_default(),
            addresses,
        })
    }
}

fn read_address(message: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut address = None;
    let mut fields = Fields::of(message);
    while let Some((field, value)) = fields.next()? {
        if field == 1 {
            once(&mut address, value.bytes()?)?;
        }
    }
    let address = address.unwrap_or_default();
    check_address(address)?;
    Ok(address.to_vec())
}

fn check_address(address: &[u8]) -> Result<(), RecordError> {
    match address.len() {
        0 => Err(RecordError::Malformed("an address is empty")),
        1..=LONGEST_ADDRESS => Ok(()),
        _ => Err(RecordError::Malformed("an address is longer than 256 bytes")),
    }
}

fn check_count(count: usize) -> Result<(), RecordError> {
    if count <= ADDRESSES {
        return Ok(());
    }
    Err(RecordError::Malformed("more than 16 addresses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed by npm @libp2p/peer-record 9.0.16 with the seed 07…07, sequence 5, /ip4/127.0.0.1/tcp/4001.
    const OF_JS: &str = "0a2408011220ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c120203011a36\
        0a26002408011220ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c10051a0a0a08047f00000106\
        0fa12a40f6f5c8eb00f9a4e8c0eea1904fa69e381152a982c1ead74f37559ee9da41aaff5467fe8e1a3ea055d6db9958f0c16513\
        81f44ed9ab7859692a565e780052840e";
    const ADDRESS: [u8; 8] = [4, 127, 0, 0, 1, 6, 0x0f, 0xa1];

    #[test]
    fn the_bytes_are_those_of_js_libp2p() {
        let keypair = Keypair::from_seed([7; 32]);
        let ours = PeerRecord::sign(&keypair, 5, &[ADDRESS.to_vec()]).unwrap();
        let hex: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, OF_JS);
        let read = PeerRecord::open(&ours).unwrap();
        assert_eq!((read.peer, read.sequence), (keypair.peer_id(), 5));
        assert_eq!(read.addresses, [ADDRESS.to_vec()]);
    }

    #[test]
    fn addresses_of_somebody_else_are_refused() {
        let (signer, claimed) = (Keypair::from_seed([1; 32]), Keypair::from_seed([2; 32]).peer_id());
        let payload = Message::default()
            .bytes(1, &claimed.to_bytes())
            .number(2, 1)
            .done();
        let bytes = seal(&signer, DOMAIN, PAYLOAD_TYPE, &payload).unwrap();
        let signer = signer.peer_id();
        assert_eq!(
            PeerRecord::open(&bytes),
            Err(RecordError::NotTheSigner { claimed, signer })
        );
    }

    #[test]
    fn addresses_are_few_and_short() {
        let keypair = Keypair::from_seed([1; 32]);
        let error = PeerRecord::sign(&keypair, 1, &vec![ADDRESS.to_vec(); 17]).unwrap_err();
        assert_eq!(error, RecordError::Malformed("more than 16 addresses"));
        assert!(PeerRecord::sign(&keypair, 1, &[vec![1; 257]]).is_err());
        // The same in a foreign record.
        let address = Message::default().bytes(1, &ADDRESS).done();
        let mut payload = Message::default().bytes(1, &keypair.peer_id().to_bytes());
        for _ in 0..17 {
            payload = payload.item(3, &address);
        }
        let bytes = seal(&keypair, DOMAIN, PAYLOAD_TYPE, &payload.done()).unwrap();
        assert_eq!(
            PeerRecord::open(&bytes),
            Err(RecordError::Malformed("more than 16 addresses"))
        );
    }
}
