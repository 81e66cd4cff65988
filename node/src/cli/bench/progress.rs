//! How far a run is: a bar on a terminal, nothing elsewhere. What drew every few milliseconds would be measured too.

use std::convert::Infallible;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use super::generator::View;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
const STEPS: u64 = 1_000;
const TEMPLATE: &str = "{prefix:8} {bar:30} {percent:>3} %, {msg} requests";

/// Draws for ever.
pub(crate) async fn draw(name: &'static str, view: &View) -> Infallible {
    let bar = bar(name);
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        // The position draws.
        bar.set_message(view.done().to_string());
        bar.set_position((view.share() * STEPS as f64) as u64);
    }
}

/// On stderr, and only where that is a terminal.
fn bar(name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid: a test draws with it");
    ProgressBar::new(STEPS).with_style(style).with_prefix(name).with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        bar("measure").set_position(1);
    }
}
