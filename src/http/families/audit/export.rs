//! `GET /audit/export`: returns the log as a file, piece by piece.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use doorward_actors::{AuditEvent, AuditFilter, AuditOrder, AuditPage, AuditQuery, ServiceScope};
use hyper::header::CONTENT_DISPOSITION;
use tokio::sync::OwnedSemaphorePermit;
use warp::reply::Response;

use super::Fields;
use crate::http::edge::extract::RequestContext;
use crate::http::edge::pieces::{self, Over, Piece, Pieces};
use crate::http::error::ApiError;
use crate::http::reader::{Reader, attachment, place, streamed};
use crate::http::shown::event::Event;
use crate::http::{Api, closed_sets};

/// The most events of one piece: some 75 KB, at worst 150 KB.
const PIECE: usize = 256;
/// The most records that are examined for one piece.
const PIECE_SCAN: usize = 4096;

/// The format of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// One JSON object for each line.
    Ndjson,
    /// RFC 4180, with a header line.
    Csv,
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Export the log as a file, the oldest first
///
/// It ends with the record of the export itself. If the body is aborted, the file is incomplete.
#[utoipa::path(get, path = "/audit/export", operation_id = "export_audit", tag = "Administration",
    params(
    ("format" = Option<closed_sets::ExportFormat>, Query, description = "What the file is: `ndjson` unless said otherwise"),
    ("event" = Option<closed_sets::AuditEvent>, Query, description = "As for `/audit/`, as all that follow"),
    ("actor" = Option<String>, Query, pattern = "^(account|admin|service|system|anonymous|(account|admin):[1-9][0-9]{0,17}|service:.{1,64})$"),
    ("subject" = Option<u64>, Query, minimum = 1),
    ("address" = Option<String>, Query),
    ("outcome" = Option<closed_sets::AuditOutcome>, Query),
    ("from" = Option<String>, Query, format = DateTime),
    ("to" = Option<String>, Query, format = DateTime),
), responses(
    (status = 200, description = "The log", content(
        (closed_sets::TextFile = "application/x-ndjson"),
        (closed_sets::TextFile = "text/csv"),
    ), headers(("Content-Disposition" = String, description = "`attachment`, with a name for the file"))),
    (status = 422, description = "A filter or `format` is not possible"),
))]
pub(in crate::http) async fn export(api: &Arc<Api>, context: &RequestContext) -> Result<Response, ApiError> {
    let reader = Reader::of(api, context, ServiceScope::Audit).await?;
    let mut fields = Fields::of(context)?;
    let format = fields.read("format", "This must be ndjson or csv", Format::parse).unwrap_or(Format::Ndjson);
    let filter = fields.filter();
    fields.finish()?;
    let place = place(&api.readers.exports)?;
    api.handles.audit.is_taken(&reader.named(), AuditEvent::AuditExported, context.origin()).await?;
    let status = api.handles.audit.status().await?;
    let last = status.head.sequence;
    let (pieces, body) = pieces::file();
    let work = Export { api: Arc::clone(api), reader, filter, format, last, _place: place };
    tokio::spawn(work.run(pieces));
    let mut response = streamed(body, format.media_type());
    if let Some(disposition) = attachment(&format!("doorward-audit-{last}.{}", format.ending())) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

struct Export {
    api: Arc<Api>,
    reader: Reader,
    filter: AuditFilter,
    format: Format,
    /// The newest record when the export began. Later ones are not part of it.
    last: u64,
    _place: OwnedSemaphorePermit,
}

impl Export {
    async fn run(self, mut pieces: Pieces) {
        if self.pour(&mut pieces).await.is_ok() {
            pieces.finish();
        }
    }

    /// Sends pieces until the end, or until nobody reads any more or the reader may no longer read.
    async fn pour(&self, pieces: &mut Pieces) -> Result<(), Over> {
        if self.format == Format::Csv {
            pieces.send(header(), self.reader.barred(&self.api)).await?;
        }
        let mut after = None;
        loop {
            let page = self.page(after).await?;
            let entries = page.entries.iter().filter(|(sequence, _)| *sequence <= self.last);
            let piece = piece(self.format, entries.map(|(sequence, record)| Event::of(*sequence, record)));
            if !piece.as_ref().is_ok_and(Bytes::is_empty) {
                let broken = piece.is_err();
                pieces.send(piece, self.reader.barred(&self.api)).await?;
                if broken {
                    return Err(Over);
                }
            }
            after = page.last.filter(|last| page.more && *last < self.last);
            if after.is_none() {
                return Ok(());
            }
            if pieces.is_closed() {
                return Err(Over);
            }
        }
    }

    async fn page(&self, after: Option<u64>) -> Result<AuditPage, Over> {
        if !self.reader.may_still_read(&self.api).await {
            return Err(Over);
        }
        let query = AuditQuery {
            filter: self.filter.clone(),
            order: AuditOrder::OldestFirst,
            after,
            limit: PIECE,
            scan: PIECE_SCAN,
        };
        self.api.handles.audit.page(query).await.map_err(|_| Over)
    }
}

fn header() -> Piece {
    csv(std::iter::once(Event::NAMES))
}

fn piece(format: Format, events: impl Iterator<Item = Event>) -> Piece {
    match format {
        Format::Csv => {
            let events: Vec<Event> = events.collect();
            csv(events.iter().map(|event| event.cells().map(std::borrow::Cow::into_owned)))
        }
        Format::Ndjson => {
            let mut lines = Vec::new();
            for event in events {
                serde_json::to_writer(&mut lines, &event)?;
                lines.push(b'\n');
            }
            Ok(lines.into())
        }
    }
}

/// Writes lines of CSV, which end with CR LF (RFC 4180 §2).
fn csv<C: AsRef<[u8]>>(lines: impl Iterator<Item = [C; 12]>) -> Piece {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for line in lines {
        writer.write_record(line).map_err(io::Error::other)?;
    }
    Ok(writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?.into())
}
