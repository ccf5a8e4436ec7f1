-- Row-level security for plain SELECTs. Each comparison is with an array that is computed once per query (an InitPlan, because the
-- subquery refers to nothing outside), so the index range of the organization is used, and a plan that was prepared under one identity is
-- right under the next. Closed by default: nobody has empty arrays.
-- "(..)::int <> 0" is "(..)" with a guess of the planner's that nearly all rows pass, which is true of what the first comparison left: guesses
-- that multiply would end in nested loops over everything (NULL still passes nothing). Tables without a policy here are for the extension's owner only.

DO $$
DECLARE
    -- Coarser levels mix the keys of many: the series of one's own keys are in the levels detail and key only.
    rollup CONSTANT text := $policy$
        org = ANY ((SELECT s.orgs FROM llm._scope() s)::int[])
        AND (org = ANY ((SELECT s.whole FROM llm._scope() s)::int[]) OR series = ANY ((SELECT s.series FROM llm._scope() s)::int[]))::int <> 0$policy$;
    object text;
BEGIN
    FOR object IN SELECT m.relid::regclass::text FROM pg_partition_tree('llm.rollup') m LOOP
        EXECUTE format('CREATE POLICY readers ON %s FOR SELECT USING (%s)', object, rollup);
    END LOOP;
END
$$;

CREATE POLICY readers ON llm.series FOR SELECT USING (
    org = ANY ((SELECT s.orgs FROM llm._scope() s)::int[])
    AND (org = ANY ((SELECT s.whole FROM llm._scope() s)::int[])
         OR (level IN (0, 3) AND api_key_id = ANY ((SELECT s.keys FROM llm._scope() s)::text[])))::int <> 0);

CREATE POLICY readers ON llm._org FOR SELECT USING ((org = ANY ((SELECT s.orgs FROM llm._scope() s)::int[]))::int <> 0);

-- Whoever sees everything has no list of ids, which would cost a scan of all that is pending.
-- "::int = 1" lets the planner guess that few rows pass by that, so that its estimate is the one of
-- the list.
CREATE POLICY readers ON llm._pending FOR SELECT USING (
    ((SELECT s.everything FROM llm._scope() s)::int = 1 OR organization_id = ANY ((SELECT s.org_ids FROM llm._scope() s)::text[]))
    AND ((SELECT s.everything FROM llm._scope() s) OR organization_id = ANY ((SELECT s.whole_ids FROM llm._scope() s)::text[])
         OR api_key_id = ANY ((SELECT s.keys FROM llm._scope() s)::text[]))::int <> 0);

CREATE POLICY readers ON llm.organization FOR SELECT USING (
    (SELECT s.everything FROM llm._scope() s) OR id = ANY ((SELECT s.org_ids FROM llm._scope() s)::text[]));

CREATE POLICY readers ON llm.project FOR SELECT USING (
    (SELECT s.everything FROM llm._scope() s) OR organization_id = ANY ((SELECT s.org_ids FROM llm._scope() s)::text[]));

CREATE POLICY readers ON llm.membership FOR SELECT USING (
    (SELECT s.everything FROM llm._scope() s) OR user_id = (SELECT llm.current_user_id())
    OR organization_id = ANY ((SELECT s.whole_ids FROM llm._scope() s)::text[]));

CREATE POLICY readers ON llm.app_user FOR SELECT USING (
    (SELECT s.everything FROM llm._scope() s) OR id = (SELECT llm.current_user_id())
    OR id = ANY ((SELECT ARRAY(SELECT m.user_id FROM llm.membership m
                               WHERE m.organization_id = ANY ((SELECT s.whole_ids FROM llm._scope() s)::text[])))::text[]));

CREATE POLICY readers ON llm.api_key FOR SELECT USING (
    (SELECT s.everything FROM llm._scope() s)
    -- llm.project shows those of the organizations one belongs to.
    OR (user_id = (SELECT llm.current_user_id()) AND (project_id IS NULL OR project_id = ANY ((SELECT ARRAY(SELECT p.id FROM llm.project p))::text[])))
    OR project_id = ANY ((SELECT ARRAY(SELECT p.id FROM llm.project p
                                       WHERE p.organization_id = ANY ((SELECT s.whole_ids FROM llm._scope() s)::text[])))::text[]));

CREATE POLICY readers ON llm.model_alias FOR SELECT USING (true);
