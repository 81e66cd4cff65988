//! Addresses that change, and a volume that is lost (K2, K3).

use std::time::Duration;

use rondo_tests::manifest::Pod;
use rondo_tests::{eventually, holds};

use super::cluster::{Pods, READY};

/// Names are looked up again: the address of a pod may be that of another one now.
#[test]
#[ignore = "needs a container engine: make containers"]
fn a_cluster_whose_addresses_have_all_changed_finds_itself_again() {
    let mut pods = Pods::start(3);
    let id = pods.cluster_id(0);
    let seen = pods.under_load(&[0, 1, 2], "before", |_| {});

    (0..3).for_each(|number| pods.remove(number));
    (0..3).for_each(|number| pods.move_to_a_free_address(number));
    whole_again(&pods, &id);
    (0..3).for_each(|number| pods.verify(number, "before", &seen));

    pods.exchange_addresses();
    whole_again(&pods, &id);
    (0..3).for_each(|number| pods.verify(number, "before", &seen));
    pods.under_load(&[0, 1, 2], "after", |_| {});
}

#[track_caller]
fn whole_again(pods: &Pods, id: &str) {
    for number in 0..pods.count() {
        pods.wait_ready(number);
        assert_eq!(pods.cluster_id(number), id);
    }
    pods.settled();
}

/// A cluster's resolvers keep an answer for half a minute: the one that moved is ready, and the others look for it where it
/// was. They do without it, and have it back as soon as they may know where it is.
#[test]
#[ignore = "needs a container engine: make containers"]
fn no_request_fails_while_resolvers_have_the_old_address() {
    let mut pods = Pods::start_with_caching_resolvers(3);
    for victim in [0, 2] {
        let others = pods.others(victim);
        let bucket = format!("stale-{victim}");
        let seen = pods.under_load(&others, &bucket, |pods| {
            pods.move_to_a_free_address(victim);
            pods.wait_ready(victim);
            others.iter().for_each(|&other| pods.sees(other, victim, "suspect"));
        });
        others.iter().for_each(|&other| pods.look_up_again(other));
        pods.settled();
        pods.verify(victim, &bucket, &seen);
    }
}

/// The first pod is the one whose name is first among everybody's seeds.
#[test]
#[ignore = "needs a container engine: make containers"]
fn a_first_pod_that_lost_its_volume_founds_no_second_cluster_and_comes_back() {
    let mut pods = Pods::start(3);
    let id = pods.cluster_id(1);
    let seen = pods.under_load(&[1, 2], "lost", |pods| {
        pods.lose_volume(0);
        pods.create_again(0);
        pods.wait_ready(0);
    });
    for number in [0, 1] {
        assert_eq!(pods.cluster_id(number), id);
        pods.verify(number, "lost", &seen);
    }

    // All of them at once, at other addresses; the empty one is the first to be there, and alone for a while.
    (1..3).for_each(|number| pods.remove(number));
    pods.lose_volume(0);
    pods.move_to_a_free_address(0);
    waits_for(&pods, 0, "3 founders; 1 are here");
    [1, 2].into_iter().for_each(|number| pods.move_to_a_free_address(number));
    // Both, before anything is asked of them: without the third a quorum is the two of them.
    [1, 2].into_iter().for_each(|number| pods.wait_ready(number));
    for number in [1, 2] {
        assert_eq!(pods.cluster_id(number), id);
        pods.verify(number, "lost", &seen);
    }
    pods.wait_ready(0);
    assert_eq!(pods.cluster_id(0), id);
    pods.verify(0, "lost", &seen);
    pods.under_load(&[0, 1, 2], "later", |_| {});
}

/// Scaling up does not make the cluster larger in this release, and does it no harm either.
#[test]
#[ignore = "needs a container engine: make containers"]
fn a_pod_beyond_the_founders_waits_and_disturbs_nobody() {
    let mut pods = Pods::start(3);
    let id = pods.cluster_id(0);
    pods.under_load(&[0, 1, 2], "scaled", |pods| {
        pods.add(Pod::of_stateful_set(3, "shop", &[]));
        waits_for(pods, 3, &id);
    });
    // Nor does one more beside it, nor a restart of a member: members know each other.
    pods.under_load(&[0, 2], "scaled", |pods| {
        pods.add(Pod::of_stateful_set(4, "shop", &[]));
        pods.move_to_a_free_address(1);
        pods.wait_ready(1);
        waits_for(pods, 4, &id);
    });
}

/// Unready, and it says why.
#[track_caller]
fn waits_for(pods: &Pods, number: usize, what: &str) {
    eventually(READY, "a pod that says what it waits for", || {
        let readiness = pods.readiness(number)?;
        assert_eq!(readiness["ready"], false, "{readiness}");
        let says = readiness["waiting_for"].as_str().is_some_and(|words| words.contains(what));
        holds(says, || readiness.to_string())
    });
    let status = pods.ask(number, "/readyz").unwrap().status;
    assert_eq!(status, 503);
    // A probe restarts nobody for that.
    assert_eq!(pods.ask(number, "/livez").unwrap().status, 200);
    assert!(pods.ask(number, "/livez").unwrap().took < Duration::from_secs(1));
}
