-- The volume of each change, to 12 decimals, and its share of the total change $5, to 4; both rounded half away from zero, exactly (div
-- truncates an exact quotient; nullif, because constants are computed before CASE looks). $1 cost before, $2 change, $3 and $4 requests before and after. In the order of the arrays.
SELECT pg_catalog.trim_scale(
           CASE WHEN d.requests_before = 0 THEN d.change
                WHEN d.requests_after = 0 THEN - d.cost_before
                ELSE pg_catalog.sign(d.more) * pg_catalog.sign(d.requests_before)
                     * pg_catalog.div(2 * pg_catalog.abs(d.more) * 1000000000000 + pg_catalog.abs(d.requests_before), nullif(2 * pg_catalog.abs(d.requests_before), 0))
                     * 0.000000000001
           END)::text,
       CASE WHEN d.total <> 0 THEN pg_catalog.trim_scale(
           pg_catalog.sign(d.change) * pg_catalog.sign(d.total)
           * pg_catalog.div(2 * pg_catalog.abs(d.change) * 10000 + pg_catalog.abs(d.total), nullif(2 * pg_catalog.abs(d.total), 0)) * 0.0001)::text
       END
FROM (SELECT r.cost_before::numeric AS cost_before, r.change::numeric AS change, r.requests_before::numeric AS requests_before,
             r.requests_after::numeric AS requests_after, (r.requests_after::numeric - r.requests_before::numeric) * r.cost_before::numeric AS more,
             $5::numeric AS total, r.at
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))
           WITH ORDINALITY AS r(cost_before, change, requests_before, requests_after, at)) d
ORDER BY d.at
