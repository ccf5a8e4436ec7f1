//! The pages of one project and of one API key.

use crate::access::{self, Reach};
use crate::api::answer::{date, json};
use crate::api::arguments::{Days, ModelView, required, required_id};
use crate::breakdown::{Breakdown, Day, Entry, total};
use crate::directory::Directories;
use crate::error::Result;
use crate::identity::{self, Asker};
use crate::read::{self, Asked, Filter, Totals};
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;

#[derive(Serialize)]
struct ProjectHead {
    id: String,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeyHead {
    id: String,
    label: String,
    project_id: Option<String>,
    created_by: Option<String>,
}

/// A page; one of the heads is there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectHead>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<ApiKeyHead>,
    model_view: &'static str,
    from: String,
    to: String,
    timezone: &'static str,
    incomplete_before: Option<String>,
    summary: Totals,
    cost_by_model: Vec<Entry>,
    activity: Vec<Day>,
}

/// What both pages are asked.
struct Question {
    org: String,
    id: String,
    view: ModelView,
    days: Days,
}

impl Question {
    fn parse(
        org: Option<String>,
        id: (&str, Option<String>),
        from: Option<Date>,
        to: Option<Date>,
        tz: Option<String>,
        model_view: Option<String>,
    ) -> Result<Question> {
        let org = required_id("org", org)?;
        let id = required_id(id.0, id.1)?;
        let tz = required("tz", tz)?;
        let view = required("model_view", model_view)?;
        let days = Days::parse(from, to, &tz)?;
        Ok(Question { org, id, view: ModelView::parse(&view)?, days })
    }

    fn page(&self, directories: &Directories, filter: &Filter, head: (Option<ProjectHead>, Option<ApiKeyHead>)) -> Result<String> {
        let dimensions = self.view.group_by.dimensions();
        let groups = read::groups(&Asked { organization: &self.org, starts: &self.days.starts()?, filter, dimensions })?;
        let models = Breakdown::new(directories, &groups, dimensions, self.view.group_by)?;
        json(&Page {
            project: head.0,
            api_key: head.1,
            model_view: self.view.name,
            from: date(self.days.range.from),
            to: date(self.days.range.to),
            timezone: self.days.zone.name,
            incomplete_before: read::incomplete_before(&self.days.zone, self.days.today)?.map(date),
            summary: total(&groups)?,
            cost_by_model: models.entries()?,
            activity: models.days(&self.days.range)?,
        })
    }
}

#[pg_extern(sql = false)]
fn llm_analytics_project(
    org: Option<String>,
    project: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    model_view: Option<String>,
) -> std::result::Result<Option<String>, ErrorReport> {
    let answer = identity::asked(|asker| project_page(asker, &Question::parse(org, ("project", project), from, to, tz, model_view)?))?;
    Ok(Some(answer))
}

fn project_page(asker: &Asker, question: &Question) -> Result<String> {
    let directories = Directories::load()?;
    let reach = access::require_member(asker, &directories, &question.org)?;
    let mut filter = Filter { project: Some(question.id.clone()), ..Filter::default() };
    let known = directories.projects(std::slice::from_ref(&question.id))?.remove(&question.id).unwrap_or_default();
    // '' is no project: what the usage without one is, activity tells.
    if question.id.is_empty() {
        return Err(access::not_found("project"));
    }
    let is_known = known.organization.as_deref() == Some(&question.org) || read::is_used(&question.org, &filter)?;
    match reach {
        Reach::All if !is_known => return Err(access::not_found("project")),
        Reach::All => {}
        Reach::OwnKeys(user) => filter.keys = Some(directories.keys_of(&user)?),
    }
    // The name of a project of another organization is nobody's business here.
    let name = known.name.filter(|_| is_known).unwrap_or_else(|| question.id.clone());
    let head = ProjectHead { id: question.id.clone(), name };
    question.page(&directories, &filter, (Some(head), None))
}

#[pg_extern(sql = false)]
fn llm_analytics_api_key(
    org: Option<String>,
    api_key: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    tz: Option<String>,
    model_view: Option<String>,
) -> std::result::Result<Option<String>, ErrorReport> {
    let answer = identity::asked(|asker| api_key_page(asker, &Question::parse(org, ("api_key", api_key), from, to, tz, model_view)?))?;
    Ok(Some(answer))
}

fn api_key_page(asker: &Asker, question: &Question) -> Result<String> {
    let directories = Directories::load()?;
    let reach = access::require_member(asker, &directories, &question.org)?;
    let filter = Filter { keys: Some(vec![question.id.clone()]), ..Filter::default() };
    let known = directories.api_keys(std::slice::from_ref(&question.id))?.remove(&question.id).unwrap_or_default();
    let is_own = |user: &String| known.owner.as_ref() == Some(user);
    if let Reach::OwnKeys(user) = &reach
        && !is_own(user)
    {
        return Err(access::not_your_key());
    }
    let of_organization = match &known.project {
        Some(project) => {
            let projects = directories.projects(std::slice::from_ref(project))?;
            projects.get(project).is_some_and(|project| project.organization.as_deref() == Some(&question.org))
        }
        None => false,
    };
    if question.id.is_empty() || !of_organization && !read::is_used(&question.org, &filter)? {
        return Err(match reach {
            Reach::All => access::not_found("API key"),
            Reach::OwnKeys(_) => access::not_your_key(),
        });
    }
    let head = ApiKeyHead {
        label: known.label.unwrap_or_else(|| question.id.clone()),
        id: question.id.clone(),
        project_id: known.project,
        created_by: known.owner,
    };
    question.page(&directories, &filter, (None, Some(head)))
}
