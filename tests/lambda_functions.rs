//! Lambda's API, called with boto3: what stands in `tests/aws/functions.py` and `tests/aws/concurrency.py`.

mod support;

use support::{Node, aws::promises, guests};

promises!("functions.py":
    a_function_is_created_active_and_found_as_it_was_described,
    a_handler_keeps_what_it_has_between_invocations,
    what_cannot_be_done_is_refused_and_nothing_is_made,
    a_component_that_cannot_run_fails_and_says_why,
    code_and_configuration_are_updated_with_preconditions,
    functions_are_listed_page_by_page,
    what_is_deleted_is_gone_with_all_that_belonged_to_it,
    versions_are_frozen_numbered_and_never_numbered_again,
    an_alias_leads_to_a_version_and_shares_by_weight,
);

promises!("concurrency.py":
    reserved_concurrency_throttles_and_zero_switches_off,
    provisioned_instances_are_made_ahead_for_versions_and_aliases,
    a_functions_recursion_ends,
    permissions_are_statements_of_a_policy,
    tags_are_kept,
);
