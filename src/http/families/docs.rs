//! `GET /docs` and `GET /openapi.json`: the documentation. All of it is in the binary; nothing is loaded from other hosts.

use std::io::{self, Read as _};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::read::GzDecoder;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY};
use warp::reply::Response;

use crate::http::Api;
use crate::http::ApiRules;
use crate::http::edge::extract::RequestContext;
use crate::http::error::ApiError;
use crate::http::openapi;
use crate::http::routes::RouteInfo;

/// Scripts only come from this origin, and there are no inline scripts. Swagger UI sets style attributes, and its style sheet and
/// icons contain images as `data:` URLs. Framing is forbidden, because users enter tokens here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// An hour: the files change only with the version of the service.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/png";

/// A file of Swagger UI as the build script left it.
macro_rules! compressed {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz"))
    };
}

/// The files that never change: their names, media types and bytes, which are compressed with gzip.
const FILES: [(&str, &str, &[u8]); 6] = [
    ("swagger-ui.css", STYLE, compressed!("swagger-ui.css")),
    ("index.css", STYLE, compressed!("index.css")),
    ("swagger-ui-bundle.js", SCRIPT, compressed!("swagger-ui-bundle.js")),
    ("swagger-ui-standalone-preset.js", SCRIPT, compressed!("swagger-ui-standalone-preset.js")),
    ("favicon-32x32.png", ICON, compressed!("favicon-32x32.png")),
    ("favicon-16x16.png", ICON, compressed!("favicon-16x16.png")),
];
/// The same files as they were before, for clients that do not accept gzip. Each is decompressed once.
static PLAIN: [OnceLock<Bytes>; FILES.len()] = [const { OnceLock::new() }; FILES.len()];
/// The script that starts Swagger UI with our document. `/docs` allows no inline script.
const INITIALIZER: &str = "swagger-initializer.js";

/// The parts of the documentation that depend on `PUBLIC_URL`. All answers share them.
pub(in crate::http) struct Docs {
    document: Bytes,
    page: Bytes,
    initializer: Bytes,
}

impl Docs {
    /// Writes them. `PUBLIC_URL` may have a path that a proxy in front removes. Every path in the page begins with it.
    fn of(rules: &ApiRules) -> Self {
        let base = rules.base_path();
        // The document consists of texts and maps, which always serialise.
        let document = serde_json::to_vec(&openapi::document(rules.known_url())).unwrap_or_default();
        // The page is in the binary, so it decompresses; a test reads it.
        let page = decompressed(compressed!("index.html")).unwrap_or_default();
        // `/docs` and `/docs/` are one page, for which relative links would differ, so its links are made absolute.
        let page = String::from_utf8_lossy(&page)
            .replace("\"./", &format!("\"{base}/docs/"))
            .replace("href=\"index.css\"", &format!("href=\"{base}/docs/index.css\""))
            .replace("<title>Swagger UI</title>", "<title>Doorward</title>");
        let url = serde_json::Value::from(format!("{base}/openapi.json"));
        // Without `validatorUrl` the page would send the document to another host for validation.
        let initializer = format!(
            "window.ui = SwaggerUIBundle({{\n  \"url\": {url},\n  \"validatorUrl\": \"none\",\n  dom_id: \"#swagger-ui\",\n  \
             deepLinking: true,\n  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],\n  \
             layout: \"StandaloneLayout\"\n}});\n"
        );
        Self { document: document.into(), page: page.into(), initializer: initializer.into() }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::asset("/openapi.json", |api, context| Box::pin(std::future::ready(document(api, context)))),
        RouteInfo::asset("/docs", |api, context| Box::pin(std::future::ready(page(api, context)))),
        RouteInfo::asset("/docs/{file}", |api, context| Box::pin(std::future::ready(file(api, context)))),
    ]
}

/// Returns the documentation to a reader that its quota allows. It is written for the first reader.
fn docs<'a>(api: &'a Api, context: &RequestContext) -> Result<&'a Docs, ApiError> {
    api.docs_reader(context)?;
    Ok(api.docs.get_or_init(|| Docs::of(&api.rules)))
}

fn document(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let mut response = Response::new(docs(api, context)?.document.clone().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn page(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    Ok(asset(docs(api, context)?.page.clone(), "text/html; charset=utf-8"))
}

fn file(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let (docs, name) = (docs(api, context)?, context.param("file"));
    if name == INITIALIZER {
        return Ok(asset(docs.initializer.clone(), SCRIPT));
    }
    let mut files = FILES.into_iter().zip(&PLAIN);
    let ((_, media_type, bytes), plain) = files.find(|((known, ..), _)| *known == name).ok_or(ApiError::NotFound)?;
    let mut response = if context.accepts_gzip() {
        let mut response = asset(Bytes::from_static(bytes), media_type);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        // The files are in the binary, so they decompress; a test reads them.
        asset(plain.get_or_init(|| decompressed(bytes).unwrap_or_default().into()).clone(), media_type)
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

fn decompressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}

fn asset(bytes: Bytes, media_type: &'static str) -> Response {
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, CACHE);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let docs = Docs::of(&ApiRules::default());
        let page = String::from_utf8(docs.page.to_vec()).unwrap();
        assert!(!page.contains("://"), "the page asks another host");
        let named: Vec<_> = page.split('"').filter_map(|text| text.strip_prefix("/docs/")).collect();
        assert_eq!(named.len(), 7, "{named:?}");
        for name in named {
            assert!(name == INITIALIZER || FILES.iter().any(|(known, ..)| *known == name), "{name}");
        }
        for (name, _, bytes) in FILES {
            assert!(!decompressed(bytes).unwrap().is_empty(), "{name}");
        }
    }
}
