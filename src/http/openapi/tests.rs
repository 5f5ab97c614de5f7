use serde_json::json;

use super::*;

fn parsed() -> Value {
    serde_json::to_value(document(None)).unwrap()
}

#[test]
fn the_document_has_exactly_the_routes_of_the_table() {
    let document = parsed();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        documented.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let expected = route_table().iter().filter(|route| route.documented == Documented::Yes);
    let expected: BTreeSet<_> = expected.map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(documented, expected);
}

#[test]
fn operation_ids_are_unique() {
    let document = parsed();
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = items.map(|operation| operation["operationId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}

#[test]
fn s61_every_operation_tells_of_the_refusals_of_its_route() {
    let document = parsed();
    for route in route_table().iter().filter(|route| route.documented == Documented::Yes) {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let tells = |status: &str| operation["responses"].get(status).is_some();
        let may = format!("{} {}", route.method, route.path);
        // A client that sends a credential may send an invalid one. Hidden routes do not answer 401 to strangers.
        let is_hidden = matches!(route.access, Access::HiddenAdminOrService(_));
        let who = operation.get("security").unwrap_or(&document["security"]).as_array().unwrap();
        assert!(tells("401") || who.is_empty() || is_hidden, "{may}");
        let has_json = operation.pointer("/requestBody/content/application~1json").is_some();
        assert!(!has_json || ["400", "413", "415", "422"].into_iter().all(tells), "{may}");
        assert!(tells("503") || route.class == Class::Static || route.path == "/health/live", "{may}");
    }
    let label = &document["paths"]["/my_account/sessions/{id}"]["patch"]["responses"];
    let told: Vec<_> = label.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(told, ["200", "400", "401", "404", "408", "413", "415", "422", "429", "500", "503"]);
}

#[test]
fn security_is_what_the_contract_says() {
    let document = parsed();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["security"], json!([{"userAuth": []}]));
    assert_eq!(document["paths"]["/verify"]["post"]["security"], json!([{"userAuth": [], "serviceAuth": []}]));
    assert_eq!(document["paths"]["/login"]["post"]["security"], json!([]));
    assert_eq!(document["paths"]["/my_account/"]["get"].get("security"), None);
    assert_eq!(document["paths"]["/logout"]["post"]["security"], json!([{"userAuth": []}, {}]));
    let services = json!([{"serviceAuth": []}, {"serviceBearer": []}, {"serviceBasic": []}]);
    for (path, method) in [("/oauth2/introspect", "post"), ("/oauth2/revoke", "post"), ("/revocations", "get")] {
        assert_eq!(document["paths"][path][method]["security"], services, "{path}");
    }
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(
        (&schemes["serviceBearer"]["type"], &schemes["serviceBearer"]["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    assert_eq!(schemes["userAuth"]["type"], "http");
    assert_eq!(schemes["userAuth"]["scheme"], "bearer");
    assert_eq!(schemes["serviceAuth"]["type"], "apiKey");
    assert_eq!(schemes["serviceAuth"]["in"], "header");
    assert_eq!(schemes["serviceAuth"]["name"], "X-Service-Token");
}

/// Returns every operation with its name.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let items = document["paths"].as_object().unwrap().iter();
    items
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[test]
fn f18_paths_begin_at_the_public_url_once_it_is_known() {
    assert_eq!(parsed().get("servers"), None);
    let known = serde_json::to_value(document(Some("https://example.com/auth"))).unwrap();
    assert_eq!(known["servers"], json!([{"url": "https://example.com/auth"}]));
}

#[test]
fn f18_every_answer_says_its_headers_and_every_operation_what_a_malformed_head_is() {
    let document = parsed();
    for (name, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "413", "500"] {
            assert!(responses.contains_key(status), "{name} {status}");
        }
        for (status, response) in responses {
            let carries = |header: &str| response["headers"].get(header).is_some();
            assert!(carries("X-Request-Id"), "{name} {status}");
            assert!(carries("Retry-After") || !["429", "503"].contains(&status.as_str()), "{name} {status}");
            assert!(carries("WWW-Authenticate") || !["401", "403"].contains(&status.as_str()), "{name} {status}");
            assert!(carries("RateLimit") || status != "429", "{name} {status}");
        }
    }
    assert_eq!(document["components"]["headers"]["X-Request-Id"]["required"], true);
}

#[test]
fn f18_parameters_have_their_bounds_and_are_not_null() {
    let document = parsed();
    for (name, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            assert!(schema["type"].is_string() || schema["$ref"].is_string(), "{name} {parameter}");
            if parameter["name"] == "limit" {
                assert_eq!((&schema["minimum"], &schema["maximum"]), (&json!(1), &json!(1000)), "{name}");
            }
            if ["from", "to"].contains(&parameter["name"].as_str().unwrap()) {
                assert_eq!(schema["format"], "date-time", "{name}");
            }
        }
    }
}

#[test]
fn f18_schemas_say_what_clients_rely_on() {
    let document = parsed();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert_eq!(schemas["SessionChange"]["required"], json!(["label"]));
    assert_eq!(schemas["Introspection"]["properties"]["active"]["type"], "boolean");
    assert_eq!(schemas["Introspection"]["required"], json!(["active"]));
    let nullable = |schema: &Value| {
        let kinds = schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")));
        let null = |item: &Value| item["type"] == "null";
        kinds || schema["oneOf"].as_array().is_some_and(|items| items.iter().any(null))
    };
    let (in_requests, in_answers) = (schemas_in("requestBody", &document), schemas_in("responses", &document));
    for (name, schema) in schemas {
        // A schema cannot say both that a member may be left out and that it is always there. So no schema with such a member
        // is used in requests and in answers.
        let is_request = in_requests.contains(name) && !in_answers.contains(name);
        let required = |member: &str| schema["required"].as_array().is_some_and(|all| all.contains(&json!(member)));
        for (member, property) in schema["properties"].as_object().into_iter().flatten() {
            if ["email", "pending_email"].contains(&member.as_str()) {
                assert_eq!(property["format"], "email", "{name}.{member}");
            }
            // An answer has every nullable member, and its schema says so.
            assert!(is_request || !nullable(property) || required(member), "{name}.{member}");
        }
    }
    let export = &document["paths"]["/audit/export"]["get"]["responses"]["200"]["content"];
    let file =
        document.pointer(export["application/x-ndjson"]["schema"]["$ref"].as_str().unwrap().trim_start_matches('#'));
    assert_eq!(file.unwrap()["type"], "string");
}

#[test]
fn f18_closed_sets_are_enumerations() {
    let document = parsed();
    let schemas = &document["components"]["schemas"];
    for (set, member) in [
        ("AuditEvent", "session.login"),
        ("AuditOutcome", "refused"),
        ("AuditRefusal", "wrong_password"),
        ("ExportFormat", "csv"),
        ("MailTemplate", "verify_address"),
        ("MailState", "dead"),
        ("RateLimitPolicy", "public"),
        ("RevocationKind", "keys_replaced"),
        ("ServiceScope", "verify"),
        ("SigningAlgorithm", "EdDSA"),
        ("KeyState", "signing"),
        ("ActorState", "running"),
        ("HasherBackend", "portable"),
        ("HasherLaneName", "creation"),
        ("SystemStatus", "degraded"),
        ("ProbeStatus", "not_ready"),
        ("OauthError", "invalid_client"),
        ("Role", "admin"),
        ("Locale", "ro"),
    ] {
        assert!(schemas[set]["enum"].as_array().unwrap().contains(&json!(member)), "{set}");
    }
}

#[test]
fn s61_the_feed_waits_for_half_a_minute_at_most() {
    let document = parsed();
    let parameters = document["paths"]["/revocations"]["get"]["parameters"].as_array().unwrap();
    let wait = parameters.iter().find(|parameter| parameter["name"] == "wait").unwrap();
    assert_eq!((&wait["schema"]["minimum"], &wait["schema"]["maximum"]), (&json!(0), &json!(30)));
}

#[test]
fn f18_a_request_may_leave_out_what_may_be_null_even_where_other_fields_are_passed_over() {
    let schemas = &parsed()["components"]["schemas"];
    for request in ["AccountDeletion", "MyAccountDeletion", "KeyRotation", "AccountChange"] {
        assert_eq!(schemas[request].get("required"), None, "{request}");
    }
}

#[test]
fn s56_no_request_schema_admits_other_fields() {
    // The established interface ignores the body of a deletion, and forms of services may have fields of other profiles
    // (RFC 7662 §2.1, RFC 7009 §2.1).
    const OPEN: [&str; 2] = ["AccountDeletion", "TokenForm"];
    let document = parsed();
    let requests = schemas_in("requestBody", &document);
    let schema = |name: &str| &document["components"]["schemas"][name];
    let objects = requests.iter().filter(|name| schema(name)["type"] == "object");
    let open: Vec<&str> =
        objects.map(String::as_str).filter(|name| schema(name)["additionalProperties"] != false).collect();
    assert_eq!(open, OPEN);
    assert!(requests.contains("RegisterRequest") && requests.contains("MyAccountDeletion"), "{requests:?}");
    assert_eq!(
        document["components"]["schemas"]["RegisterRequest"]["required"],
        json!(["email", "nickname", "password", "passphrase"])
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        match value {
            Value::Object(members) => members.values().for_each(|member| check(member, document)),
            Value::Array(items) => items.iter().for_each(|item| check(item, document)),
            _ => {}
        }
    }
    let document = parsed();
    check(&document, &document);
}
