//! `GET /docs` and `GET /openapi.json`: the documentation. All of it is in the binary; nothing is loaded from other hosts.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use utoipa_swagger_ui::{Config, SwaggerFile};
use warp::Filter as _;
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::Family;
use crate::http::edge::extract::{RequestContext, context};
use crate::http::error::ApiError;
use crate::http::openapi;

/// Scripts only come from this origin, and there are no inline scripts. Swagger UI sets style attributes, and its style sheet and
/// icons contain images as `data:` URLs. Framing is forbidden, because users enter tokens here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// An hour: the files change only with the version of the service.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");
/// The files that the page needs. The other files of the package (source maps, other bundles) are for its developers.
const FILES: [&str; 7] = [
    "swagger-ui.css",
    "index.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
    "favicon-32x32.png",
    "favicon-16x16.png",
];

/// Builds the routes. `PUBLIC_URL` may have a path that a proxy in front removes. Every path in the page begins with it.
pub(in crate::http) fn routes(api: &Arc<Api>) -> Family {
    if !api.rules.docs {
        return warp::any().and_then(async || Err::<Response, _>(warp::reject::not_found())).boxed();
    }
    let counted = Arc::clone(api);
    let counted = move |context: &RequestContext, answer: Response| match counted.docs_reader(context) {
        Ok(()) => answer,
        Err(limited) => limited.into_response(),
    };
    let base = api.rules.base_path().to_owned();
    // Written once; each answer shares the bytes. The document consists of texts and maps, which always serialise.
    let document = Bytes::from(serde_json::to_vec(&openapi::document(api.rules.known_url())).unwrap_or_default());
    let config = Arc::new(Config::new([format!("{base}/openapi.json")]).validator_url("none"));
    let page_config = Arc::clone(&config);
    let openapi = warp::path!("openapi.json").and(warp::get()).map(move || {
        let mut response = Response::new(document.clone().into());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    });
    let page = warp::path!("docs").and(warp::get()).map(move || page(&page_config, &base));
    let file = warp::path!("docs" / String).and(warp::get()).map(move |name: String| file(&name, &config));
    let answer = openapi.or(page).unify().or(file).unify();
    answer.and(context()).map(move |answer, context: Arc<RequestContext>| counted(&context, answer)).boxed()
}

/// Returns the page. `/docs` and `/docs/` are one page, for which relative links would differ, so its links are made absolute.
fn page(config: &Arc<Config<'static>>, base: &str) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve("index.html", Arc::clone(config)) else {
        return ApiError::Internal.into_response();
    };
    let page = String::from_utf8_lossy(&file.bytes)
        .replace("\"./", &format!("\"{base}/docs/"))
        .replace("href=\"index.css\"", &format!("href=\"{base}/docs/index.css\""))
        .replace("<title>Swagger UI</title>", "<title>Doorward</title>");
    asset(page.into(), "text/html; charset=utf-8")
}

fn file(name: &str, config: &Arc<Config<'static>>) -> Response {
    if !FILES.contains(&name) {
        return ApiError::NotFound.into_response();
    }
    match utoipa_swagger_ui::serve(name, Arc::clone(config)) {
        // The bundle has 1.5 MB. It is sent from the binary itself and never copied per request.
        Ok(Some(SwaggerFile { bytes: Cow::Borrowed(bytes), content_type, .. })) => {
            asset(Bytes::from_static(bytes), &content_type)
        }
        Ok(Some(SwaggerFile { bytes: Cow::Owned(bytes), content_type, .. })) => asset(bytes.into(), &content_type),
        _ => ApiError::Internal.into_response(),
    }
}

fn asset(bytes: Bytes, content_type: &str) -> Response {
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, CACHE);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let config = Arc::new(Config::new(["/openapi.json"]));
        let file = utoipa_swagger_ui::serve("index.html", Arc::clone(&config)).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&file.bytes).contains("://"), "the page asks another host");
        for name in FILES {
            assert_eq!(super::file(name, &config).status(), 200, "{name}");
        }
        assert_eq!(super::file("index.html", &config).status(), 404);
        assert_eq!(super::file("../Cargo.toml", &config).status(), 404);
    }
}
