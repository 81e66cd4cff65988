//! The `rondo` binary.

use std::process::ExitCode;
use std::time::Duration;

/// A request makes a few dozen small allocations, on one thread, and frees some of them on another: glibc's allocator
/// takes a tenth of a node's time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often freed memory is given back.
const GIVEN_BACK_EVERY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // The other commands end before there is anything to give back.
    if std::env::args_os().any(|argument| argument == "server") {
        give_back_memory();
    }
    rondo_node::cli::main()
}

/// The allocator gives back what has been free for a while when it is next asked for much, and a node at rest asks for
/// nothing: half of its memory would stay with it. At once, on every page that becomes free, costs a tenth of a PUT.
fn give_back_memory() {
    let _ = std::thread::Builder::new().name("memory".into()).spawn(|| {
        loop {
            std::thread::sleep(GIVEN_BACK_EVERY);
            // SAFETY: it takes no pointer, and may be called from any thread at any time.
            #[allow(unsafe_code, reason = "mimalloc has no other way to ask for it")]
            unsafe {
                libmimalloc_sys::mi_collect(true);
            }
        }
    });
}
