-- How many requests each workload makes in each hour of the year, then the requests themselves. Nothing is random: every number is a
-- hash of the workload, the hour and the number of the request, so that the same last hour gives the same data.

-- The i-th fraction (0 <= x < 1, steps of 1/1024) that a hash holds, i = 0 .. 5.
CREATE FUNCTION demo.part(hash bigint, i int) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hash >> (i * 10)) & 1023) / 1024.0::float8;

-- :hours is the end of the year (the current hour); the first day is 365 days before the last.
CREATE TABLE demo.cell AS
WITH hour AS (
    SELECT h AS at, (extract(epoch FROM h) / 3600)::int AS number, (:'last_hour'::timestamp::date - h::date) AS age
    FROM generate_series(:'last_hour'::timestamp::date - interval '364 days', :'last_hour'::timestamp - interval '1 hour', interval '1 hour') h
), local AS (
    -- the wall clock of each organization, once for each zone
    SELECT hour.*, z.zone, extract(hour FROM l)::int AS local_hour, extract(isodow FROM l) >= 6 AS weekend, l::date - date '2000-01-01' AS local_day
    FROM (SELECT DISTINCT zone FROM demo.workload) z, hour, LATERAL (SELECT (hour.at AT TIME ZONE 'UTC') AT TIME ZONE z.zone AS l) clock
), demand AS (
    SELECT l.at, l.number::bigint * 100 + w.id AS id, w.id AS workload,
           hashint8extended(l.number::bigint * 100 + w.id, 1) AS hash,
           w.share * p.hours[l.local_hour + 1] * CASE WHEN l.weekend THEN p.weekend ELSE 1 END
               -- the trend of the year
               * exp(-w.growth * l.age / 365.0)
               -- some days are twice as busy, some quiet
               * (0.7 + 0.6 * demo.part(hashint8extended(l.local_day * 100 + w.id, 2), 0)
                  + CASE WHEN demo.part(hashint8extended(l.local_day * 100 + w.id, 2), 1) > 0.97 THEN 1.2 ELSE 0 END)
               * CASE WHEN w.application = 'evals' AND l.local_day % 7 <> 3 THEN 0 ELSE 1 END AS wanted
    FROM local l JOIN demo.workload w ON w.zone = l.zone AND l.age <= w.starts AND l.age > w.ends
    JOIN demo.profile p ON p.name = w.profile
), burst AS (
    -- one hour in 40 has a burst
    SELECT *, wanted * (0.6 + 0.8 * demo.part(hash, 0)) * CASE WHEN demo.part(hash, 1) > 0.975 THEN 4 ELSE 1 END AS much FROM demand
)
SELECT at, id, workload, hash,
       floor(much * :requests / sum(much) OVER () + demo.part(hash, 2))::int AS requests,
       -- a provider is down for three hours now and then
       CASE WHEN (extract(epoch FROM at) / 10800)::bigint % 173 = 0 THEN 0.25 ELSE 0.012 END AS errors
FROM burst
ORDER BY at, workload;
DELETE FROM demo.cell WHERE requests = 0;
CREATE INDEX ON demo.cell (at);
ANALYZE demo.cell;

-- Inserts the requests of the hours from "from" to "to" into the log. One in 400 is late: it comes only with the call that asks for
-- the late ones. The OFFSET 0 keep the planner from computing an expression again wherever it is used.
CREATE FUNCTION demo.insert_requests("from" timestamp, "to" timestamp, late boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    inserted bigint;
BEGIN
    INSERT INTO public.log (
        id, request_id, created_at, updated_at, organization_id, project_id, api_key_id, duration, time_to_first_token,
        requested_model, requested_provider, used_model, used_provider, response_size, finish_reason, unified_finish_reason,
        prompt_tokens, completion_tokens, total_tokens, reasoning_tokens, cached_tokens,
        cost, input_cost, output_cost, cached_input_cost, request_cost, has_error, canceled, streamed, cached, mode, used_mode, source)
    SELECT
        'log_' || number, 'req_' || number, created_at, created_at, organization, project, api_key, duration,
        CASE WHEN streamed AND answered THEN duration / 5 END,
        mapping, provider, mapping, provider, CASE WHEN answered THEN completion * 4 ELSE 120 END,
        CASE outcome WHEN 'completed' THEN 'stop' WHEN 'tool_calls' THEN 'tool_calls' WHEN 'length_limit' THEN 'length' END, outcome,
        CASE WHEN answered THEN prompt END, CASE WHEN answered THEN completion END, CASE WHEN answered THEN prompt + completion END,
        CASE WHEN answered AND reasoning > 0 THEN (completion * reasoning)::int END, CASE WHEN answered THEN reused END,
        CASE WHEN hit THEN 0 WHEN answered THEN input_cost + output_cost + cached_cost END,
        CASE WHEN hit THEN 0 WHEN answered THEN input_cost END,
        CASE WHEN hit THEN 0 WHEN answered THEN output_cost END,
        CASE WHEN hit THEN 0 WHEN answered THEN cached_cost END,
        CASE WHEN answered THEN 0 END,
        outcome IN ('upstream_error', 'gateway_error', 'client_error'), outcome = 'canceled', streamed, hit, mode, mode, application
    FROM (
        SELECT t.*, m.mapping, m.provider, m.reasoning,
               outcome NOT IN ('upstream_error', 'gateway_error', 'client_error') AS answered,
               (prompt - reused) * m.input / 1e6 AS input_cost, reused * m.cached / 1e6 AS cached_cost, completion * m.output / 1e6 AS output_cost,
               CASE WHEN hit THEN 4 + completion / 100 ELSE (250 + prompt / 20 + completion * (8 + 12 * luck))::int END AS duration
        FROM (
            SELECT r.number, r.organization, r.project, r.api_key, r.application, r.mode, r.slot, r.outcome, r.prompt, r.luck, r.streamed,
                   r.at + make_interval(secs => round((3600 * r.moment)::numeric, 3)::float8) AS created_at,
                   CASE WHEN r.is_reused THEN r.prompt * 3 / 4 / 128 * 128 ELSE 0 END AS reused,
                   CASE WHEN r.outcome = 'canceled' THEN r.completion / 3 + 1 ELSE r.completion END AS completion,
                   r.would_hit AND r.outcome = 'completed' AS hit
            FROM (
                SELECT n.at, n.number, w.organization, w.project, w.api_key, w.application, w.mode,
                       w.mix[1 + (n.h1 & 15)] AS slot,
                       CASE WHEN demo.part(h1, 1) < n.errors * 0.7 THEN 'upstream_error'
                            WHEN demo.part(h1, 1) < n.errors THEN 'gateway_error'
                            WHEN demo.part(h1, 1) < n.errors + 0.02 THEN 'client_error'
                            WHEN demo.part(h1, 1) < n.errors + 0.03 THEN 'canceled'
                            WHEN demo.part(h1, 1) < n.errors + 0.04 THEN 'length_limit'
                            WHEN demo.part(h1, 1) > 0.9 THEN 'tool_calls'
                            ELSE 'completed' END AS outcome,
                       -- log-normal, nearly: the sum of three fractions stands for a normal variable
                       greatest(1, w.prompt * exp(1.8 * (demo.part(h2, 0) + demo.part(h2, 1) + demo.part(h2, 2) - 1.5)))::int AS prompt,
                       greatest(1, w.completion * exp(1.6 * (demo.part(h2, 3) + demo.part(h2, 4) + demo.part(h2, 5) - 1.5)))::int AS completion,
                       demo.part(h1, 2) < w.reuse AS is_reused,
                       demo.part(h1, 3) < w.hit AS would_hit,
                       demo.part(h1, 4) < w.streamed AS streamed,
                       demo.part(h1, 5) AS luck,
                       -- a third of an hour's requests come in one of its minutes
                       CASE WHEN demo.part(h3, 0) < 0.33 THEN (demo.part(n.hash, 3) * 59 + demo.part(h3, 1)) / 60
                            ELSE demo.part(h3, 1) + demo.part(h3, 2) / 1024 END AS moment
                FROM (
                    SELECT c.at, c.workload, c.hash, c.errors, c.id * 10000 + i AS number, hashint8extended(c.id * 10000 + i, 11) AS h1,
                           hashint8extended(c.id * 10000 + i, 12) AS h2, hashint8extended(c.id * 10000 + i, 13) AS h3
                    FROM demo.cell c, generate_series(1, c.requests) i
                    WHERE c.at >= "from" AND c.at < "to"
                    OFFSET 0
                ) n
                JOIN demo.workload w ON w.id = n.workload
                WHERE (n.h1 % 400 = 0) = late
                OFFSET 0
            ) r
            OFFSET 0
        ) t
        JOIN demo.model m ON m.slot = t.slot
        OFFSET 0
    ) x;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    RETURN inserted;
END
$$;
