//! Names of time zones: which ones are asked for by name. What they mean comes from the server's own data.

/// The IANA name as it is spelled there, from any letter case. None for POSIX strings and abbreviations.
pub fn canonical_name(text: &str) -> Option<&'static str> {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).find(|name| name.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::canonical_name;

    #[test]
    fn only_iana_names() {
        assert_eq!(canonical_name("europe/BERLIN"), Some("Europe/Berlin"));
        assert_eq!(canonical_name("utc"), Some("UTC"));
        for bad in ["", "CEST", "<+03>-3", "+02", "EST5", "Europe/Berlin ", "posix/UTC", "Mars/Base"] {
            assert_eq!(canonical_name(bad), None, "{bad}");
        }
    }
}
