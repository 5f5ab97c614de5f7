//! `POST /backup`: a backup of the running server, without secrets.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use doorward_actors::{AuditEvent, Role, Secret, ServiceScope};
use hyper::header::CONTENT_DISPOSITION;
use serde::Deserialize;
use tokio::runtime::Handle;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::backup::create::{CreateError, Destination};
use crate::backup::live::{file_name, in_background};
use crate::http::edge::extract::RequestContext;
use crate::http::edge::pieces::{self, Over, Pieces};
use crate::http::error::ApiError;
use crate::http::reader::{BUSY, Reader, attachment, streamed};
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::{Api, closed_sets};

/// The most bytes of one piece. A reader that takes longer than five minutes for one is cut off.
const PIECE: usize = 64 * 1024;

/// Proof for a backup: an administrator's password, unless the login is recent enough. Services send none.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    /// The caller's current password; needed unless they logged in within `ADMIN_REAUTH_MINUTES`.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    let access = Access::AdminOrService(ServiceScope::Backup);
    vec![RouteInfo::new(__path_make, access, Class::Admin, |api, context| Box::pin(make(api, context)))]
}

/// Make a backup
///
/// For administrators and services. It is the file that `doorward restore` takes, of one point in time, without secrets and keys. Two are
/// made at once at most. If the body is aborted, the file is incomplete, and no restore takes it.
#[utoipa::path(post, path = "/backup", operation_id = "make_backup", tag = "Operation",
    request_body(content = Option<BackupRequest>, description = "May be left out"),
    responses(
    (status = 200, description = "The backup", content((closed_sets::BinaryFile = "application/octet-stream")),
        headers(("Content-Disposition" = String, description = "`attachment`, with a name for the file"))),
    (status = 403, description = "Re-authentication needed (RFC 9470), not an administrator, or the service token does not have \
        the scope `backup`"),
))]
async fn make(api: &Arc<Api>, context: &RequestContext) -> Result<Response, ApiError> {
    let mut reader = Reader::of(api, context, ServiceScope::Backup).await?;
    let typed: BackupRequest = context.optional_json().await?.unwrap_or_default();
    // Checked again: while the body arrived, the session or the token may have ended (S37, S38).
    let acting = if let Reader::Admin { principal, .. } = &mut reader {
        **principal = api.proven_admin(context, AuditEvent::BackupMade, typed.current_password).await?;
        Some(principal.acting_proven(Role::Admin))
    } else if reader.may_still_read(api).await {
        None
    } else {
        return Err(ApiError::ServiceUnauthenticated { basic: false, sent: true });
    };
    let backups = api.backups.clone().ok_or(BUSY)?;
    let place = backups.place().ok_or(BUSY)?;
    let record = api.handles.audit.by_reader(&reader.named(), AuditEvent::BackupMade, context.origin());
    let name = file_name(record.at);
    let begun = match backups.begin_bare(record, acting).await {
        Ok(begun) => begun,
        Err(CreateError::Revoked) => return Err(api.revoked_admin(context).await),
        Err(CreateError::Store(failure)) => return Err(doorward_actors::Unavailable::from(failure).into()),
        Err(error) => {
            tracing::error!(%error, "a backup could not be begun");
            return Err(ApiError::Internal);
        }
    };
    let (pieces, body) = pieces::file();
    let (runtime, api) = (Handle::current(), Arc::clone(api));
    let work = move || {
        let _place = place;
        let mut out = Out { api, reader, pieces };
        match runtime.block_on(backups.write(begun, &mut out)) {
            Ok(_) => out.pieces.finish(),
            // The connection is aborted, and the end of the file is missing.
            Err(error) => tracing::warn!(%error, "a backup over HTTP failed"),
        }
    };
    in_background("backup", work).map_err(|error| {
        tracing::error!(%error, "no thread for a backup");
        BUSY
    })?;
    let mut response = streamed(body, "application/octet-stream");
    if let Some(disposition) = attachment(&name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The body of the answer.
struct Out {
    api: Arc<Api>,
    reader: Reader,
    pieces: Pieces,
}

impl Destination for &mut Out {
    async fn take(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let Out { api, reader, pieces } = &mut **self;
        let over = |Over| io::Error::other("its client is gone, too slow or may no longer have it");
        if !reader.may_still_read(api).await {
            return Err(over(Over));
        }
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            pieces.send(Ok(piece), reader.barred(api)).await.map_err(over)?;
        }
        Ok(())
    }
}
