//! Who vouches for an image: keys, signatures, statements, and the policy that demands them.
//!
//! Everything here works offline and does no network I/O. Cryptography is Ed25519 by `ring`, where nothing is
//! negotiated, and OpenPGP for those who have such keys.
//!
//! | file | content |
//! |---|---|
//! | `public_key`, `secret_key` | keys as `minisign` writes them, and plain Ed25519 keys in PEM |
//! | `signature` | detached signatures of `minisign`, read and made |
//! | `openpgp/` | OpenPGP keys and signatures, over the crate `pgp` (feature `signatures`) |
//! | `list_keys`, `list_signer` | keys of both kinds that verify and sign the lists of a remote |
//! | `statement`, `envelope` | in-toto statements about images, and the DSSE envelopes that carry their signatures |
//! | `provenance` | how an image was packed, as a predicate of SLSA |
//! | `policy` | what an image needs before a store makes it visible |
//!
//! ```
//! use lxd_image::trust::{PublicKey, SecretKey, Signature};
//!
//! // As `minisign -G -W` makes it; `SecretKey::read` reads one from a file.
//! let secret = SecretKey::generate()?;
//! let signature = secret.sign_detached(b"the message", "timestamp:1700000000")?;
//!
//! let public = PublicKey::parse(secret.public_key().to_text().as_bytes())?;
//! let read = Signature::parse(signature.to_text().as_bytes())?;
//! let comment = public.verify_detached(b"the message", &read)?;
//! assert_eq!(comment, "timestamp:1700000000");
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod envelope;
mod key_file;
mod list_form;
mod list_keys;
mod list_signer;
#[cfg(feature = "signatures")]
pub mod openpgp;
mod policy;
mod provenance;
mod public_key;
mod secret_key;
mod signature;
mod statement;

pub use envelope::{BUNDLE_ENDING, Envelope, PAYLOAD_TYPE};
pub use list_keys::{ListKey, ListKeys, ListSignature};
pub use list_signer::ListSigner;
pub use policy::{Admission, Candidate, Evidence, Policy, SignedList};
pub use provenance::{PACK_BUILD, pack_provenance, packed_options};
pub use public_key::{KeyId, PublicKey};
pub use secret_key::{SecretKey, read_passphrase};
pub use signature::Signature;
pub use statement::{FINGERPRINT_SUBJECT, PROVENANCE, Statement, VOUCH};
