-- Views: usage for BI tools, status for DBAs.

-- The policies of the tables beneath do not apply to roles that bypass row security, and these may be
-- somebody nevertheless: a superuser that is bound, or a function of a superuser's that a bound role
-- calls. So the view itself has the condition too, on the series, of which there are few. Whoever the
-- policies apply to passes it for every row they left. "::int <> 0" is as in the policies.
CREATE VIEW llm.usage WITH (security_invoker = true, security_barrier = true) AS
SELECT u.bucket,
       u.organization_id,
       coalesce(o.label, u.organization_id) AS organization,
       nullif(u.project_id, '') AS project_id,
       coalesce(p.label, nullif(u.project_id, ''), 'Unattributed') AS project,
       nullif(u.api_key_id, '') AS api_key_id,
       coalesce(k.label, nullif(u.api_key_id, ''), 'Unattributed') AS api_key,
       coalesce(nullif(u.user_id, ''), k.owner) AS user_id,
       coalesce(a.label, nullif(u.user_id, ''), k.owner, 'Unattributed') AS user_name,
       nullif(coalesce(m.canonical, llm.canonical_model(u.mapping)), '') AS model,
       nullif(u.mapping, '') AS mapping,
       nullif(u.provider, '') AS provider,
       nullif(u.application, '') AS application,
       nullif(u.mode, '') AS mode,
       llm._count(u.measures, 0) AS requests,
       llm._count(u.measures, 1) AS errors,
       llm._count(u.measures, 2) AS client_errors,
       llm._count(u.measures, 3) AS cache_hits,
       llm._count(u.measures, 4) AS streamed,
       llm._count(u.measures, 5) AS canceled,
       llm._count(u.measures, 6) AS input_tokens,
       llm._count(u.measures, 7) AS output_tokens,
       llm._count(u.measures, 8) AS total_tokens,
       llm._count(u.measures, 9) AS reasoning_tokens,
       llm._count(u.measures, 10) AS cached_tokens,
       llm._count(u.measures, 11) AS cache_write_tokens,
       llm._count(u.measures, 12) AS duration_ms,
       llm._count(u.measures, 13) AS duration_count,
       llm._count(u.measures, 14) AS time_to_first_token_ms,
       llm._count(u.measures, 15) AS time_to_first_token_count,
       llm._amount(u.measures, 0) AS cost,
       llm._amount(u.measures, 1) AS input_cost,
       llm._amount(u.measures, 2) AS output_cost,
       llm._amount(u.measures, 3) AS cached_input_cost,
       llm._amount(u.measures, 4) AS request_cost
FROM (
    SELECT r.bucket, g.organization_id, s.project_id, s.api_key_id, s.user_id, s.mapping, s.provider, s.application, s.mode, r.measures
    FROM llm._rollup_detail r
    JOIN llm.series s ON s.id = r.series
    JOIN llm._org g ON g.org = r.org
    WHERE ((SELECT c.everything FROM llm._scope() c) OR s.org = ANY ((SELECT c.whole FROM llm._scope() c)::int[])
           OR s.id = ANY ((SELECT c.series FROM llm._scope() c)::int[]))::int <> 0
    UNION ALL
    SELECT n.bucket, n.organization_id, n.project_id, n.api_key_id, n.user_id, n.mapping, n.provider, n.application, n.mode, n.measures
    FROM llm._pending n
    WHERE n.kind = 0
      AND ((SELECT c.everything FROM llm._scope() c) OR n.organization_id = ANY ((SELECT c.whole_ids FROM llm._scope() c)::text[])
           OR (n.organization_id = ANY ((SELECT c.org_ids FROM llm._scope() c)::text[])
               AND n.api_key_id = ANY ((SELECT c.keys FROM llm._scope() c)::text[])))::int <> 0
) u
-- Grouped, so that the planner knows each id occurs once and leaves out the joins whose columns are not asked for.
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('organization') l GROUP BY l.id) o ON o.id = u.organization_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('project') l GROUP BY l.id) p ON p.id = u.project_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label, pg_catalog.min(l.owner) AS owner FROM llm._labels('api_key') l GROUP BY l.id) k ON k.id = u.api_key_id
LEFT JOIN (SELECT l.id, pg_catalog.min(l.label) AS label FROM llm._labels('user') l GROUP BY l.id) a ON a.id = coalesce(nullif(u.user_id, ''), k.owner)
LEFT JOIN llm.model_alias m ON m.mapping = u.mapping;
COMMENT ON VIEW llm.usage IS 'for BI tools: one row per bucket and series plus what is still pending, so rows are additive, not unique. date_trunc on bucket is right for days in every IANA time zone';
COMMENT ON COLUMN llm.usage.bucket IS 'start of the bucket (llm.bucket)';
COMMENT ON COLUMN llm.usage.organization_id IS 'organization';
COMMENT ON COLUMN llm.usage.organization IS 'its name, else its id';
COMMENT ON COLUMN llm.usage.project_id IS 'project, NULL where the usage has none';
COMMENT ON COLUMN llm.usage.project IS 'its name, its id, or Unattributed';
COMMENT ON COLUMN llm.usage.api_key_id IS 'API key, NULL where the usage has none';
COMMENT ON COLUMN llm.usage.api_key IS 'its label, its id, or Unattributed';
COMMENT ON COLUMN llm.usage.user_id IS 'the log''s user, else who created the API key';
COMMENT ON COLUMN llm.usage.user_name IS 'name, email or id of the user, or Unattributed';
COMMENT ON COLUMN llm.usage.model IS 'canonical model';
COMMENT ON COLUMN llm.usage.mapping IS 'model as routed';
COMMENT ON COLUMN llm.usage.provider IS 'provider';
COMMENT ON COLUMN llm.usage.application IS 'application';
COMMENT ON COLUMN llm.usage.mode IS 'credits or api-keys';
COMMENT ON COLUMN llm.usage.requests IS 'requests';
COMMENT ON COLUMN llm.usage.errors IS 'requests that failed; client errors not included';
COMMENT ON COLUMN llm.usage.client_errors IS 'requests refused because of the client';
COMMENT ON COLUMN llm.usage.cache_hits IS 'requests answered from the cache';
COMMENT ON COLUMN llm.usage.streamed IS 'streamed requests';
COMMENT ON COLUMN llm.usage.canceled IS 'canceled requests';
COMMENT ON COLUMN llm.usage.input_tokens IS 'input tokens';
COMMENT ON COLUMN llm.usage.output_tokens IS 'output tokens';
COMMENT ON COLUMN llm.usage.total_tokens IS 'total tokens, as logged, else input + output';
COMMENT ON COLUMN llm.usage.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.usage.cached_tokens IS 'cached input tokens';
COMMENT ON COLUMN llm.usage.cache_write_tokens IS 'tokens written to the cache';
COMMENT ON COLUMN llm.usage.duration_ms IS 'sum of durations, milliseconds';
COMMENT ON COLUMN llm.usage.duration_count IS 'requests that have a duration';
COMMENT ON COLUMN llm.usage.time_to_first_token_ms IS 'sum of times to the first token, milliseconds';
COMMENT ON COLUMN llm.usage.time_to_first_token_count IS 'requests that have a time to the first token';
COMMENT ON COLUMN llm.usage.cost IS 'cost, USD';
COMMENT ON COLUMN llm.usage.input_cost IS 'cost of input, USD';
COMMENT ON COLUMN llm.usage.output_cost IS 'cost of output, USD';
COMMENT ON COLUMN llm.usage.cached_input_cost IS 'cost of cached input, USD';
COMMENT ON COLUMN llm.usage.request_cost IS 'cost per request, USD';

CREATE VIEW llm.status AS
WITH pending AS (
    SELECT source, count(*) AS n, min(bucket) AS oldest FROM llm._pending GROUP BY source
)
SELECT pg_catalog.format('%I.%I', s.relation_schema, s.relation_name) AS source,
       CASE WHEN s.state = 'attached' AND NOT EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root') THEN 'no triggers'
            WHEN s.state = 'attached' AND EXISTS (SELECT FROM llm._capture_gap g WHERE g.source = s.id) THEN 'capture off'
            WHEN s.state = 'attached' AND s.complete_from > '-infinity' THEN 'backfilling'
            ELSE s.state END AS state,
       nullif(s.complete_from, '-infinity') AS complete_from,
       (SELECT pg_catalog.max(x."to") FROM llm._seal x WHERE x.source = s.id AND x.organization_id IS NULL AND x."from" = '-infinity') AS sealed_before,
       s.retention,
       coalesce(p.n, 0) AS pending_rows,
       NULL::bigint AS pending_bytes,
       p.oldest AS oldest_pending,
       NULL::interval AS lag,
       NULL::timestamptz AS last_fold_at,
       NULL::bigint AS last_fold_rows,
       NULL::numeric AS fold_rows_per_second,
       NULL::bigint AS rollup_bytes,
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relation))::bigint
        FROM llm._trigger t CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m WHERE t.source = s.id AND t.role = 'root') AS log_bytes,
       s.skipped_values + coalesce((SELECT pg_catalog.sum(llm._count(n.measures, 0))::bigint FROM llm._pending n WHERE n.source = s.id AND n.kind = 2), 0) AS skipped_values,
       nullif(pg_catalog.concat_ws(E'\n', f.last_error, o.cannot_create, o.others), '') COLLATE "default" AS last_error,
       f.last_error_at
FROM llm.source s
LEFT JOIN pending p ON p.source = s.id
LEFT JOIN (
    SELECT x.source,
           pg_catalog.string_agg(x.sqlstate || ': ' || x.step || ' failed', E'\n' ORDER BY x.failed_at DESC) AS last_error,
           pg_catalog.max(x.failed_at) AS last_error_at
    FROM llm._failure x
    GROUP BY x.source
) f ON f.source = s.id
LEFT JOIN LATERAL (
    SELECT pg_catalog.min(CASE WHEN s.is_managed AND NOT pg_catalog.has_schema_privilege(r.relowner, r.relnamespace, 'CREATE') THEN
               pg_catalog.format('42501: role %I lacks CREATE on schema %I, so partitions are not made ahead of time', pg_catalog.pg_get_userbyid(r.relowner), s.relation_schema) END) AS cannot_create,
           'partitions of other roles: '
               || pg_catalog.string_agg(pg_catalog.format('%I.%I (%I)', n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)), ', ' ORDER BY n.nspname, c.relname)
                  FILTER (WHERE c.relowner <> r.relowner) AS others
    FROM llm._trigger t
    JOIN pg_catalog.pg_class r ON r.oid = t.relation
    CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m
    JOIN pg_catalog.pg_class c ON c.oid = m.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE t.source = s.id AND t.role = 'root' AND s.state = 'attached'
) o ON true
UNION ALL
SELECT NULL,
       CASE WHEN EXISTS (SELECT FROM llm._binding b LEFT JOIN pg_catalog.pg_roles r ON r.rolname = b.role WHERE r.oid IS DISTINCT FROM b.role_oid)
            THEN 'unconfirmed bindings' ELSE 'database' END,
       NULL,
       NULL,
       NULL,
       (SELECT coalesce(pg_catalog.sum(n), 0)::bigint FROM pending),
       pg_catalog.pg_total_relation_size('llm._pending'),
       (SELECT pg_catalog.min(oldest) FROM pending),
       CASE WHEN EXISTS (SELECT FROM pending) THEN GREATEST(pg_catalog.clock_timestamp() - GREATEST(d.folded_at, llm._drained_at()), interval '0') ELSE interval '0' END,
       d.last_fold_at,
       d.last_fold_rows,
       pg_catalog.round(d.last_fold_rows * 1000.0 / greatest(d.last_fold_ms, 1)),
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relid))::bigint FROM pg_catalog.pg_partition_tree('llm.rollup') m),
       (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(m.relation))::bigint
        FROM llm._trigger t CROSS JOIN LATERAL llm._tree(t.relation::pg_catalog.regclass) m WHERE t.role = 'root'),
       (SELECT coalesce(pg_catalog.sum(s.skipped_values), 0)::bigint FROM llm.source s)
           + coalesce((SELECT pg_catalog.sum(llm._count(n.measures, 0))::bigint FROM llm._pending n WHERE n.kind = 2), 0),
       coalesce(f.last_error, d.last_error),
       coalesce(f.last_error_at, d.last_error_at)
FROM llm._state d
CROSS JOIN (
    SELECT pg_catalog.string_agg(x.sqlstate || ': ' || x.step || CASE WHEN s.id IS NOT NULL THEN pg_catalog.format(' of %I.%I', s.relation_schema, s.relation_name) ELSE '' END || ' failed',
                                 E'\n' ORDER BY x.failed_at DESC) AS last_error,
           pg_catalog.max(x.failed_at) AS last_error_at
    FROM llm._failure x
    LEFT JOIN llm.source s ON s.id = x.source
) f;
COMMENT ON VIEW llm.status IS 'for DBAs and monitoring: one row per source and one (source NULL) for the database';
COMMENT ON COLUMN llm.status.source IS 'the log, NULL for the database';
COMMENT ON COLUMN llm.status.state IS 'attached, backfilling, capture off (a trigger of the log or of a partition is disabled or missing: changes are not seen), detached, dropped, no triggers (restored or dropped by hand: attach it again); of the database: database, or unconfirmed bindings (llm.bind_role was called for roles that are gone, or were made anew under that name: nobody is who it says until it is called again, or llm.unbind_role)';
COMMENT ON COLUMN llm.status.complete_from IS 'while backfilling: rows created at or after this instant are all counted; infinity: none yet';
COMMENT ON COLUMN llm.status.sealed_before IS 'the numbers of everything created before this instant are final (llm.seal; infinity: all of a detached or dropped log)';
COMMENT ON COLUMN llm.status.retention IS 'how long partitions are kept (llm.set_retention)';
COMMENT ON COLUMN llm.status.pending_rows IS 'deltas not folded yet; readers add them up';
COMMENT ON COLUMN llm.status.pending_bytes IS 'bytes of the table of pending deltas';
COMMENT ON COLUMN llm.status.oldest_pending IS 'earliest bucket with a pending delta';
COMMENT ON COLUMN llm.status.lag IS
    'how long ago a fold left nothing pending; 0 where nothing is now; NULL before the first fold. Until the first fold after a restart it may tell of an earlier one; without shared_preload_libraries it is known to within a minute. Readers do not lag: they add up what is pending';
COMMENT ON COLUMN llm.status.last_fold_at IS 'when the last fold that found something ended';
COMMENT ON COLUMN llm.status.last_fold_rows IS 'pending rows it folded';
COMMENT ON COLUMN llm.status.fold_rows_per_second IS 'pending rows a second of that fold';
COMMENT ON COLUMN llm.status.rollup_bytes IS 'bytes of all rollup levels with their indexes';
COMMENT ON COLUMN llm.status.log_bytes IS 'bytes of the log with indexes and TOAST';
COMMENT ON COLUMN llm.status.skipped_values IS 'values of the log that count as 0: NaN, infinite or out of bounds';
COMMENT ON COLUMN llm.status.last_error IS
    'what the worker and llm.maintain() cannot do now, a line each: SQLSTATE, step and log; of the database, where nothing fails now, the last that did. Of a log also: that its owner may not make partitions, and which partitions belong to other roles';
COMMENT ON COLUMN llm.status.last_error_at IS 'when it failed last';
