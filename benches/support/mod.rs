//! The measured servers and the loads on them.

mod accounts;
mod answer;
pub(crate) mod crowd;
mod extent;
mod flood;
pub(crate) mod limiter;
mod load;
mod probe;
mod process;
pub(crate) mod scale;
mod schedule;
mod server;
mod statistics;
pub(crate) mod storm;
mod table;
pub(crate) mod times;
mod wire;

use std::time::{Duration, Instant};

use doorward::Ambient;
use doorward_actors::{HashBackend, HashBackendChoice, HashCost, pace_of};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use warp::Filter as _;

pub(crate) use accounts::{Group, populate};
pub(crate) use extent::Extent;
pub(crate) use load::Load;
pub(crate) use server::Server;
pub(crate) use statistics::median;

/// Returns the password hashes of the default cost that these threads compute per second. They compute as the server
/// does, and nothing else runs.
pub(crate) fn argon2_rate(threads: usize, time: Duration) -> f64 {
    let Ambient { clock, entropy, .. } = Ambient::default();
    let backend = HashBackend::choose(HashBackendChoice::Auto, &*entropy);
    let cost = HashCost { memory_kib: 19_456, iterations: 2 };
    let (began, mut pace, mut measurements) = (Instant::now(), 0.0, 0.0);
    while began.elapsed() < time {
        pace += pace_of(cost, backend, threads, time, &*clock, &*entropy).unwrap().as_secs_f64();
        measurements += 1.0;
    }
    measurements * f64::from(u32::try_from(threads).unwrap()) / pace
}

/// Serves a route that does nothing on a minimal accept loop. This is the cost of hyper and warp alone. Never returns.
pub(crate) async fn serve_plain(listener: tokio::net::TcpListener) {
    let service = TowerToHyperService::new(warp::service(warp::path!("bare").map(|| "bare".to_owned())));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
