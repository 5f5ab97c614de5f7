//! The servers that are measured and the loads they are put under.

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

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use warp::Filter as _;

pub(crate) use accounts::{Group, populate};
pub(crate) use extent::Extent;
pub(crate) use load::Load;
pub(crate) use server::Server;
pub(crate) use statistics::median;

/// How many password hashes of the default cost these threads compute in a second, with memory of their own and nothing
/// else to do.
pub(crate) fn argon2_rate(threads: usize, time: Duration) -> f64 {
    let count = move || {
        let params = argon2::Params::new(19_456, 2, 1, Some(32)).unwrap();
        let mut memory = vec![argon2::Block::default(); params.block_count()];
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let (began, mut hashes, mut out) = (Instant::now(), 0_u32, [0; 32]);
        while began.elapsed() < time {
            argon2.hash_password_into_with_memory(b"password", b"a salt of 16 byt", &mut out, &mut memory).unwrap();
            hashes += 1;
        }
        f64::from(hashes) / began.elapsed().as_secs_f64()
    };
    let running: Vec<_> = (0..threads).map(|_| std::thread::spawn(count)).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).sum()
}

/// A route that does nothing on an accept loop that does nothing either: what hyper and warp cost by themselves. Never returns.
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
