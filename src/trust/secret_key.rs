//! [`SecretKey`]: an Ed25519 key that signs, with or without a passphrase.

use std::fmt;
use std::path::Path;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::key_file::{self, decode, encode, encoded_line, part};
use super::public_key::PublicKey;
use super::signature::{Signature, check_comment, signed_comment};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// How much work a passphrase costs, as `minisign` writes it: libsodium's "sensitive" values, 1 GiB of memory.
const OPERATIONS: u64 = 33_554_432;
const MEMORY: u64 = 1 << 30;
/// The bytes that a passphrase encrypts: number (8), secret and public key (64), checksum (32).
const ENCRYPTED: usize = 104;
/// The whole key: algorithms (6), salt (32), work (16), and what is encrypted.
const WHOLE: usize = 54 + ENCRYPTED;

/// An Ed25519 secret key. It is never printed: `Debug` shows the name of its public key.
pub struct SecretKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    /// The 32 secret bytes, for keys of `minisign`; a PEM key is not written again.
    seed: Option<[u8; 32]>,
    number: Option<[u8; 8]>,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.public.id()).finish_non_exhaustive()
    }
}

/// Reads a passphrase from a file of at most [`Limits::key_file`] bytes: its first line.
///
/// # Errors
/// `Io`; `LimitExceeded`; `InvalidInput` for an empty line, which is no passphrase.
pub fn read_passphrase(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let content = key_file::read(path, &Limits::default())?;
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Error::invalid("the passphrase file has an empty first line").in_file(path));
    }
    Ok(line.to_vec())
}

impl SecretKey {
    /// Makes a new key with a number, as `minisign -G` does.
    ///
    /// # Errors
    /// `Io` if the system has no randomness.
    pub fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let no_randomness = |_| Error::new(ErrorKind::Io, "the system has no randomness for a key");
        let (mut seed, mut number) = ([0; 32], [0; 8]);
        random.fill(&mut seed).map_err(no_randomness)?;
        random.fill(&mut number).map_err(no_randomness)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| damaged())?;
        Self::of_pair(pair, Some(seed), Some(number))
    }

    fn of_pair(pair: Ed25519KeyPair, seed: Option<[u8; 32]>, number: Option<[u8; 8]>) -> Result<Self> {
        let public = PublicKey::new(number, part(pair.public_key().as_ref(), 0)?);
        Ok(Self { pair, public, seed, number })
    }

    /// Reads a key from a file of at most [`Limits::key_file`] bytes; see [`parse`](Self::parse).
    ///
    /// # Errors
    /// `Io`; `LimitExceeded`; those of [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>, passphrase: Option<&[u8]>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&key_file::read(path, &Limits::default())?, passphrase).map_err(|error| error.in_file(path))
    }

    /// Parses a key: the secret key file of `minisign`, or PEM of PKCS#8 as `openssl genpkey -algorithm ed25519`
    /// writes it. The passphrase is used only for a key that is encrypted; deriving the key from it takes
    /// some seconds and as much memory as the file says, 1 GiB for keys of `minisign`.
    ///
    /// # Errors
    /// `InvalidInput` for an encrypted key without a passphrase; `Untrusted` for a wrong passphrase or a
    /// damaged key; `Malformed`; `Unsupported`; `LimitExceeded` (`passphrase_memory`).
    pub fn parse(content: &[u8], passphrase: Option<&[u8]>) -> Result<Self> {
        let text = key_file::text(content, "the secret key")?;
        if let Some(der) = key_file::pem(text, "PRIVATE KEY")? {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
                .map_err(|_| Error::unsupported("the secret key is not an Ed25519 key in PKCS#8"))?;
            return Self::of_pair(pair, None, None);
        }
        let raw: [u8; WHOLE] = decode(encoded_line(text, "the secret key file")?, "the secret key")?;
        if raw[..2] != *b"Ed" || raw[4..6] != *b"B2" {
            return Err(Error::unsupported("the secret key is for another algorithm than Ed25519"));
        }
        let mut secret: [u8; ENCRYPTED] = part(&raw, 54)?;
        let mut is_encrypted = true;
        match &raw[2..4] {
            b"Sc" => {
                let passphrase = passphrase.ok_or_else(|| {
                    Error::invalid("the secret key is encrypted, and there is no passphrase")
                        .with_hint("name a file that holds it with `--passphrase-file`")
                })?;
                let (operations, memory) = (u64::from_le_bytes(part(&raw, 38)?), u64::from_le_bytes(part(&raw, 46)?));
                apply_passphrase(&mut secret, passphrase, &part(&raw, 6)?, operations, memory, &Limits::default())?;
            }
            [0, 0] => is_encrypted = false,
            _ => return Err(Error::unsupported("the secret key is encrypted in an unknown way")),
        }
        let (number, seed, public): ([u8; 8], [u8; 32], [u8; 32]) =
            (part(&secret, 0)?, part(&secret, 8)?, part(&secret, 40)?);
        // `minisign` writes zeros there if nothing is encrypted.
        let found = part::<32>(&secret, 72)?;
        if found != checksum(&number, &seed, &public) && (is_encrypted || found != [0; 32]) {
            return Err(damaged());
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).map_err(|_| damaged())?;
        Self::of_pair(pair, Some(seed), Some(number))
    }

    /// The key as the text of a secret key file of `minisign`, encrypted if there is a passphrase.
    ///
    /// # Errors
    /// `Unsupported` for a key that was read from PEM; `Io` if the system has no randomness.
    pub fn to_text(&self, passphrase: Option<&[u8]>) -> Result<String> {
        let (Some(seed), Some(number)) = (&self.seed, &self.number) else {
            return Err(Error::unsupported("a key from PEM is not written as a key of minisign"));
        };
        let public = self.public.as_bytes();
        let mut secret = [0; ENCRYPTED];
        let sum = if passphrase.is_some() { checksum(number, seed, public) } else { [0; 32] };
        let plain = [number.as_slice(), seed, public, &sum].concat();
        secret.copy_from_slice(&plain);
        let (mut kdf, mut salt, mut work) = ([0; 2], [0; 32], [0; 16]);
        if let Some(passphrase) = passphrase {
            SystemRandom::new()
                .fill(&mut salt)
                .map_err(|_| Error::new(ErrorKind::Io, "the system has no randomness for a key"))?;
            apply_passphrase(&mut secret, passphrase, &salt, OPERATIONS, MEMORY, &Limits::trusted())?;
            kdf = *b"Sc";
            work[..8].copy_from_slice(&OPERATIONS.to_le_bytes());
            work[8..].copy_from_slice(&MEMORY.to_le_bytes());
        }
        let raw = [b"Ed".as_slice(), &kdf, b"B2", &salt, &work, &secret].concat();
        let kind = if passphrase.is_some() { "encrypted" } else { "unencrypted" };
        Ok(format!("untrusted comment: minisign {kind} secret key\n{}\n", encode(&raw)))
    }

    /// The public key that verifies what this key signs.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Makes a plain Ed25519 signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// Makes a detached signature of `minisign` over `message`, in the prehashed form, with a trusted
    /// comment that is signed too.
    ///
    /// # Errors
    /// `InvalidInput` for a comment of several lines; `Unsupported` for a key from PEM, which has no number.
    pub fn sign_detached(&self, message: &[u8], trusted_comment: &str) -> Result<Signature> {
        check_comment(trusted_comment)?;
        let number =
            self.number.ok_or_else(|| Error::unsupported("only keys of minisign make signatures in its format"))?;
        let signature = part(&self.sign(&Blake2b512::digest(message)), 0)?;
        let comment_signature = part(&self.sign(&signed_comment(&signature, trusted_comment)), 0)?;
        Ok(Signature::new(number, signature, trusted_comment, comment_signature))
    }
}

/// The error for a wrong passphrase or a damaged key, which look the same.
fn damaged() -> Error {
    Error::new(ErrorKind::Untrusted, "the passphrase of the secret key is wrong, or the key is damaged")
}

/// The checksum in a secret key file.
fn checksum(number: &[u8; 8], seed: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    let mut hash = Blake2b::<U32>::new();
    hash.update(b"Ed");
    hash.update(number);
    hash.update(seed);
    hash.update(public);
    hash.finalize().into()
}

/// Encrypts or decrypts `secret` with the key that scrypt derives from a passphrase.
fn apply_passphrase(
    secret: &mut [u8; ENCRYPTED],
    passphrase: &[u8],
    salt: &[u8; 32],
    operations: u64,
    memory: u64,
    limits: &Limits,
) -> Result<()> {
    if memory > limits.passphrase_memory {
        return Err(Error::limit("passphrase_memory", limits.passphrase_memory, "the memory for the passphrase"));
    }
    // As long as the memory is bounded and passes are few, so is the time.
    if operations > limits.passphrase_memory {
        return Err(Error::limit("passphrase_memory", limits.passphrase_memory, "the work for the passphrase"));
    }
    let (log_n, p) = scrypt_parameters(operations, memory);
    let parameters =
        scrypt::Params::new(log_n, 8, p).map_err(|_| Error::malformed("the work for a passphrase is 0"))?;
    let mut stream = [0; ENCRYPTED];
    scrypt::scrypt(passphrase, salt, &parameters, &mut stream)
        .map_err(|_| Error::malformed("the work for a passphrase is unusable"))?;
    secret.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    Ok(())
}

/// The parameters `log2(N)` and `p` of scrypt, with `r = 8`, as libsodium derives them from work and memory.
fn scrypt_parameters(operations: u64, memory: u64) -> (u8, u32) {
    const R: u64 = 8;
    let operations = operations.max(32_768);
    // The smallest exponent whose power of two is over half of the bound.
    let exponent = |bound: u64| (1..63_u8).find(|exponent| 1_u64 << exponent > bound / 2).unwrap_or(63);
    if operations < memory / 32 {
        return (exponent(operations / (R * 4)), 1);
    }
    let log_n = exponent(memory / (R * 128));
    let passes = ((operations / 4) >> log_n).min(0x3fff_ffff) / R;
    (log_n, u32::try_from(passes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::scrypt_parameters;

    #[test]
    fn work_of_minisign_means_what_libsodium_takes_it_for() {
        // "sensitive" and "interactive" of libsodium.
        assert_eq!(scrypt_parameters(33_554_432, 1 << 30), (20, 1));
        assert_eq!(scrypt_parameters(524_288, 16 << 20), (14, 1));
    }
}
