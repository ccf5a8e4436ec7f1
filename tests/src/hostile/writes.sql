-- What a gateway does: its own statements, in which PostgreSQL runs what belongs to the tables as the writer.
INSERT INTO m.plain (api_key_id, model, cost, price, app) SELECT 'k', 'b', 1, row(2)::m.money, 'app' FROM generate_series(1, 3);
INSERT INTO m.plain (organization_id, api_key_id, model, cost, app) VALUES ('org', 'k', 'a', 1, 'other');
UPDATE m.plain SET cost = cost + 1, price = row(3)::m.money, app = 'new' WHERE app = 'app';
UPDATE m.parent SET id = 'r' WHERE id = 'p';
INSERT INTO m.parent VALUES ('p');
DELETE FROM m.parent WHERE id = 'r';
DELETE FROM m.plain WHERE app = 'other';
INSERT INTO m.listed (created_at, organization_id, api_key_id, model, cost) SELECT '2026-06-02Z', 'org', 'k', m, 1 FROM unnest('{a,b,c}'::text[]) m;
UPDATE m.listed SET model = 'a', cost = 2 WHERE model = 'c';
MERGE INTO m.listed l USING (VALUES ('b'), ('d')) v(m) ON l.model = v.m WHEN MATCHED THEN UPDATE SET cost = l.cost + 1
    WHEN NOT MATCHED THEN INSERT (created_at, organization_id, api_key_id, model, cost) VALUES ('2026-06-03Z', 'org', 'k', v.m, 1);
DELETE FROM m.listed WHERE model = 'd';
INSERT INTO m.listed_a (created_at, organization_id, api_key_id, model, cost) VALUES ('2026-06-04Z', 'org', 'k', 'a', 1);
INSERT INTO m.ranged VALUES ('2026-06-05Z', 'org', 'k', 'm', 1, 'app'), ('2026-08-05Z', 'org', 'k', 'm', 1, 'app');
UPDATE m.ranged SET created_at = '2026-08-06Z' WHERE created_at = '2026-06-05Z';
INSERT INTO m.made (created_at, organization_id, api_key_id, model, application) VALUES (now(), 'org', 'k', 'm', 'app'), ('1999-01-01Z', 'org', 'k', 'm', 'app');
UPDATE m.people SET name = name || '.';
INSERT INTO m.people VALUES ('w', 'Eve', 'eve@example.com');
DELETE FROM m.people WHERE id = 'w';
UPDATE m.keys SET name = 'desktop';
