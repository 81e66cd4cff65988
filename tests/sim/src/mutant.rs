//! Deliberate defects of the driver, to see that the checkers find them. A checker that has never failed checks nothing.

/// What is wrong with every node of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing: what is shipped.
    #[default]
    None,
    /// Writes are acknowledged before they are on disk, where nearly every third then does not arrive.
    AcknowledgesTooEarly,
    /// A node that lost its disk goes on under the storage instance it had, with a clock that was set back.
    ReusesDots,
    /// Replicas leave tombstones out of what they say they hold.
    FiltersTombstones,
    /// Replicas forget which writes an object has replaced before they merge it.
    ForgetsWhatWasReplaced,
    /// A read is content with one vote.
    ReadsOne,
    /// A read does not look at the context it was given.
    IgnoresContexts,
    /// A replica answers with what it holds of another key.
    MixesUpKeys,
    /// Some answers to clients are never given.
    SwallowsAnswers,
    /// Some answers to clients are given twice.
    AnswersTwice,
    /// A failed write is always said to be nowhere.
    DeniesWrites,
    /// What was lost is never refilled, nor repaired.
    NeverHeals,
    /// Hints are never delivered.
    KeepsHints,
    /// A listing leaves out the last key of a page.
    ListsTooLittle,
}
