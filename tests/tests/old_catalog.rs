//! This library over the catalog of 0.1.1, as it is between the installation of the files and ALTER EXTENSION UPDATE. The
//! functions that ask are SECURITY DEFINER there, so the outer user decides as before; but nobody is anybody in maintenance.

use llm_analytics_tests::cluster::install_releases;
use llm_analytics_tests::db::{Db, Role, refused, run, text};
use postgres::Client;

const VERSION: &str = "0.1.1";

fn requests(client: &mut Client) -> String {
    text(client, "SELECT coalesce(sum(requests), 0) FROM llm.usage")
}

#[test]
fn the_outer_user_decides_until_the_update() {
    install_releases();
    let db = Db::bare("old_catalog");
    let roles = ["bound", "plain", "backend"].map(|tag| Role::new(&db.server, tag));
    let [bound, plain, backend] = roles.each_ref().map(|role| role.name.as_str());
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            "CREATE EXTENSION llm_analytics VERSION '{VERSION}';
             CREATE TABLE log (created_at timestamptz, organization_id text, api_key_id text, model text, cost numeric)"
        ),
    );
    run(&mut client, "SELECT llm.attach_log('log')");
    run(
        &mut client,
        "INSERT INTO log SELECT now(), o, 'k', 'm', 1 FROM unnest('{acme,acme,rival}'::text[]) o;
         INSERT INTO llm.organization VALUES ('acme', 'Acme'), ('rival', 'Rival'); INSERT INTO llm.membership VALUES ('acme', 'ada', 'owner')",
    );
    run(&mut client, &format!("SELECT llm.bind_role('{bound}', 'ada'); GRANT EXECUTE ON FUNCTION llm.act_as TO {backend}"));
    assert_eq!(requests(&mut client), "3");
    let mut asker = db.connect_as(bound);
    assert_eq!((text(&mut asker, "SELECT llm.current_user_id()"), requests(&mut asker)), ("ada".into(), "2".into()));
    let page = "SELECT llm.analytics_activity('acme')->'summary'->>'requestCount'";
    assert_eq!(text(&mut asker, page), "2");
    let mut asker = db.connect_as(plain);
    assert_eq!(requests(&mut asker), "0", "nobody gets no rows, as before");
    assert_eq!(refused(&mut asker, page).state, "28000");
    let mut asker = db.connect_as(backend);
    run(&mut asker, "BEGIN; SELECT llm.act_as('ada')");
    assert_eq!((requests(&mut asker), text(&mut asker, page)), ("2".into(), "2".into()));
    run(&mut asker, "COMMIT");
    assert_eq!(refused(&mut db.connect_as(bound), "SELECT llm.act_as('eve')").state, "42501");
    // In maintenance nobody is anybody, the bound role neither.
    for role in [plain, bound] {
        run(
            &mut client,
            &format!(
                "CREATE SCHEMA {role} AUTHORIZATION {role}; SET ROLE {role}; SET search_path = {role};
                 CREATE TABLE saw (said text);
                 CREATE FUNCTION ask() RETURNS void LANGUAGE plpgsql AS $$ DECLARE said text; BEGIN
                     BEGIN said := (SELECT sum(requests) FROM llm.usage); EXCEPTION WHEN OTHERS THEN said := sqlstate; END;
                     INSERT INTO {role}.saw VALUES (said); END $$;
                 CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM {role}.ask(); RETURN x; END $$;
                 CREATE TABLE t (x int); INSERT INTO t VALUES (1); CREATE INDEX ON t (f(x)); TRUNCATE saw;
                 RESET ROLE; RESET search_path; ANALYZE {role}.t"
            ),
        );
        assert_eq!(text(&mut client, &format!("SELECT string_agg(DISTINCT said, ' ') FROM {role}.saw")), "28000", "{role}");
    }
    let refusal = refused(&mut db.connect_as(bound), &format!("CREATE MATERIALIZED VIEW {bound}.v AS SELECT * FROM llm.usage"));
    assert!(refusal.state == "28000" && refusal.hint.contains("ALTER EXTENSION"), "{refusal:?}");
    drop(db);
}
