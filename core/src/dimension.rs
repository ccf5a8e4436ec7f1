//! The dimensions of a request, and the one way their text is read.

/// The dimensions below the organization, in the order of the columns of `llm._pending` and `llm.series`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(usize)]
pub enum Dimension {
    Project,
    ApiKey,
    User,
    Mapping,
    Provider,
    Application,
    Mode,
}

use Dimension::{ApiKey, Application, Mapping, Mode, Project, Provider, User};

impl Dimension {
    pub const ALL: [Dimension; 7] = [Project, ApiKey, User, Mapping, Provider, Application, Mode];

    /// The column that holds it.
    pub fn column(self) -> &'static str {
        match self {
            Project => "project_id",
            ApiKey => "api_key_id",
            User => "user_id",
            Mapping => "mapping",
            Provider => "provider",
            Application => "application",
            Mode => "mode",
        }
    }
}

/// Bytes of a dimension that are kept as they are.
pub const MAX_BYTES: usize = 200;

/// What stands for an organization where the log has none.
pub const UNKNOWN_ORGANIZATION: &str = "unknown";

/// The text of a dimension as it is kept: at most [`MAX_BYTES`] bytes as they are; longer ones are cut at a character and get
/// `#` and the 64-bit FNV-1a hash of the whole, so that two long names that begin alike stay two.
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
pub fn bounded(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MAX_BYTES {
        return text.into();
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    let suffix = format!("#{hash:016x}");
    let mut end = MAX_BYTES - suffix.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &text[..end]).into()
}

/// Whether a text may be what [`bounded`] made of a longer one.
pub fn is_clipped(text: &str) -> bool {
    let hash = text.as_bytes().iter().rev().take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
    text.len() <= MAX_BYTES && text.len() + 4 > MAX_BYTES && hash >= 16 && text.as_bytes()[text.len() - 17] == b'#'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_stays_distinct() {
        assert_eq!(bounded(&"a".repeat(200)), "a".repeat(200));
        let (one, two) = ("é".repeat(150), format!("{}x", "é".repeat(150)));
        let (cut_one, cut_two) = (bounded(&one), bounded(&two));
        assert!(cut_one.len() <= MAX_BYTES && cut_one != cut_two);
        assert_eq!(cut_one.split('#').next().unwrap(), "é".repeat(91));
        assert!(is_clipped(&cut_one) && is_clipped(&cut_two) && bounded(&cut_one) == cut_one);
        assert!(is_clipped(&bounded(&"😀".repeat(51))) && is_clipped(&bounded(&"f".repeat(201))));
        assert!(!is_clipped("") && !is_clipped("#0123456789abcdef") && !is_clipped(&"f".repeat(200)));
    }

    #[test]
    fn order_is_that_of_the_discriminants() {
        for (at, dimension) in Dimension::ALL.into_iter().enumerate() {
            assert_eq!(dimension as usize, at);
        }
    }
}
