//! [`UnpackReport`]: what an unpacking wrote and what it left out.

use crate::omissions::Omissions;

/// What an unpacking wrote and what it left out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UnpackReport {
    /// Entries written, directories that were only implied not counted.
    pub entries: u64,
    /// Bytes of file content written.
    pub bytes: u64,
    /// What was left out.
    pub omissions: Omissions,
}

impl UnpackReport {
    /// Whether everything in the image was written as it stands there.
    ///
    /// An ordinary user who unpacks an image with devices or other owners gets an incomplete tree
    /// without an error; this tells.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.omissions.is_empty()
    }
}
