-- Whether the table $1 has an index that begins with the column $2, or is partitioned by ranges of it.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
    WHERE a.attrelid = $1 AND a.attname = $2
) OR EXISTS (
    SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.attrelid AND p.partattrs[0] = a.attnum AND p.partstrat = 'r'
    WHERE a.attrelid = $1 AND a.attname = $2
)
