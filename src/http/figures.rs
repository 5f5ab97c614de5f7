//! The count of all requests, by route, status and time.
//!
//! The edge counts each answer here, in a place that exists from the start: it looks for no text and waits for no lock. The number of
//! places is that of the routes times that of the statuses, whatever clients send.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorward_actors::{Distribution, RequestTimes};
use hyper::StatusCode;

use crate::http::routes::{Resolved, RouteInfo, Table};

/// The statuses of answers, the most frequent first.
const STATUSES: [u16; 24] = [
    200, 401, 404, 429, 403, 503, 400, 201, 202, 204, 422, 409, 405, 408, 410, 413, 415, 304, 206, 421, 426, 431, 500,
    501,
];
/// A status that is told of each route before it occurs. Else a monitor could not see the first one as an increase.
const ALERTED: u16 = 500;
/// The label of a request that matches no route.
const UNMATCHED: (&str, &str) = ("other", "unmatched");

/// Counts all requests.
#[derive(Debug)]
pub(crate) struct RequestFigures {
    /// One for each route of the table, and a last one for requests that match none.
    routes: Vec<RouteFigures>,
    table: Table,
}

/// Counts the requests of one route.
#[derive(Debug)]
struct RouteFigures {
    statuses: [AtomicU64; STATUSES.len()],
    /// Answers with a status that is not listed. There should be none.
    others: AtomicU64,
    times: RequestTimes,
}

/// What was counted of one route.
#[derive(Debug)]
pub(in crate::http) struct RouteCounts {
    pub(in crate::http) method: &'static str,
    /// The template of its path.
    pub(in crate::http) route: &'static str,
    /// The statuses that occurred, with their number, and [`ALERTED`]. 0 stands for those that are not listed.
    pub(in crate::http) statuses: Vec<(u16, u64)>,
    pub(in crate::http) times: Distribution,
}

impl RouteFigures {
    fn new() -> Self {
        let statuses = [const { AtomicU64::new(0) }; STATUSES.len()];
        Self { statuses, others: AtomicU64::new(0), times: RequestTimes::of_requests() }
    }

    fn read(&self, (method, route): (&'static str, &'static str)) -> RouteCounts {
        let counts = STATUSES.into_iter().zip(&self.statuses).chain([(0, &self.others)]);
        let statuses = counts.map(|(status, count)| (status, count.load(Ordering::Relaxed)));
        RouteCounts {
            method,
            route,
            statuses: statuses.filter(|(status, count)| *count > 0 || *status == ALERTED).collect(),
            times: self.times.read(),
        }
    }
}

impl Default for RequestFigures {
    /// Counts all requests as one.
    fn default() -> Self {
        Self::new(Table::default())
    }
}

impl RequestFigures {
    /// Counts the requests of these routes.
    pub(in crate::http) fn new(table: Table) -> Self {
        Self { table, routes: (0..=table.0.len()).map(|_| RouteFigures::new()).collect() }
    }

    /// Counts an answer and the time that it took.
    pub(in crate::http) fn count(&self, resolved: Resolved, status: StatusCode, took: Duration) {
        let number = if let Resolved::Route(info) = resolved { self.table.0.element_offset(info) } else { None };
        let Some(figures) = number.and_then(|number| self.routes.get(number)).or(self.routes.last()) else { return };
        let status = STATUSES.iter().position(|known| *known == status.as_u16());
        status.map_or(&figures.others, |index| &figures.statuses[index]).fetch_add(1, Ordering::Relaxed);
        figures.times.count_time(took);
    }

    /// Returns what was counted, in the order of the table.
    pub(in crate::http) fn read(&self) -> Vec<RouteCounts> {
        let name = |info: &'static RouteInfo| (info.method.as_str(), info.path);
        let names = self.table.0.iter().map(name).chain([UNMATCHED]);
        self.routes.iter().zip(names).map(|(figures, name)| figures.read(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;
    use crate::http::route_table;

    #[test]
    fn each_route_has_a_place_of_its_own_and_all_others_share_one() {
        let table = Table(route_table());
        let figures = RequestFigures::new(table);
        let resolve = |method: &Method, path: &str| table.resolve(method, path);
        for info in route_table() {
            figures.count(Resolved::Route(info), StatusCode::OK, Duration::from_millis(1));
        }
        for path in ["/nope", "/login/x", "/%00"] {
            figures.count(resolve(&Method::GET, path), StatusCode::NOT_FOUND, Duration::ZERO);
        }
        figures.count(resolve(&Method::PUT, "/login"), StatusCode::METHOD_NOT_ALLOWED, Duration::ZERO);
        figures.count(resolve(&Method::POST, "/login"), StatusCode::IM_A_TEAPOT, Duration::ZERO);
        let read = figures.read();
        assert_eq!(read.len(), route_table().len() + 1);
        for (counts, info) in read.iter().zip(route_table()) {
            assert_eq!((counts.method, counts.route), (info.method.as_str(), info.path));
            let teapots = if info.path == "/login" { vec![(0, 1)] } else { vec![] };
            assert_eq!(counts.statuses, [vec![(200, 1), (ALERTED, 0)], teapots].concat());
            assert_eq!(counts.times.count(), counts.statuses.iter().map(|(_, count)| count).sum::<u64>());
        }
        let last = read.last().unwrap();
        assert_eq!((last.route, last.statuses.as_slice()), ("unmatched", &[(404, 3), (405, 1), (ALERTED, 0)][..]));
    }
}
