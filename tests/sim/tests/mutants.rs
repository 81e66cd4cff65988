//! The checkers are checked: each invariant is broken on purpose, and seen to fail.

use rondo_sim::{Mutant, run};

/// Most runs until it has to be seen.
const SEEDS: u64 = 25;

/// Runs the mutant until some run violates the invariant.
#[track_caller]
fn is_found(mutant: Mutant, invariant: &str) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let violations = run(seed, mutant, false).violations;
        if violations.iter().any(|violation| violation.invariant == invariant) {
            return;
        }
        others.extend(violations.into_iter().map(|violation| violation.invariant));
    }
    panic!("{mutant:?} was not found in {SEEDS} runs; what was: {others:?}");
}

#[test]
fn acknowledgements_before_the_disk_has_it_lose_writes() {
    is_found(Mutant::AcknowledgesTooEarly, "no acknowledged write is lost");
}

#[test]
fn a_storage_instance_that_forgot_reuses_dots() {
    is_found(Mutant::ReusesDots, "a dot is never used twice");
}

#[test]
fn tombstones_filtered_before_the_merge_bring_deleted_values_back() {
    is_found(Mutant::FiltersTombstones, "no resurrection");
}

#[test]
fn objects_without_their_history_have_false_siblings() {
    is_found(Mutant::ForgetsWhatWasReplaced, "no false sibling");
}

#[test]
fn one_vote_is_no_quorum() {
    is_found(Mutant::ReadsOne, "R + W > N means read-your-writes");
}

#[test]
fn a_context_that_is_not_looked_at_is_seen() {
    is_found(Mutant::IgnoresContexts, "the context of a read is honoured");
}

#[test]
fn values_of_other_keys_are_phantoms() {
    is_found(Mutant::MixesUpKeys, "no phantom");
}

#[test]
fn a_write_that_is_said_to_be_nowhere_is_a_phantom() {
    is_found(Mutant::DeniesWrites, "no phantom");
}

#[test]
fn an_answer_that_never_comes_is_missed() {
    is_found(Mutant::SwallowsAnswers, "every request is answered by its deadline, once");
}

#[test]
fn an_answer_that_comes_twice_is_seen() {
    is_found(Mutant::AnswersTwice, "every request is answered by its deadline, once");
}

#[test]
fn replicas_that_are_never_repaired_stay_different() {
    is_found(Mutant::NeverHeals, "replicas become equal");
}

#[test]
fn a_page_without_its_last_key_makes_a_listing_incomplete() {
    is_found(Mutant::ListsTooLittle, "a listing is complete");
}

#[test]
fn hints_that_are_never_delivered_are_left_over() {
    is_found(Mutant::KeepsHints, "hints are drained");
}
