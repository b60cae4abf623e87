//! The table of the checks: what each needs of the broker and of the fixture, and by how many seconds it advances the clock
//! at most. There is no other list of them: the tests of a broker's crate are made from it, too.

use super::check::Check;
use super::checks::{
    books, bounds, calls, cancel, claims, clocks, consumers, control, durable, enqueue, errors,
    expiry, fragile, headers, kinds, leases, limits, lists, maxima, misuse, moves, payloads,
    per_key, random, refusals, results, retention, schedules, transactions, unique,
};

/// Calls `$crate::__conformance_with!` with the given tokens and the table: for each check its name, the capabilities that it
/// needs, the means that it needs, and the seconds that it advances the clock by.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_table {
    ($($with:tt)*) => {
        $crate::__conformance_with! { [$($with)*]
            enqueue {
                a_new_broker_is_empty [] [] 0
                a_job_comes_out_as_it_went_in [] [] 0
                jobs_come_out_in_the_order_in_which_they_went_in [Order] [] 1
                the_order_is_that_of_the_enqueues_and_not_of_the_ids [Order] [] 0
                the_order_is_kept_when_the_wall_clock_is_set_back [Order] [StillClock WallClock] 0
                who_has_the_higher_priority_goes_first [Priority] [] 0
                the_same_id_again_is_a_duplicate_of_itself [] [] 0
                an_id_is_a_duplicate_wherever_its_job_is [Order Delay Results ById] [] 0
                one_batch_may_hold_an_id_twice [] [] 0
                a_batch_again_adds_only_what_was_not_there [] [] 0
                a_batch_is_there_as_a_whole_or_not_at_all [AtomicBatches] [] 0
                a_job_that_is_refused_keeps_none_out_or_all [] [] 0
                a_delayed_job_does_not_come_before_it_is_due [Delay] [StillClock] 10
                a_claim_tells_when_the_next_job_is_due [Delay] [StillClock] 31
                a_delayed_job_is_in_line_as_of_when_it_is_due [Order Delay] [StillClock] 25
                jobs_due_at_once_come_in_the_order_of_their_enqueues [Order Delay] [StillClock] 25
                priority_counts_among_those_that_are_due [Order Priority Delay] [] 10
                a_delay_follows_the_wall_clock [Delay] [StillClock WallClock] 0
                a_short_delay_is_waited_for [Delay] [] 10
                many_jobs_due_at_once_all_come_in_order [Order Delay] [StillClock] 60
                who_comes_after_many_were_due_waits_behind_them [Order Delay] [StillClock] 20
                a_claim_tells_how_long_the_job_was_ready [Order Delay] [StillClock] 25
            }
            claims {
                a_claim_takes_no_more_than_it_is_asked_for [] [] 0
                each_job_is_claimed_by_one_of_many_threads [] [] 0
                two_handles_enqueue_and_claim_at_once [] [] 0
                a_job_that_is_done_is_gone [] [] 0
                a_settlement_may_be_repeated [Fenced] [] 0
                a_retry_comes_after_its_delay_and_behind_the_others [Order Delay] [StillClock] 10
                a_retry_without_delay_is_ready_at_once_at_the_end [Order] [] 0
                attempts_count_up_to_the_last_one_and_then_the_job_is_dead [] [] 0
                a_job_of_one_attempt_is_dead_when_that_failed [] [] 10
                a_job_that_failed_for_good_is_dead_at_once_with_its_reason [] [] 0
                a_release_gives_the_attempt_back_and_keeps_the_place [Order UncountedRelease] [] 0
                a_job_that_is_released_comes_again [] [] 0
                a_job_may_be_released_more_often_than_it_has_attempts [UncountedRelease] [] 0
                a_release_after_a_retry_keeps_the_place_of_the_retry [Order UncountedRelease] [] 0
                many_claims_end_in_one_call_each_in_its_own_way [Fenced] [] 0
            }
            leases {
                a_job_whose_lease_is_over_is_ready_again_in_its_old_place [Order UncountedRelease] [StillClock] 60
                a_short_lease_ends_and_one_that_is_extended_does_not [] [] 10
                a_claim_tells_when_the_next_lease_is_over [Order] [StillClock] 66
                several_lost_jobs_come_back_in_their_old_order [Order Priority] [StillClock] 62
                a_zombie_is_refused_while_the_job_waits [Fenced] [] 60
                a_zombie_is_refused_while_another_one_runs_the_job [Fenced] [StillClock] 119
                who_lost_a_job_at_once_has_no_say_in_it [Fenced] [] 1
                who_released_a_job_has_no_say_in_it [Fenced] [] 0
                who_had_a_job_that_is_over_has_no_say_in_it [Fenced ById] [] 0
                a_lease_that_nobody_had_is_refused [Fenced] [] 0
                an_extension_keeps_the_job [] [StillClock] 590
                a_lease_goes_on_with_what_an_extension_returns [] [] 0
                an_extension_counts_from_now [] [StillClock] 545
                many_leases_are_extended_in_one_call [Fenced] [StillClock] 120
                a_lease_that_is_over_with_the_last_attempt_leaves_a_dead_job [] [StillClock] 120
                a_late_settle_is_answered_truly [Fenced] [] 120
                no_lease_follows_the_wall_clock [] [StillClock WallClock] 60
                a_backlog_older_than_the_lease_comes_once [] [StillClock] 900
            }
            kinds {
                only_kinds_that_are_asked_for_are_claimed [] [] 0
                kinds_are_claimed_in_the_order_of_their_jobs [Order] [] 0
                several_kinds_are_merged_by_priority_and_order [Order Priority] [] 0
                however_many_others_wait_before_them [] [] 0
                a_kind_that_is_named_twice_is_one [] [] 0
                what_is_ready_again_is_of_its_kind [Order Delay UncountedRelease] [StillClock] 60
                time_goes_on_for_all_kinds [Delay] [StillClock] 10
                a_key_bounds_all_kinds_together [Order PerKey] [] 0
                limits_hold_for_all_kinds_together [Order RunningLimit Rate] [] 0
                the_kinds_of_what_is_ready_are_told [Order Delay List Purge] [] 10
            }
            fragile {
                a_job_on_its_last_attempt_is_given_by_itself_in_its_turn [Isolated Order] [] 0
                none_is_given_where_the_request_forbids_it [Isolated Order] [] 0
                one_of_another_kind_is_in_nobodys_way [Isolated Order] [] 0
                the_last_of_several_attempts_is_made_by_itself [Isolated Order UncountedRelease] [] 0
                jobs_that_were_claimed_together_lose_no_attempt_and_are_suspect [Isolated Order] [] 60
                a_job_that_was_claimed_by_itself_loses_its_attempt [Isolated Order] [] 60
                a_crash_counts_once_a_job_is_claimed_by_itself [Isolated Order] [StillClock] 240
                one_that_is_released_stays_suspect_and_one_that_was_settled_is_not [Isolated Order Delay UncountedRelease] [StillClock] 71
                one_that_died_is_not_suspect_any_more [Isolated Order ById] [] 120
                a_poison_pill_takes_nobody_with_it [Isolated Order] [] 60
                limits_hold_for_those_that_are_given_by_themselves [Isolated Order RunningLimit] [] 0
                a_release_with_a_delay_comes_when_that_is_over [Order Delay UncountedRelease] [StillClock] 10
            }
            clocks {
                a_clock_that_was_ahead_for_a_moment_silences_nothing [Order Delay Priority Unique Expiry Results UncountedRelease ExactCounts ById] [StillClock WallClock] 11
                a_clock_that_was_back_for_a_moment_silences_nothing [Delay ById] [StillClock WallClock] 11
                a_clock_that_is_set_back_puts_nothing_off [Delay ById] [StillClock WallClock] 11
                the_order_is_kept_over_a_clock_that_was_wrong [Order Delay] [StillClock WallClock] 1
                a_clock_that_jumps_to_and_fro_stops_no_time [Delay] [StillClock WallClock] 31
            }
            unique {
                a_second_job_with_the_key_is_a_duplicate_of_the_first [Unique] [] 0
                a_refused_duplicate_may_come_again [Unique] [] 0
                one_batch_may_hold_a_unique_key_twice [Unique] [] 0
                a_key_is_free_when_its_job_is_done [Unique Results ById] [] 0
                a_key_is_free_when_its_job_is_dead [Unique ById] [] 0
                a_key_is_free_when_the_last_lease_of_its_job_is_over [Unique ById] [] 120
                a_key_is_kept_through_retries_and_releases [Unique Delay ById] [] 10
                a_key_is_free_when_its_job_is_cancelled [Unique Delay ById] [] 0
                a_key_is_free_when_its_job_is_purged [Unique Delay Purge ById] [] 0
                a_key_is_free_when_its_job_has_expired [Unique Expiry ById] [] 11
                a_key_is_free_when_its_job_has_expired_though_nobody_claimed [Unique Expiry] [] 11
                the_end_of_a_job_does_not_free_the_key_of_another [Unique ById] [] 0
                a_dead_job_that_is_retried_has_its_key_again [Unique ById] [] 0
                a_dead_job_stays_dead_while_another_one_has_its_key [Unique ById] [] 0
                once_in_a_period_holds_though_the_job_is_done [Unique] [StillClock] 200
                a_period_ends_though_its_job_has_not [Unique] [StillClock] 20
                once_in_a_period_holds_though_the_job_is_gone [Unique Expiry Purge ById] [StillClock] 320
                one_at_a_time_and_once_in_a_period_keep_each_other_out [Unique ById] [StillClock] 10
                a_period_that_has_passed_keeps_no_dead_job_back [Unique ById] [StillClock] 10
                one_at_a_time_and_once_in_a_period_may_be_told_together [Unique ById] [StillClock] 200
                one_that_is_kept_out_by_one_key_leaves_the_other_free [Unique] [] 0
                one_key_for_both_is_free_when_the_job_and_the_period_are_over [Unique ById] [StillClock] 300
                a_dead_job_with_both_keys_that_is_retried_has_them_again [Unique ById] [StillClock] 400
                a_debounced_job_that_waits_is_put_off_and_gets_the_newer_data [Unique Debounce Delay ById] [StillClock] 37
                a_debounced_job_that_is_ready_is_put_off_too [Order Unique Debounce Delay ById] [StillClock] 2
                a_debounce_of_a_job_that_runs_adds_another_one [Unique Debounce Delay ById] [] 2
                a_job_without_debounce_puts_nobody_off [Unique Debounce Delay] [StillClock] 10
                a_debounced_job_that_waits_for_another_attempt_is_put_off [Unique Debounce Delay] [StillClock] 10
                a_debounced_job_may_be_once_in_a_period [Unique Debounce Delay ById] [StillClock] 420
            }
            expiry {
                a_job_is_claimed_until_it_expires_and_not_after [Order Expiry] [StillClock] 11
                an_expired_job_is_gone_and_counted [Expiry ExactCounts ById] [StillClock] 15
                a_delayed_job_may_expire_before_it_is_due [Delay Expiry] [StillClock] 25
                what_was_due_and_has_expired_since_is_not_claimed [Delay Expiry] [] 30
                a_job_that_was_claimed_in_time_may_take_its_time [Expiry] [] 30
                no_attempt_starts_after_the_expiry [Order Delay Expiry] [StillClock] 75
                an_attempt_before_the_expiry_is_made [Order Delay Expiry UncountedRelease] [StillClock] 6
                a_dead_job_does_not_expire_nor_when_it_is_retried [Expiry ById] [] 40
                a_result_does_not_expire_with_its_job [Expiry Results ById] [] 20
                a_job_that_expires_at_once_does_not_run [Expiry] [] 1
                many_jobs_expire_at_once [Expiry] [] 20
            }
            limits {
                limits_are_read_back_as_they_were_set [RunningLimit Rate MaxReady] [] 0
                no_more_run_at_once_than_the_limit_allows [RunningLimit Order Delay UncountedRelease] [] 0
                a_lease_that_is_over_makes_room_for_another_job [RunningLimit Order] [StillClock] 61
                a_limit_may_change_while_jobs_run [RunningLimit Order] [] 0
                another_rate_does_not_wait_for_the_debt_of_the_one_before [Rate Order] [] 0
                a_rate_lets_a_burst_through_and_then_one_at_a_time [Rate Order] [StillClock] 52
                no_more_start_in_a_time_than_the_rate_allows [Rate] [StillClock] 21
                a_claim_that_finds_nothing_uses_up_no_rate [Rate Order] [] 0
                a_claim_of_no_job_leaves_the_rate_as_it_is [Rate ById Order] [StillClock] 1
                no_rate_follows_the_wall_clock [Rate Order] [StillClock WallClock] 2
                what_is_parked_uses_up_no_rate [Rate PerKey Order] [] 0
                limits_of_all_kinds_hold_together [RunningLimit Rate PerKey Order] [StillClock] 4
                a_limit_of_none_at_all_is_a_stop [RunningLimit Order] [StillClock] 3600
                no_rate_is_too_odd [Rate Order] [StillClock] 0
            }
            bounds {
                a_full_queue_refuses_a_whole_batch_and_loses_nothing [MaxReady AtomicBatches Order] [] 0
                a_bound_may_change_and_be_taken_off [MaxReady] [] 0
                the_parked_count_too [MaxReady PerKey Order ExactCounts] [] 0
                what_is_due_later_or_comes_back_is_let_in [MaxReady Delay Schedules ExactCounts ById AtomicBatches] [] 60
                what_is_due_counts_and_what_has_expired_does_not [MaxReady Delay Expiry] [] 20
                duplicates_do_not_count [MaxReady Unique Order AtomicBatches ExactCounts] [] 0
                duplicates_within_a_batch_do_not_count [MaxReady Unique AtomicBatches ExactCounts] [] 0
                a_debounced_job_counts_where_it_is_added [MaxReady Unique Debounce Delay Order ExactCounts] [StillClock] 0
                a_debounce_is_not_refused [MaxReady Unique Debounce Delay Order ById] [] 0
                a_retry_with_a_delay_is_let_in [MaxReady Delay ExactCounts] [] 1
            }
            per_key {
                jobs_whose_key_is_in_use_are_parked_and_the_next_go_first [PerKey Order] [] 0
                as_many_with_a_key_run_as_may [PerKey Order] [] 0
                without_a_limit_a_key_is_no_matter [PerKey] [] 0
                a_job_that_was_parked_is_in_its_old_place [PerKey Order] [] 0
                the_parked_come_by_priority_too [PerKey Order Priority] [] 0
                who_comes_with_a_higher_priority_goes_before_the_parked [PerKey Order Priority] [] 0
                a_job_that_is_dead_makes_room [PerKey Order] [] 0
                a_job_that_is_retried_makes_room [PerKey Order Delay] [] 10
                a_job_that_is_released_goes_before_the_parked [PerKey Order UncountedRelease] [] 0
                a_job_whose_lease_is_over_goes_before_the_parked [PerKey Order] [] 60
                a_job_whose_last_lease_is_over_makes_room [PerKey Order] [] 60
                a_zombie_makes_no_room [PerKey Fenced Order] [] 60
                a_cancel_of_the_next_in_line_lets_the_one_after_it_come [PerKey Order Expiry ById] [] 0
                an_expiry_of_the_next_in_line_lets_the_one_after_it_come [PerKey Order Expiry] [] 20
                an_expiry_of_two_in_line_lets_the_one_after_them_come [PerKey Order Expiry ExactCounts] [] 20
                a_purge_of_the_ready_leaves_nobody_parked_for_ever [PerKey Order Purge] [] 0
                the_parked_may_be_cancelled_and_purged_and_expire [PerKey Order Expiry Purge ExactCounts ById List] [] 20
                a_limit_that_is_raised_or_taken_off_lets_the_parked_come [PerKey Order] [] 0
                a_limit_that_is_lowered_holds_for_those_that_come [PerKey Order] [] 0
                a_limit_counts_those_that_run_already [PerKey Order] [] 0
                a_limit_of_none_parks_all_with_a_key [PerKey Order] [StillClock] 3600
                many_keys_with_long_lines_all_come_in_order [PerKey Order] [] 0
                no_more_are_ready_or_run_than_may [PerKey Order Delay UncountedRelease ExactCounts ById List] [StillClock] 66
                the_order_is_kept_while_limits_go_up_and_down [PerKey Order List] [] 0
                who_comes_first_is_ready_in_place_of_who_does_not [PerKey Order Priority List] [] 0
            }
            control {
                while_paused_nothing_is_claimed_and_all_else_goes_on [Pause Order Delay UncountedRelease Progress ExactCounts] [] 20
                a_pause_ends_no_time [Pause Delay Expiry ExactCounts] [] 80
                to_pause_twice_is_to_pause [Pause ExactCounts] [] 0
                what_waits_can_be_cancelled_and_nothing_else [ById PerKey Delay Results Order ExactCounts List] [] 0
                what_is_over_can_be_deleted_and_nothing_else [ById PerKey Delay Results Order ExactCounts List] [] 0
                a_purge_takes_all_of_a_state_and_nothing_else [Purge ById PerKey Delay Results Order ExactCounts List] [] 0
                of_an_unknown_job_there_is_nothing_to_do [ById] [] 0
                what_was_cancelled_does_not_come [ById Order Delay ExactCounts] [] 10
                a_purge_tells_how_many_it_took [Purge ExactCounts] [] 0
                only_a_dead_job_can_be_retried_by_hand [ById PerKey Delay Results Order ExactCounts List] [] 0
                a_dead_job_that_is_retried_has_all_its_attempts_again [ById ExactCounts] [] 0
                a_dead_job_that_is_retried_goes_to_the_end [ById Order] [] 0
                a_purge_ends_beside_producers [Purge Delay ExactCounts] [] 0
                a_purge_of_a_state_that_is_named_twice_is_one [Purge ExactCounts] [] 0
                what_runs_is_not_purged [Purge ExactCounts] [] 0
            }
            moves {
                who_is_put_off_is_not_claimed_and_comes_back_in_its_old_place [ById Delay Order List ExactCounts] [StillClock] 60
                who_is_put_off_again_and_again_keeps_its_place [ById Delay Order List] [StillClock] 35
                one_that_is_parked_is_put_off_too [ById Delay PerKey Order List] [StillClock] 60
                a_delayed_job_may_be_due_now_or_later_and_is_in_line_as_of_then [ById Delay Order List] [StillClock] 200
                what_does_not_wait_is_not_put_off [ById Delay Order Results] [] 0
                a_due_time_that_is_set_is_heard [ById Delay] [] 0
                what_is_unchanged_is_removed_and_nothing_else [ById Delay Order Results ExactCounts] [] 0
                what_was_debounced_is_not_unchanged [ById Delay Unique Debounce] [StillClock] 10
                a_removal_frees_keys_and_makes_room [ById Unique PerKey Order List] [] 0
                an_identity_is_that_of_the_queue [] [] 0
            }
            lists {
                a_job_is_shown_as_it_was_enqueued [ById Priority Delay PerKey] [StillClock] 40
                a_job_is_shown_in_each_of_its_states [ById Delay Results] [StillClock] 30
                a_list_names_all_in_a_state_the_first_ones_first [List PerKey Delay Results Order] [StillClock] 10
                pages_are_the_list [List PerKey Delay Results Order] [StillClock] 10
                pages_are_the_list_though_all_happened_at_once [List Delay Results] [] 0
                a_page_after_a_job_that_is_not_there_is_the_first [List Order] [] 0
                the_ready_are_listed_as_they_will_be_claimed [List Priority Order] [] 0
                pages_hold_while_jobs_come_and_go [List ById Order] [] 0
                a_list_shows_no_more_data_than_it_is_asked_for [List ById Results Progress Order] [] 0
                a_list_may_be_of_one_kind [List Order Delay] [] 0
                a_list_may_be_of_those_with_an_error [List Order UncountedRelease] [] 0
            }
            results {
                a_result_is_kept_for_its_time_and_then_gone [Results ById ExactCounts] [StillClock] 120
                a_result_is_gone_though_nobody_claims [Results ById] [] 20
                a_result_that_nobody_wants_is_not_kept [Results ById ExactCounts] [] 0
                a_result_that_is_there_is_not_claimed_nor_keeps_anybody_back [Results Order] [] 60
                a_result_is_whatever_bytes_it_is [Results ById] [] 0
                progress_can_be_read_while_the_job_runs [Progress ById] [] 0
                to_tell_progress_prolongs_no_lease [Progress] [] 60
                of_a_job_that_does_not_run_there_is_no_progress [Progress Fenced ById Results] [] 0
            }
            schedules {
                schedules_are_kept_and_listed_and_dropped [Schedules] [] 0
                one_with_the_same_name_takes_its_place [Schedules] [] 0
                one_with_the_same_expression_keeps_its_next_time [Schedules] [] 0
                who_fires_enqueues_the_job_and_sets_the_next_time [Schedules] [] 0
                what_is_not_scheduled_does_not_fire [Schedules] [] 0
                a_schedule_moves_on_though_its_job_is_a_duplicate [Schedules] [] 0
                a_schedule_does_not_fire_while_the_queue_is_paused [Schedules Pause] [] 0
                of_several_who_fire_at_once_one_does [Schedules] [] 0
                the_brokers_time_is_that_of_the_wall_clock [Schedules] [StillClock WallClock] 90
                the_brokers_time_goes_on [Schedules] [] 2
                a_schedule_may_move_on_without_a_job [Schedules Pause] [] 0
                one_that_is_told_again_keeps_the_earlier_time [Schedules] [] 0
                what_becomes_of_missed_times_is_kept [Schedules] [] 0
            }
            books {
                each_counter_counts_what_it_says [ExactCounts ById Unique Delay Expiry Results Purge List Isolated UncountedRelease] [] 130
                each_gauge_shows_what_is_there [ExactCounts ById PerKey Delay Results List] [] 0
                stats_are_those_of_now [ExactCounts Order Delay Expiry] [] 61
                the_oldest_is_the_one_that_is_ready_for_the_longest_time [ExactCounts Order] [StillClock] 15
                the_oldest_may_have_the_lowest_priority [ExactCounts Order Priority] [StillClock] 50
                a_delayed_job_is_as_old_as_it_is_due [ExactCounts Delay] [StillClock] 160
            }
            calls {
                an_enqueue_is_heard [] [] 0
                a_delayed_job_is_heard [Delay] [] 40
                what_comes_back_is_heard [] [] 0
                what_an_operator_lets_go_on_is_heard [ById Pause RunningLimit] [] 0
                room_for_another_job_is_heard [RunningLimit] [] 0
                room_for_another_job_with_the_key_is_heard [PerKey ById Order] [] 0
                what_a_schedule_enqueues_is_heard [Schedules] [] 0
                all_who_subscribed_hear [] [] 0
                a_subscription_that_is_dropped_is_not_called [] [] 0
                a_call_may_end_its_own_subscription [] [] 0
                a_call_may_use_the_broker [] [] 0
                a_broker_that_is_gone_drops_those_who_subscribed [] [] 1
                what_another_handle_does_is_heard [] [] 0
                a_look_of_another_process_is_not_heard [Shared] [StillClock] 0
            }
            payloads {
                data_comes_back_to_the_byte [] [] 0
                kinds_are_whatever_text_they_are [] [] 0
                errors_are_whatever_text_they_are [ById] [] 0
                unique_keys_are_whatever_text_they_are [Unique] [] 0
                keys_are_whatever_text_they_are [PerKey Order ById] [] 0
                schedules_are_whatever_text_they_are [Schedules] [] 0
            }
            misuse {
                a_delay_for_ever_is_one [Delay] [StillClock] 2147483648
                an_expiry_that_never_comes_is_none [Expiry] [StillClock] 2147483648
                a_result_may_be_kept_for_ever [Results ById] [StillClock] 2147483648
                a_result_kept_for_no_time_is_not_there [Results ById] [] 1
                a_period_without_end_and_one_of_no_time [Unique] [StillClock] 2147483649
                a_lease_for_ever_does_not_end [] [StillClock] 2147483648
                a_lease_of_no_time_is_over [] [] 1
                a_job_with_no_attempts_does_not_come_again [] [] 0
                a_job_may_have_as_many_attempts_as_there_are_numbers [] [] 0
                no_limit_is_too_high [RunningLimit Rate MaxReady] [StillClock] 18
                no_wall_clock_is_too_wrong [Order Delay List] [StillClock WallClock] 0
            }
            headers {
                headers_come_out_as_they_went_in [Headers] [] 0
                headers_are_there_in_each_attempt [Headers] [] 1
                headers_are_there_after_a_restart [Headers] [Restart] 0
                odd_headers_are_kept_or_refused [Headers] [] 0
                headers_go_along_with_a_move [Headers ById List Delay] [] 0
            }
            errors {
                the_errors_of_earlier_attempts_are_kept [ErrorHistory ById] [] 0
                the_last_ten_errors_are_kept [ErrorHistory ById] [] 0
                how_long_ago_an_attempt_failed_is_told [ErrorHistory ById] [StillClock] 30
                a_lost_lease_is_among_the_errors [ErrorHistory ById] [] 60
                errors_are_there_after_a_restart [ErrorHistory ById] [Restart] 0
            }
            cancel {
                a_request_to_cancel_is_told_by_each_extension [CancelRunning] [] 0
                only_a_job_that_runs_gets_such_a_request [CancelRunning] [] 0
                a_cancelled_job_that_succeeds_is_done [CancelRunning] [] 0
                a_cancelled_job_that_fails_is_removed [CancelRunning] [] 10
                a_cancelled_job_that_fails_for_good_is_dead [CancelRunning] [] 0
                a_cancelled_job_that_is_handed_back_is_removed [CancelRunning] [] 10
                a_cancelled_job_whose_lease_is_over_is_removed [CancelRunning] [] 120
                a_cancelled_job_frees_its_keys [CancelRunning Unique PerKey Order] [] 0
                a_request_to_cancel_is_there_after_a_restart [CancelRunning] [Restart] 0
            }
            retention {
                nothing_is_kept_or_removed_by_age_unless_it_is_set [Retention ById] [StillClock] 1000000
                a_job_that_is_done_is_kept_for_its_time [Retention ById] [StillClock] 3700
                a_job_that_is_kept_keeps_nobody_out [Retention ById Unique] [] 0
                a_result_is_kept_for_the_longer_of_both_times [Retention ById Results] [StillClock] 14500
                a_dead_job_is_kept_for_its_time [Retention ById] [StillClock] 7400
                a_retention_may_change [Retention ById] [StillClock] 117300
                many_that_are_too_old_all_go [Retention ById] [StillClock] 3700
                a_retention_is_there_after_a_restart [Retention ById] [Restart StillClock] 3700
            }
            maxima {
                the_largest_data_is_taken_and_larger_is_refused [] [] 0
                the_largest_batch_is_taken_in_one_call [] [] 0
                the_longest_lease_is_taken [] [] 0
                the_longest_delay_is_taken_and_a_longer_one_refused [Delay] [] 0
                a_claim_waits_for_a_job_as_long_as_the_broker_says [] [] 0
            }
            refusals {
                what_is_not_claimed_is_refused [] [] 0
                what_is_claimed_can_be_required [] [] 0
            }
            transactions {
                what_is_enqueued_in_a_transaction_is_there_once_it_commits [Transactions] [] 0
                what_is_enqueued_in_a_transaction_that_is_rolled_back_never_was [Transactions] [] 0
                what_a_transaction_enqueues_is_heard [Transactions] [] 0
                what_is_settled_in_a_transaction_has_ended_once_it_commits [Transactions Fenced] [SettleIn] 0
                what_is_settled_in_a_transaction_that_is_rolled_back_goes_on [Transactions] [SettleIn] 0
            }
            consumers {
                who_is_announced_is_seen_until_it_is_withdrawn [Consumers] [] 0
                who_is_announced_again_takes_its_own_place [Consumers] [] 0
                who_is_silent_is_seen_for_its_time_and_then_gone [Consumers] [StillClock] 121
                how_long_ago_it_was_seen_and_started_is_told [Consumers] [StillClock] 10
                a_job_tells_who_runs_it [Consumers ById] [] 0
            }
            durable {
                what_waits_is_there_again_in_its_order [Order Priority Delay] [Restart] 10
                everything_is_there_again [Order Priority Delay Expiry Results Unique PerKey RunningLimit Rate MaxReady Pause Progress Schedules UncountedRelease Isolated ExactCounts ById List] [Restart StillClock] 60
                a_lease_outlives_the_handle_that_claimed [Order Isolated Fenced] [Restart StillClock] 120
                a_restart_of_the_host_ends_all_leases [Order Isolated Fenced] [Restart HostRestart StillClock] 60
                a_rate_goes_on_after_a_restart_of_the_host [Order Rate] [Restart HostRestart StillClock] 100120
                time_goes_on_while_nobody_has_it_open [Priority Delay Expiry Results ById] [Restart] 20
                no_lease_is_given_twice [] [Restart] 0
                another_process_has_the_same_jobs [Shared] [] 0
                handles_see_what_the_others_did [] [] 0
            }
            random {
                a_broker_does_what_a_simple_one_does [Fenced Isolated Order Priority Delay Expiry Results Unique Debounce PerKey RunningLimit Rate Pause Purge Progress UncountedRelease ExactCounts ById List] [StillClock] 2400
            }
        }
    };
}

/// What is made of the table: the list of the suite itself, or tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_with {
    ([checks] $($concern:ident {
        $($check:ident [$($need:ident)*] [$($means:ident)*] $seconds:literal)+
    })+) => {
        pub(super) static CHECKS: &[Check] = &[
            $($(
                Check {
                    name: stringify!($check),
                    concern: stringify!($concern),
                    needs: &[$($crate::Capability::$need),*],
                    means: &[$($crate::conformance::Means::$means),*],
                    advances: std::time::Duration::from_secs($seconds),
                    run: $concern::$check,
                },
            )+)+
        ];
    };
    ([tests $broker:ident $new:expr] $($concern:ident {
        $($check:ident [$($need:ident)*] [$($means:ident)*] $seconds:literal)+
    })+) => {
        mod $broker {
            mod fixture {
                #[allow(unused_imports, reason = "the expression may need nothing of it")]
                use super::super::*;

                pub(super) fn new() -> impl $crate::conformance::Fixture {
                    ($new)()
                }
            }
            $(mod $concern {
                $(
                    #[test]
                    fn $check() {
                        let (concern, check) = (stringify!($concern), stringify!($check));
                        $crate::conformance::test(concern, check, super::fixture::new);
                    }
                )+
            })+
        }
    };
}

__conformance_table! { checks }
