//! Exports give the rows as they were when they began, whatever is committed meanwhile.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::engine::{Engine, Export, PIECE_BYTES, PIECE_ROWS, Rows, Verdict, View};
use doorward_actors::store::integrity::Integrity;
use doorward_actors::testing::MemoryEngine;

use crate::runtime;

type AllRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The keys of the tests are below this number.
const KEYS: u16 = 600;
/// Values are so large that the rows of a test make several pieces.
const VALUE_BYTES: usize = 3000;

fn key(number: u16) -> Vec<u8> {
    [&[0x02], &number.to_be_bytes()[..]].concat()
}

/// An export that is being read.
struct Running {
    export: Box<dyn Export>,
    /// The rows before it began.
    start: AllRows,
    /// What it gave so far.
    given: AllRows,
    open: bool,
}

/// Runs a test on an engine on disk and on one in memory.
fn on_both(test: impl AsyncFn(Arc<dyn Engine>)) {
    let dir = tempfile::tempdir().unwrap();
    let disk = SledEngine::open(dir.path(), SledOptions::default()).unwrap();
    for engine in [Arc::new(disk) as Arc<dyn Engine>, Arc::new(MemoryEngine::default())] {
        runtime().block_on(test(engine));
    }
}

/// Makes a change of these rows. `None` removes.
async fn commit(engine: &dyn Engine, writes: Vec<(u16, Option<Vec<u8>>)>) {
    let change = Box::new(move |view: &mut dyn View| {
        for (number, value) in writes.clone() {
            match value {
                Some(value) => view.put_raw(&key(number), value),
                None => view.remove(&key(number)),
            }
        }
        Ok(Verdict::Keep)
    });
    engine.commit(change).await.unwrap();
}

async fn all_rows(engine: &dyn Engine) -> AllRows {
    let slot = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&slot);
    let ask = move |rows: &dyn Rows| {
        *found.lock().unwrap() = rows.range_raw(Bound::Unbounded, Bound::Unbounded, usize::MAX)?;
        Ok(())
    };
    engine.ask(Box::new(ask)).await.unwrap();
    let rows = std::mem::take(&mut *slot.lock().unwrap());
    rows.into_iter().collect()
}

/// Adds the next piece of an export to what it gave before. Returns whether there was one.
async fn take(export: &mut dyn Export, given: &mut AllRows) -> bool {
    let piece = export.next().await.unwrap();
    assert!(piece.len() <= PIECE_ROWS);
    let bytes: usize = piece.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes < PIECE_BYTES + VALUE_BYTES + 10, "{bytes}");
    for (key, value) in &piece {
        assert!(given.last_key_value().is_none_or(|(last, _)| last < key), "not in the order of the keys");
        given.insert(key.clone(), value.clone());
    }
    !piece.is_empty()
}

fn random_writes(rng: &mut fastrand::Rng, most: usize) -> Vec<(u16, Option<Vec<u8>>)> {
    let write = |rng: &mut fastrand::Rng| {
        let value = rng.u8(..4).checked_sub(1).map(|_| vec![rng.u8(..); rng.usize(..VALUE_BYTES)]);
        (rng.u16(..KEYS), value)
    };
    (0..rng.usize(..most)).map(|_| write(rng)).collect()
}

/// Fails if the rows of a data directory violate what the rules keep true.
pub(crate) async fn assert_whole(dir: &Path) {
    let engine = SledEngine::open(dir, SledOptions::default()).unwrap();
    let (mut integrity, mut export) = (Integrity::new([7; 32]), engine.export().await.unwrap());
    let mut rows = 0;
    loop {
        let piece = export.next().await.unwrap();
        if piece.is_empty() {
            break;
        }
        rows += piece.len();
        for (key, value) in piece {
            integrity.row(&key, &value).unwrap_or_else(|violation| panic!("{key:02X?}: {violation}"));
        }
    }
    assert_eq!(integrity.finish().unwrap().rows, rows as u64);
}

#[test]
fn r16_an_export_is_the_rows_at_its_start_whatever_changes_meanwhile() {
    on_both(async |engine| {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            commit(&*engine, random_writes(&mut rng, 800)).await;
            let mut exports: Vec<Running> = Vec::new();
            // Several exports, each from another start, that go on in any order.
            while exports.len() < 3 || exports.iter().any(|running| running.open) {
                if exports.len() < 3 {
                    let start = all_rows(&*engine).await;
                    let export = engine.export().await.unwrap();
                    exports.push(Running { export, start, given: AllRows::new(), open: true });
                }
                for _ in 0..rng.u8(..3) {
                    commit(&*engine, random_writes(&mut rng, 100)).await;
                }
                if rng.u8(..10) == 0 {
                    // Everything goes away.
                    commit(&*engine, (0..KEYS).map(|number| (number, None)).collect()).await;
                }
                let chosen = rng.usize(..exports.len());
                let running = &mut exports[chosen];
                if running.open {
                    running.open = take(&mut *running.export, &mut running.given).await;
                }
            }
            for mut running in exports {
                assert!(running.given == running.start, "seed {seed}");
                assert!(running.export.next().await.unwrap().is_empty(), "an end is final");
            }
        }
    });
}

/// The rows that every commit of the thread writes with the same number: one in each piece, and the first and the last.
const MARKED: [u16; 7] = [0, 100, 200, 300, 400, 500, KEYS];

#[test]
fn r16_an_export_holds_no_commit_of_another_thread_in_part() {
    on_both(async |engine| {
        let filler = (1..KEYS).map(|number| (number, Some(vec![0; VALUE_BYTES])));
        commit(&*engine, filler.collect()).await;
        let (stop, committing) = (Arc::new(AtomicBool::new(false)), Arc::clone(&engine));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut number = 0_u64;
                while !stopped.load(Ordering::Relaxed) {
                    number += 1;
                    let value = Some(number.to_be_bytes().to_vec());
                    let mut writes: Vec<_> = MARKED.iter().map(|marked| (*marked, value.clone())).collect();
                    // A row that is there after odd numbers only.
                    writes.push((KEYS + 1, value.filter(|_| number % 2 == 1)));
                    commit(&*committing, writes).await;
                }
                number
            })
        });
        let mut seen = Vec::new();
        while seen.len() < 150 || seen.first() == seen.last() {
            let acknowledged = engine.get(&key(MARKED[0])).await.unwrap();
            let mut export = engine.export().await.unwrap();
            let mut given = AllRows::new();
            while take(&mut *export, &mut given).await {}
            let marks: Vec<_> = MARKED.iter().map(|marked| given.get(&key(*marked)).cloned()).collect();
            let Some(Some(first)) = marks.first().cloned() else { continue };
            assert!(marks.iter().all(|mark| mark.as_ref() == Some(&first)), "{marks:?}");
            assert!(acknowledged.is_none_or(|acknowledged| acknowledged <= first));
            let odd = first.last().unwrap() % 2 == 1;
            assert_eq!(given.contains_key(&key(KEYS + 1)), odd);
            assert_eq!(given.range(key(0)..).count(), usize::from(KEYS) + 1 + usize::from(odd));
            seen.push(first);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(thread.join().unwrap() > 1);
    });
}

#[test]
fn an_export_of_an_engine_that_failed_ends_with_an_error() {
    on_both(async |engine| {
        let mut export = engine.export().await.unwrap();
        engine.fail("injected".to_owned());
        assert!(export.next().await.unwrap_err().why.contains("injected"));
        assert!(engine.export().await.is_err());
    });
}

#[test]
fn an_export_of_a_closed_engine_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(dir.path(), SledOptions::default()).unwrap();
    runtime().block_on(async {
        let mut export = engine.export().await.unwrap();
        engine.close().unwrap();
        assert!(export.next().await.is_err());
        assert!(engine.export().await.is_err());
    });
}
