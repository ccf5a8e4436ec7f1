//! The key of tokens. Its algorithm is said with --jwt-algorithm, or follows from a key that can be
//! one thing only; it never follows from a token. A public key that is taken for an HS256 secret by
//! mistake lets everybody sign tokens, so what looks like something else than a secret is refused.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use clap::ValueEnum;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// RFC 7518, 3.2: a key at least as long as the hash.
const SECRET_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JwtAlgorithm {
    #[value(name = "HS256")]
    Hs256,
    #[value(name = "RS256")]
    Rs256,
}

pub struct Key {
    pub algorithm: Algorithm,
    pub verify: DecodingKey,
    /// None for a public key.
    pub sign: Option<EncodingKey>,
}

impl Key {
    /// The option's value: the key, or `@FILE`.
    pub fn read(option: &str, said: Option<JwtAlgorithm>) -> Result<Key, String> {
        match option.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("--jwt-key {option}: {error}"))?;
                Key::of(text.trim_end(), said)
            }
            None => Key::of(option, said),
        }
    }

    fn of(text: &str, said: Option<JwtAlgorithm>) -> Result<Key, String> {
        let is_pem = text.contains("-----BEGIN");
        match said.unwrap_or(if is_pem { JwtAlgorithm::Rs256 } else { JwtAlgorithm::Hs256 }) {
            JwtAlgorithm::Rs256 => public(text),
            JwtAlgorithm::Hs256 => secret(text),
        }
    }
}

fn public(text: &str) -> Result<Key, String> {
    if text.contains("PRIVATE KEY") {
        return Err("--jwt-key is a private key: whoever only verifies tokens needs, and should have, the public key alone".into());
    }
    if !text.contains("-----BEGIN PUBLIC KEY-----") && !text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return Err("--jwt-key is no RSA public key as PEM, which RS256 needs: it begins with -----BEGIN PUBLIC KEY-----".into());
    }
    let verify = DecodingKey::from_rsa_pem(text.as_bytes()).map_err(|error| format!("--jwt-key is no RSA public key: {error}"))?;
    Ok(Key { algorithm: Algorithm::RS256, verify, sign: None })
}

fn secret(text: &str) -> Result<Key, String> {
    if let Some(what) = mistaken(text) {
        return Err(format!(
            "--jwt-key is no HS256 secret: it looks like {what}. RS256 takes a public key as PEM; @FILE reads a file; \
             a good secret is made by: openssl rand -hex 32"
        ));
    }
    if text.len() < SECRET_BYTES {
        return Err(format!("--jwt-key is too short: an HS256 secret has at least {SECRET_BYTES} bytes"));
    }
    let (verify, sign) = (DecodingKey::from_secret(text.as_bytes()), EncodingKey::from_secret(text.as_bytes()));
    Ok(Key { algorithm: Algorithm::HS256, verify, sign: Some(sign) })
}

/// What a text is that somebody meant as another kind of key, or that names where a key is.
fn mistaken(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    Some(match text {
        _ if text.contains("-----BEGIN") => "a key or certificate as PEM",
        // The second finds a key of RSA that was cut off.
        _ if is_der(text) || text.starts_with("MII") => "a key or certificate without the lines around it that PEM has",
        _ if starts(&["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]) => "a public key of SSH",
        _ if starts(&["{", "["]) => "JSON",
        _ if starts(&["eyJ"]) => "a token or JSON as base64",
        _ if text.contains("://") => "a URL",
        _ if is_path(text) => "the name of a file",
        _ if starts(&["$", "${", "<"]) && !text.contains(char::is_whitespace) => "a placeholder",
        _ => return None,
    })
}

/// Whether it is one DER sequence, which every key and certificate is, as base64 or as hexadecimal
/// digits.
fn is_der(text: &str) -> bool {
    let compact: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = GeneralPurpose::new(&STANDARD, lenient).decode(compact.replace('-', "+").replace('_', "/")).ok();
    let digits: Option<Vec<u32>> = compact.chars().map(|character| character.to_digit(16)).collect();
    let hexadecimal =
        digits.map(|digits| digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect());
    [base64, hexadecimal].into_iter().flatten().any(|bytes| is_sequence(&bytes))
}

/// A tag, a length, and as many bytes as it says.
fn is_sequence(der: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = der else { return false };
    let (length, content) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 if rest.len() >= usize::from(first & 0x0f) => {
            let (length, content) = rest.split_at(usize::from(first & 0x0f));
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), content)
        }
        _ => return false,
    };
    length == content.len()
}

/// A secret as base64 may begin with a slash. It has none of the other characters, and is no file
/// that is there.
fn is_path(text: &str) -> bool {
    let is_base64 = text.chars().all(|character| character.is_ascii_alphanumeric() || "+/=".contains(character));
    let begins = ["/", "./", "../", "~/", "file:"].iter().any(|prefix| text.starts_with(prefix));
    (begins && !is_base64) || (text.contains('/') && std::path::Path::new(text).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = include_str!("../tests/server/test_only_rsa.pub.pem");
    const PRIVATE: &str = include_str!("../tests/server/test_only_rsa.pem");

    fn bare(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with("-----")).collect()
    }

    #[test]
    fn keys_that_are_one_thing_only() {
        use JwtAlgorithm::{Hs256, Rs256};
        for (text, said) in [
            ("a secret of the tests, which has more than 32 bytes", None),
            ("a secret of the tests, which has more than 32 bytes", Some(Hs256)),
            // openssl rand -base64 32, -hex 32, one that begins with a slash, and one that begins
            // as DER does.
            ("kS0n6cY2XvKq5m8d1bG9hQ3uT7wZ4rLxA0pEfJiMoNs=", None),
            ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", None),
            ("/S0n6cY2XvKq5m8d1bG9hQ3uT7wZ4rLxA0pEfJiMoNs=", None),
            ("MFkn6cY2XvKq5m8d1bG9hQ3uT7wZ4rLxA0pEfJiMoNs=", None),
            ("3082d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", None),
        ] {
            let key = Key::read(text, said).map_err(|error| format!("{text}: {error}"));
            assert!(key.is_ok_and(|key| key.algorithm == Algorithm::HS256 && key.sign.is_some()), "{text}");
        }
        for said in [None, Some(Rs256)] {
            assert!(Key::read(PUBLIC, said).is_ok_and(|key| key.algorithm == Algorithm::RS256 && key.sign.is_none()));
        }
    }

    #[test]
    fn what_is_no_secret() {
        let long = "x".repeat(40);
        // The public keys of P-256 and Ed25519 are other sequences than those of RSA.
        let p256 =
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==";
        for text in [
            PUBLIC.into(),
            PRIVATE.into(),
            bare(PUBLIC),
            format!("  {}\n", bare(PUBLIC)),
            bare(PUBLIC)[..60].into(),
            bare(PUBLIC).replace('+', "-").replace('/', "_").trim_end_matches('=').into(),
            bare(PRIVATE),
            p256.into(),
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".into(),
            "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1".into(),
            format!("ssh-rsa AAAAB3NzaC1yc2E{long}"),
            format!("ssh-ed25519 AAAAC3Nza{long}"),
            format!("ecdsa-sha2-nistp256 AAAA{long}"),
            format!("{{\"kty\":\"RSA\",\"n\":\"{long}\"}}"),
            format!("https://id.example/.well-known/jwks.json?{long}"),
            format!("vault://{long}"),
            "/run/secrets/llm-dashboard/jwt-signing.key".into(),
            "./secrets/llm-dashboard/jwt-signing-key.pem".into(),
            "~/secrets/llm-dashboard/jwt-signing-key.pem".into(),
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/test_only_rsa.pub.pem").into(),
            format!("eyJhbGciOiJIUzI1NiJ9.{long}"),
            format!("${{{long}}}"),
        ] {
            for said in [None, Some(JwtAlgorithm::Hs256)] {
                if said.is_none() && text == PUBLIC {
                    continue;
                }
                assert!(Key::read(&text, said).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_public_key() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let secret = "a secret of the tests, which has more than 32 bytes";
        for text in [PRIVATE.into(), bare(PUBLIC), certificate.into(), secret.to_owned()] {
            assert!(Key::read(&text, Some(JwtAlgorithm::Rs256)).is_err(), "{text}");
        }
    }
}
