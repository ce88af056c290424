//! The checksum of files in tar-split.

use crc_fast::{CrcAlgorithm, Digest, checksum};

const ISO: CrcAlgorithm = CrcAlgorithm::Crc64GoIso;

/// Go's `crc64.ISO`, computed piece by piece.
#[derive(Clone)]
pub struct Crc64(Digest);

impl Crc64 {
    /// Of no bytes so far.
    pub fn new() -> Self {
        Self(Digest::new(ISO))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes added.
    pub fn finish(self) -> u64 {
        self.0.finalize()
    }

    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> u64 {
        checksum(ISO, bytes)
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.clone().finish())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    /// Measured on a store that skopeo 1.9.3 made.
    #[test]
    fn is_that_of_containers_storage() {
        let base64 = |bytes: &[u8]| STANDARD.encode(Crc64::of(bytes).to_be_bytes());
        assert_eq!(base64(b"hello\n"), "YUw+7uLYEAA=");
        assert_eq!(base64(&[b'x'; 3000]), "Ohfj9eOBXYE=");
        let mut crc = Crc64::new();
        crc.update(b"hel");
        crc.update(b"lo\n");
        assert_eq!(crc.finish(), Crc64::of(b"hello\n"));
    }
}
