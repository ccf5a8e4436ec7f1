-- Whether every attached source has its root trigger.
SELECT NOT EXISTS (
    SELECT FROM llm.source s
    WHERE s.state = 'attached' AND NOT EXISTS (SELECT FROM llm._trigger t WHERE t.source = s.id AND t.role = 'root')
)
