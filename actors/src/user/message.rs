use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::flows::Flows;
use crate::domain::session::Acting;

/// What the user actor is told.
pub(crate) enum Message {
    /// Run a flow, which answers its caller itself.
    Run {
        /// The span of the request, so that every line logged on its behalf carries its id.
        span: tracing::Span,
        run: Run,
    },
    /// Remove accounts that were not verified in time. Sent by a timer.
    RemoveUnverified,
}

/// Begins a flow, unless its caller has given up.
pub(crate) type Run = Box<dyn FnOnce(Arc<Flows>) -> Option<BoxFuture<'static, ()>> + Send>;

/// The creator of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creator {
    /// The owner, by registering.
    Owner,
    /// An administrator, for somebody else.
    Admin(Acting),
}
