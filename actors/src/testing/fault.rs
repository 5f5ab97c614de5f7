use std::time::Duration;

/// A way for an actor to fail.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The actor's handler panics.
    Panic,
    /// The actor's handler returns an error, which counts as a crash too.
    Error,
    /// The actor's handler hangs for this long, by the runtime's clock.
    Hang(Duration),
    /// The actor's handler blocks its thread in this function.
    Block(fn()),
}

impl Fault {
    #[expect(clippy::panic, reason = "this is the injected fault")]
    pub(crate) async fn happen(self) -> Result<(), String> {
        match self {
            Self::Panic => panic!("injected panic"),
            Self::Error => Err("injected error".to_owned()),
            Self::Hang(duration) => {
                tokio::time::sleep(duration).await;
                Ok(())
            }
            Self::Block(block) => {
                block();
                Ok(())
            }
        }
    }
}
