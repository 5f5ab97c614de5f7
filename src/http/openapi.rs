//! `GET /openapi.json`: the interface as `OpenAPI` 3.1, from the types and handlers themselves.
//!
//! What is the same for many routes (who may use it, how it refuses) is not written at the handlers but filled in
//! from the route table.

use hyper::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::routes::{Access, Class, Documented, RouteInfo, route_table};
use super::{
    accounts_management, audit, email, forward_auth, health, keys, login, my_account, oauth2, outbox, password,
    rate_limits, recovery, recovery_by_mail, refresh, register, revocations, root, service_tokens, sessions, verify,
};

const USER_AUTH: &str = "userAuth";
const SERVICE_AUTH: &str = "serviceAuth";
const SERVICE_BASIC: &str = "serviceBasic";
const SERVICE_BEARER: &str = "serviceBearer";

#[derive(OpenApi)]
#[openapi(
    info(title = "Doorward", description = "A self-hosted authentication and user-management service."),
    paths(
        root::welcome,
        register::register,
        password::check,
        login::login,
        login::logout,
        refresh::refresh,
        sessions::list,
        sessions::end_others,
        sessions::label,
        sessions::end_one,
        sessions::list_of,
        sessions::end_all_of,
        sessions::end_one_of,
        recovery::recover,
        recovery_by_mail::request,
        recovery_by_mail::confirm,
        email::verify,
        email::resend,
        email::cancel,
        my_account::show,
        my_account::change,
        my_account::delete,
        audit::own,
        accounts_management::list,
        accounts_management::create,
        accounts_management::show,
        accounts_management::change,
        accounts_management::delete,
        outbox::list,
        outbox::retry,
        outbox::delete,
        service_tokens::list,
        service_tokens::create,
        service_tokens::rotate,
        service_tokens::revoke,
        rate_limits::list,
        rate_limits::clear,
        keys::list,
        keys::rotate,
        keys::published,
        audit::list,
        audit::export::export,
        audit::stream::stream,
        verify::verify,
        forward_auth::forward_auth,
        oauth2::introspect,
        oauth2::revoke,
        oauth2::metadata,
        revocations::revocations,
        health::live,
        health::ready,
        health::actors,
    ),
    components(schemas(Problem<'static>)),
    modifiers(&FromTheRouteTable),
    tags(
        (name = "Account", description = "One's own account"),
        (name = "Session", description = "Logging in and out"),
        (name = "Services", description = "For services that trust Doorward"),
        (name = "Administration", description = "All accounts; for administrators"),
        (name = "Operation", description = "For operators and their probes"),
        (name = "Service", description = "What answers here"),
    ),
    security(("userAuth" = []))
)]
struct ApiDocument;

/// The document.
pub(super) fn document() -> Document {
    ApiDocument::openapi()
}

struct FromTheRouteTable;

impl Modify for FromTheRouteTable {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme(USER_AUTH, SecurityScheme::Http(bearer));
        let service = ApiKey::Header(ApiKeyValue::with_description("X-Service-Token", "The secret of the services"));
        components.add_security_scheme(SERVICE_AUTH, SecurityScheme::ApiKey(service));
        let basic =
            Http::builder().scheme(HttpAuthScheme::Basic).description(Some("The name of a service and its secret"));
        components.add_security_scheme(SERVICE_BASIC, SecurityScheme::Http(basic.build()));
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("The secret of a service"));
        components.add_security_scheme(SERVICE_BEARER, SecurityScheme::Http(bearer.build()));
        for route in route_table().iter().filter(|route| route.documented == Documented::Yes) {
            let item = document.paths.paths.get_mut(route.path);
            if let Some(operation) = item.and_then(|item| operation(item, &route.method)) {
                describe(operation, route);
            }
        }
    }
}

fn operation<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match *method {
        Method::GET => item.get.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::PATCH => item.patch.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}

/// Adds who may use a route and the refusals that follow from it. What a handler says about a status stays; every
/// refusal is a [`Problem`].
fn describe(operation: &mut Operation, route: &RouteInfo) {
    let by = |scheme: &str| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []);
    operation.security = match route.access {
        // The refresh token in the body is enough, once the access token is over.
        Access::Bearer if route.path == "/logout" => Some(vec![by(USER_AUTH), SecurityRequirement::default()]),
        // The rule for the whole document.
        Access::Bearer | Access::Admin => None,
        Access::Public => Some(vec![]),
        Access::Service(_) => Some(vec![by(SERVICE_AUTH), by(SERVICE_BEARER), by(SERVICE_BASIC)]),
        Access::ServiceAndBearer(_) => Some(vec![by(USER_AUTH).add::<_, [&str; 0], &str>(SERVICE_AUTH, [])]),
        Access::AdminOrService(_) | Access::HiddenAdminOrService(_) => Some(vec![by(USER_AUTH), by(SERVICE_AUTH)]),
    };
    let mut refusals = Vec::new();
    match route.access {
        Access::Public | Access::HiddenAdminOrService(_) => {}
        Access::Service(_) => refusals.extend([
            ("401", "No service token, or one that is not good"),
            ("403", "The service token does not have the scope"),
        ]),
        _ => refusals.push(("401", "No token, or one that is not live")),
    }
    if matches!(route.access, Access::Admin | Access::AdminOrService(_)) {
        refusals.push(("403", "Insufficient permissions. Admin role required."));
    }
    if operation.request_body.is_some() && matches!(route.access, Access::Service(_)) {
        refusals.push(("413", "The body is larger than 64 KiB"));
    } else if operation.request_body.is_some() {
        refusals.extend([
            ("400", "The body is not JSON"),
            ("413", "The body is larger than 64 KiB"),
            ("415", "The body is not application/json"),
            ("422", "The fields are not of the right shape; `errors` says which and why"),
        ]);
    }
    if matches!(
        route.class,
        Class::Login | Class::Credential | Class::Account | Class::Events | Class::Verify | Class::Service
    ) && route.path != "/forward_auth"
    {
        refusals.push(("429", "Too many requests; `Retry-After` says when to come back"));
    }
    if route.class != Class::Static && route.path != "/health/live" {
        refusals.push(("503", "Busy or failing; `Retry-After` says when to come back"));
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in refusals {
        let response = || ResponseBuilder::new().description(description).build().into();
        responses.entry(status.to_owned()).or_insert_with(response);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
            && response.content.is_empty()
        {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert("application/problem+json".to_owned(), problem.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn parsed() -> Value {
        serde_json::to_value(document()).unwrap()
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
            // Who shows a credential may show a bad one; to strangers hidden routes are not there.
            let is_hidden = matches!(route.access, Access::HiddenAdminOrService(_));
            let who = operation.get("security").unwrap_or(&document["security"]).as_array().unwrap();
            assert!(tells("401") || who.is_empty() || is_hidden, "{may}");
            let has_json = operation.pointer("/requestBody/content/application~1json").is_some();
            assert!(!has_json || ["400", "413", "415", "422"].into_iter().all(tells), "{may}");
            assert!(tells("503") || route.class == Class::Static || route.path == "/health/live", "{may}");
        }
        let label = &document["paths"]["/my_account/sessions/{id}"]["patch"]["responses"];
        let told: Vec<_> = label.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(told, ["200", "400", "401", "404", "413", "415", "422", "429", "503"]);
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

    #[test]
    fn s61_the_feed_waits_for_half_a_minute_at_most() {
        let document = parsed();
        let parameters = document["paths"]["/revocations"]["get"]["parameters"].as_array().unwrap();
        let wait = parameters.iter().find(|parameter| parameter["name"] == "wait").unwrap();
        assert_eq!((&wait["schema"]["minimum"], &wait["schema"]["maximum"]), (&json!(0), &json!(30)));
    }

    #[test]
    fn s56_no_request_schema_admits_other_fields() {
        let document = parsed();
        for schema in [
            "RegisterRequest",
            "LoginRequest",
            "RecoveryRequest",
            "MyAccountChange",
            "AccountChange",
            "MyAccountDeletion",
            "MailedRecoveryRequest",
            "AddressRequest",
            "TokenRequest",
            "PasswordCheckRequest",
            "KeyRotation",
            "ServiceTokenRequest",
            "RotationRequest",
        ] {
            assert_eq!(document["components"]["schemas"][schema]["additionalProperties"], false, "{schema}");
        }
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
}
