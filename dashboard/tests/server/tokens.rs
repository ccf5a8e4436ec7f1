//! Whom it believes.

use crate::harness::*;
use jsonwebtoken::{Algorithm, EncodingKey};
use llm_analytics_tests::world::World;
use serde_json::{Value, json};

const PRIVATE: &str = include_str!("test_only_rsa.pem");
pub const PUBLIC: &str = include_str!("test_only_rsa.pub.pem");
const PATH: &str = "/organizations";

/// Base64url, as JWS has it, of what no library would sign.
fn part(value: &Value) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in value.to_string().as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|at| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63])));
    }
    out
}

fn changed(change: &[(&str, Option<Value>)]) -> Value {
    let mut claims = claims("own");
    for (name, value) in change {
        match value {
            Some(value) => claims[*name] = value.clone(),
            None => drop(claims.as_object_mut().expect("claims").remove(*name)),
        }
    }
    claims
}

fn is_refused(answer: &Answer, context: &str) {
    assert_eq!(answer.status, 401, "{context}: {}", answer.body);
    assert_eq!(answer.code(), "invalid_token", "{context}");
    assert_eq!(answer.header("www-authenticate"), "Bearer", "{context}");
    assert!(!answer.body.contains("acme"), "{context}");
}

#[test]
fn bad_tokens_of_a_secret() {
    let mut world = World::new("dash_tokens", false);
    let dashboard = Dashboard::over(&mut world);
    let good = signed(&claims("own"));
    assert_eq!(dashboard.get(PATH, &[("Authorization", &format!("Bearer {good}"))]).status, 200);
    assert_eq!(dashboard.get(PATH, &[("Authorization", &format!("bearer {good}"))]).status, 200);
    assert_eq!(dashboard.get(PATH, &[("Cookie", &format!("a=b; llm_token={good}; c=d"))]).status, 200);
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let other = EncodingKey::from_secret(b"another secret that has more than 32 bytes as well");
    let pieces: Vec<&str> = good.split('.').collect();
    let none = |algorithm: &str, signature: &str| format!("{}.{}.{signature}", part(&json!({"alg": algorithm, "typ": "JWT"})), pieces[1]);
    let forged = format!("{}.{}.{}", pieces[0], part(&claims("riv")), pieces[2]);
    let bad: Vec<(&str, String)> = vec![
        ("expired", signed(&changed(&[("exp", Some(json!(now() - 2)))]))),
        ("expired long ago", signed(&changed(&[("exp", Some(json!(1)))]))),
        ("exp is text", signed(&changed(&[("exp", Some(json!("soon")))]))),
        ("no exp", signed(&changed(&[("exp", None)]))),
        ("not yet valid", signed(&changed(&[("nbf", Some(json!(now() + 600)))]))),
        ("another audience", signed(&changed(&[("aud", Some(json!("somebody-else")))]))),
        ("other audiences", signed(&changed(&[("aud", Some(json!(["a", "b"])))]))),
        ("no audience", signed(&changed(&[("aud", None)]))),
        ("nobody", signed(&changed(&[("sub", None)]))),
        ("an empty name", signed(&changed(&[("sub", Some(json!("")))]))),
        ("a number", signed(&changed(&[("sub", Some(json!(7)))]))),
        ("another secret", sign(Algorithm::HS256, &other, &claims("own"))),
        ("an empty secret", sign(Algorithm::HS256, &EncodingKey::from_secret(b""), &claims("own"))),
        ("HS384", sign(Algorithm::HS384, &secret, &claims("own"))),
        ("HS512", sign(Algorithm::HS512, &secret, &claims("own"))),
        ("RS256", sign(Algorithm::RS256, &EncodingKey::from_rsa_pem(PRIVATE.as_bytes()).expect("a key"), &claims("own"))),
        ("alg none", none("none", "")),
        ("alg NONE", none("NONE", "")),
        ("alg nOnE, with a signature", none("nOnE", pieces[2])),
        ("no signature", format!("{}.{}.", pieces[0], pieces[1])),
        ("two parts", format!("{}.{}", pieces[0], pieces[1])),
        ("other claims under the signature", forged),
        ("one part", "x".into()),
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("a long one", "x".repeat(6000)),
        ("SQL", "' OR 1=1 --".into()),
    ];
    for (what, token) in &bad {
        is_refused(&dashboard.get(PATH, &[("Authorization", &format!("Bearer {token}"))]), what);
        is_refused(&dashboard.get(PATH, &[("Cookie", &format!("llm_token={token}"))]), what);
        // Whoever sends a wrong one is not somebody else by the cookie.
        let both = [("Authorization", format!("Bearer {token}")), ("Cookie", format!("llm_token={good}"))];
        is_refused(&dashboard.get(PATH, &both.each_ref().map(|(name, value)| (*name, value.as_str()))), what);
    }
    is_refused(&dashboard.get(PATH, &[]), "no token");
    is_refused(&dashboard.get(PATH, &[("Authorization", &format!("Basic {good}"))]), "another scheme");
    is_refused(&dashboard.get(PATH, &[("Cookie", &format!("xllm_token={good}"))]), "another cookie");
    is_refused(&dashboard.get(&format!("{PATH}?token={good}&access_token={good}"), &[]), "a token in the URL");
}

#[test]
fn tokens_of_a_public_key() {
    let mut world = World::new("dash_rs256", false);
    let role = world.backend_role();
    let url = url_of(&world.db.server, &world.db.name, &role);
    let dashboard = Dashboard::start(&url, PUBLIC, &[]);
    let private = EncodingKey::from_rsa_pem(PRIVATE.as_bytes()).expect("a key");
    let ask = |token: &str| dashboard.get(PATH, &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!(ask(&sign(Algorithm::RS256, &private, &claims("own"))).status, 200);
    // The public key is known to everybody: it is no secret to sign with.
    for key in [PUBLIC, PUBLIC.trim_end(), SECRET] {
        is_refused(&ask(&sign(Algorithm::HS256, &EncodingKey::from_secret(key.as_bytes()), &claims("own"))), "HS256 by the public key");
    }
    is_refused(&ask(&sign(Algorithm::RS512, &private, &claims("own"))), "RS512");
    is_refused(&ask(&sign(Algorithm::RS256, &private, &changed(&[("exp", Some(json!(now() - 2)))]))), "expired");
    let said = refuses_to_start(&url, PUBLIC, &["--demo-user", "own=Owner"]);
    assert!(said.contains("--jwt-key"), "{said}");
}
