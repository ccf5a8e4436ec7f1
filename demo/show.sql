-- What the extension answers. demo/run sets :day, :year_from, :year_to and :has_trace.
\pset footer off
\pset null '-'
\timing on
\set ECHO queries

\echo
\echo '-- one day by project, in the organization''s own time zone: one SELECT for a dashboard''s endpoint (line breaks added)'
SELECT llm.analytics_activity('org_acme', 'project', :'day', :'day', 'Europe/Berlin')
\g (format=unaligned tuples_only=on) | sed -E 's/,"(summary|activity)"/,\n "\1"/g; s/[}],"breakdown"/},\n "breakdown"/; s/[{]"date"/\n  &/g; s/[{]"key"/\n    &/g'

\echo
\echo '-- one year by model'
SELECT label AS model, sum(request_count) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(error_count) AS errors, sum(cache_count) AS cache_hits, sum(cost) AS cost_usd
FROM llm.activity('org_acme', 'model', :'year_from', :'year_to', 'Europe/Berlin')
WHERE label IS NOT NULL
GROUP BY label
ORDER BY cost_usd DESC;

\echo
\echo '-- the same year in one number, from the rollups and from the log itself'
SELECT trim_scale(sum(cost)) AS cost_by_rollups FROM llm.activity('org_acme', 'project', :'year_from', :'year_to', 'Europe/Berlin');
SELECT trim_scale(sum(cost::text::numeric)) AS cost_by_log
FROM public.log
WHERE organization_id = 'org_acme'
  AND created_at >= (:'year_from'::date::timestamp AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'UTC'
  AND created_at < ((:'year_to'::date + 1)::timestamp AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'UTC';

\echo
\echo '-- what made the bill go up?'
WITH month AS (
    SELECT label, round(sum(cost) FILTER (WHERE date <= :'day'::date - 28), 2) AS before,
           round(sum(cost) FILTER (WHERE date > :'day'::date - 28), 2) AS after
    FROM llm.activity('org_acme', 'application', :'day'::date - 55, :'day', 'Europe/Berlin')
    GROUP BY label
)
SELECT CASE WHEN grouping(label) = 1 THEN 'all' ELSE label END AS application, sum(before) AS "4 weeks before", sum(after) AS "last 4 weeks",
       sum(after) - coalesce(sum(before), 0) AS change, round((sum(after) / sum(before) - 1) * 100, 1) AS "change %"
FROM month
WHERE before <> 0 OR after <> 0
GROUP BY ROLLUP (label)
ORDER BY 4 DESC;

\if :has_trace
\echo
\echo '-- the real traces: an hour of two services; their prices are not known, so the cost is 0'
SELECT date, label AS project, request_count, input_tokens, output_tokens, cost
FROM llm.activity('azure_trace', 'project', '2023-11-16', '2023-11-16');
\endif

\echo
\echo '-- the proof: every rollup row against the log; no rows mean that all are equal'
\pset footer on
SELECT * FROM llm.verify();

\echo
\echo '-- what a DBA looks at'
\pset footer off
\pset expanded on
SELECT * FROM llm.status;
