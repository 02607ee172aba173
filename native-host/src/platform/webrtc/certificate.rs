//! The certificate of this machine for WebRTC. Its hash is part of every address, so it is kept.

use std::fs;
use std::path::Path;

use dimpl::DtlsCertificate;
use kwaainet_webrtc::Fingerprint;

use crate::HostError;
use crate::platform::network::write_private;

/// In the folder for data, beside the key: two lines, the certificate and its key in hexadecimal DER.
const FILE: &str = "peer.certificate";

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(in crate::platform) struct Certificate {
    pub(super) dtls: DtlsCertificate,
    pub(super) fingerprint: Fingerprint,
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut sha256 = [0; 32];
    for (to, from) in sha256.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    Fingerprint::new(sha256)
}

impl Certificate {
    fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Self {
        Self {
            fingerprint: fingerprint(&certificate),
            dtls: DtlsCertificate {
                certificate,
                private_key,
            },
        }
    }

    /// One that nobody has seen. ECDSA with P-256, as in browsers; it names nobody, and does not expire in our lifetime:
    /// its hash is all that is ever compared.
    pub(in crate::platform) fn generate() -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&key)?;
        Ok(Self::new(certificate.der().to_vec(), key.serialize_der()))
    }

    /// That of this folder, made when there is none.
    pub(in crate::platform) fn of(folder: &Path) -> Result<Self, HostError> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::read(&text).ok_or_else(|| HostError::Config {
                path,
                reason: "this is no certificate of a peer. Restore it from a copy, or delete it: a new one changes \
                         this peer's WebRTC addresses"
                    .to_owned(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made =
                    Self::generate().map_err(|error| HostError::file(&path, std::io::Error::other(error)))?;
                let text = format!(
                    "{}\n{}\n",
                    hex::encode(&made.dtls.certificate),
                    hex::encode(&made.dtls.private_key)
                );
                write_private(&path, &text).map_err(|error| HostError::file(&path, error))?;
                Ok(made)
            }
            Err(error) => Err(HostError::file(&path, error)),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (certificate, key) = text.trim().split_once('\n')?;
        let (certificate, key) = (hex::decode(certificate).ok()?, hex::decode(key).ok()?);
        // Both must be what they claim, and belong together; a connection would only fail much later.
        let pair = rcgen::KeyPair::try_from(key.as_slice()).ok()?;
        let public = pair.public_key_raw();
        certificate
            .windows(public.len())
            .any(|part| part == public)
            .then(|| Self::new(certificate, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_stays_the_same_and_what_is_none_is_refused() {
        let folder = std::env::temp_dir().join(format!("kwaainet-certificate-{}", std::process::id()));
        let first = Certificate::of(&folder).unwrap();
        let again = Certificate::of(&folder).unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        assert_eq!(first.dtls.private_key, again.dtls.private_key);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(folder.join(FILE)).unwrap());
            assert_eq!(mode & 0o077, 0, "nobody else reads the key");
        }
        let other = Certificate::generate().unwrap();
        let mixed = format!(
            "{}\n{}\n",
            hex::encode(&first.dtls.certificate),
            hex::encode(&other.dtls.private_key)
        );
        for bad in ["", "00\n00\n", mixed.as_str()] {
            fs::write(folder.join(FILE), bad).unwrap();
            assert!(Certificate::of(&folder).is_err(), "{bad}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
