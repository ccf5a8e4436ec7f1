SELECT llm.attach_log('m.plain', '{"created_at": "created_at", "organization_id": "organization_id", "project_id": "project_id", "api_key_id": "api_key_id",
    "model": "model", "cost": "cost", "application": "m.f(''mapping'', app)", "mode": "m.d(app)", "provider": "m.f(''mapping of a constant'', ''x'')",
    "input_cost": "price::numeric"}');
SELECT llm.attach_log('m.listed', '{"created_at": "created_at", "organization_id": "organization_id", "api_key_id": "api_key_id", "model": "m.f(''mapping'', model)", "cost": "cost"}');
SELECT llm.attach_log('m.ranged');
SELECT llm.attach_log('m.mapped', '{"created_at": "created_at", "organization_id": "m.f(''mapping'', organization_id)", "api_key_id": "api_key_id", "model": "m.f(''mapping of a constant'', ''m'')", "cost": "m.n(''mapping'', cost)"}');
SELECT llm.attach_log('m.applied', '{"created_at": "created_at", "organization_id": "m.f(''mapping'', organization_id)", "api_key_id": "api_key_id", "model": "m.f(''mapping of a constant'', ''m'')", "cost": "m.n(''mapping'', cost)"}', capture => 'row');
SELECT llm.attach_directory('user', 'm.people', '{"id": "m.f(''directory id'', id)", "name": "m.f(''directory'', name)", "email": "email"}');
SELECT llm.attach_directory('api_key', 'm.keys', '{"id": "id", "label": "m.f(''directory'', name)", "user_id": "m.f(''directory of a constant'', ''u'')"}');
SELECT llm.attach_directory('membership', 'm.members', '{"organization_id": "org", "user_id": "usr", "role": "m.f(''directory'', role)"}');
