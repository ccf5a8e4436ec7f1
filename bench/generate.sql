-- The deterministic generator. An organization has keys; a key is a service: one project, one application, 1 to 4 routes, and its hours.
-- bench.key_slot and bench.batch_slot hold keys as often as they are used, so that a random slot is a random request's key.
CREATE SCHEMA bench;
-- 0 <= result < n, the same for the same arguments.
CREATE FUNCTION bench.dice(i bigint, salt int, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hashint8extended(i, salt) & 2147483647) % n)::int;

CREATE TABLE bench.route AS
    SELECT r AS n, p.provider, p.provider || '/' || m AS model, 0.15 + (r * 7 % 11) * 0.35 AS input_price, 0.6 + (r * 5 % 13) * 1.15 AS output_price
    FROM (VALUES (0, 'openai'), (1, 'anthropic'), (2, 'google'), (3, 'mistral'), (4, 'groq')) p (n, provider),
         LATERAL (SELECT p.n * :models + k AS r, 'model-' || k || '-' || p.n AS m FROM generate_series(0, :models - 1) k) x;

CREATE TABLE bench.organization AS
    SELECT o, 'org_' || o AS id, CASE WHEN o = 0 THEN 8 ELSE 2 + o % 4 END AS projects, CASE WHEN o = 0 THEN :keys ELSE 6 + o * 7 % 20 END AS keys,
           -- so much for the largest, the rest falls off
           CASE WHEN o = 0 THEN :skew ELSE (1 - :skew) * (1.0 / (o + 5)) / (SELECT sum(1.0 / (x + 5)) FROM generate_series(1, :organizations - 1) x) END AS share
    FROM generate_series(0, :organizations - 1) o;

CREATE TABLE bench.key AS
    SELECT row_number() OVER (ORDER BY o.o, k)::int AS n, o.id AS organization, o.id || '_p' || k % o.projects AS project, o.id || '_k' || k AS id,
           o.id || '_u' || k % greatest(o.keys / 3, 2) AS creator, 'app-' || bench.dice(o.o * 1000 + k, 1, 12) AS application,
           ARRAY(SELECT bench.dice(o.o * 1000 + k, 10 + r, 5 * :models) FROM generate_series(0, bench.dice(o.o * 1000 + k, 2, 4)) r) AS routes,
           bench.dice(o.o * 1000 + k, 3, 10) < 3 AS is_batch, o.share / o.keys * (0.4 + 1.2 * bench.dice(o.o * 1000 + k, 4, 1000) / 1000.0) AS share
    FROM bench.organization o, LATERAL generate_series(0, o.keys - 1) k;
CREATE INDEX ON bench.key (n);

CREATE FUNCTION bench.slots(batch_only boolean) RETURNS int[] LANGUAGE sql STABLE RETURN (
    SELECT array_agg(n ORDER BY n, s) FROM bench.key k, LATERAL generate_series(1, greatest(1, (k.share * 20000)::int)) s WHERE k.is_batch OR NOT batch_only);
CREATE TABLE bench.slots AS SELECT bench.slots(false) AS all_keys, bench.slots(true) AS batch_keys;

INSERT INTO llm.organization (id, name, plan) SELECT id, initcap(id), 'enterprise' FROM bench.organization;
INSERT INTO llm.project (id, organization_id, name) SELECT DISTINCT project, organization, 'Project ' || project FROM bench.key;
INSERT INTO llm.api_key (id, project_id, label, user_id) SELECT id, project, 'Key ' || id, creator FROM bench.key;
INSERT INTO llm.app_user (id, name, email) SELECT DISTINCT creator, 'User ' || creator, creator || '@example.com' FROM bench.key;
INSERT INTO llm.membership (organization_id, user_id, role) SELECT DISTINCT organization, creator, 'developer' FROM bench.key;

-- 1 KB a row: what a gateway keeps beside the numbers.
CREATE TABLE bench.filler AS SELECT string_agg(md5(i::text), '' ORDER BY i) AS text FROM generate_series(1, 200) i;

CREATE TABLE bench.shape (
    id                     bigint NOT NULL,
    created_at             timestamptz NOT NULL,
    organization_id        text NOT NULL,
    project_id             text NOT NULL,
    api_key_id             text NOT NULL,
    model                  text NOT NULL,
    provider               text NOT NULL,
    application            text,
    mode                   text,
    input_tokens           int,
    output_tokens          int,
    cached_tokens          int,
    cost                   numeric NOT NULL,
    input_cost             numeric,
    output_cost            numeric,
    is_error               boolean NOT NULL,
    is_streamed            boolean NOT NULL,
    is_cached              boolean NOT NULL,
    duration_ms            int,
    time_to_first_token_ms int,
    request_id             text,
    messages               text,
    response_metadata      text
);

-- A request by its number; at: when.
CREATE FUNCTION bench.request(i bigint, at timestamptz, k bench.key, r bench.route, application text, filler text) RETURNS bench.shape
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ROW(i, at, k.organization, k.project, k.id, r.model, r.provider, application, 'credits',
        200 + bench.dice(i, 20, 6000), 20 + bench.dice(i, 21, 900), CASE WHEN bench.dice(i, 22, 4) = 0 THEN bench.dice(i, 23, 200) END,
        (200 + bench.dice(i, 20, 6000)) * r.input_price / 1000000 + (20 + bench.dice(i, 21, 900)) * r.output_price / 1000000,
        (200 + bench.dice(i, 20, 6000)) * r.input_price / 1000000, (20 + bench.dice(i, 21, 900)) * r.output_price / 1000000,
        bench.dice(i, 24, 100) < 2, bench.dice(i, 25, 2) = 0, bench.dice(i, 26, 50) = 0, 300 + bench.dice(i, 27, 9000), 100 + bench.dice(i, 28, 900),
        'req_' || i, substr(filler, 1 + bench.dice(i, 29, 5600), 560), substr(filler, 1 + bench.dice(i, 30, 5900), 240))::bench.shape;

-- `rows` requests of one day, numbered from `first`, in order of time. bursty: on business days a service works in some hours of 6 to 16 UTC, a batch in
-- one hour of its night; on other days batches only. adversarial: every dimension uniform.
CREATE FUNCTION bench.day(day date, first bigint, rows bigint, bursty boolean) RETURNS SETOF bench.shape LANGUAGE sql STABLE AS $$
    WITH slots AS MATERIALIZED (SELECT CASE WHEN extract(isodow FROM day) > 5 THEN batch_keys ELSE all_keys END AS keys FROM bench.slots)
    SELECT q.* FROM generate_series(first, first + rows - 1) i CROSS JOIN bench.filler f
        CROSS JOIN LATERAL (SELECT (s.keys)[1 + bench.dice(i, 40, cardinality(s.keys))] AS n FROM slots s) s
        CROSS JOIN LATERAL (SELECT CASE WHEN bursty THEN s.n WHEN bench.dice(i, 46, 4) = 0 THEN 1 + bench.dice(i, 47, :keys)
                             ELSE (SELECT :keys + 1 + bench.dice(i, 41, max(n) - :keys) FROM bench.key) END AS n) u
        JOIN bench.key k ON k.n = u.n
        JOIN bench.route r ON r.n = CASE WHEN bursty THEN k.routes[1 + bench.dice(i, 42, cardinality(k.routes))] ELSE bench.dice(i, 42, 5 * :models) END
        CROSS JOIN LATERAL (SELECT day::timestamp AT TIME ZONE 'UTC' + interval '1 second' * CASE
            WHEN NOT bursty THEN bench.dice(i, 43, 86400)
            WHEN k.is_batch THEN 3600 * bench.dice(k.n, 44, 6) + bench.dice(i, 43, 3600)
            -- :burst of ten hours
            ELSE 3600 * (6 + bench.dice(k.n * 100000 + (day - date '2020-01-01') * 10 + bench.dice(i, 44, :burst), 45, 10)) + bench.dice(i, 43, 3600) END AS at) t
        CROSS JOIN LATERAL bench.request(i, t.at, k, r, CASE WHEN bursty THEN k.application ELSE 'app-' || bench.dice(i, 48, 12) END, f.text) q
    ORDER BY t.at
$$;

-- Requests of the hour that begins at `hour`, as they arrive; a share of :late is of any hour of the 30 days before it.
CREATE FUNCTION bench.live(first bigint, rows bigint, hour timestamptz) RETURNS SETOF bench.shape LANGUAGE sql STABLE AS $$
    SELECT q.* FROM generate_series(first, first + rows - 1) i CROSS JOIN bench.filler f
        CROSS JOIN LATERAL (SELECT (s.all_keys)[1 + bench.dice(i, 40, cardinality(s.all_keys))] AS n FROM bench.slots s) s
        JOIN bench.key k ON k.n = s.n
        JOIN bench.route r ON r.n = k.routes[1 + bench.dice(i, 42, cardinality(k.routes))]
        CROSS JOIN LATERAL bench.request(i, hour + interval '3600 seconds' * (i - first) / rows
            - interval '1 hour' * CASE WHEN bench.dice(i, 50, 100000) < :late * 100000 THEN 1 + bench.dice(i, 51, 720) ELSE 0 END, k, r, k.application, f.text) q
$$;

-- A log with the indexes a gateway has.
CREATE FUNCTION bench.make_log(name text, partitioned boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (LIKE bench.shape) %s', name, CASE WHEN partitioned THEN 'PARTITION BY RANGE (created_at)' ELSE '' END);
    IF partitioned THEN
        EXECUTE format('CREATE TABLE %s_rest PARTITION OF %s DEFAULT', name, name);
    END IF;
    EXECUTE format('CREATE INDEX ON %s (created_at)', name);
    EXECUTE format('CREATE INDEX ON %s (organization_id, created_at)', name);
    EXECUTE format('CREATE INDEX ON %s (project_id, created_at)', name);
    EXECUTE format('CREATE INDEX ON %s (api_key_id, created_at)', name);
END
$$;
