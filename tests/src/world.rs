//! A few organizations with every kind of member, on every plan, for the tests of who may see what.
//!
//! The truth is always in LLM Gateway's tables (`public.organization`, ..), whether they are attached or copied to the
//! shipped directories. Everything of an organization has its id in its own id and in its name, so that a leak shows.

use crate::db::{Db, Refusal, Role, Server, quote, refusal, run};
use crate::hosts;
use postgres::Client;

/// Who and what there is: five organizations with the same projects, keys and creators. Only riv is a member of rival.
const PEOPLE: &str = r#"
    INSERT INTO public.organization (id, name, plan, status) VALUES
        ('acme', 'Name of acme', 'enterprise', 'active'), ('proco', 'Name of proco', 'pro', 'active'), ('freeco', 'Name of freeco', 'free', 'active'),
        ('ghost', 'Name of ghost', 'enterprise', 'deleted'), ('rival', 'Name of rival', 'enterprise', 'active');
    INSERT INTO public."user" (id, name, email)
        SELECT u, 'Name of user ' || u, u || '@example.com' FROM unnest('{own,adm,dev,dev2,out,riv}'::text[]) u;
    INSERT INTO public."user" VALUES ('rivaldev', 'Name of rivaldev', 'rivaldev@example.com');
    INSERT INTO public.user_organization (user_id, organization_id, role)
        SELECT u, o, r FROM unnest('{own,adm,dev,dev2}'::text[], '{owner,admin,developer,developer}'::text[]) m(u, r),
            unnest('{acme,proco,freeco,ghost}'::text[]) o
        UNION ALL VALUES ('riv', 'rival', 'owner'), ('rivaldev', 'rival', 'developer');
    INSERT INTO public.project (id, name, organization_id, status)
        SELECT o.id || '_' || p, 'Project ' || p || ' of ' || o.id, o.id, CASE p WHEN 'pd' THEN 'deleted' ELSE 'active' END
        FROM public.organization o, unnest('{p1,p2,pd}'::text[]) p;
    INSERT INTO public.api_key (id, description, project_id, status, created_by)
        SELECT o.id || '_' || k, 'Key ' || k || ' of ' || o.id, o.id || '_' || p, CASE k WHEN 'ka' THEN 'inactive' ELSE 'active' END, u
        FROM public.organization o, (VALUES ('ko', 'p1', 'own'), ('ka', 'p1', 'adm'), ('kd', 'p1', 'dev'), ('kd2', 'p2', 'dev2'), ('kx', 'pd', 'dev'), ('kn', 'p2', NULL)) v(k, p, u);"#;

const SHIPPED: &str = r#"
    INSERT INTO llm.organization (id, name, plan, status) SELECT id, name, plan, status FROM public.organization;
    INSERT INTO llm.project (id, organization_id, name, status) SELECT id, organization_id, name, status FROM public.project;
    INSERT INTO llm.api_key (id, project_id, label, user_id, status) SELECT id, project_id, description, created_by, status FROM public.api_key;
    INSERT INTO llm.app_user (id, name, email) SELECT id, name, email FROM public."user";
    INSERT INTO llm.membership (organization_id, user_id, role) SELECT organization_id, user_id, role FROM public.user_organization;"#;

/// Money in quarters, so that `real` has it exactly.
fn traffic(day: &str, copies: u32) -> String {
    format!(
        "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, source, used_mode,
            prompt_tokens, completion_tokens, total_tokens, cost, has_error, cached)
         SELECT '{day}' || k.id || c, '{day} 12:00', p.organization_id, p.id, k.id, 'openai/gpt-5.5', 'openai', 'Chat ' || p.organization_id, 'credits',
            10, 5, 15, 0.25 * row_number() OVER (ORDER BY k.id), c = 1, c = 2
         FROM public.api_key k JOIN public.project p ON p.id = k.project_id, generate_series(1, {copies}) c"
    )
}

/// The rows of the log that a user may see in `llm.usage`, as section 6 of the design says.
pub fn visible(user: &str) -> String {
    format!(
        "(SELECT l.* FROM public.log l
          JOIN public.organization o ON o.id = l.organization_id AND o.status <> 'deleted'
          JOIN public.user_organization m ON m.organization_id = o.id AND m.user_id = {u}
          LEFT JOIN public.api_key k ON k.id = l.api_key_id
          WHERE (m.role IN ('owner', 'admin') AND o.plan = 'enterprise') OR k.created_by = {u})",
        u = quote(user)
    )
}

/// Dropped in this order: the database goes before the roles that have rights in it.
pub struct World {
    pub client: Client,
    pub db: Db,
    roles: Vec<Role>,
}

impl World {
    /// With the host's directories attached, or with the shipped ones filled. Two days of traffic: one folded, one pending.
    pub fn new(tag: &str, shipped: bool) -> World {
        World::on(Server::from_env(), tag, shipped)
    }

    pub fn on(server: Server, tag: &str, shipped: bool) -> World {
        let db = Db::new_on(server, tag);
        let mut client = db.connect();
        run(&mut client, hosts::GATEWAY);
        run(&mut client, hosts::GATEWAY_DIRECTORIES);
        run(&mut client, PEOPLE);
        run(&mut client, if shipped { SHIPPED } else { hosts::ATTACH_GATEWAY_DIRECTORIES });
        run(&mut client, "SELECT llm.attach_log('public.log')");
        run(&mut client, &traffic("2026-06-01", 2));
        run(&mut client, "SELECT llm.fold()");
        run(&mut client, &traffic("2026-06-02", 1));
        World { client, db, roles: Vec::new() }
    }

    /// An ordinary login role.
    pub fn role(&mut self, tag: &str) -> String {
        let role = Role::new(&self.db.server, tag);
        let name = role.name.clone();
        self.roles.push(role);
        name
    }

    /// A role that is this user.
    pub fn bound_role(&mut self, user: &str) -> String {
        let role = self.role(user);
        run(&mut self.client, &format!("SELECT llm.bind_role({}, {})", quote(&role), quote(user)));
        role
    }

    pub fn bound(&mut self, user: &str) -> Caller {
        let role = self.bound_role(user);
        self.caller(&role, None)
    }

    /// A role that may say for whom it acts.
    pub fn backend_role(&mut self) -> String {
        let role = self.role("backend");
        run(&mut self.client, &format!("GRANT EXECUTE ON FUNCTION llm.act_as TO {role}"));
        role
    }

    pub fn acting(&mut self, user: &str) -> Caller {
        let role = self.backend_role();
        self.caller(&role, Some(user))
    }

    pub fn nobody(&mut self) -> Caller {
        let role = self.role("nobody");
        self.caller(&role, None)
    }

    /// Nobody, who may create in a schema of their own, named as the role is, and nothing else.
    pub fn creator(&mut self) -> Caller {
        let role = self.role("creator");
        run(
            &mut self.client,
            &format!("CREATE SCHEMA {role}; GRANT USAGE, CREATE ON SCHEMA {role} TO {role}; GRANT USAGE ON SCHEMA {role} TO PUBLIC"),
        );
        self.caller(&role, None)
    }

    pub fn caller(&self, role: &str, acts_as: Option<&str>) -> Caller {
        Caller { client: self.db.connect_as(role), role: role.to_owned(), acts_as: acts_as.map(str::to_owned) }
    }

    pub fn superuser(&self) -> Caller {
        Caller { client: self.db.connect(), role: self.db.server.user.clone(), acts_as: None }
    }
}

/// Somebody who asks.
pub struct Caller {
    pub client: Client,
    pub role: String,
    pub acts_as: Option<String>,
}

impl Caller {
    /// The rows of a query as text, or how it was refused. Whoever acts for a user says so anew in each transaction.
    pub fn try_rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, Refusal> {
        if let Some(user) = &self.acts_as {
            run(&mut self.client, &format!("BEGIN; SELECT llm.act_as({})", quote(user)));
        }
        let result = self.client.simple_query(sql);
        if self.acts_as.is_some() {
            run(&mut self.client, "ROLLBACK");
        }
        let messages = result.map_err(|error| refusal(&error))?;
        let row = |message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.try_rows(sql).unwrap_or_else(|refusal| panic!("{} ({:?}): {sql}\n{refusal:?}", self.role, self.acts_as))
    }

    pub fn text(&mut self, sql: &str) -> String {
        self.rows(sql).pop().and_then(|mut row| row.pop()).unwrap_or_else(|| panic!("no row: {sql}"))
    }

    pub fn refused(&mut self, sql: &str) -> Refusal {
        match self.try_rows(sql) {
            Ok(rows) => panic!("{} ({:?}) should have been refused: {sql}\n{rows:?}", self.role, self.acts_as),
            Err(refusal) => refusal,
        }
    }

    pub fn json(&mut self, sql: &str) -> serde_json::Value {
        let answer = self.text(sql);
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("not JSON ({e}): {answer}"))
    }
}
