//! Every endpoint as one row of a table: its path, the SQL function that answers, and what its parameters are called in either. The router,
//! the SQL and the OpenAPI document follow from it.

use crate::State;
use crate::answer::{Failure, Rows, csv, wants_csv, with_type};
use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Endpoint {
    pub path: &'static str,
    pub summary: &'static str,
    pub function: &'static str,
    pub parameters: &'static [Parameter],
    /// What CSV shows of the answer; None where it is no table and stays JSON.
    pub rows: Option<Rows>,
}

#[derive(Clone, Copy)]
pub struct Parameter {
    pub name: &'static str,
    /// Of the SQL function.
    argument: &'static str,
    pub form: Form,
    pub place: Place,
    pub description: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Date,
    Count,
    GroupBy,
    ModelView,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Path,
    Required,
    Optional,
}

const fn parameter(name: &'static str, argument: &'static str, form: Form, place: Place, description: &'static str) -> Parameter {
    Parameter { name, argument, form, place, description }
}

const ORGANIZATION: Parameter = parameter("organizationId", "org", Form::Text, Place::Required, "the organization's id");
const FROM: Parameter = parameter("from", "from", Form::Date, Place::Optional, "first local day; without both dates: the last 7 days");
const TO: Parameter = parameter("to", "to", Form::Date, Place::Optional, "last local day, inclusive");
const ZONE: Parameter = parameter("timezone", "tz", Form::Text, Place::Optional, "IANA time zone of the days; UTC where it is left out");
const MODEL_VIEW: Parameter =
    parameter("modelView", "model_view", Form::ModelView, Place::Optional, "models as routed, or by canonical name");

pub static ENDPOINTS: [Endpoint; 11] = [
    Endpoint {
        path: "/analytics/activity",
        summary: "Usage of an organization by day and by model, project, key, member, provider, application or mode",
        function: "analytics_activity",
        parameters: &[
            ORGANIZATION,
            parameter("groupBy", "group_by", Form::GroupBy, Place::Optional, "what it is grouped by; model where it is left out"),
            FROM,
            TO,
            ZONE,
            parameter("projectId", "project", Form::Text, Place::Optional, "only this project"),
            parameter("apiKeyId", "api_key", Form::Text, Place::Optional, "only this API key"),
            parameter("userId", "user_id", Form::Text, Place::Optional, "only this member"),
            parameter("top", "top", Form::Count, Place::Optional, "so many entries; the rest becomes one, \"Other\""),
        ],
        rows: Some(Rows::Days),
    },
    Endpoint {
        path: "/analytics/members",
        summary: "The members table",
        function: "analytics_members",
        parameters: &[ORGANIZATION, FROM, TO, ZONE],
        rows: Some(Rows::Of("members")),
    },
    Endpoint {
        path: "/analytics/members/{userId}",
        summary: "The page of one member",
        function: "analytics_member",
        parameters: &[
            ORGANIZATION,
            parameter("userId", "user_id", Form::Text, Place::Path, "the member's user id"),
            FROM,
            TO,
            ZONE,
            MODEL_VIEW,
        ],
        rows: Some(Rows::Of("costByModel")),
    },
    Endpoint {
        path: "/analytics/me",
        summary: "The caller's own usage",
        function: "analytics_me",
        parameters: &[ORGANIZATION, FROM, TO, ZONE, MODEL_VIEW],
        rows: Some(Rows::Of("costByModel")),
    },
    Endpoint {
        path: "/analytics/projects/{id}",
        summary: "The page of one project",
        function: "analytics_project",
        parameters: &[ORGANIZATION, parameter("id", "project", Form::Text, Place::Path, "the project's id"), FROM, TO, ZONE, MODEL_VIEW],
        rows: Some(Rows::Of("costByModel")),
    },
    Endpoint {
        path: "/analytics/api-keys/{id}",
        summary: "The page of one API key",
        function: "analytics_api_key",
        parameters: &[ORGANIZATION, parameter("id", "api_key", Form::Text, Place::Path, "the key's id"), FROM, TO, ZONE, MODEL_VIEW],
        rows: Some(Rows::Of("costByModel")),
    },
    Endpoint {
        path: "/analytics/drivers",
        summary: "Why the bill changed against the range before",
        function: "analytics_drivers",
        parameters: &[
            ORGANIZATION,
            FROM,
            TO,
            ZONE,
            parameter("compareFrom", "compare_from", Form::Date, Place::Optional, "first day to compare with"),
            parameter("compareTo", "compare_to", Form::Date, Place::Optional, "last day to compare with"),
        ],
        rows: Some(Rows::Groups("drivers", "dimension")),
    },
    Endpoint {
        path: "/access",
        summary: "What the caller may open, and why not",
        function: "access",
        parameters: &[ORGANIZATION],
        rows: None,
    },
    Endpoint {
        path: "/organizations",
        summary: "The organizations the caller belongs to",
        function: "analytics_organizations",
        parameters: &[],
        rows: Some(Rows::Of("organizations")),
    },
    Endpoint {
        path: "/projects",
        summary: "The projects the caller may open",
        function: "analytics_projects",
        parameters: &[ORGANIZATION],
        rows: Some(Rows::Of("projects")),
    },
    Endpoint {
        path: "/api-keys",
        summary: "The API keys the caller may open",
        function: "analytics_api_keys",
        parameters: &[ORGANIZATION, parameter("projectId", "project", Form::Text, Place::Optional, "only of this project")],
        rows: Some(Rows::Of("apiKeys")),
    },
];

impl Endpoint {
    /// The statement for the parameters that were given, and its arguments. Names come from the table above, values are arguments.
    fn question(&self, mut given: BTreeMap<String, String>) -> Result<(String, Vec<String>), Failure> {
        let mut arguments = Vec::new();
        let mut list = Vec::new();
        for parameter in self.parameters {
            let Some(value) = given.remove(parameter.name) else {
                if parameter.place == Place::Required {
                    return Err(Failure::request(format!("{} is missing", parameter.name), self.hint()));
                }
                continue;
            };
            arguments.push(value);
            let cast = match parameter.form {
                Form::Date => "::text::date",
                Form::Count => "::text::int",
                _ => "::text",
            };
            list.push(format!("\"{}\" => ${}{cast}", parameter.argument, arguments.len()));
        }
        if let Some(name) = given.into_keys().next() {
            return Err(Failure::request(format!("unknown parameter {name:.60}"), self.hint()));
        }
        Ok((format!("SELECT llm.{}({})::text", self.function, list.join(", ")), arguments))
    }

    fn hint(&self) -> String {
        let names: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name).collect();
        format!("Parameters: {}.", names.join(", "))
    }
}

type Pairs = Vec<(String, String)>;

pub async fn handle(
    endpoint: &'static Endpoint,
    extract::State(state): extract::State<Arc<State>>,
    path: Result<extract::Path<Pairs>, extract::rejection::PathRejection>,
    query: Result<extract::Query<Pairs>, extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let user = state.tokens.user(&headers)?;
    let malformed = |_| Failure::request("the request's parameters cannot be read", "Percent-encode them as UTF-8.");
    let (path, query) = (path.map_err(|error| malformed(error.to_string()))?.0, query.map_err(|error| malformed(error.to_string()))?.0);
    let mut given = BTreeMap::new();
    for (name, value) in path.into_iter().chain(query) {
        if given.insert(name.clone(), value).is_some() {
            return Err(Failure::request(format!("{name:.60} is given twice"), endpoint.hint()));
        }
    }
    let (sql, arguments) = endpoint.question(given)?;
    let answer = state.database.ask(&user, &sql, &arguments).await?;
    if let Some(rows) = endpoint.rows.filter(|_| wants_csv(&headers)) {
        let table = csv(&answer, rows).map_err(|error| {
            eprintln!("llm-dashboard: {error}");
            Failure::unavailable()
        })?;
        return Ok(with_type("text/csv; charset=utf-8; header=present", table));
    }
    Ok(with_type("application/json", answer))
}
