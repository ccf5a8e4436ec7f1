//! The connection string. tokio-postgres reads most of it; this reads the options that libpq has and
//! tokio-postgres lacks or means otherwise, and takes them out before it sees the rest.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

pub struct Dsn {
    pub config: Config,
    pub verify: Verify,
    pub roots: Roots,
}

/// What is verified of the server's certificate, wherever TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Who signed it, and that it is for this host.
    Full,
    /// Who signed it.
    Authority,
}

/// Who may have signed it: `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The connection string does not say.
    Unsaid,
    System,
    File(PathBuf),
}

/// Options of libpq that are not supported here. Their names can be shown; another word in the
/// place of a name could be a part of a password that was not quoted.
const UNSUPPORTED: [&str; 19] = [
    "fallback_application_name",
    "client_encoding",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
    "sslsni",
];

impl Dsn {
    pub fn parse(text: &str) -> Result<Dsn, String> {
        let wrong = |what: String| format!("--database-url: {what}");
        let mut own = Own::default();
        let rest = own.take(text).map_err(wrong)?;
        let config: Config = rest.parse().map_err(|error| wrong(said(&error)))?;
        own.apply(config).map_err(wrong)
    }
}

/// The options that are read here, as they are written. Of an option given twice the last one
/// counts, as in libpq.
#[derive(Default)]
struct Own {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    tcp_user_timeout: Option<String>,
    keepalives_count: Option<String>,
}

impl Own {
    /// Takes what is read here out of a URL or of keywords; what is left is for tokio-postgres.
    fn take(&mut self, text: &str) -> Result<String, String> {
        let is_url = ["postgres://", "postgresql://"].iter().any(|prefix| text.starts_with(prefix));
        if is_url { self.take_from_url(text) } else { self.take_from_keywords(text) }
    }

    fn take_from_url(&mut self, url: &str) -> Result<String, String> {
        // A password may hold a question mark.
        let host = url.find('@').unwrap_or_default();
        let Some(at) = url[host..].find('?').map(|at| host + at) else { return Ok(url.into()) };
        let mut rest = Vec::new();
        for pair in url[at + 1..].split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            if !self.is_taken(&decode(name), decode(value).into())? {
                rest.push(pair);
            }
        }
        let rest = rest.join("&");
        Ok(if rest.is_empty() { url[..at].into() } else { format!("{}?{rest}", &url[..at]) })
    }

    fn take_from_keywords(&mut self, text: &str) -> Result<String, String> {
        let mut rest = String::new();
        let mut left = text.trim_start();
        while !left.is_empty() {
            let Some((name, value, end)) = keyword(left) else {
                // Not well-formed: tokio-postgres says so.
                rest.push_str(left);
                break;
            };
            if !self.is_taken(name, value)? {
                rest.push_str(&left[..end]);
                rest.push(' ');
            }
            left = left[end..].trim_start();
        }
        Ok(rest)
    }

    fn is_taken(&mut self, name: &str, value: Cow<str>) -> Result<bool, String> {
        let place = match name {
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "tcp_user_timeout" => &mut self.tcp_user_timeout,
            "keepalives_count" => &mut self.keepalives_count,
            _ if UNSUPPORTED.contains(&name) || name.starts_with("ssl_m") => {
                return Err(format!("the option {name} of libpq is not supported"));
            }
            _ => return Ok(false),
        };
        *place = Some(value.into_owned()).filter(|value| !value.is_empty());
        Ok(true)
    }

    fn apply(self, mut config: Config) -> Result<Dsn, String> {
        let roots = match self.sslrootcert.as_deref() {
            None => Roots::Unsaid,
            Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        let by_default = if roots == Roots::System { "verify-full" } else { "prefer" };
        let mode = self.sslmode.as_deref().unwrap_or(by_default);
        let (ssl_mode, verify) = match mode {
            "disable" => (SslMode::Disable, Verify::Full),
            "prefer" => (SslMode::Prefer, Verify::Full),
            "require" | "verify-full" => (SslMode::Require, Verify::Full),
            "verify-ca" => (SslMode::Require, Verify::Authority),
            "allow" => return Err("sslmode=allow is not supported: use disable, prefer, require, verify-ca or verify-full".into()),
            _ => return Err("sslmode is none of disable, prefer, require, verify-ca and verify-full".into()),
        };
        // As libpq refuses it: anybody can have a certificate for some host from a public
        // authority.
        if roots == Roots::System && mode != "verify-full" {
            return Err(format!("sslmode={mode} is too weak for sslrootcert=system: use verify-full"));
        }
        config.ssl_mode(ssl_mode);
        if let Some(milliseconds) = self.tcp_user_timeout {
            let milliseconds = milliseconds.parse().map_err(|_| "tcp_user_timeout is no number of milliseconds")?;
            config.tcp_user_timeout(Duration::from_millis(milliseconds));
        }
        if let Some(count) = self.keepalives_count {
            config.keepalives_retries(count.parse().map_err(|_| "keepalives_count is no number")?);
        }
        Ok(Dsn { config, verify, roots })
    }
}

/// The first `name = value` of keywords, and where it ends; None where there is none.
fn keyword(text: &str) -> Option<(&str, Cow<'_, str>, usize)> {
    let equals = text.find('=')?;
    let name = text[..equals].trim_end();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let from = equals + 1 + (text[equals + 1..].len() - text[equals + 1..].trim_start().len());
    let is_quoted = text[from..].starts_with('\'');
    let from = from + usize::from(is_quoted);
    let mut value = String::new();
    let mut characters = text[from..].char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Some((name, value.into(), from + at + 1)),
            _ if !is_quoted && character.is_whitespace() => return Some((name, value.into(), from + at)),
            _ => value.push(character),
        }
    }
    (!is_quoted).then_some((name, value.into(), text.len()))
}

/// What tokio-postgres says, with the option whose value it refuses.
fn said(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.starts_with("invalid value for option") { format!("{error}: {cause}") } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (SslMode, Verify, Roots) {
        let Dsn { config, verify, roots } = Dsn::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.get_user(), Some("u"), "{text}");
        assert_eq!(config.get_password(), Some(&b"p?w' x"[..]), "{text}");
        assert_eq!(config.get_dbname(), Some("d"), "{text}");
        (config.get_ssl_mode(), verify, roots)
    }

    #[test]
    fn sslmode_and_sslrootcert_as_libpq_has_them() {
        use Roots::{File, System, Unsaid};
        let file = || File("/a b.pem".into());
        for (url, keywords, wanted) in [
            ("", "", (SslMode::Prefer, Verify::Full, Unsaid)),
            ("?sslmode=disable", "sslmode=disable", (SslMode::Disable, Verify::Full, Unsaid)),
            ("?sslmode=require&connect_timeout=3", "sslmode = require connect_timeout=3", (SslMode::Require, Verify::Full, Unsaid)),
            ("?connect_timeout=3&sslmode=verify-full", "connect_timeout=3 sslmode='verify-full'", (SslMode::Require, Verify::Full, Unsaid)),
            (
                "?sslmode=verify-ca&sslrootcert=%2Fa%20b.pem",
                "sslmode=verify-ca sslrootcert='/a b.pem'",
                (SslMode::Require, Verify::Authority, file()),
            ),
            (
                "?ssl%6dode=verify-full&sslrootcert=/a%20b.pem",
                "sslrootcert=/a\\ b.pem sslmode=verify-full",
                (SslMode::Require, Verify::Full, file()),
            ),
            ("?sslrootcert=system", "sslrootcert=system", (SslMode::Require, Verify::Full, System)),
            ("?sslmode=disable&sslmode=verify-full", "sslmode=disable sslmode=verify-full", (SslMode::Require, Verify::Full, Unsaid)),
        ] {
            assert_eq!(parse(&format!("postgresql://u:p?w'%20x@h:5/d{url}")), wanted, "{url}");
            assert_eq!(parse(&format!("postgres://u:p?w'%20x@h/d{url}")), wanted, "{url}");
            assert_eq!(parse(&format!("host=h user=u password='p?w\\' x' dbname=d {keywords}")), wanted, "{keywords}");
            assert_eq!(parse(&format!("{keywords}  host=h user=u password = 'p?w\\' x' dbname=d")), wanted, "{keywords}");
        }
    }

    #[test]
    fn timeouts_in_the_units_of_libpq() {
        let Dsn { config, .. } = Dsn::parse("host=h tcp_user_timeout=2500 keepalives_count=7").expect("a connection string");
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(2500)));
        assert_eq!(config.get_keepalives_retries(), Some(7));
    }

    #[test]
    fn what_cannot_be_honored_is_named() {
        for (text, word) in [
            ("host=h sslmode=allow", "sslmode=allow"),
            ("host=h sslmode=verify", "sslmode"),
            ("postgres://h/d?sslrootcert=system&sslmode=require", "sslrootcert=system"),
            ("host=h sslcert=/a", "sslcert"),
            ("postgres://h/d?sslkey=/a", "sslkey"),
            ("host=h ssl_min_protocol_version=TLSv1.3", "ssl_min_protocol_version"),
            ("host=h channel_binding=perhaps", "channel_binding"),
            ("host=h tcp_user_timeout=soon", "tcp_user_timeout"),
        ] {
            let said = Dsn::parse(text).map(|_| ()).expect_err(text);
            assert!(said.starts_with("--database-url: ") && said.contains(word), "{text}: {said}");
        }
        for text in ["host=h password=my secret=1", "host=h password=my secret", "postgres://h/d?secret=1", "host=h password='secret"] {
            let said = Dsn::parse(text).map(|_| ()).expect_err(text);
            assert!(!said.contains("secret"), "{text}: {said}");
        }
    }
}
