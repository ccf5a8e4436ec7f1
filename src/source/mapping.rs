//! A mapping: which column or expression each canonical field is read from. Kept by name in `llm.source.columns`.

use crate::error::{Error, Result};
use crate::source::expression::Checked;
use llm_analytics_core::field::{self, Field};
use pgrx::spi::quote_identifier;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a field comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    Column {
        column: String,
        /// Its number when the name was last looked up: how a rename is followed.
        attnum: i16,
        /// Its type then: another type may have changed the values.
        #[serde(rename = "type", default)]
        type_name: String,
    },
    Expression {
        /// Deparsed and qualified.
        expression: String,
        /// The columns it reads, by name, with their numbers as above.
        columns: BTreeMap<String, i16>,
        /// Their types, in the order of their names.
        #[serde(default)]
        types: Vec<String>,
    },
}

impl From<Checked> for Origin {
    fn from(checked: Checked) -> Origin {
        Origin::Expression { expression: checked.sql, columns: checked.columns, types: checked.types }
    }
}

impl Origin {
    /// As SQL over the row.
    pub fn sql(&self) -> String {
        match self {
            Origin::Column { column, .. } => quote_identifier(column),
            Origin::Expression { expression, .. } => format!("({expression})"),
        }
    }
}

impl Origin {
    /// The types of what it reads, when they were last looked up.
    pub fn types(&self) -> &[String] {
        match self {
            Origin::Column { type_name, .. } => std::slice::from_ref(type_name),
            Origin::Expression { types, .. } => types,
        }
    }
}

/// The mapped fields, in the order of [`field::FIELDS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping(pub Vec<(Field, Origin)>);

impl Mapping {
    pub fn from_json(columns: &Value) -> Result<Mapping> {
        let broken = || Error::internal("llm.source.columns is not a mapping");
        let columns = columns.as_object().ok_or_else(broken)?;
        let mut fields = Vec::with_capacity(columns.len());
        for known in field::FIELDS {
            if let Some(origin) = columns.get(known.name) {
                fields.push((known, serde_json::from_value(origin.clone()).map_err(|_| broken())?));
            }
        }
        Ok(Mapping(fields))
    }

    pub fn to_json(&self) -> Result<Value> {
        let mut columns = serde_json::Map::new();
        for (known, origin) in &self.0 {
            let origin = serde_json::to_value(origin).map_err(|error| Error::internal(error.to_string()))?;
            columns.insert(known.name.into(), origin);
        }
        Ok(Value::Object(columns))
    }

    /// What `created_at` is read from.
    pub fn created_at(&self) -> Result<&Origin> {
        self.0
            .iter()
            .find(|(known, _)| known.name == "created_at")
            .map(|(_, origin)| origin)
            .ok_or_else(|| Error::internal("created_at is not mapped"))
    }
}
