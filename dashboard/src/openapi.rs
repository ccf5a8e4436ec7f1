//! The OpenAPI document, from the table of endpoints.

use crate::endpoint::{ENDPOINTS, Endpoint, Form, Parameter, Place};
use axum::Json;
use serde_json::{Map, Value, json};

pub async fn document() -> Json<Value> {
    let paths: Map<String, Value> =
        ENDPOINTS.iter().map(|endpoint| (endpoint.path.into(), json!({ "get": operation(endpoint) }))).collect();
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "llm_analytics",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Cost, requests and tokens of an LLM gateway. Money is US dollars as exact JSON numbers; days are local days of the time zone asked for.",
            "license": { "name": "PostgreSQL", "identifier": "PostgreSQL" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "cookie": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "cookie": { "type": "apiKey", "in": "cookie", "name": crate::token::COOKIE },
            },
            "schemas": schemas(),
        },
    }))
}

fn operation(endpoint: &Endpoint) -> Value {
    let failure = |description: &str| json!({ "description": description, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let mut content = json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{}", endpoint.function) } } });
    if endpoint.rows.is_some() {
        content["text/csv"] = json!({ "schema": { "type": "string" } });
    }
    json!({
        "operationId": endpoint.function,
        "summary": endpoint.summary,
        "parameters": endpoint.parameters.iter().map(|of| parameter(endpoint, of)).collect::<Vec<_>>(),
        "responses": {
            "200": {
                "description": "the answer of the SQL function of the same name",
                "content": content,
            },
            "400": failure("a parameter is missing, unknown or wrong"),
            "401": failure("no valid token"),
            "403": failure("not allowed; code: not_member, role_required, plan_required or not_your_key"),
            "404": failure("no such project, key or member in the organization"),
            "429": failure("too many requests of this user at once; Retry-After says when to try again"),
            "503": failure("the database cannot be reached; Retry-After says when to try again"),
            "504": failure("the database took too long"),
        },
    })
}

fn parameter(endpoint: &Endpoint, parameter: &Parameter) -> Value {
    let schema = match parameter.form {
        // Without it, it would be another path.
        Form::Text if parameter.place == Place::Path => json!({ "type": "string", "minLength": 1 }),
        Form::Text => json!({ "type": "string" }),
        Form::Date => json!({ "type": "string", "format": "date" }),
        Form::Count => json!({ "type": "integer", "minimum": 1, "maximum": i32::MAX }),
        Form::GroupBy => {
            json!({ "type": "string", "enum": ["model", "mapping", "provider", "project", "apiKey", "user", "application", "mode"] })
        }
        Form::ModelView => json!({ "type": "string", "enum": ["mappings", "canonical"] }),
    };
    let mut described = json!({
        "name": parameter.name,
        "in": if parameter.place == Place::Path { "path" } else { "query" },
        "required": parameter.place != Place::Optional,
        "description": parameter.description,
        "schema": schema,
    });
    if let Some(example) = example(endpoint, parameter) {
        described["example"] = example;
    }
    described
}

/// Something that the demo has, so that who tries the document there, by hand or by program, gets an answer with rows.
fn example(endpoint: &Endpoint, parameter: &Parameter) -> Option<Value> {
    Some(match parameter.name {
        "organizationId" => json!("org_acme"),
        "from" => json!("2026-11-01"),
        "to" => json!("2026-11-24"),
        "timezone" => json!("Europe/Berlin"),
        "projectId" => json!("prj_acme_api"),
        "apiKeyId" => json!("key_acme_live"),
        "userId" => json!("usr_ana"),
        "top" => json!(10),
        "id" if endpoint.function == "analytics_project" => json!("prj_acme_code"),
        "id" => json!("key_acme_dmitri"),
        _ => return None,
    })
}

/// An object with all of these properties and no others.
fn object(properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({ "type": "object", "required": names, "properties": properties, "additionalProperties": false })
}

/// The properties of several, in one.
fn all(parts: &[Value]) -> Value {
    let mut properties = Map::new();
    for part in parts {
        properties.extend(part.as_object().cloned().unwrap_or_default());
    }
    Value::Object(properties)
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let text_or_null = json!({ "type": ["string", "null"] });
    let date = json!({ "type": "string", "format": "date" });
    let number = json!({ "type": "number" });
    let count = json!({ "type": "integer" });
    let list = |of: Value| json!({ "type": "array", "items": of });
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let measures = json!({
        "cost": number, "requestCount": count, "inputTokens": count, "outputTokens": count, "totalTokens": count, "errorCount": count,
        "clientErrorCount": count, "errorRate": number, "cacheCount": count, "cacheRate": number,
    });
    let name = json!({ "key": text_or_null, "label": text });
    // "kind" is there where it is no usual entry.
    let with_kind = |mut schema: Value| {
        schema["properties"]["kind"] = json!({ "enum": ["other", "unattributed"] });
        schema
    };
    let range = json!({ "from": date, "to": date, "timezone": text, "incompleteBefore": { "type": ["string", "null"], "format": "date" } });
    let model_view = json!({ "modelView": { "enum": ["mappings", "canonical"] } });
    let summary = json!({ "summary": reference("Measures") });
    let by_model = json!({ "costByModel": list(reference("Entry")), "activity": list(reference("Day")) });
    let person = json!({ "userId": text_or_null, "name": text, "email": text_or_null, "role": text_or_null, "apiKeyCount": count });
    let member = object(all(&[
        json!({ "member": object(person.clone()) }),
        range.clone(),
        summary.clone(),
        json!({
            "mostUsed": object(json!({ "model": text_or_null, "provider": text_or_null, "application": text_or_null })),
            "topProviders": list(reference("Entry")), "topApplications": list(reference("Entry")),
        }),
        by_model.clone(),
    ]));
    let capability = object(
        json!({ "allowed": { "type": "boolean" }, "reason": { "enum": [null, "no_identity", "not_member", "role_required", "plan_required"] } }),
    );
    let driver = object(json!({
        "key": text_or_null, "label": text, "costBefore": number, "costAfter": number, "change": number, "share": { "type": ["number", "null"] },
        "requestsBefore": count, "requestsAfter": count, "volume": number, "price": number,
    }));
    let drivers = list(with_kind(driver));
    json!({
        "Error": object(json!({ "error": object(json!({ "code": text, "message": text, "hint": text_or_null })) })),
        "Measures": object(measures.clone()),
        "Entry": with_kind(object(all(&[name.clone(), measures.clone()]))),
        "Day": object(all(&[
            json!({ "date": date }),
            measures.clone(),
            json!({ "breakdown": list(with_kind(object(all(&[name, json!({ "cost": number, "requestCount": count, "totalTokens": count })])))) }),
        ])),
        "analytics_activity": object(all(&[
            json!({ "groupBy": text }), range.clone(), summary.clone(),
            json!({ "breakdown": list(reference("Entry")), "activity": list(reference("Day")) }),
        ])),
        "analytics_members": object(all(&[
            json!({ "plan": text_or_null }), range.clone(), summary.clone(), json!({ "members": list(object(all(&[person, measures]))) }),
        ])),
        "analytics_member": member.clone(),
        "analytics_me": member,
        "analytics_project": object(all(&[
            json!({ "project": object(json!({ "id": text, "name": text })) }), model_view.clone(), range.clone(), summary.clone(), by_model.clone(),
        ])),
        "analytics_api_key": object(all(&[
            json!({ "apiKey": object(json!({ "id": text, "label": text, "projectId": text_or_null, "createdBy": text_or_null })) }),
            model_view, range, summary, by_model,
        ])),
        "analytics_drivers": object(json!({
            "from": date, "to": date, "compareFrom": date, "compareTo": date, "timezone": text, "before": reference("Measures"), "after": reference("Measures"),
            "change": object(json!({ "cost": number, "requestCount": count, "percent": { "type": ["number", "null"] } })),
            "drivers": object(json!({
                "model": drivers, "project": drivers, "apiKey": drivers, "user": drivers, "provider": drivers, "application": drivers,
            })),
        })),
        "access": object(json!({
            "organization": text_or_null, "plan": text_or_null, "role": text_or_null,
            "capabilities": object(json!({
                "projectAnalytics": capability, "apiKeyStatistics": capability, "ownUsage": capability, "organizationAnalytics": capability, "memberAnalytics": capability,
            })),
        })),
        "analytics_organizations": object(json!({ "organizations": list(object(json!({ "id": text, "name": text, "plan": text_or_null, "role": text_or_null }))) })),
        "analytics_projects": object(json!({ "projects": list(object(json!({ "id": text, "name": text, "status": { "enum": ["active", "deleted"] } }))) })),
        "analytics_api_keys": object(json!({ "apiKeys": list(object(json!({
            "id": text, "label": text, "projectId": text_or_null, "project": text_or_null, "createdBy": text_or_null, "createdByName": text_or_null,
        }))) })),
    })
}
