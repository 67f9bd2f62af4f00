//! Function URLs, configured with boto3 and called over HTTP: what stands in `tests/aws/urls.py`.

use crate::support::aws::promises;

promises!("urls.py":
    a_url_is_configured_listed_changed_and_deleted,
    a_url_answers_whom_the_functions_policy_lets_in,
    a_url_that_wants_a_signature_takes_no_other,
    preflights_are_answered_for_the_function,
);
