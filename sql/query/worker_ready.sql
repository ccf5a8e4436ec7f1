-- Whether every attached source has its root trigger and every delta its source: while a dump is restored, neither is so.
SELECT NOT EXISTS (
    SELECT FROM llm.source s
    WHERE s.state = 'attached' AND NOT EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root')
) AND NOT EXISTS (
    SELECT FROM llm._pending p WHERE NOT EXISTS (SELECT FROM llm.source s WHERE s.id = p.source)
)
