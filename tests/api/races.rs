//! What happens at the same moment. Each race is run again and again, in an order that a seed decides, and is watched by several who ask all
//! the while. What began after a change was acknowledged must know of it; what ended before it was sent must not; and what once
//! was dead stays dead. No answer between the two is wrong, and none is asked for.

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
