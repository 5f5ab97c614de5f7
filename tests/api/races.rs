//! Concurrent requests. Each race runs many times, in an order that a seed decides, while several tasks check the state
//! all the time. A check that began after a change was acknowledged must see the change. A check that ended before the
//! change was sent must not see it. Between these two moments every answer is correct. A session or token that was seen
//! dead once must stay dead.

mod ends;
mod feed;
mod keys;
mod logins;
mod people;
mod refresh;
mod renewed;
mod roles;
mod services;
mod spared;
mod sweeps;
mod witness;
