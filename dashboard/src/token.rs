//! Who asks: the `sub` of a signed token, from `Authorization: Bearer` or else from the cookie.

use crate::answer::Failure;
use crate::key::Key;
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

pub const COOKIE: &str = "llm_token";

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    aud: serde_json::Value,
    exp: u64,
}

pub struct Tokens {
    verify: DecodingKey,
    sign: Option<EncodingKey>,
    validation: Validation,
    audience: String,
}

impl Tokens {
    pub fn new(key: Key, audience: &str) -> Tokens {
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        Tokens { verify: key.verify, sign: key.sign, validation, audience: audience.into() }
    }

    /// A token for a sample user, for a day.
    pub fn sign(&self, user: &str) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = Claims { sub: user.into(), aud: self.audience.clone().into(), exp: now + 86_400 };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, self.sign.as_ref()?).ok()
    }

    pub fn user(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let token = token(headers).ok_or_else(|| Failure::token("no token"))?;
        // Why it is refused is nobody's business but the log's.
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation)
            .map_err(|_| Failure::token("the token is not valid"))?
            .claims;
        if claims.sub.is_empty() { Err(Failure::token("the token names nobody")) } else { Ok(claims.sub) }
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        // Whoever sends this means it: no falling back to the cookie.
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}
