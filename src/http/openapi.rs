//! `GET /openapi.json`: the interface as `OpenAPI` 3.1, generated from the types and handlers.
//!
//! What many routes have in common (who may use them, how they refuse) is not written at the handlers. It is filled in
//! from the route table.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, Header, HeaderBuilder, Object, OpenApi as Document, Ref, RefOr, ResponseBuilder, Schema, Server,
};

use crate::http::closed_sets;
use crate::http::error::Problem;
use crate::http::families::route_table;
use crate::http::routes::{Access, Class, Documented, RouteInfo};

const USER_AUTH: &str = "userAuth";
const SERVICE_AUTH: &str = "serviceAuth";
const SERVICE_BASIC: &str = "serviceBasic";
const SERVICE_BEARER: &str = "serviceBearer";

#[derive(OpenApi)]
#[openapi(
    info(title = "Doorward", description = "A self-hosted authentication and user-management service.\n\n\
        Every answer has `Cache-Control`, `X-Content-Type-Options` and `Referrer-Policy` too. A request whose head is no \
        HTTP or is too large is answered with 400, 414 or 431 before its route is known."),
    components(schemas(Problem<'static>, closed_sets::ExportFormat)),
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

/// Generates the document. `server` is the URL that its paths begin at. Without one they begin where the document is.
pub(in crate::http) fn document(server: Option<&str>) -> Document {
    let mut document = ApiDocument::openapi();
    for route in route_table() {
        route.describe(&mut document);
    }
    describe_what_routes_share(&mut document);
    document.servers = server.map(|url| vec![Server::new(url)]);
    document
}

/// A header that many answers have. The document describes each one once.
struct CommonHeader {
    name: &'static str,
    /// Whether it is always there, in the answers that may have it.
    required: bool,
    kind: Type,
    description: &'static str,
}

const REQUEST_ID: &str = "X-Request-Id";
const RETRY_AFTER: &str = "Retry-After";
const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
const ACCEPT_ENCODING: &str = "Accept-Encoding";
const RATE_LIMIT: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

const COMMON_HEADERS: [CommonHeader; 6] = [
    CommonHeader {
        name: REQUEST_ID,
        required: true,
        kind: Type::String,
        description: "The name of the request in the log: the caller's, if it sent one",
    },
    CommonHeader {
        name: RETRY_AFTER,
        required: true,
        kind: Type::Integer,
        description: "After how many seconds to come back",
    },
    CommonHeader {
        name: WWW_AUTHENTICATE,
        required: true,
        kind: Type::String,
        description: "How to authenticate (RFC 6750 §3)",
    },
    CommonHeader {
        name: ACCEPT_ENCODING,
        required: false,
        kind: Type::String,
        description: "`identity`, if the body is refused for its `Content-Encoding` (RFC 9110 §12.5.3)",
    },
    CommonHeader {
        name: RATE_LIMIT[0],
        required: false,
        kind: Type::String,
        description: "What is left of the allowance, if the request was counted",
    },
    CommonHeader {
        name: RATE_LIMIT[1],
        required: false,
        kind: Type::String,
        description: "The allowance, if the request was counted",
    },
];

impl CommonHeader {
    fn describe(&self) -> RefOr<Header> {
        let header =
            HeaderBuilder::new().schema(Some(Object::with_type(self.kind.clone()))).description(Some(self.description));
        // `required` is a member of header objects that utoipa does not support.
        let required = self.required.then(|| Extensions::from_iter([("required", true)]));
        RefOr::T(header.extensions(required).build())
    }
}

/// Returns a reference to a header of [`COMMON_HEADERS`].
fn common(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

/// Adds who may use each route, how it may refuse, and the headers of its answers.
fn describe_what_routes_share(document: &mut Document) {
    // The document consists of texts and maps, which always serialise.
    let in_requests = schemas_in("requestBody", &serde_json::to_value(&*document).unwrap_or_default());
    let components = document.components.get_or_insert_default();
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme(USER_AUTH, SecurityScheme::Http(bearer));
    let service = ApiKey::Header(ApiKeyValue::with_description("X-Service-Token", "The secret of the services"));
    components.add_security_scheme(SERVICE_AUTH, SecurityScheme::ApiKey(service));
    let basic = Http::builder().scheme(HttpAuthScheme::Basic).description(Some("The name of a service and its secret"));
    components.add_security_scheme(SERVICE_BASIC, SecurityScheme::Http(basic.build()));
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("The secret of a service"));
    components.add_security_scheme(SERVICE_BEARER, SecurityScheme::Http(bearer.build()));
    components.headers.extend(COMMON_HEADERS.iter().map(|header| (header.name.to_owned(), header.describe())));
    let answers = components.schemas.iter_mut().filter(|(name, _)| !in_requests.contains(*name));
    answers.for_each(|(_, schema)| say_what_is_always_there(schema));
    for route in route_table().iter().filter(|route| route.documented == Documented::Yes) {
        let item = document.paths.paths.get_mut(route.path);
        if let Some(operation) = item.and_then(|item| operation(item, &route.method)) {
            describe(operation, route);
        }
    }
}

/// Returns the names of the schemas that this part of the operations (`requestBody`, `responses`) refers to, at any depth.
fn schemas_in(part: &str, document: &Value) -> BTreeSet<String> {
    fn add(value: &Value, schemas: &Value, names: &mut BTreeSet<String>) {
        let reference = value.get("$ref").and_then(Value::as_str);
        if let Some(name) = reference.and_then(|reference| reference.strip_prefix("#/components/schemas/"))
            && names.insert(name.to_owned())
        {
            add(&schemas[name], schemas, names);
        }
        match value {
            Value::Object(members) => members.values().for_each(|member| add(member, schemas, names)),
            Value::Array(items) => items.iter().for_each(|item| add(item, schemas, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    let items = document["paths"].as_object().into_iter().flat_map(serde_json::Map::values);
    for operation in items.filter_map(Value::as_object).flat_map(serde_json::Map::values) {
        add(&operation[part], &document["components"]["schemas"], &mut names);
    }
    names
}

/// Marks every nullable member of an answer as required, because it is always there. In requests it may be left out.
fn say_what_is_always_there(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    let nullable =
        object.properties.iter().filter(|(name, schema)| may_be_null(schema) && !object.required.contains(name));
    let nullable: Vec<String> = nullable.map(|(name, _)| name.clone()).collect();
    object.required.extend(nullable);
}

fn may_be_null(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => has_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => has_null(&array.schema_type),
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.iter().any(may_be_null),
        _ => false,
    }
}

fn has_null(kind: &SchemaType) -> bool {
    match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
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

/// Adds who may use a route, and the refusals that follow from that. What a handler says about a status is kept. Every
/// refusal is a [`Problem`].
fn describe(operation: &mut Operation, route: &RouteInfo) {
    let by = |scheme: &str| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []);
    operation.security = match route.access {
        // Once the access token has expired, the refresh token in the body is enough.
        Access::Bearer if route.path == "/logout" => Some(vec![by(USER_AUTH), SecurityRequirement::default()]),
        // The default of the whole document applies.
        Access::Bearer | Access::Admin => None,
        Access::Public => Some(vec![]),
        Access::Service(_) => Some(vec![by(SERVICE_AUTH), by(SERVICE_BEARER), by(SERVICE_BASIC)]),
        Access::ServiceAndBearer(_) => Some(vec![by(USER_AUTH).add::<_, [&str; 0], &str>(SERVICE_AUTH, [])]),
        Access::AdminOrService(_) | Access::HiddenAdminOrService(_) => Some(vec![by(USER_AUTH), by(SERVICE_AUTH)]),
    };
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
        {
            describe_parameter(schema);
        }
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in refusals(route, operation.request_body.is_some()) {
        let response = || ResponseBuilder::new().description(description).build().into();
        responses.entry(status.to_owned()).or_insert_with(response);
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if status.as_str() >= "400" && response.content.is_empty() {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert("application/problem+json".to_owned(), problem.into());
        }
        let mut carry = |name: &str| drop(response.headers.insert(name.to_owned(), common(name)));
        carry(REQUEST_ID);
        match status.as_str() {
            "401" => carry(WWW_AUTHENTICATE),
            "415" => carry(ACCEPT_ENCODING),
            "429" | "503" => carry(RETRY_AFTER),
            _ => {}
        }
        if is_admitted(route) {
            RATE_LIMIT.into_iter().for_each(&mut carry);
        }
        if status == "403" {
            let challenge = HeaderBuilder::new().schema(Some(Object::with_type(Type::String)));
            let description = "What the token lacks, where it is the token that lacks something (RFC 6750 §3.1)";
            let challenge = RefOr::T(challenge.description(Some(description)).build());
            response.headers.insert(WWW_AUTHENTICATE.to_owned(), challenge);
        }
    }
}

/// Removes what utoipa assumes about optional and unsigned values. A parameter that is left out is not null, and account
/// numbers may exceed an `int64`.
fn describe_parameter(schema: &mut Object) {
    if let SchemaType::Array(kinds) = &mut schema.schema_type {
        kinds.retain(|kind| *kind != Type::Null);
        if let [kind] = kinds.as_slice() {
            schema.schema_type = SchemaType::Type(kind.clone());
        }
    }
    if schema.schema_type == SchemaType::Type(Type::Integer) && schema.minimum.is_some() {
        schema.format = None;
    }
}

/// Whether requests of this route need a place and may be refused by address. The others are answered from memory.
fn is_admitted(route: &RouteInfo) -> bool {
    route.class != Class::Static && route.path != "/health/live"
}

/// Returns how requests of this route may be refused, whatever its handler says.
fn refusals(route: &RouteInfo, has_body: bool) -> Vec<(&'static str, &'static str)> {
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
    if has_body {
        refusals.push(("400", "The body is not of its media type, or the head of the request can be read in two ways"));
        refusals.push(("408", "The body did not arrive in time"));
        refusals.push(("415", "The body is of another media type"));
        if !matches!(route.access, Access::Service(_)) {
            refusals.push(("422", "The fields are not of the right shape; `errors` says which and why"));
        }
    }
    refusals.extend([
        (
            "400",
            "The head of the request can be read in two ways, such as one with two `Authorization` headers or with a \
             name twice in its query",
        ),
        ("413", "The body is larger than 64 KiB"),
        ("500", "A defect; `instance` is its name in the log"),
    ]);
    if is_admitted(route) {
        refusals.push(("429", "Too many requests; `Retry-After` says when to come back"));
        refusals.push(("503", "Busy or failing; `Retry-After` says when to come back"));
    }
    refusals
}

/// Returns the headers that pages of other origins may send and those that they may read. Routes for services only are
/// left out, because their secret does not belong in a browser.
pub(in crate::http) fn headers_for_pages() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut document = document(None);
    let (mut taken, mut given) = (BTreeSet::from([REQUEST_ID.to_owned()]), BTreeSet::new());
    for route in route_table().iter().filter(|route| !route.is_for_services()) {
        let item = document.paths.paths.get_mut(route.path);
        let Some(operation) = item.and_then(|item| operation(item, &route.method)) else { continue };
        for parameter in operation.parameters.iter().flatten() {
            if let RefOr::T(parameter) = parameter
                && parameter.parameter_in == ParameterIn::Header
            {
                taken.insert(parameter.name.clone());
            }
        }
        if operation.request_body.is_some() {
            taken.insert("Content-Type".to_owned());
        }
        if operation.security.as_ref().is_none_or(|by| !by.is_empty()) {
            taken.insert("Authorization".to_owned());
        }
        for response in operation.responses.responses.values() {
            if let RefOr::T(response) = response {
                given.extend(response.headers.keys().cloned());
            }
        }
    }
    (taken, given)
}

#[cfg(test)]
mod tests;
