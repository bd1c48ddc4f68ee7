"""The part of the contract that depends on how a store reaches its data.

A store keeps the whole contract once. Where only the client differs (another library, another
form of answer, a user of few rights, a store around the store), this part says whether it
carries everything there and back; the rules themselves are the store's.
"""

from __future__ import annotations

from wsgi_sessions.testing import StoreContract

PART = (
    # Every sort of value comes back.
    "test_a_record_comes_back_as_it_was",
    "test_an_owner_of_none_is_not_an_empty_one",
    "test_values_and_notes_are_any_bytes",
    "test_values_stay_exact_through_updates",
    "test_names_of_fields_are_any_text",
    "test_owners_are_any_text_and_kept_apart",
    # Every method, and every answer.
    "test_absent_is_none_false_and_gone",
    "test_insert_never_overwrites",
    "test_an_update_sets_and_deletes_the_named_fields_alone",
    "test_a_touch_moves_the_times_alone",
    "test_another_version_is_a_conflict_that_changes_nothing",
    "test_the_right_version_goes_through",
    "test_replace_moves_the_session_and_ends_the_old_key",
    "test_what_is_no_key_is_absent",
    "test_keys_are_those_of_the_records",
    "test_an_update_after_the_deadline_is_gone",
    "test_purging_removes_what_expired_and_nothing_else",
    "test_the_index_lists_what_was_entered",
    "test_removing_takes_out_the_named_keys",
    "test_generations_count_up_from_zero",
    "test_clearing_removes_sessions_and_owners",
    "test_a_store_that_is_there_answers_a_ping",
    "test_a_closed_store_may_be_used_again",
    # Connections, in threads and over a fork.
    "test_a_counter_in_threads_is_exact",
    "test_a_counter_in_processes_is_exact",
)


class StoreClientContract(StoreContract):
    """Like `StoreContract`: subclass it, and say how to make the store."""

    rounds = 40


for _name in PART:
    getattr(StoreContract, _name)  # a test of that name exists
for _name in dir(StoreContract):
    if _name.startswith("test_") and _name not in PART:
        setattr(StoreClientContract, _name, None)  # so pytest sees none
