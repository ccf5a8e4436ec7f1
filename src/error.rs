//! The one error of the extension: each with its SQLSTATE, DETAIL and HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// An error for the caller. Messages are in PostgreSQL's style and never hold the content of a row.
#[derive(Debug)]
pub struct Error {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), detail: None, hint: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    pub fn code(&self) -> PgSqlErrorCode {
        self.code
    }

    /// What went wrong, as another error's detail shows it.
    pub fn message(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.message)
    }

    /// 22023: an argument that is not among what is allowed.
    pub fn argument(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).hint(hint)
    }

    /// 22004: a NULL where a value is needed.
    pub fn null(argument: &str) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{argument}\" must not be null"))
    }

    /// 40001, as PostgreSQL says it.
    pub fn serialization(what: &str) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, format!("could not serialize access due to concurrent {what}"))
    }

    /// XX000: what cannot happen.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
    }
}

/// Whether an error says nothing of what was evaluated: the statement was canceled, or a lock, memory or space was not to be had. Such an
/// error is passed on as it is, so that a retry loop knows it.
pub fn is_of_the_server(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    [
        ERRCODE_QUERY_CANCELED,
        ERRCODE_ADMIN_SHUTDOWN,
        ERRCODE_CRASH_SHUTDOWN,
        ERRCODE_T_R_SERIALIZATION_FAILURE,
        ERRCODE_T_R_DEADLOCK_DETECTED,
        ERRCODE_LOCK_NOT_AVAILABLE,
        ERRCODE_OUT_OF_MEMORY,
        ERRCODE_DISK_FULL,
        ERRCODE_IO_ERROR,
    ]
    .contains(&code)
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Error {
        Error::internal(format!("SPI: {error}"))
    }
}

impl From<llm_analytics_core::delta::Overflow> for Error {
    fn from(_: llm_analytics_core::delta::Overflow) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "sum of a request log's measures is out of range")
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        let mut report = ErrorReport::new(error.code, error.message, "llm_analytics");
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

/// Raises the error: for functions that PostgreSQL calls without pgrx's wrapper.
pub fn raise_or<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            ErrorReport::from(error).report(PgLogLevel::ERROR);
            unreachable!("an ERROR does not return")
        }
    }
}
