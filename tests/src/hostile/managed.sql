-- What the owner of a log made by llm.create_request_log adds to it.
ALTER TABLE m.made ADD CHECK (m.f('check of a managed log, of a constant', 'x') = 'x');
ALTER TABLE m.made ADD CHECK (m.f('check of a managed log', application) <> 'never') NOT VALID;
ALTER TABLE m.made ALTER COLUMN provider SET DEFAULT m.f('default of a managed log', 'p');
ALTER TABLE m.made ADD COLUMN made text GENERATED ALWAYS AS (m.f('generated column of a managed log', application)) STORED;
ALTER TABLE m.made ADD COLUMN kind m.org;
CREATE INDEX ON m.made (m.f('index of a managed log', application));
CREATE INDEX ON m.made ((m.f('index of a managed log, of a constant', 'x') || application));
CREATE INDEX ON m.made (created_at) WHERE m.f('partial index of a managed log', 'x') = 'x';
CREATE STATISTICS m.of_made ON (m.f('statistics of a managed log', application)), api_key_id FROM m.made;
ALTER TABLE m.made ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON m.made USING (m.f('policy of a managed log', application) <> 'never');
CREATE TRIGGER t AFTER INSERT OR DELETE ON m.made FOR EACH ROW EXECUTE FUNCTION m.fires('trigger of a managed log');
-- Past its retention, and not empty.
CREATE TABLE m.made_2020_01 PARTITION OF m.made FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
INSERT INTO m.made (created_at, organization_id, api_key_id, model, application) VALUES ('2020-01-02Z', 'org', 'k', 'm', 'app'), (now(), 'org', 'k', 'm', 'app');
GRANT ALL ON ALL TABLES IN SCHEMA m TO g;
