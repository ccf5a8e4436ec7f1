-- Whether the newest rows of the table $1 are found without reading all of it: by an index that
-- returns rows in the order of the column $2, or because the table is partitioned by ranges of it.
-- Only some access methods keep an order: a BRIN or hash index does not, and serves no ORDER BY.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
    WHERE a.attrelid = $1 AND a.attname = $2 AND pg_catalog.pg_index_column_has_property(i.indexrelid, 1, 'orderable')
) OR EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.attrelid AND p.partattrs[0] = a.attnum AND p.partstrat = 'r'
    WHERE a.attrelid = $1 AND a.attname = $2
)
