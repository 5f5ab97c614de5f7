//! Damaged backups: bits that flipped, ends that were cut off, blocks that moved.

use doorward::backup::check::{Nowhere, PassError, pass};
use doorward::backup::format::{BLOCK_HEAD, DIGEST, MAGIC};

use crate::fixture::{alone, backup, filled, run, write};

/// Returns where the blocks of a backup begin, and where the file ends.
pub(crate) fn blocks(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| usize::try_from(u32::from_be_bytes(*bytes[at..].first_chunk().unwrap())).unwrap();
    let mut at = MAGIC.len() + 8 + number(MAGIC.len() + 4) + DIGEST;
    let mut starts = vec![at];
    while at < bytes.len() {
        at += BLOCK_HEAD + number(at + 1) + DIGEST;
        starts.push(at);
    }
    assert_eq!(at, bytes.len());
    starts
}

/// Damages a backup in a random way, and says how.
fn damage(rng: &mut fastrand::Rng, good: &[u8], blocks: &[usize]) -> (Vec<u8>, String) {
    let mut bytes = good.to_vec();
    let block = |rng: &mut fastrand::Rng| {
        let number = rng.usize(..blocks.len() - 1);
        blocks[number]..blocks[number + 1]
    };
    let how = match rng.u8(..8) {
        0..=3 => {
            let (at, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        4 => {
            bytes.truncate(rng.usize(..bytes.len()));
            format!("cut off at {}", bytes.len())
        }
        5 => {
            let (from, to) = (block(rng), block(rng));
            bytes.splice(to.clone(), good[from.clone()].to_vec());
            format!("{from:?} instead of {to:?}")
        }
        6 => {
            let gone = block(rng);
            bytes.drain(gone.clone());
            format!("without {gone:?}")
        }
        _ => {
            let (at, length) = (rng.usize(..=bytes.len()), rng.usize(1..100));
            bytes.splice(at..at, std::iter::repeat_with(|| rng.u8(..)).take(length).collect::<Vec<_>>());
            format!("{length} bytes more at {at}")
        }
    };
    (bytes, how)
}

#[tokio::test]
async fn r16_500_damaged_backups_are_refused() {
    let _alone = alone().await;
    let dir = filled().await;
    write(&dir.path().join("data"), "note", b"");
    let good = backup(dir.path());
    let blocks = blocks(&good);
    assert!(blocks.len() >= 3, "{blocks:?}");
    pass(good.as_slice(), [1; 32], &mut Nowhere).unwrap();
    let (mut rng, mut tried, mut placed) = (fastrand::Rng::with_seed(16), 0, 0);
    while tried < 500 {
        let (bytes, how) = damage(&mut rng, &good, &blocks);
        if bytes == good {
            continue;
        }
        tried += 1;
        let Err(PassError::Refused(refusal)) = pass(bytes.as_slice(), [1; 32], &mut Nowhere) else {
            panic!("accepted: {how}");
        };
        placed += usize::from(refusal.to_string().contains("block ") || refusal.to_string().contains("the head of"));
        // Some of them by the program, which must leave nothing behind.
        if tried % 50 == 0 {
            write(dir.path(), "bad.dw", &bytes);
            run(dir.path(), "data", &["verify-backup", "bad.dw"]).refused("the backup is refused: ");
            run(dir.path(), "new", &["restore", "--from", "bad.dw"]).refused("the backup is refused: ");
            assert!(!dir.path().join("new").exists(), "{how}");
        }
    }
    assert!(placed > 400, "{placed} of them name the place");
}

#[tokio::test]
async fn r16_damage_is_named_with_its_block_and_byte() {
    let _alone = alone().await;
    let dir = filled().await;
    let mut bytes = backup(dir.path());
    let second = blocks(&bytes)[0];
    bytes[second + BLOCK_HEAD + 5] ^= 1;
    write(dir.path(), "bad.dw", &bytes);
    let why = format!("it is damaged: block 1 at byte {second}: its checksum is wrong");
    run(dir.path(), "data", &["verify-backup", "bad.dw"]).refused(&why);
    bytes.truncate(second + 20);
    write(dir.path(), "bad.dw", &bytes);
    let why = format!("it is damaged: block 1 at byte {second}: the file ends in it");
    run(dir.path(), "data", &["verify-backup", "bad.dw"]).refused(&why);
}
