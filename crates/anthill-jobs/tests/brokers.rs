//! What every broker of jobs promises (B1 to B10, see `anthill_jobs::Broker`), and each of them
//! in turn: the checks are written once, in `brokers/`, and are run on each broker here.
//!
//! No check waits for a time: the broker's clock is moved by hand. What a broker cannot do
//! (`Broker::capabilities`) is not asked of it.

#![expect(
    clippy::unchecked_time_subtraction,
    reason = "a time that is less than nothing is a failure of the check, and told as one"
)]

#[path = "brokers/bench.rs"]
mod bench;
#[path = "brokers/books.rs"]
mod books;
#[path = "brokers/bounds.rs"]
mod bounds;
#[path = "brokers/calls.rs"]
mod calls;
#[path = "brokers/claims.rs"]
mod claims;
#[path = "brokers/clocks.rs"]
mod clocks;
#[path = "brokers/control.rs"]
mod control;
#[path = "brokers/durable.rs"]
mod durable;
#[path = "brokers/enqueue.rs"]
mod enqueue;
#[path = "brokers/expiry.rs"]
mod expiry;
#[path = "brokers/fragile.rs"]
mod fragile;
#[path = "brokers/kinds.rs"]
mod kinds;
#[path = "brokers/leases.rs"]
mod leases;
#[path = "brokers/limits.rs"]
mod limits;
#[path = "brokers/lists.rs"]
mod lists;
#[path = "brokers/misuse.rs"]
mod misuse;
#[path = "brokers/model.rs"]
mod model;
#[path = "brokers/moves.rs"]
mod moves;
#[path = "brokers/payloads.rs"]
mod payloads;
#[path = "brokers/per_key.rs"]
mod per_key;
#[path = "brokers/random.rs"]
mod random;
#[path = "brokers/results.rs"]
mod results;
#[path = "brokers/schedules.rs"]
mod schedules;
#[path = "brokers/unique.rs"]
mod unique;

/// A test of each check for one kind of broker.
macro_rules! tests {
    ($fixture:ident: $($concern:ident { $($check:ident)+ })+) => {
        $(mod $concern {
            $(
                #[test]
                fn $check() {
                    crate::$concern::$check::<crate::bench::$fixture>();
                }
            )+
        })+
    };
}

/// All checks for one kind of broker. One that is not named here is dead code, and told as such.
macro_rules! conforms {
    ($broker:ident, $fixture:ident) => {
        mod $broker {
            tests! { $fixture:
                enqueue {
                    a_new_broker_is_empty
                    a_job_comes_out_as_it_went_in
                    jobs_come_out_in_the_order_in_which_they_went_in
                    the_order_is_that_of_the_enqueues_and_not_of_the_ids
                    the_order_is_kept_when_the_wall_clock_is_set_back
                    who_has_the_higher_priority_goes_first
                    the_same_id_again_is_a_duplicate_of_itself
                    an_id_is_a_duplicate_wherever_its_job_is
                    one_batch_may_hold_an_id_twice
                    a_batch_again_adds_only_what_was_not_there
                    a_batch_is_there_as_a_whole_or_not_at_all
                    a_delayed_job_does_not_come_before_it_is_due
                    a_claim_tells_when_the_next_job_is_due
                    a_delayed_job_is_in_line_as_of_when_it_is_due
                    jobs_due_at_once_come_in_the_order_of_their_enqueues
                    priority_counts_among_those_that_are_due
                    a_delay_follows_the_wall_clock
                    many_jobs_due_at_once_all_come_in_order
                    who_comes_after_many_were_due_waits_behind_them
                    a_claim_tells_how_long_the_job_was_ready
                }
                claims {
                    a_claim_takes_no_more_than_it_is_asked_for
                    each_job_is_claimed_by_one_of_many_threads
                    two_handles_enqueue_and_claim_at_once
                    a_job_that_is_done_is_gone
                    a_retry_comes_after_its_delay_and_behind_the_others
                    a_retry_without_delay_is_ready_at_once_at_the_end
                    attempts_count_up_to_the_last_one_and_then_the_job_is_dead
                    a_job_of_one_attempt_is_dead_when_that_failed
                    a_job_that_failed_for_good_is_dead_at_once_with_its_reason
                    a_release_gives_the_attempt_back_and_keeps_the_place
                    a_job_may_be_released_more_often_than_it_has_attempts
                    a_release_after_a_retry_keeps_the_place_of_the_retry
                    many_claims_end_in_one_call_each_in_its_own_way
                }
                leases {
                    a_job_whose_lease_is_over_is_ready_again_in_its_old_place
                    a_claim_tells_when_the_next_lease_is_over
                    several_lost_jobs_come_back_in_their_old_order
                    a_zombie_is_refused_while_the_job_waits
                    a_zombie_is_refused_while_another_one_runs_the_job
                    who_released_a_job_has_no_say_in_it
                    who_had_a_job_that_is_over_has_no_say_in_it
                    a_lease_that_nobody_had_is_refused
                    an_extension_keeps_the_job
                    an_extension_counts_from_now
                    many_leases_are_extended_in_one_call
                    a_lease_that_is_over_with_the_last_attempt_leaves_a_dead_job
                    a_late_settle_is_answered_truly
                    no_lease_follows_the_wall_clock
                    a_backlog_older_than_the_lease_comes_once
                }
                kinds {
                    only_kinds_that_are_asked_for_are_claimed
                    several_kinds_are_merged_by_priority_and_order
                    however_many_others_wait_before_them
                    a_kind_that_is_named_twice_is_one
                    what_is_ready_again_is_of_its_kind
                    time_goes_on_for_all_kinds
                    a_key_bounds_all_kinds_together
                    limits_hold_for_all_kinds_together
                    the_kinds_of_what_is_ready_are_told
                }
                fragile {
                    a_job_on_its_last_attempt_is_given_by_itself_in_its_turn
                    none_is_given_where_the_request_forbids_it
                    one_of_another_kind_is_in_nobodys_way
                    the_last_of_several_attempts_is_made_by_itself
                    jobs_that_were_claimed_together_lose_no_attempt_and_are_suspect
                    a_job_that_was_claimed_by_itself_loses_its_attempt
                    a_crash_counts_once_a_job_is_claimed_by_itself
                    one_that_is_released_stays_suspect_and_one_that_was_settled_is_not
                    one_that_died_is_not_suspect_any_more
                    a_poison_pill_takes_nobody_with_it
                    limits_hold_for_those_that_are_given_by_themselves
                    a_release_with_a_delay_comes_when_that_is_over
                }
                clocks {
                    a_clock_that_was_ahead_for_a_moment_silences_nothing
                    a_clock_that_was_back_for_a_moment_silences_nothing
                    a_clock_that_is_set_back_puts_nothing_off
                    the_order_is_kept_over_a_clock_that_was_wrong
                    a_clock_that_jumps_to_and_fro_stops_no_time
                }
                unique {
                    a_second_job_with_the_key_is_a_duplicate_of_the_first
                    a_refused_duplicate_may_come_again
                    one_batch_may_hold_a_unique_key_twice
                    a_key_is_free_when_its_job_is_done
                    a_key_is_free_when_its_job_is_dead
                    a_key_is_free_when_the_last_lease_of_its_job_is_over
                    a_key_is_kept_through_retries_and_releases
                    a_key_is_free_when_its_job_is_cancelled
                    a_key_is_free_when_its_job_is_purged
                    a_key_is_free_when_its_job_has_expired
                    a_key_is_free_when_its_job_has_expired_though_nobody_claimed
                    the_end_of_a_job_does_not_free_the_key_of_another
                    a_dead_job_that_is_retried_has_its_key_again
                    a_dead_job_stays_dead_while_another_one_has_its_key
                    once_in_a_period_holds_though_the_job_is_done
                    a_period_ends_though_its_job_has_not
                    once_in_a_period_holds_though_the_job_is_gone
                    one_at_a_time_and_once_in_a_period_keep_each_other_out
                    a_period_that_has_passed_keeps_no_dead_job_back
                    one_at_a_time_and_once_in_a_period_may_be_told_together
                    one_that_is_kept_out_by_one_key_leaves_the_other_free
                    one_key_for_both_is_free_when_the_job_and_the_period_are_over
                    a_dead_job_with_both_keys_that_is_retried_has_them_again
                    a_debounced_job_that_waits_is_put_off_and_gets_the_newer_data
                    a_debounced_job_that_is_ready_is_put_off_too
                    a_debounce_of_a_job_that_runs_adds_another_one
                    a_job_without_debounce_puts_nobody_off
                    a_debounced_job_that_waits_for_another_attempt_is_put_off
                    a_debounced_job_may_be_once_in_a_period
                }
                expiry {
                    a_job_is_claimed_until_it_expires_and_not_after
                    an_expired_job_is_gone_and_counted
                    a_delayed_job_may_expire_before_it_is_due
                    what_was_due_and_has_expired_since_is_not_claimed
                    a_job_that_was_claimed_in_time_may_take_its_time
                    no_attempt_starts_after_the_expiry
                    an_attempt_before_the_expiry_is_made
                    a_dead_job_does_not_expire_nor_when_it_is_retried
                    a_result_does_not_expire_with_its_job
                    a_job_that_expires_at_once_does_not_run
                    many_jobs_expire_at_once
                }
                limits {
                    limits_are_read_back_as_they_were_set
                    no_more_run_at_once_than_the_limit_allows
                    a_lease_that_is_over_makes_room_for_another_job
                    a_limit_may_change_while_jobs_run
                    another_rate_does_not_wait_for_the_debt_of_the_one_before
                    a_rate_lets_a_burst_through_and_then_one_at_a_time
                    no_more_start_in_a_time_than_the_rate_allows
                    a_claim_that_finds_nothing_uses_up_no_rate
                    a_claim_of_no_job_leaves_the_rate_as_it_is
                    no_rate_follows_the_wall_clock
                    what_is_parked_uses_up_no_rate
                    limits_of_all_kinds_hold_together
                    a_limit_of_none_at_all_is_a_stop
                    no_rate_is_too_odd
                }
                bounds {
                    a_full_queue_refuses_a_whole_batch_and_loses_nothing
                    a_bound_may_change_and_be_taken_off
                    the_parked_count_too
                    what_is_due_later_or_comes_back_is_let_in
                    what_is_due_counts_and_what_has_expired_does_not
                    duplicates_do_not_count
                    duplicates_within_a_batch_do_not_count
                    a_debounced_job_counts_where_it_is_added
                    a_debounce_is_not_refused
                    a_retry_with_a_delay_is_let_in
                }
                per_key {
                    jobs_whose_key_is_in_use_are_parked_and_the_next_go_first
                    as_many_with_a_key_run_as_may
                    without_a_limit_a_key_is_no_matter
                    a_job_that_was_parked_is_in_its_old_place
                    the_parked_come_by_priority_too
                    who_comes_with_a_higher_priority_goes_before_the_parked
                    a_job_that_is_dead_makes_room
                    a_job_that_is_retried_makes_room
                    a_job_that_is_released_goes_before_the_parked
                    a_job_whose_lease_is_over_goes_before_the_parked
                    a_job_whose_last_lease_is_over_makes_room
                    a_zombie_makes_no_room
                    a_cancel_of_the_next_in_line_lets_the_one_after_it_come
                    an_expiry_of_the_next_in_line_lets_the_one_after_it_come
                    an_expiry_of_two_in_line_lets_the_one_after_them_come
                    a_purge_of_the_ready_leaves_nobody_parked_for_ever
                    the_parked_may_be_cancelled_and_purged_and_expire
                    a_limit_that_is_raised_or_taken_off_lets_the_parked_come
                    a_limit_that_is_lowered_holds_for_those_that_come
                    a_limit_counts_those_that_run_already
                    a_limit_of_none_parks_all_with_a_key
                    many_keys_with_long_lines_all_come_in_order
                    no_more_are_ready_or_run_than_may
                    the_order_is_kept_while_limits_go_up_and_down
                    who_comes_first_is_ready_in_place_of_who_does_not
                }
                control {
                    while_paused_nothing_is_claimed_and_all_else_goes_on
                    a_pause_ends_no_time
                    to_pause_twice_is_to_pause
                    what_waits_can_be_cancelled_and_nothing_else
                    what_is_over_can_be_deleted_and_nothing_else
                    a_purge_takes_all_of_a_state_and_nothing_else
                    of_an_unknown_job_there_is_nothing_to_do
                    what_was_cancelled_does_not_come
                    a_purge_tells_how_many_it_took
                    only_a_dead_job_can_be_retried_by_hand
                    a_dead_job_that_is_retried_has_all_its_attempts_again
                    a_dead_job_that_is_retried_goes_to_the_end
                    a_purge_ends_beside_producers
                    a_purge_of_a_state_that_is_named_twice_is_one
                    what_runs_is_not_purged
                }
                moves {
                    who_is_put_off_is_not_claimed_and_comes_back_in_its_old_place
                    who_is_put_off_again_and_again_keeps_its_place
                    one_that_is_parked_is_put_off_too
                    a_delayed_job_may_be_due_now_or_later_and_is_in_line_as_of_then
                    what_does_not_wait_is_not_put_off
                    a_due_time_that_is_set_is_heard
                    what_is_unchanged_is_removed_and_nothing_else
                    what_was_debounced_is_not_unchanged
                    a_removal_frees_keys_and_makes_room
                    an_identity_is_that_of_the_queue
                }
                lists {
                    a_job_is_shown_as_it_was_enqueued
                    a_job_is_shown_in_each_of_its_states
                    a_list_names_all_in_a_state_the_first_ones_first
                    pages_are_the_list
                    pages_are_the_list_though_all_happened_at_once
                    a_page_after_a_job_that_is_not_there_is_the_first
                    the_ready_are_listed_as_they_will_be_claimed
                    pages_hold_while_jobs_come_and_go
                    a_list_shows_no_more_data_than_it_is_asked_for
                }
                results {
                    a_result_is_kept_for_its_time_and_then_gone
                    a_result_is_gone_though_nobody_claims
                    a_result_that_nobody_wants_is_not_kept
                    a_result_that_is_there_is_not_claimed_nor_keeps_anybody_back
                    a_result_is_whatever_bytes_it_is
                    progress_can_be_read_while_the_job_runs
                    to_tell_progress_prolongs_no_lease
                    of_a_job_that_does_not_run_there_is_no_progress
                }
                schedules {
                    schedules_are_kept_and_listed_and_dropped
                    one_with_the_same_name_takes_its_place
                    one_with_the_same_expression_keeps_its_next_time
                    who_fires_enqueues_the_job_and_sets_the_next_time
                    what_is_not_scheduled_does_not_fire
                    a_schedule_moves_on_though_its_job_is_a_duplicate
                    a_schedule_does_not_fire_while_the_queue_is_paused
                    of_several_who_fire_at_once_one_does
                    the_brokers_time_is_that_of_the_wall_clock
                    a_schedule_may_move_on_without_a_job
                    one_that_is_told_again_keeps_the_earlier_time
                    what_becomes_of_missed_times_is_kept
                }
                books {
                    each_counter_counts_what_it_says
                    each_gauge_shows_what_is_there
                    stats_are_those_of_now
                    the_oldest_is_the_one_that_is_ready_for_the_longest_time
                    the_oldest_may_have_the_lowest_priority
                    a_delayed_job_is_as_old_as_it_is_due
                }
                calls {
                    an_enqueue_is_heard
                    what_comes_back_is_heard
                    what_an_operator_lets_go_on_is_heard
                    room_for_another_job_is_heard
                    room_for_another_job_with_the_key_is_heard
                    what_a_schedule_enqueues_is_heard
                    all_who_subscribed_hear
                    who_has_heard_enough_is_dropped
                    a_call_may_use_the_broker
                    a_broker_that_is_gone_drops_those_who_subscribed
                }
                payloads {
                    data_comes_back_to_the_byte
                    kinds_are_whatever_text_they_are
                    errors_are_whatever_text_they_are
                    unique_keys_are_whatever_text_they_are
                    keys_are_whatever_text_they_are
                    schedules_are_whatever_text_they_are
                }
                misuse {
                    a_delay_for_ever_is_one
                    an_expiry_that_never_comes_is_none
                    a_result_may_be_kept_for_ever
                    a_result_kept_for_no_time_is_not_there
                    a_period_without_end_and_one_of_no_time
                    a_lease_for_ever_does_not_end
                    a_lease_of_no_time_is_over
                    a_job_with_no_attempts_does_not_come_again
                    a_job_may_have_as_many_attempts_as_there_are_numbers
                    no_limit_is_too_high
                    no_wall_clock_is_too_wrong
                }
                durable {
                    what_waits_is_there_again_in_its_order
                    everything_is_there_again
                    a_lease_outlives_the_handle_that_claimed
                    a_restart_of_the_host_ends_all_leases
                    a_rate_goes_on_after_a_restart_of_the_host
                    time_goes_on_while_nobody_has_it_open
                    no_lease_is_given_twice
                    handles_see_what_the_others_did
                    a_change_by_another_handle_is_noticed
                    a_claim_that_finds_nothing_changes_nothing
                }
                random {
                    a_broker_does_what_a_simple_one_does
                }
            }
        }
    };
}

conforms!(memory, Memory);
#[cfg(feature = "sqlite")]
conforms!(sqlite, Sqlite);
